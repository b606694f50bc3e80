"""Turn another gateway's configuration into a mesh.yaml, and list what could not be carried over.

Secrets that stand in the file are never copied: mesh.yaml names a variable for each.
"""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..config import MeshConfig, validate
from ..errors import ConfigError
from ..migrate import Note
from ..migrate.litellm import translate
from ..migrate.notes import Kind
from ..migrate.text import render
from ..yamltext import Document, load
from .output import console, table

__all__ = ["HELP", "arguments", "run"]

HELP = "turn another gateway's configuration into a mesh.yaml"

_TITLES: dict[Kind, str] = {
    "lost": "Not carried over",
    "waits": "Kept as a comment, for a component of a later version",
    "changed": "Carried over; look at it",
}


def arguments(parser: ArgumentParser) -> None:
    """`lmg import`'s options."""
    parser.add_argument("source", choices=("litellm",), help="whose configuration it is")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the file, as in config.yaml")
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help="write mesh.yaml there (default: stdout)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE where it exists")
    parser.add_argument(
        "--strict", action="store_true", help="end with 1 where anything was not carried over"
    )


def run(options: Namespace) -> int:
    """0, or with ``--strict`` 1 where anything was lost or waits; the notes go to stderr."""
    document = load(options.config, None)
    migration = translate(document.value, document)
    validate(MeshConfig, migration.mesh, (), None)
    command = shlex.join(["lmg", "import", options.source, str(options.config)])
    text = render(migration, made_by=command)
    if options.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write(options.output, text, force=options.force)
    _show(migration.notes, document)
    return 1 if options.strict and not migration.complete else 0


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already", hint="--force overwrites it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _show(notes: Sequence[Note], document: Document) -> None:
    out = console(stderr=True)
    for kind, title in _TITLES.items():
        rows: dict[tuple[str, str], list[Note]] = {}
        for note in notes:
            if note.kind == kind:
                rows.setdefault((note.why, note.do), []).append(note)
        if not rows:
            continue
        made = table(title, "where", "setting", "what becomes of it", "what to do")
        for (why, do), same in rows.items():
            for n, note in enumerate(same):
                made.add_row(document.where(note.path), note.what, "" if n else why, "" if n else do)
        out.print(made)
    if not notes:
        out.print("Everything was carried over.", style="green")
