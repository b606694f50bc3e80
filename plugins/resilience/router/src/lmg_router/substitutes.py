"""Which other models may answer in the place of the one that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

from lmg import Exchange, Target

from .config import RouterConfig
from .patterns import Patterns

__all__ = ["Substitutes"]

log = logging.getLogger("lmg.router")

_INTERCHANGEABLE: Final = frozenset({"chat", "count_tokens"})
"""Where another model's answer is an answer. Another model's embeddings fit no index that is there, so that for them,
and for whatever comes later, `model_map` has to name the model."""


class Substitutes:
    """Providers with `fallback: true` or `on_prem: true` stand in with their own models; `model_map` says otherwise."""

    def __init__(self, config: RouterConfig, name: str) -> None:
        self._name = name
        self._map: Patterns[dict[str, str | None]] = Patterns(config.model_map)
        self._named = {
            (provider, model)
            for row in config.model_map.values()
            for provider, model in row.items()
            if model is not None
        }
        self._menus: dict[tuple[str, str], _Menu] = {}

    def of(
        self, exchange: Exchange, asked: Sequence[str], serving: Sequence[Target]
    ) -> list[tuple[Target, ...]]:
        """For each provider that has none of the ``serving`` targets, those of which one may stand in, the best first."""
        menu = self._menu_of(exchange)
        if menu.empty:
            return []
        there = {target.provider for target in serving}
        mapped = next((row for name in asked if (row := self._map.find(name)) is not None), {})
        found: list[tuple[Target, ...]] = []
        for provider, model in mapped.items():
            target = menu.named.get((provider, model)) if model is not None else None
            if target is not None and provider not in there:
                found.append((target,))
        if exchange.operation in _INTERCHANGEABLE:
            found += [
                targets
                for provider, targets in menu.standing_in.items()
                if provider not in there and provider not in mapped
            ]
        bounds = exchange.bounds
        # What is true of one target of a provider is true of all: bounds name providers, regions and premises.
        return [targets for targets in found if bounds.admit(targets[0])]

    def _menu_of(self, exchange: Exchange) -> _Menu:
        """What the running pipeline offers, kept until another one does."""
        offered = exchange.pipeline.offered(exchange.operation, exchange.dialect.name)
        key = (exchange.operation, exchange.dialect.name)
        menu = self._menus.get(key)
        if menu is None or menu.offered is not offered:
            menu = self._menus[key] = _Menu(offered, self._named)
            for provider, model in sorted(self._named):
                if not exchange.pipeline.catalogue.lists(model):
                    log.warning(
                        "router_model_map_unknown component=%s provider=%s model=%s hint=%s",
                        self._name,
                        provider,
                        model,
                        "no provider lists this model: correct model_map, or the provider's models",
                    )
        return menu


class _Menu:
    __slots__ = ("empty", "named", "offered", "standing_in")

    def __init__(self, offered: Sequence[Target], named: Collection[tuple[str, str]]) -> None:
        self.offered = offered
        self.named = {
            (target.provider, target.model): target
            for target in offered
            if (target.provider, target.model) in named
        }
        self.standing_in: dict[str, tuple[Target, ...]] = {}
        for target in offered:
            if target.fallback or target.on_prem:
                before = self.standing_in.get(target.provider, ())
                self.standing_in[target.provider] = (*before, target)
        self.empty = not self.named and not self.standing_in
