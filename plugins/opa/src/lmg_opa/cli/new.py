"""Copy policies of the library, with their tests, into a folder of your own; several become one policy that asks them all."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lmg import ConfigError
from lmg.cli.output import console, print_json, table

from ..library import COMBINED, combined, compose, parts
from .reading import add_json_argument

__all__ = ["HELP", "arguments", "run"]

HELP = "start a policy from the library"

CHANGES: Final = "changes"
"""The place of the combination that stands before the admin API."""
_RISK: Final = re.compile(r"reads: \[.*\brisk\b")


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy new`'s options."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"policies of the library, or '{COMBINED}'; none lists them"
    )
    parser.add_argument(
        "--to", type=Path, default=Path("policies"), metavar="DIR", help="the folder (default: policies)"
    )
    add_json_argument(parser)


def run(options: Namespace) -> int:
    """0 when the files are written (or listed); a file that is there is never overwritten."""
    if not options.names:
        _list(as_json=options.json)
        return 0
    if COMBINED in options.names and len(options.names) > 1:
        raise ConfigError(f"'{COMBINED}' is a policy of its own", hint="name it alone, or name the others")
    files = combined() if options.names == [COMBINED] else compose(options.names)
    there = [name for name in files if (options.to / name).exists()]
    if there:
        raise ConfigError(f"{options.to / there[0]} is there already", hint="name another folder with --to")
    try:
        for name, text in files.items():
            path = options.to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise ConfigError(f"{options.to} cannot be written: {error.strerror}") from None
    if options.json:
        print_json({"folder": str(options.to), "files": sorted(files)})
        return 0
    out = console()
    for name in sorted(files):
        out.print(f"{options.to / name}")
    out.print("\nTest it, then list it in mesh.yaml:", style="dim")
    for folder, entry in _entries(options.to, files):
        out.print(f"  lmg policy test {folder}")
        out.print(f"  {entry}")
    return 0


def _entries(to: Path, files: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Each policy's folder, and the line of mesh.yaml that lists it."""
    for name, text in files.items():
        place, _, file = name.rpartition("/")
        if file != "authz.rego":
            continue
        folder = to / place
        settings = [f"bundle: {folder}"]
        settings += ["facts: [risk]"] if _RISK.search(text) else []
        settings += ["input: {body: false}"] if place == CHANGES else []
        line = f"- opa{'/' + place if place else ''}: {{{', '.join(settings)}}}"
        yield folder, f"{line}  # under admin: pipeline:" if place == CHANGES else line


def _list(*, as_json: bool) -> None:
    found = parts()
    if as_json:
        print_json(
            [{"name": one.name, "title": one.title, "reads": list(one.reads)} for one in found.values()]
        )
        return
    shown = table("Policies of the library", "name", "what it is", "reads")
    for one in found.values():
        shown.add_row(one.name, one.title, ", ".join(one.reads))
    shown.add_row(COMBINED, "Several of them, at two places of the pipeline", "")
    console().print(shown)
