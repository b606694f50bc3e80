"""The targets behind a name: a model's, or one provider's."""

from __future__ import annotations

from collections.abc import Sequence

from lmg import Exchange, Target

__all__ = ["Named", "among", "without"]


class Named:
    """A model, or ``provider:model``, as the configuration writes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._provider, _, self._model = name.partition(":")

    def targets(self, exchange: Exchange) -> tuple[Target, ...]:
        """Its targets within the exchange's bounds, best priority first; empty where nobody serves them.

        Names of models may hold a colon too: what stands before it is a provider only where there is such a one.
        """
        if self._model and self._provider in exchange.pipeline.providers:
            provider = self._provider
            return tuple(one for one in exchange.offered(self._model) if one.provider == provider)
        return exchange.offered(self.name)


def among(target: Target, targets: Sequence[Target]) -> bool:
    """Whether ``target`` is one of ``targets``: the same model of the same provider, whatever else is said of it."""
    for one in targets:
        if one is target or (one.model == target.model and one.provider == target.provider):
            return True
    return False


def without(targets: Sequence[Target], those: Sequence[Target]) -> list[Target]:
    """``targets`` that are not among ``those``, in their order."""
    return [target for target in targets if not among(target, those)]
