"""Ask a policy about one input: the ruling, its reasons and obligations, which version spoke, and how long it took."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from time import perf_counter
from typing import Any

import orjson

from lmg.cli.output import console, print_json, table

from ..engine import Policy, Ruling, Undecided
from ..obligations import ObligationFault, read
from .reading import add_json_argument, add_policy_argument, compiled, plain, read_bundle, read_document

__all__ = ["HELP", "arguments", "ask", "run", "show_ruling"]

HELP = "ask a policy about one input"


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy eval`'s options."""
    add_policy_argument(parser)
    parser.add_argument("--input", "-i", required=True, metavar="FILE", help="the input, as JSON; - is stdin")
    add_json_argument(parser)


def run(options: Namespace) -> int:
    """0 where the policy answered, whatever it said; 1 where it did not."""
    document, _ = read_document(options.input)
    policy = compiled(read_bundle(options.policy), options.engine, options.package)
    try:
        found = ask(policy, document)
    finally:
        policy.close()
    if options.json:
        print_json(found)
    else:
        show_ruling(found)
    return 0 if found["error"] is None else 1


def ask(policy: Policy, document: bytes) -> dict[str, Any]:
    """What ``policy`` says of ``document``, as plain values. A policy that gives no answer denies."""
    ruling, error, took_us = Ruling(False), None, 0.0
    try:
        policy.decide(document)  # what is made once for each thread is not part of a decision's time
        start = perf_counter()
        ruling = policy.decide(document)
        took_us = (perf_counter() - start) * 1e6
    except Undecided as undecided:
        if undecided.code == "undefined":  # in Rego a rule that has not been met
            ruling = Ruling(False, ("undefined",))
        else:
            error = {"code": undecided.code, "detail": str(undecided)}
    unmet = None
    if ruling.allow:
        try:
            read(ruling.obligations)
        except ObligationFault as fault:
            unmet = str(fault)
    return {
        "allow": ruling.allow and unmet is None,
        "reasons": list(ruling.reasons),
        "obligations": dict(ruling.obligations),
        "unmet": unmet,
        "error": error,
        "revision": policy.revision,
        "took_us": round(took_us, 1),
    }


def show_ruling(found: dict[str, Any]) -> None:
    """``found`` for people."""
    out = console()
    if found["error"] is not None:
        out.print(f"refused: no answer ({found['error']['code']})", style="red")
        for line in str(found["error"]["detail"]).splitlines()[:8]:
            out.print(f"  {plain(line)}")
    elif found["unmet"] is not None:
        out.print(f"refused: nothing can carry out its obligations ({found['unmet']})", style="red")
    elif found["allow"]:
        out.print("allowed", style="green")
    else:
        out.print(f"refused: {plain(', '.join(found['reasons']) or 'no reason given')}", style="red")
    if found["obligations"] and found["allow"]:
        bound = table("Obligations", "obligation", "value")
        for name, value in sorted(found["obligations"].items()):
            bound.add_row(plain(name), plain(orjson.dumps(value).decode()))
        out.print(bound)
    took = f", {found['took_us']:.0f} µs" if found["error"] is None else ""
    out.print(f"version {plain(found['revision'])}{took}", style="dim")
