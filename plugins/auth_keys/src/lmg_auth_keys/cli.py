"""Create, list, rotate and revoke the keys that the gateway issues: in its database, or (--url) through its admin API."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from lmg import ConfigError, MeshError, Refusal
from lmg.cli.output import console, print_json, table
from lmg.cli.source import add_config_argument

__all__ = ["HELP", "Desk", "arguments", "run"]

HELP = "create, list, rotate and revoke API keys"

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# What stands in a record was written by somebody, and must not steer the terminal that shows it (ECMA-48).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LISTS: Final = (("role", "roles"), ("scope", "scopes"), ("model", "models"), ("operation", "operations"))


class Desk(Protocol):
    """Where keys are handled. Each method gives records as the admin API shows them, and raises ``MeshError``."""

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A new key, its text under ``key``."""

    def rotate(self, key_id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Another one in its place, its text under ``key``."""

    def revoke(self, key_id: str) -> dict[str, Any]:
        """Ends it."""

    def find(self, asked: dict[str, str]) -> dict[str, Any]:
        """A page: ``keys``, and ``next`` where there is another."""


def arguments(parser: ArgumentParser) -> None:
    """`lmg keys`' options. A key is never one of them: other users can read a process's arguments."""
    shared = ArgumentParser(add_help=False)
    add_config_argument(shared)
    shared.add_argument(
        "--component",
        default="auth_keys",
        metavar="NAME",
        help="its name in the pipeline (default: auth_keys)",
    )
    shared.add_argument(
        "--url", metavar="URL", help="use the admin API of this gateway instead of the database"
    )
    shared.add_argument(
        "--token-env", default="LMG_ADMIN_KEY", metavar="NAME",
        help="with --url: the environment variable with your credential (default: LMG_ADMIN_KEY)",
    )  # fmt: skip
    shared.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create", parents=[shared], help="make a key; it is shown this once, on stdout"
    )
    create.add_argument("subject", help="who will call with it")
    create.add_argument("--tenant", help="whose caller it is")
    for option, _ in _LISTS:
        create.add_argument(
            f"--{option}", action="append", metavar="NAME", help="may be given more than once"
        )
    create.add_argument("--budget-class", metavar="NAME", help="the class of budgets that it spends from")
    create.add_argument(
        "--attribute", action="append", type=_pair, metavar="NAME=VALUE", help="may be given more than once"
    )
    _add_expiry(create)
    find = actions.add_parser("list", parents=[shared], help="show keys, the newest first")
    find.add_argument("--tenant", help="only of this tenant")
    find.add_argument("--subject", help="only of this caller")
    find.add_argument("--limit", type=int, default=100, help="how many (default: 100)")
    find.add_argument("--before", metavar="NEXT", help="go on where a page ended")
    rotate = actions.add_parser(
        "rotate", parents=[shared], help="replace a key; both work until the grace is over"
    )
    rotate.add_argument("id", help="the public part of the key, as the list shows it")
    rotate.add_argument(
        "--grace", type=_seconds, metavar="TIME", help="as in 15m, 24h, 7d (default: grace_s)"
    )
    _add_expiry(rotate)
    revoke = actions.add_parser("revoke", parents=[shared], help="end a key for good")
    revoke.add_argument("id", help="the public part of the key, as the list shows it")


def run(options: Namespace) -> int:
    """0 where it was done, 1 where not."""
    try:
        return _ACTIONS[options.action](_desk(options), options)
    except ConfigError:
        raise  # the command line's own: exit code 2
    except Refusal as refusal:
        sys.stderr.write(f"{refusal.message}\n")
        return 1
    except MeshError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _desk(options: Namespace) -> Desk:
    if options.url:
        from .remote import RemoteDesk

        return RemoteDesk(options.url, options.token_env, options.component)
    from .direct import DirectDesk

    return DirectDesk(options.config, options.component)


# -- actions ----------------------------------------------------------------------------------------


def _create(desk: Desk, options: Namespace) -> int:
    asked: dict[str, Any] = {"subject": options.subject}
    for name in ("tenant", "budget_class"):
        if getattr(options, name) is not None:
            asked[name] = getattr(options, name)
    for option, name in _LISTS:
        if getattr(options, option) is not None:
            asked[name] = getattr(options, option)
    if options.attribute:
        asked["attributes"] = dict(options.attribute)
    return _show_new(desk.create({**asked, **_expiry(options)}), options)


def _rotate(desk: Desk, options: Namespace) -> int:
    asked = {} if options.grace is None else {"grace_s": options.grace}
    return _show_new(desk.rotate(options.id, {**asked, **_expiry(options)}), options)


def _show_new(made: dict[str, Any], options: Namespace) -> int:
    if options.json:
        print_json(made)
        return 0
    sys.stdout.write(f"{made['key']}\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"{_plain(made['id'])} for {_plain(made['subject'])} of {_plain(made['tenant'])}, expires {_when(made['expires_at'])}. "
        "The key is not shown again.\n"
    )
    return 0


def _revoke(desk: Desk, options: Namespace) -> int:
    gone = desk.revoke(options.id)
    if options.json:
        print_json(gone)
    else:
        console().print(f"{_plain(gone['id'])} is revoked")
    return 0


def _list(desk: Desk, options: Namespace) -> int:
    given = {name: getattr(options, name) for name in ("tenant", "subject", "before")}
    page = desk.find({"limit": str(options.limit), **{k: v for k, v in given.items() if v is not None}})
    if options.json:
        print_json(page)
        return 0
    shown = table(
        "Keys", "id", "status", "tenant", "subject", "scopes", "models", "created", "expires", "last used"
    )
    shown.columns[0].no_wrap = True  # to be copied
    for key in page["keys"]:
        models = "all" if key["models"] is None else ", ".join(key["models"]) or "none"
        cells = (
            key["id"], key["status"], key["tenant"], key["subject"], ", ".join(key["scopes"]), models,
            _when(key["created_at"]), _when(key["expires_at"]), _when(key["last_used_at"]),
        )  # fmt: skip
        shown.add_row(*(_plain(cell) for cell in cells))
    console().print(shown)
    if page["next"]:
        console().print(f"There are more: --before {page['next']}")
    return 0


_ACTIONS: Final = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke}


# -- options and cells --------------------------------------------------------------------------------


def _add_expiry(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--expires-in", type=_seconds, metavar="TIME", help="as in 12h, 90d (default: it does not)"
    )


def _expiry(options: Namespace) -> dict[str, float]:
    return {} if options.expires_in is None else {"expires_in_s": options.expires_in}


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text, re.ASCII)
    if found is None:
        raise ArgumentTypeError("a time is a number with s, m, h or d, as in 90d")
    return float(int(found[1]) * _UNITS[found[2]])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise ArgumentTypeError("an attribute is NAME=VALUE")
    return name, value


def _plain(text: str) -> str:
    return _CONTROL.sub("?", text)


def _when(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
