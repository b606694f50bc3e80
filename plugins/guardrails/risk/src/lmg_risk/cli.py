"""Shows what waits for approval at a running gateway, and grants or denies it."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

import httpx
import orjson

from lmg import ConfigError, MeshError
from lmg.cli.output import console, print_json, table

__all__ = ["HELP", "arguments", "run"]

HELP = "list, show, grant or deny requests that wait for approval"

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_KEY: Final = re.compile(r"[\x21-\x7e]+")
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?")
_ID: Final = re.compile(r"apr_[0-9a-f]{24}")
_USUAL: Final = ("risk", "risk/in")
# What callers have written must not steer the terminal that shows it (ECMA-48 control functions).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Unanswered(MeshError):
    """The gateway cannot be asked, or has refused; the message is for whoever asked."""


class _NotThere(Unanswered):
    """The pipeline lists no such component."""


def arguments(parser: ArgumentParser) -> None:
    """`lmg approvals`' options. The key is never one of them: other users can read a process's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="show what waits, or with --all what has been decided, too")
    listed.add_argument("--all", action="store_true", help="also what is granted, denied, used or over")
    _shared(listed)
    for verb, what in (
        ("show", "show one in full"),
        ("grant", "let this very request pass, once"),
        ("deny", "refuse it, and its repetition while its time lasts"),
    ):
        one = actions.add_parser(verb, help=what)
        one.add_argument("id", metavar="ID", help="the approval's id, as in apr_0123456789abcdef01234567")
        _shared(one)


def _shared(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="the gateway (default: http://127.0.0.1:8080)"
    )
    parser.add_argument(
        "--key-env",
        default="LMG_KEY",
        metavar="NAME",
        help="the environment variable with a key of scope admin (default: LMG_KEY)",
    )
    parser.add_argument(
        "--component", metavar="NAME", help="its name in the pipeline (default: risk, else risk/in)"
    )
    parser.add_argument("--json", action="store_true", help="print the gateway's answer as JSON")


def run(options: Namespace) -> int:
    """0 where the gateway did what was asked, 1 where it did not.

    Raises:
        ConfigError: the command line or the environment holds what cannot be used.
    """
    if options.component is not None and not _COMPONENT.fullmatch(options.component):
        raise ConfigError("--component is no name of a component", hint="as in risk/in")
    if options.action != "list" and not _ID.fullmatch(options.id):
        raise ConfigError("that is no approval's id", hint="as in apr_0123456789abcdef01234567")
    try:
        answer = _asked(options)
    except Unanswered as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        print_json(answer)
        return 0
    approvals = answer["approvals"]
    if options.action == "list":
        console().print(_overview(approvals))
    else:
        _print_one(approvals[0], in_full=options.action == "show")
    return 0


# -- the gateway ------------------------------------------------------------------------------------


def _asked(options: Namespace) -> Any:
    url = _base(options.url)
    key = os.environ.get(options.key_env, "").strip()
    if key and not _KEY.fullmatch(key):
        raise ConfigError(f"{options.key_env} holds characters that no key has")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    names = (options.component,) if options.component is not None else _USUAL
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=not _loopback(url)
    ) as client:
        for name in names:
            try:
                return _read(_send(client, url, f"/admin/v1/{name}/approvals", options))
            except _NotThere:
                continue
    raise Unanswered(
        f"404: the pipeline lists no component '{' or '.join(names)}' that reviews requests (see --component)"
    )


def _send(client: httpx.Client, url: httpx.URL, root: str, options: Namespace) -> httpx.Response:
    try:
        if options.action == "list":
            return client.get(root, params={} if options.all else {"standing": "pending"})
        if options.action == "show":
            return client.get(f"{root}/{options.id}")
        return client.post(f"{root}/{options.id}/{options.action}")
    except httpx.ConnectError as error:
        raise Unanswered(f"no gateway answers at {url} (name it with --url)") from error
    except httpx.TimeoutException as error:
        raise Unanswered("the gateway did not answer in time; nothing is known to have changed") from error
    except httpx.HTTPError as error:
        raise Unanswered(f"the connection to the gateway failed: {type(error).__name__}") from error


def _read(response: httpx.Response) -> Any:
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        value = None
    if response.status_code == 200 and isinstance(value, dict) and "approvals" in value:
        return value
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        raise Unanswered(f"{response.status_code}: the answer is not the gateway's")
    if response.status_code == 404 and error.get("code") == "not_found":
        raise _NotThere
    hint = {
        401: " (put a key into the environment: LMG_KEY=…, or name the variable with --key-env)",
        403: "" if error.get("code") == "own_request" else " (the key needs the scope admin)",
    }.get(response.status_code, "")
    raise Unanswered(f"{response.status_code}: {_plain(error.get('message', 'no reason given'))}{hint}")


def _base(given: str) -> httpx.URL:
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ConfigError("--url is no address of a gateway", hint="as in http://127.0.0.1:8080")
    return url.copy_with(
        path=url.path.rstrip("/").removesuffix("/v1").rstrip("/") or "/", query=None, fragment=None
    )


def _loopback(url: httpx.URL) -> bool:
    """Whether no proxy may stand between: it would not reach this machine's own address."""
    try:
        return url.host == "localhost" or ip_address(url.host).is_loopback
    except ValueError:
        return False


# -- at the terminal --------------------------------------------------------------------------------


def _overview(approvals: Sequence[Mapping[str, Any]]) -> Any:
    shown = table("Approvals", "id", "standing", "until", "tenant", "who", "model", "score", "reasons")
    for one in approvals:
        shown.add_row(
            *map(
                _plain,
                (
                    one["id"],
                    one["standing"],
                    _time(one["expires_at"]),
                    one["tenant"],
                    one["subject"],
                    one["model"],
                    f"{one['score']:.2f}",
                    ", ".join(one["reasons"]),
                ),
            )
        )
    return shown


def _print_one(one: Mapping[str, Any], *, in_full: bool) -> None:
    shown = table(one["id"] if _ID.fullmatch(str(one["id"])) else "approval", "", "")
    shown.show_header = False
    shown.add_row("standing", _plain(one["standing"]))
    shown.add_row("decided by", _plain(one["decided_by"]))
    if in_full:
        for name in ("tenant", "subject", "issuer", "model", "operation"):
            shown.add_row(name, _plain(one[name]))
        shown.add_row("asked", _time(one["at"]))
        shown.add_row("until", _time(one["expires_at"]))
        shown.add_row("score", f"{one['score']:.3f}")
        shown.add_row("reasons", _plain(", ".join(one["reasons"])))
        sizes = ", ".join(f"{role} {size}" for role, size in one["characters"].items())
        shown.add_row("size", _plain(f"{one['body_bytes']} bytes; characters: {sizes}"))
        if "text" in one:
            shown.add_row("text", _plain(one["text"]))
    console().print(shown)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(value: object) -> str:
    return _CONTROL.sub("", str(value))
