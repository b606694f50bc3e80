"""Who is refused first."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from lmg import Exchange

from .config import HIGHEST, LoadSheddingConfig

__all__ = ["Priorities"]

_TENANTS: Final = 4_096
"""Tenants whose priority is remembered: callers choose no tenant, but there may be many."""
_DIGITS: Final = {b"%d" % n: n for n in range(HIGHEST + 1)}


class Priorities:
    """The priority of an exchange, and the share of each priority that is refused.

    The priorities that can occur divide the level of overload among themselves: with three of them, the lowest is
    refused more and more up to a third and wholly from there on, then the next. Together they make the level.
    """

    __slots__ = ("_default", "_header", "_of_tenant", "_patterns", "_ranks")

    def __init__(self, config: LoadSheddingConfig) -> None:
        self._default = config.default_priority
        self._header = config.header.lower().encode() if config.header is not None else None
        self._patterns = tuple(config.priorities.items())
        self._of_tenant = lru_cache(_TENANTS)(self._matched)
        there = {config.default_priority, *config.priorities.values()}
        if self._header is not None:
            there |= set(_DIGITS.values())
        self._ranks = {priority: rank for rank, priority in enumerate(sorted(there))}

    def of(self, exchange: Exchange) -> int:
        """The priority of ``exchange``: what the trusted header says, else its tenant's, else the default."""
        if self._header is not None:
            stated = exchange.head.all(self._header)
            if len(stated) == 1 and stated[0] in _DIGITS:
                return _DIGITS[stated[0]]
        principal = exchange.principal if self._patterns else None
        return self._of_tenant(principal.tenant) if principal is not None else self._default

    def _matched(self, tenant: str) -> int:
        found = (priority for pattern, priority in self._patterns if fnmatchcase(tenant, pattern))
        return next(found, self._default)

    def share(self, priority: int, level: float) -> float:
        """The part of the exchanges of ``priority`` that is refused at ``level``; both 0 to 1."""
        return min(1.0, max(0.0, level * len(self._ranks) - self._ranks[priority]))
