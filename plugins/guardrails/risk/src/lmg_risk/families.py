"""Which family a signal belongs to, and which part of an exchange it speaks of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final

from lmg import Exchange, Signal
from lmg.records import fits

from .config import FamilyConfig

__all__ = ["ALL", "OUTPUT", "TOOL", "USER", "WHOLE", "Families", "directions", "reason_code"]

USER: Final = 1
"""Text of users, of the system and of earlier turns."""
TOOL: Final = 2
"""Results, arguments and definitions of tools: data that others wrote."""
OUTPUT: Final = 4
"""The answer."""
WHOLE: Final = 8
"""The exchange as a whole: it counts in every direction."""
ALL: Final = USER | TOOL | OUTPUT | WHOLE

MAX_NAMES: Final = 1024
_TOOL_ROLES: Final = frozenset({"tool", "tool_arguments", "tool_definition"})
_ANSWER: Final = frozenset({"answer", "output"})
_HEAD: Final = re.compile(r"[^.:/]*")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:/-]")


class Families:
    """The family of each signal, by its name. A name that fits none is of the family its first part names."""

    def __init__(self, families: Mapping[str, FamilyConfig]) -> None:
        self._patterns = [(pattern, name) for name, one in families.items() for pattern in one.signals]
        self._families = dict(families)
        self._known: dict[str, tuple[str, FamilyConfig]] = {}

    def of(self, name: str) -> tuple[str, FamilyConfig]:
        """The family's name and how it counts."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= MAX_NAMES:
                self._known.clear()
            family = next((family for pattern, family in self._patterns if fits(pattern, name)), None)
            if family is None:
                family = reason_code(_HEAD.match(name)[0] or "other")  # type: ignore[index]
            found = self._known[name] = (family, self._families.get(family, _PLAIN))
        return found


_PLAIN: Final = FamilyConfig(signals=["*"])


@lru_cache(maxsize=MAX_NAMES)
def reason_code(name: str) -> str:
    """A signal's name as a code that may stand in a log, a fact or a header: short, and of plain characters."""
    return _UNSAFE.sub("_", name[:64]) or "other"


def directions(exchange: Exchange, signals: Iterable[Signal], answered: Collection[str] = ()) -> list[int]:
    """What each signal speaks of, by its ``where``: a segment's id, a role, or ``answer``. ``answered`` are the ids of an
    answer's segments. What says nothing is taken to speak of the user's text.
    """
    roles: dict[str, str] | None = None
    found = []
    for signal in signals:
        where = signal.where
        if where in _TOOL_ROLES:
            found.append(TOOL)
            continue
        if where in _ANSWER or where in answered:
            found.append(OUTPUT)
            continue
        if roles is None and where and exchange.request is not None:
            roles = {segment.id: segment.role for segment in exchange.request.segments()}
        found.append(TOOL if roles is not None and roles.get(where) in _TOOL_ROLES else USER)
    return found
