"""Test a policy, ask it, see why it said so, put it before decisions of the past, or start one from the library."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Final

__all__ = ["ACTIONS", "HELP", "arguments", "run"]

HELP = "test, try, compare and copy policies"

ACTIONS: Final = {
    "test": "check",
    "eval": "evaluate",
    "explain": "explain",
    "replay": "replay",
    "new": "new",
}
"""Each action, and the module of this package that runs it."""


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy`'s actions, each with its own options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, runs in ACTIONS.items():
        module = import_module(f"{__name__}.{runs}")
        module.arguments(actions.add_parser(name, help=module.HELP, description=module.__doc__))


def run(options: Namespace) -> int:
    """What the action's own module returns."""
    return int(import_module(f"{__name__}.{ACTIONS[options.action]}").run(options))
