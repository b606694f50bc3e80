"""A migration as the text of a mesh.yaml: the settings, then as comments what waits for later components."""

from __future__ import annotations

from typing import Any, Final

import yaml

from .notes import Migration

__all__ = ["render"]

WIDTH: Final = 110


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and writes no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(migration: Migration, *, made_by: str) -> str:
    """The text of mesh.yaml; ``made_by`` is the command that made it."""
    out = [f"# Made by `{made_by}`. Check it with `lmg check` before it serves.\n"]
    for section, value in migration.mesh.items():
        out.append(_dump({section: value}))
    waiting = [note for note in migration.notes if note.kind == "waits"]
    if waiting:
        lines = ["# What waits for a component, and what LiteLLM was told:\n"]
        for note in waiting:
            said = f" {note.value}" if note.value else " …"
            lines.append(f"#   {note.component:<12} {note.what}:{said}\n")
        out.append("".join(lines))
    return "\n".join(out)


def _dump(value: object) -> str:
    # Leaves in one line, as people write them.
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True
    )
