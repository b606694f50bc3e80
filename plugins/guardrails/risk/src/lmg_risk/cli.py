"""Shows what waits for approval at a running gateway, and grants or denies it."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from lmg import ConfigError
from lmg.cli.gateway import Unanswered, add_gateway_arguments, address, answer, ask, connect, plain
from lmg.cli.output import console, print_json, table

__all__ = ["HELP", "arguments", "run"]

HELP = "list, show, grant or deny requests that wait for approval"

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?")
_ID: Final = re.compile(r"apr_[0-9a-f]{24}")
_USUAL: Final = ("risk", "risk/in")


def arguments(parser: ArgumentParser) -> None:
    """`lmg approvals`' options."""
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
    add_gateway_arguments(parser, "a key of scope admin")
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
        found = _asked(options)
    except Unanswered as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        print_json(found)
        return 0
    approvals = found["approvals"]
    if options.action == "list":
        console().print(_overview(approvals))
    else:
        _print_one(approvals[0], in_full=options.action == "show")
    return 0


# -- the gateway ------------------------------------------------------------------------------------


def _asked(options: Namespace) -> Any:
    names = (options.component,) if options.component is not None else _USUAL
    with connect(address(options.url), options.key_env, _TIMEOUT) as client:
        for name in names:
            try:
                return answer(_send(client, f"/admin/v1/{name}/approvals", options), "approvals")
            except Unanswered as error:
                if (error.status, error.code) != (404, "not_found"):
                    raise
    raise Unanswered(
        f"404: the pipeline lists no component '{' or '.join(names)}' that reviews requests (see --component)"
    )


def _send(client: httpx.Client, root: str, options: Namespace) -> httpx.Response:
    if options.action == "list":
        return ask(client, "GET", root, params={} if options.all else {"standing": "pending"})
    if options.action == "show":
        return ask(client, "GET", f"{root}/{options.id}")
    return ask(client, "POST", f"{root}/{options.id}/{options.action}")


# -- at the terminal --------------------------------------------------------------------------------


def _overview(approvals: Sequence[Mapping[str, Any]]) -> Any:
    shown = table("Approvals", "id", "standing", "until", "tenant", "who", "model", "score", "reasons")
    for one in approvals:
        shown.add_row(
            *map(
                plain,
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
    shown.add_row("standing", plain(one["standing"]))
    shown.add_row("decided by", plain(one["decided_by"]))
    if in_full:
        for name in ("tenant", "subject", "issuer", "model", "operation"):
            shown.add_row(name, plain(one[name]))
        shown.add_row("asked", _time(one["at"]))
        shown.add_row("until", _time(one["expires_at"]))
        shown.add_row("score", f"{one['score']:.3f}")
        shown.add_row("reasons", plain(", ".join(one["reasons"])))
        sizes = ", ".join(f"{role} {size}" for role, size in one["characters"].items())
        shown.add_row("size", plain(f"{one['body_bytes']} bytes; characters: {sizes}"))
        if "text" in one:
            shown.add_row("text", plain(one["text"]))
    console().print(shown)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
