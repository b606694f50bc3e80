"""Put a new policy before recorded decisions: how many would change, and which; what was allowed and would be refused first."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from lmg import ConfigError
from lmg.cli.output import console, print_json, table
from lmg.jsontext import Json

from .changes import KINDS, MAX_SHOWN, Change, Kind, Replayed, replay
from .past import read_log
from .reading import add_json_argument, add_policy_argument, compiled, plain, read_bundle

__all__ = ["HELP", "arguments", "run"]

HELP = "put a new policy before recorded decisions"

CHANGED: Final = 2


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy replay`'s options."""
    add_policy_argument(parser)
    parser.add_argument(
        "logs", nargs="+", type=Path, metavar="LOG", help="decision logs: JSON lines, also packed"
    )
    parser.add_argument(
        "--component", metavar="NAME", help="only decisions of this one, as in opa/access (needed where the log has several)"
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=int, default=MAX_SHOWN, metavar="N", help=f"show at most N of each kind (default: {MAX_SHOWN})"
    )  # fmt: skip
    parser.add_argument(
        "--fail-on-change", action="store_true", help="exit with 2 where a decision would be another one"
    )
    add_json_argument(parser)


def run(options: Namespace) -> int:
    """0 where decisions were read, 1 where none was; 2 with ``--fail-on-change`` where one would be another."""
    policy = compiled(read_bundle(options.policy), options.engine, options.package)
    events = (past for path in options.logs for past in read_log(path))
    try:
        found = replay(policy, events, component=options.component, limit=max(0, options.limit))
    finally:
        policy.close()
    if options.component is None and len(found.components) > 1:
        names = ", ".join(sorted(plain(name, 64) for name in found.components)[:16])
        raise ConfigError("the log has decisions of several policies", path="--component", hint=names)
    if options.json:
        print_json(_plain_values(found, policy.revision))
    else:
        _show(found, policy.revision)
    if not found.total:
        return 1
    return CHANGED if options.fail_on_change and found.changed else 0


# -- what is printed ------------------------------------------------------------------------------


def _show(found: Replayed, revision: str) -> None:
    out = console()
    for kind in KINDS:
        # Where decisions change, those that only give another reason are not worth a table.
        if found.counts[kind] and not (kind == "reasons" and found.changed):
            _show_kind(out, found, kind)
    for path in found.never_shown:
        out.print(
            f"no decision of the log holds input.{path}, which this policy reads: no caller had it, or the policy of then "
            "was not shown it",
            style="yellow",
        )
    if found.masked:
        out.print(f"{found.masked} not judged: the mask took away what this policy reads", style="yellow")
    if found.unreadable:
        out.print(f"{found.unreadable} not read: they are no decisions", style="yellow")
    worse = found.counts["allow->deny"] or found.counts["no answer"]
    out.print(
        f"{found.total} decisions: {found.same + found.counts['reasons']} stay, {found.changed} change (version {plain(revision)})",
        style="red" if worse else "yellow" if found.changed else "green",
    )


def _show_kind(out: Console, found: Replayed, kind: Kind) -> None:
    changes = found.shown[kind]
    shown = table(f"{kind}: {found.counts[kind]}", "when", "decision", "who", "asked for", "then", "now")
    for change in changes:
        shown.add_row(*_row(change))
    out.print(shown)
    if found.counts[kind] > len(changes):
        out.print(f"  and {found.counts[kind] - len(changes)} more", style="dim")
    for cause, count in found.causes[kind].most_common(MAX_SHOWN):
        out.print(f"  {count} times {plain(cause)}", style="dim")


def _row(change: Change) -> Iterator[str]:
    past, asked = change.past, change.past.input
    yield plain(past.timestamp, 32)
    yield plain(past.decision_id, 40)
    who = [_text(asked, "principal", name) for name in ("subject", "tenant")]
    yield plain(" of ".join(name for name in who if name), 60)
    admin = [_text(asked, "admin", name) for name in ("method", "component")]
    yield plain(" ".join(name for name in admin if name) or _text(asked, "request", "model"), 60)
    yield _said(past.allow, past.reasons or (), past.obligations, change.kind)
    yield change.error or _said(change.now.allow, change.now.reasons, change.now.obligations, change.kind)


def _said(allow: bool | None, reasons: Iterable[str], obligations: object, kind: str) -> str:
    if allow is None:
        return "no answer"
    if not allow:
        return plain(", ".join(reasons) or "refused")
    return plain(obligations or "nothing bound") if kind == "obligations" else "allowed"


def _text(document: Json, *path: str) -> str:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, str) else ""


def _plain_values(found: Replayed, revision: str) -> dict[str, Any]:
    def one(change: Change) -> dict[str, Any]:
        past, now = change.past, change.now
        return {
            "decision_id": past.decision_id, "timestamp": past.timestamp, "component": past.component, "input": past.input,
            "then": {"allow": past.allow, "reasons": list(past.reasons or ()), "obligations": past.obligations},
            "now": {
                "allow": now.allow, "reasons": list(now.reasons), "obligations": dict(now.obligations), "error": change.error or None,
            },
        }  # fmt: skip

    return {
        "revision": revision,
        "decisions": found.total,
        "same": found.same,
        "changed": found.changed,
        "counts": {kind: found.counts[kind] for kind in KINDS},
        "masked": found.masked,
        "unreadable": found.unreadable,
        "of_others": found.other,
        "never_shown": found.never_shown,
        "changes": {kind: [one(change) for change in found.shown[kind]] for kind in KINDS},
    }
