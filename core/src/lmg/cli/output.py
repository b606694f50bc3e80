"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import os
import sys
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["console", "print_json", "table"]

WIDTH_OF_A_PIPE = 160


def console(*, stderr: bool = False) -> Console:
    """Where tables go. Nothing in a cell is read as markup: names and reasons come from plugins and files."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDTH_OF_A_PIPE
    return Console(markup=False, highlight=False, emoji=False, width=width, stderr=stderr)


def table(title: str, *columns: str) -> Table:
    """An empty table in the style that all commands share; a long cell is folded, never cut."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, header_style="dim"
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
