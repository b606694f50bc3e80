"""Other names for models: exact ones that win over a model of that name, patterns that win over nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .patterns import Patterns, is_pattern

__all__ = ["Aliases"]

MAX_CHAIN: Final = 32
Table = Mapping[str, str | list[str]]


class Aliases:
    """Names and what they stand for, followed to the end once, when the configuration is read.

    What a pattern stands for is followed through exact aliases and never through another pattern, so
    ``{"gpt-*": "gpt-4o"}`` is no loop.

    Raises:
        ValueError: an alias leads back to itself or stands for nothing, or a pattern can never match.
    """

    def __init__(self, table: Table) -> None:
        names = {name: [to] if isinstance(to, str) else to for name, to in table.items()}
        for name, to in names.items():
            if not name or not to or not all(to):
                raise ValueError(f"aliases: {name or 'the empty name'!r} stands for nothing")
        direct = {name: to for name, to in names.items() if not is_pattern(name)}
        patterns = {name: to for name, to in names.items() if is_pattern(name)}
        if "*" in [*patterns][:-1]:
            raise ValueError("aliases: what is written after '*' never matches: write '*' last")
        self._exact: dict[str, tuple[str, ...]] = {}
        for name in direct:
            self._follow(name, direct, ())
        self._patterns = Patterns({name: self._ends(to) for name, to in patterns.items()})

    def __bool__(self) -> bool:
        return bool(self._exact) or bool(self._patterns)

    def exact(self, model: str) -> tuple[str, ...]:
        """What ``model`` stands for, where that is written out; the first is preferred."""
        return self._exact.get(model, ())

    def pattern(self, model: str) -> tuple[str, ...]:
        """What ``model`` stands for by the first pattern that matches it."""
        return self._patterns.find(model) or ()

    def _follow(self, name: str, direct: Mapping[str, list[str]], path: tuple[str, ...]) -> None:
        """Finds the models at the end of the alias ``name``; ``path`` is how it was come by."""
        if name in path:
            raise ValueError(f"aliases: {' → '.join((*path, name))} leads back to itself")
        if name in self._exact:
            return
        if len(path) == MAX_CHAIN:
            raise ValueError(f"aliases: {name!r} ends a chain of more than {MAX_CHAIN} aliases")
        for further in direct[name]:
            if further in direct:
                self._follow(further, direct, (*path, name))
        self._exact[name] = self._ends(direct[name])

    def _ends(self, names: Sequence[str]) -> tuple[str, ...]:
        """The models that ``names`` stand for, each once."""
        return tuple(dict.fromkeys(end for name in names for end in self._exact.get(name, (name,))))
