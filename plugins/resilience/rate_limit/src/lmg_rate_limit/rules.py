"""Limits as they are applied: one rule for each kind of each configured limit."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from .config import Dimension, Kind, OnStoreLoss, RateLimitConfig, Rates
from .measures import Measure, measure_of
from .rates import Rate, amount_of

__all__ = ["Rule", "rules_of"]

_NOUNS: Final = {
    "requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens", "tokens": "tokens",
    "weighted_tokens": "weighted tokens", "concurrency": "requests at a time",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of one kind. ``measure`` is None where what is counted is requests; ``window_s`` None is slots."""

    name: str
    kind: Kind
    capacity: int
    window_s: float | None
    scope: tuple[Dimension, ...]
    tenant: str | None
    model: str | None
    on_store_loss: OnStoreLoss
    measure: Measure | None
    noun: str
    words: str

    def applies(self, tenant: str, model: str) -> bool:
        """Whether it limits requests of ``tenant`` to ``model``."""
        return (self.tenant is None or fnmatchcase(tenant, self.tenant)) and (
            self.model is None or fnmatchcase(model, self.model)
        )

    @property
    def needs_principal(self) -> bool:
        """Whether it depends on who asks."""
        return self.tenant is not None or any(one != "model" for one in self.scope)

    @property
    def needs_model(self) -> bool:
        """Whether it depends on the model that is asked for."""
        return self.model is not None or "model" in self.scope

    @property
    def needs_body(self) -> bool:
        """Whether it needs more of a request than its head."""
        return self.needs_model or self.measure is not None


def rules_of(config: RateLimitConfig) -> tuple[Rule, ...]:
    """The rules of a configuration: those that count requests before those that count tokens."""
    found = []
    for name, limit in config.named():
        for kind, rate in limit.rates().items():
            found.append(_rule(name, kind, rate, limit))
        if limit.concurrency is not None:
            found.append(_rule(name, "concurrency", None, limit))
    return tuple(sorted(found, key=lambda rule: rule.measure is not None))


def _rule(name: str, kind: Kind, rate: Rate | None, limit: Rates) -> Rule:
    measure = measure_of(kind, limit.weighted_tokens)
    scope, noun = limit.dimensions, _NOUNS[kind]
    if rate is None:
        assert limit.concurrency is not None
        capacity, window_s, words = limit.concurrency, None, _counted(limit.concurrency, noun)
    else:
        capacity = rate.amount if limit.burst is None else amount_of(limit.burst)
        # The bucket drains at the stated rate, whatever its size.
        window_s = rate.window_s * capacity / rate.amount
        words = f"{_counted(rate.amount, noun)} {rate.per}"
        if limit.burst is not None:
            words += f" and {capacity:,} at once"
    return Rule(
        name, kind, capacity, window_s, scope, limit.tenant, limit.model, limit.on_store_loss, measure, noun, words
    )  # fmt: skip


def _counted(amount: int, noun: str) -> str:
    one = noun.replace("requests", "request").replace("tokens", "token")
    return f"{amount:,} {noun if amount != 1 else one}"
