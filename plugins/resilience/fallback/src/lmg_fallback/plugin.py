"""`fallback`: the order in which targets are tried, and when to move on to the next."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from lmg import Attempt, Bounds, Component, Exchange, Failure, Host, Next, Slot, Target

from .announce import HEADER, listed
from .chains import Chains, Entry
from .classes import SWITCHABLE, class_of
from .config import FallbackConfig
from .order import standing_by_last, without_repetition

__all__ = ["Fallback"]

log = logging.getLogger("lmg.fallback")

INTERCHANGEABLE: Final = frozenset({"chat", "count_tokens"})
"""Operations that another model may serve without being named for it: the vectors of two models cannot be compared, a
voice of one is unknown to the other. Elsewhere only a chain, which somebody wrote, leads to another model."""


@dataclass(frozen=True, slots=True)
class Move:
    """A decision to go on after the attempt ``number``; it is counted when it was followed."""

    number: int
    origin: Target
    to: Target
    reason: str


class Fallback(Component):
    """Orders the targets (`on_route`), and moves on to the next where the class of the failure says so (`on_failure`).

    Never after commit, never to a target that was tried already, never outside the bounds.
    """

    Config = FallbackConfig
    summary = "another target when one fails: by a table of failures, and chains of your own"
    stability = "beta"
    on_error: ClassVar[Literal["deny", "allow"]] = (
        "allow"  # without it an exchange is worse off, but not less safe
    )
    config: FallbackConfig

    def __init__(self, config: FallbackConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._moves_on = frozenset(row for row in SWITCHABLE if config.on.get(row, True))
        self._chains = Chains(config.chains)
        special = {"context_length": config.context_length, "content_filter": config.content_filter}
        self._special = {row: Chains(chains) for row, chains in special.items() if chains}
        self._min_time_left_s = config.min_time_left_ms / 1000
        self._spares: dict[tuple[str, str], tuple[tuple[Target, ...], tuple[Target, ...]]] = {}
        self._moves = Slot[tuple[Move, ...]](f"{name}.moves")
        self._warned: set[tuple[str, str]] = set()
        self._moved = host.metrics.counter(
            "llm_fallback_total", "Moves to another target after a failure.", ("from", "to", "reason")
        )
        self._unserved = host.metrics.counter(
            "llm_fallback_unserved_total",
            "Failures whose chain names a model that no provider serves.",
            ("model",),
        )

    # -- the order ----------------------------------------------------------------------------
    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        """The routed targets, of each model those that stand by last; the model's chain; the providers that stand by with another.

        A model that no provider names stays unknown: a misspelt name is not served by another model.
        """
        if not targets and not self._may_stand_in(exchange):
            return targets
        own = standing_by_last(targets)
        chain = [target for entry in self._chain_of(exchange, own) for target in entry.targets(exchange)]
        spare = self._spare(exchange, own)
        if not (chain or spare):
            return own
        ahead = own[:1] if self.config.chains_first else own
        return without_repetition(ahead, [*chain, *own[len(ahead) :], *spare], own, _dropped(exchange))

    def _may_stand_in(self, exchange: Exchange) -> bool:
        """Whether the list is empty because nothing is well (503), and not because policy emptied it (402, 403)."""
        return "skipped" in self._moves_on and bool(exchange.drops) and exchange.drops[-1][2] >= 500

    def _chain_of(self, exchange: Exchange, routed: Sequence[Target]) -> Sequence[Entry]:
        """The chain of the model that was asked for, else of the one that a router has put in the place of that name."""
        if not self._chains:
            return ()
        return self._chains.of(exchange.request.model) or (self._chains.of(routed[0].model) if routed else ())

    def _spare(self, exchange: Exchange, routed: Sequence[Target]) -> Sequence[Target]:
        """The first target of each `fallback: true` provider that has none in the list, where nobody above has routed.

        Where there is a router, which other models stand in is its decision: it knows what the request needs.
        """
        offered = exchange.offered()
        key = exchange.operation, exchange.dialect.name
        held = self._spares.get(key)
        if held is None or held[0] is not offered:
            # The kernel gives the same tuple until a reload, or a narrower one where bounds are set.
            found: dict[str, Target] = {}
            if exchange.operation in INTERCHANGEABLE:
                for target in offered:
                    if target.fallback:
                        found.setdefault(target.provider, target)
            held = self._spares[key] = offered, tuple(found.values())
        if not held[1] or not self._routes_first(exchange):
            return ()
        serving = {target.provider for target in routed}
        return [target for target in held[1] if target.provider not in serving]

    def _routes_first(self, exchange: Exchange) -> bool:
        steps = exchange.plan.on_route
        return next((step.component for step in steps if not step.shadow), self) is self

    # -- the next -----------------------------------------------------------------------------
    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        """The next target that was not tried, where the table of classes says that another may do better."""
        if failure.committed:
            return None
        if self.config.announce:
            exchange.reply_header(HEADER, listed(exchange.attempts))
        reason = class_of(failure.kind, failure.http_status)
        if reason not in self._moves_on and reason not in self._special:
            return None
        if failure.time_left_s < self._min_time_left_s:
            return None
        left = failure.targets_left
        tried = {attempt.target.name for attempt in exchange.attempts}
        to = next((t for t in self._following(exchange, failure) if t.name not in tried), None)
        if to is None:
            return None
        move = Move(failure.attempt.number, failure.attempt.target, to, reason)
        exchange[self._moves] = (*(exchange.get(self._moves) or ()), move)
        return Next() if left and left[0] is to else Next(to.name)

    def _following(self, exchange: Exchange, failure: Failure) -> Iterable[Target]:
        """Where to go: a chain of its own where one of the failures has one, else what is left of the list."""
        bound = self._bound_by(exchange.attempts)
        if bound is None:
            if failure.attempt.number == 1:
                self._note_unserved(exchange, self._chain_of(exchange, (failure.attempt.target,)))
            return failure.targets_left
        chains = self._special[bound]
        entries = (*chains.of(failure.attempt.target.model), *chains.of(exchange.request.model))
        self._note_unserved(exchange, entries)
        dropped = _dropped(exchange)
        return (t for entry in entries for t in entry.targets(exchange) if t.name not in dropped)

    def _bound_by(self, attempts: Sequence[Attempt]) -> str | None:
        """The class whose own chain this exchange walks: a request that was too long once is so for the other targets too."""
        for attempt in attempts:
            error = attempt.outcome.error if attempt.outcome is not None else None
            if error is not None and error.kind in self._special:
                return error.kind
        return None

    def _note_unserved(self, exchange: Exchange, entries: Sequence[Entry]) -> None:
        """Says, once an entry and operation, that a chain names what no provider serves; counts it each time."""
        if not entries or exchange.bounds != Bounds():
            return  # it may be served, but not to this exchange
        for entry in entries:
            if entry.targets(exchange):
                continue
            self._unserved.inc((entry.name,))
            if (entry.name, exchange.operation) not in self._warned:
                self._warned.add((entry.name, exchange.operation))
                log.warning(
                    "fallback_unserved component=%s model=%s operation=%s hint=%s",
                    self.name, entry.name, exchange.operation, "no provider serves it: correct the chain, or add it to a provider's models",
                )  # fmt: skip

    # -- what became of it --------------------------------------------------------------------
    def on_end(self, exchange: Exchange) -> None:
        """Counts the moves that the kernel followed: not those past its ceiling of attempts, nor those made in shadow."""
        moves = exchange.get(self._moves)
        if moves is None:
            return
        attempts = exchange.attempts
        for move in moves:
            if len(attempts) > move.number and attempts[move.number].target.name == move.to.name:
                self._moved.inc((exchange.label(move.origin), exchange.label(move.to), move.reason))


def _dropped(exchange: Exchange) -> frozenset[str]:
    return frozenset(name for name, _, _ in exchange.drops)
