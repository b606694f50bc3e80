"""Chains: which targets stand in for a model, as the operator wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from lmg import Exchange, Target

__all__ = ["Chains", "Entry"]

MAX_REMEMBERED: Final = 1024
MAX_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a chain: a model's, or ``provider:model``."""

    name: str
    provider: str
    model: str

    @classmethod
    def parse(cls, name: str) -> Entry:
        """The entry that ``name`` is."""
        provider, _, model = name.partition(":")
        return cls(name, provider, model)

    def targets(self, exchange: Exchange) -> Sequence[Target]:
        """What serves it, within the exchange's bounds, best priority first."""
        # Names of models have colons too (`llama3:8b`): what stands before one is a provider only if there is such a
        # one. The model of a provider that is out of bounds must not be asked of another by its longer name.
        if self.model and self.provider in exchange.pipeline.providers:
            return [target for target in exchange.offered(self.model) if target.provider == self.provider]
        return exchange.offered(self.name)


class Chains:
    """Chains by the name of a model. An exact name wins over a pattern; of the patterns, the first that matches."""

    def __init__(self, chains: Mapping[str, Sequence[str]]) -> None:
        self._exact: dict[str, tuple[Entry, ...]] = {}
        self._patterns: list[tuple[Callable[[str], object], tuple[Entry, ...]]] = []
        for name, entries in chains.items():
            chain = tuple(Entry.parse(entry) for entry in entries)
            if set(name) & set("*?["):
                self._patterns.append((re.compile(translate(name)).match, chain))
            else:
                self._exact[name] = chain
        # Callers choose the names: what is remembered is bounded in number and in size.
        self._remembered = lru_cache(maxsize=MAX_REMEMBERED)(self._find)

    def __bool__(self) -> bool:
        return bool(self._exact or self._patterns)

    def of(self, model: str) -> tuple[Entry, ...]:
        """The chain of ``model``; empty where it has none."""
        return self._remembered(model) if len(model) <= MAX_NAME else self._find(model)

    def _find(self, model: str) -> tuple[Entry, ...]:
        found = self._exact.get(model)
        if found is not None:
            return found
        return next((chain for matches, chain in self._patterns if matches(model)), ())
