"""Shows the experiments of a running gateway, and moves them: the next stage, or nobody at all."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from lmg import ConfigError
from lmg.cli.gateway import Unanswered, add_gateway_arguments, address, answer, ask, connect, plain
from lmg.cli.output import console, print_json, table

__all__ = ["HELP", "arguments", "run"]

HELP = "show, promote or abort canary experiments"

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_COMPONENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERBS: Final = {
    "promote": "go on to the next stage, or to the one that --to names",
    "abort": "give the canary to nobody, now",
    "pause": "stay at this share; limits are watched on",
    "resume": "go on: the stage begins anew",
    "restart": "begin the plan anew",
}


def arguments(parser: ArgumentParser) -> None:
    """`lmg canary`'s options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("status", help="show the experiments, or one of them in full")
    _shared(shown)
    for verb, what in _VERBS.items():
        moved = actions.add_parser(verb, help=what)
        _shared(moved)
        if verb == "promote":
            moved.add_argument("--to", type=_percent, metavar="PERCENT", help="a stage of the plan, or 100")


def _shared(parser: ArgumentParser) -> None:
    parser.add_argument(
        "experiment", nargs="?", metavar="EXPERIMENT", help="its name (needed where there are several)"
    )
    add_gateway_arguments(parser, "a key of scope admin")
    parser.add_argument(
        "--component", default="canary", metavar="NAME", help="its name in the pipeline (default: canary)"
    )
    parser.add_argument("--json", action="store_true", help="print the gateway's answer as JSON")


def _percent(given: str) -> float:
    try:
        percent = float(given.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ArgumentTypeError("a percentage from 0 to 100")
    return percent


def run(options: Namespace) -> int:
    """0 where the gateway did what was asked, 1 where it did not.

    Raises:
        ConfigError: the command line or the environment holds what cannot be used.
    """
    if not _COMPONENT.fullmatch(options.component):
        raise ConfigError("--component is no name of a component", hint="as in canary")
    try:
        found = _asked(options)
    except Unanswered as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        print_json(found)
        return 0
    experiments = found["experiments"]
    console().print(_overview(experiments))
    for experiment in experiments if options.experiment or len(experiments) == 1 else ():
        _print_one(experiment)
    return 0


# -- the gateway ------------------------------------------------------------------------------------


def _asked(options: Namespace) -> Any:
    name = {"experiment": options.experiment} if options.experiment else {}
    root = f"/admin/v1/{options.component}"
    with connect(address(options.url), options.key_env, _TIMEOUT) as client:
        if options.action == "status":
            response = ask(client, "GET", f"{root}/experiments", params=name)
        else:
            to = getattr(options, "to", None)
            body = {**name, **({"to": to} if to is not None else {})}
            response = ask(client, "POST", f"{root}/{options.action}", json=body)
    try:
        return answer(response, "experiments")
    except Unanswered as error:
        if (error.status, error.code) != (404, "not_found"):
            raise
        hint = f" (the pipeline lists no component '{options.component}'; see --component)"
        raise Unanswered(f"{error}{hint}", error.status, error.code) from error


# -- at the terminal --------------------------------------------------------------------------------


def _overview(experiments: Sequence[Mapping[str, Any]]) -> Any:
    shown = table("Experiments", "experiment", "model", "canary", "status", "share", "since", "baseline", "canary arm", "waits for")  # fmt: skip
    for one in experiments:
        samples = one["samples"]
        mirrored = f" ({samples['mirrored']} mirrored)" if samples["mirrored"] else ""
        notes = _notes(one)
        shown.add_row(
            *map(
                plain,
                (
                    one["name"],
                    one["model"],
                    one["canary"],
                    one["status"],
                    f"{one['percent']:g} %",
                    _time(one["since"]),
                    samples["baseline"],
                    f"{samples['canary']}{mirrored}",
                    f"{notes[0]}, and {len(notes) - 1} more" if len(notes) > 1 else "".join(notes),
                ),
            )
        )
    return shown


def _notes(one: Mapping[str, Any]) -> list[str]:
    """What the next stage waits for, what is broken first."""
    return [
        *(["the counter store, which is unreachable"] if not one["store_reachable"] else ()),
        *(["a provider that serves the canary"] if one["unserved"] else ()),
        *one["waits_for"],
    ]


def _print_one(one: Mapping[str, Any]) -> None:
    out = console()
    if notes := _notes(one):
        waiting = table("The next stage waits for", "")
        waiting.show_header = False
        for note in notes:
            waiting.add_row(plain(note))
        out.print(waiting)
    if any(one["samples"].values()):
        findings = table("Measured in this stage", "measure", "baseline", "canary", "at least", "at most", "limit", "")  # fmt: skip
        for found in one["findings"]:
            findings.add_row(*_finding(found))
        out.print(findings)
    history = table("History", "at", "to", "reason", "detail")
    for event in one["history"]:
        history.add_row(*map(plain, (_time(event["at"]), event["to"], event["reason"], event["detail"])))
    out.print(history)


def _finding(found: Mapping[str, Any]) -> list[str]:
    measure = found["measure"]
    if measure in ("error_rate", "signals"):
        values = [f"{found['baseline']:.2%}", f"{found['canary']:.2%}"]
        bounds = [
            "" if one is None else f"{one:+.2%}" for one in (found["low"], found["high"], found["limit"])
        ]
    else:
        unit, scale, digits = ("USD", 1e-9, 6) if measure == "cost" else ("s", 1.0, 3)
        values = [f"{found[arm] * scale:.{digits}f} {unit}" for arm in ("baseline", "canary")]
        bounds = [
            "" if one is None else f"{one:.2f} times" for one in (found["low"], found["high"], found["limit"])
        ]
    return [plain(measure), *values, *bounds, plain(found["state"])]


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
