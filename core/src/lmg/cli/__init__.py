"""The command `lmg`. Each subcommand imports what it needs when it runs: `lmg serve` is ready in a fraction of a second."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from ..errors import ConfigError

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS: Final = {
    "serve": "serve",
    "check": "check",
    "explain": "explain",
    "plugins": "plugins",
    "schema": "schema",
    "chat": "chat",
    "import": "migrate",  # a module cannot be called like a keyword
}
"""Each command, and the module of this package that runs it."""


def parser() -> argparse.ArgumentParser:
    """The whole command line; what `docs/cli.md` is generated from."""
    top = argparse.ArgumentParser(
        prog="lmg", description="LLM Mesh Gateway: a request walks down a list of plugins to a model."
    )
    top.add_argument("--version", action="store_true", help="show the kernel's version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, runs in COMMANDS.items():
        module = import_module(f"lmg.cli.{runs}")
        sub = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 well, 1 not, 2 a wrong command line or configuration."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        from .. import __version__

        sys.stdout.write(f"lmg {__version__}\n")
        return 0
    module = _command(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    if module is not None:
        single = argparse.ArgumentParser(prog=f"lmg {arguments[0]}", description=module.__doc__)
        module.arguments(single)
        options = single.parse_args(arguments[1:])
        try:
            return int(module.run(options))
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except KeyboardInterrupt:
            return 130
    from ..discovery import commands

    more = ", ".join(sorted(commands().keys() - COMMANDS.keys()))
    top = parser()
    top.epilog = f"added by plugins: {more}" if more else None
    top.parse_args(arguments)
    top.print_help()
    return 2 if arguments else 0


def _command(name: str) -> Any:
    """The module that runs ``name``: of this package, else of a plugin; only that one is imported."""
    if name in COMMANDS:
        return import_module(f"lmg.cli.{COMMANDS[name]}")
    from ..discovery import commands

    found = commands().get(name)
    return found.load() if found is not None else None
