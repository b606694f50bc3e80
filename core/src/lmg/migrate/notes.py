"""What a migration gives: a mesh.yaml as plain values, and what somebody must know of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Kind", "Migration", "Note", "Notes", "Path", "dotted"]

Path = tuple[str | int, ...]
Kind = Literal["changed", "waits", "lost"]
"""``changed``: carried over, look at it. ``waits``: for a component of a later version. ``lost``: not carried over."""


@dataclass(frozen=True, slots=True)
class Note:
    """``path`` is where the setting stands in the source; ``why`` says what becomes of it, ``do`` what to do.

    ``value`` is what the source says, where it can be shown: never a secret.
    """

    kind: Kind
    path: Path
    why: str
    do: str = ""
    component: str = ""
    value: str = ""

    @property
    def what(self) -> str:
        """The setting, as in ``router_settings.num_retries``."""
        return dotted(self.path)


@dataclass(frozen=True, slots=True)
class Migration:
    """``mesh`` is what mesh.yaml holds; ``notes`` come in the order of the source."""

    mesh: dict[str, Any]
    notes: tuple[Note, ...]

    @property
    def complete(self) -> bool:
        """Whether everything was carried over."""
        return all(note.kind == "changed" for note in self.notes)


class Notes:
    """Collects notes."""

    def __init__(self) -> None:
        self._notes: list[Note] = []

    def changed(self, path: Path, why: str, do: str = "") -> None:
        """The setting was carried over, and something about it is to be known."""
        self._notes.append(Note("changed", path, why, do))

    def waits(self, path: Path, component: str, value: str = "", do: str = "") -> None:
        """No component of this version does it; a later one, named here, does."""
        why = f"no component of this version does this; `{component}` will"
        self._notes.append(Note("waits", path, why, do, component, value))

    def lost(self, path: Path, why: str, do: str = "") -> None:
        """The setting was not carried over."""
        self._notes.append(Note("lost", path, why, do))

    def sorted(self, order: Iterable[Path]) -> tuple[Note, ...]:
        """All notes in the order in which ``order`` names their places."""
        rank = {path: n for n, path in enumerate(order)}
        return tuple(sorted(self._notes, key=lambda note: _rank(rank, note.path)))


def _rank(rank: dict[Path, int], path: Path) -> int:
    return next((rank[path[:n]] for n in range(len(path), 0, -1) if path[:n] in rank), len(rank))


def dotted(path: Path) -> str:
    """``model_list[0].litellm_params.model``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
