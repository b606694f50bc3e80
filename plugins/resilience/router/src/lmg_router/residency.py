"""In which regions a tenant's requests may be processed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from .config import ResidencyRule
from .patterns import matcher

__all__ = ["Residency"]

MAX_REMEMBERED: Final = 1024


class Residency:
    """Every rule that matches a tenant holds: its regions are those that all of them allow."""

    def __init__(self, rules: Sequence[ResidencyRule]) -> None:
        self._rules = tuple((matcher(rule.tenant), frozenset(rule.regions)) for rule in rules)
        self.regions_of = lru_cache(maxsize=MAX_REMEMBERED)(self._regions_of)

    def _regions_of(self, tenant: str) -> frozenset[str] | None:
        """The regions of ``tenant``; None where no rule says anything, empty where two rules contradict."""
        regions: frozenset[str] | None = None
        for pattern, allowed in self._rules:
            if pattern.match(tenant) is not None:
                regions = allowed if regions is None else regions & allowed
        return regions
