"""The limits that a request meets, with all about taking and settling them that can be known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from lmg.services import Limit, Settle, Take

from .headers import families_of
from .pace import Pace
from .rules import Rule

__all__ = ["Bound", "Scoped"]


class Bound:
    """One rule for one scope: a bucket of the store. ``values`` is whose it is, ``unit_s`` what one takes to drain."""

    __slots__ = ("capacity", "limit", "measure", "one", "rule", "shown", "unit_s", "values")

    def __init__(self, rule: Rule, limit: Limit, values: Mapping[str, str]) -> None:
        self.rule = rule
        self.measure = rule.measure
        self.limit = limit
        self.values = values
        self.capacity = limit.capacity
        self.unit_s = 0.0 if limit.window_s is None else limit.window_s / limit.capacity
        self.one = Take(limit, 1, held=True)
        self.shown = b"%d" % limit.capacity

    def answers(self, query: Mapping[str, str]) -> bool:
        """Whether a query for ``limit``, ``kind``, or whose it is, means this one."""
        told: dict[str, str] = {**self.values, "limit": self.rule.name, "kind": self.rule.kind}
        return all(told.get(name) == value for name, value in query.items())


class Scoped:
    """The bounds of one scope, those that count requests before those that count tokens.

    ``held`` and ``admitted`` are how long exchanges usually hold what they took, and how long a request takes from
    here to its upstream.
    """

    def __init__(self, bounds: Sequence[Bound], held: Pace, admitted: Pace) -> None:
        self.bounds = tuple(bounds)
        self.tokens = tuple((bound, bound.measure) for bound in bounds if bound.measure is not None)
        self.fixed = tuple(bound.one for bound in bounds if bound.measure is None)
        rates = [bound.limit for bound in bounds if bound.rule.kind == "requests"]
        self.sent = tuple(Settle(limit, 1, 1) for limit in rates)
        self.unsent = tuple(Settle(limit, 1, 0) for limit in rates)
        self.refunded = tuple(Settle(limit, 0, -1) for limit in rates)
        self.freed = tuple(Settle(b.limit, 1, 0) for b in bounds if b.rule.kind == "concurrency")
        kinds = tuple(bound.rule.kind for bound in bounds)
        self.families = families_of(kinds, anthropic=False)
        self.anthropic_families = families_of(kinds, anthropic=True)
        self.held, self.admitted = Pace(held), admitted
        self._wider = (held, admitted)
        self._standing_in: dict[float, Scoped | None] = {}

    @cached_property
    def without_tokens(self) -> Scoped | None:
        """Those that count requests: for what uses no tokens. None where there are none."""
        if not self.tokens:
            return self
        return Scoped(self.bounds[: len(self.fixed)], *self._wider) if self.fixed else None

    @cached_property
    def modes(self) -> frozenset[str]:
        """What the rules say about a store that is gone."""
        return frozenset(bound.rule.on_store_loss for bound in self.bounds)

    def standing_in(self, share: float) -> Scoped | None:
        """What this process counts by itself, ``share`` of it, while the store is gone; None where that is nothing."""
        if share not in self._standing_in:
            local = [
                Bound(
                    bound.rule,
                    bound.limit._replace(capacity=max(1, int(bound.capacity * share))),
                    bound.values,
                )
                for bound in self.bounds
                if bound.rule.on_store_loss == "local"
            ]
            self._standing_in[share] = Scoped(local, *self._wider) if local else None
        return self._standing_in[share]
