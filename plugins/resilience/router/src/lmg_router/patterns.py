"""Values by pattern, as operators write them: ``*``, ``?`` and ``[…]`` as in a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Generic, TypeVar

__all__ = ["Patterns", "is_pattern", "matcher"]

T = TypeVar("T")


def is_pattern(text: str) -> bool:
    """Whether ``text`` can match anything but itself."""
    return any(sign in text for sign in "*?[")


def matcher(pattern: str) -> re.Pattern[str]:
    """A compiled pattern; upper and lower case differ, as in the names of models."""
    return re.compile(translate(pattern))


class Patterns(Generic[T]):
    """A table whose first pattern that matches decides, in the order in which it is written."""

    def __init__(self, table: Mapping[str, T]) -> None:
        self._table = tuple((matcher(pattern), value) for pattern, value in table.items())

    def __bool__(self) -> bool:
        return bool(self._table)

    def find(self, *names: str) -> T | None:
        """The value of the first pattern that one of ``names`` matches, or None."""
        for pattern, value in self._table:
            for name in names:
                if pattern.match(name) is not None:
                    return value
        return None
