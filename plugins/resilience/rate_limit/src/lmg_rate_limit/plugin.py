"""`rate_limit`: limits on requests, tokens and concurrency, all of a request's taken in one step and settled once."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lmg import (
    AdminCall,
    AdminRoute,
    Attempt,
    Component,
    Deny,
    Exchange,
    Health,
    Host,
    Outcome,
    QueueFull,
    ServiceError,
    Slot,
)
from lmg.services import Level, Take
from lmg.services.memory_counters import MemoryCounters

from .config import RateLimitConfig
from .demand import choices_of, input_tokens, longest_answer, stated_cap
from .headers import tell
from .refusals import bound_of, limit_reached, limits_unavailable, too_large
from .reservation import Reservation
from .rules import rules_of
from .scopes import ANYBODY, Scopes
from .stores import Said, Stores
from .waiting_room import WaitingRoom
from .waits import wait_s

if TYPE_CHECKING:
    from lmg.component import Facts

    from .bounds import Scoped

__all__ = ["RateLimit"]

DEFAULT_OUTPUT_TOKENS: Final = 4096
FIT: Final = 4
"""As many requests that do not say how long their answers may be fit into a limit at once, by their answers."""
MAX_LEVELS: Final = 500


class RateLimit(Component):
    """Refuses with 429 (or lets wait) what would pass a limit.

    A request is held until it goes upstream and spent from then on; tokens are held by an upper bound and become what
    was used; a place of ``concurrency`` is held to the end. Whatever ends the exchange, `on_settle` gives back the rest.
    """

    Config = RateLimitConfig
    summary = "limits on requests, tokens and concurrency that hold, with fair queues"
    stability = "beta"
    # Where there is an authenticator it comes first; where there is none, everybody together is one tenant.
    uses: ClassVar[Facts] = {"on_request": ("principal",)}
    config: RateLimitConfig

    def __init__(self, config: RateLimitConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        rules = rules_of(config)
        self._scopes = Scopes(rules, name)
        self._upper = config.reserve == "upper"
        self._slot = Slot[Reservation](f"{name}.reservation")
        self._stores = Stores(host, config.local_share)
        self._room: WaitingRoom | None = None
        if config.queue is not None:
            self._room = WaitingRoom(config.queue, host, name, self._stores)
            self.max_wait_s = self._room.max_wait_s
        self._limited = host.metrics.counter(
            "llm_rate_limited_total",
            "Requests that a limit refused, or would have in shadow.",
            ("limit", "kind"),
        )
        self._overruns = host.metrics.counter(
            "llm_rate_limit_overruns_total",
            "Answers that were longer than the cap that was sent upstream; they are counted in full.",
            ("limit",),
        )

    @classmethod
    def required(cls, config: RateLimitConfig) -> Facts:
        """The body only where a limit needs it: the others refuse on the head alone, before it is read."""
        return {"on_request": ("body",)} if any(rule.needs_body for rule in rules_of(config)) else {}

    async def stop(self) -> None:
        if self._room is not None:
            await self._room.stop()

    # -- down -----------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | Coroutine[Any, Any, Deny | None] | None:
        """Takes all limits of the request in one step, or nothing and refuses."""
        scoped = self._scopes.of(exchange)
        if scoped is None:
            return None
        if not scoped.tokens:
            reservation = Reservation(scoped, scoped.fixed, None)
        else:
            found = self._reserved(exchange, scoped)
            if not isinstance(found, Reservation):
                return found
            reservation = found
        store = self.host.counters
        if type(store) is not MemoryCounters or self._room is not None:
            return self._later(exchange, reservation)
        taken = store.take_now(reservation.takes)  # nothing is waited for: no coroutine is needed
        if taken.refused is not None:
            return self._refused(exchange, Said(taken, scoped, reservation.takes))
        reservation.store = store
        self._hold(exchange, reservation, taken.levels)
        return None

    def _reserved(self, exchange: Exchange, scoped: Scoped) -> Reservation | Deny | None:
        """What the request may come to use; a ``Deny`` where a limit never has as much."""
        operation = exchange.operation
        if operation == "count_tokens":  # it uses none
            fewer = scoped.without_tokens
            return Reservation(fewer, fewer.fixed, None) if fewer is not None else None
        config = self.config
        given = input_tokens(exchange, upper=self._upper, opaque=config.opaque_tokens)
        output = None
        if operation == "chat":
            choices, cap = choices_of(exchange), stated_cap(exchange)
            if cap is None:
                cap = self._default_cap(exchange, scoped, given, choices)
            elif (allowed := exchange.bounds.max_output_tokens) is not None and allowed < cap:
                cap = allowed
            output = cap * choices
        takes = [*scoped.fixed]
        for bound, measure in scoped.tokens:
            amount = measure.reserve(given, output or 0)
            if amount > bound.capacity:
                self._limited.inc((bound.rule.name, bound.rule.kind))
                return too_large(bound, amount)
            takes.append(Take(bound.limit, amount, True))
        return Reservation(scoped, tuple(takes), output)

    def _default_cap(self, exchange: Exchange, scoped: Scoped, given: int, choices: int) -> int:
        """How long each of the answers may be where the client has not said: what is reserved, and also sent."""
        stated = self.config.default_output_tokens
        cap = longest_answer(exchange, stated or DEFAULT_OUTPUT_TOKENS)
        for bound, measure in scoped.tokens:
            room = measure.room(bound.capacity, given)
            if stated is None:
                room = min(room, measure.room(bound.capacity // FIT, 0))
            if room < cap * choices:
                cap = max(1, int(room) // choices)
        allowed = exchange.bounds.max_output_tokens
        if allowed is not None and allowed <= cap:
            return allowed
        exchange.narrow(max_output_tokens=cap)
        return cap

    async def _later(self, exchange: Exchange, reservation: Reservation) -> Deny | None:
        """``on_request`` where a store or a turn is waited for."""
        room = self._room if self._room is not None and self._may_wait(exchange) else None
        said: Said | Deny
        try:
            if room is not None and room.contends(reservation):
                said = await self._wait(exchange, reservation, room, None)
            else:
                said = await self._stores.take(reservation)
                if said.refused and room is not None:
                    said = await self._wait(exchange, reservation, room, said)
        except ServiceError as error:
            return limits_unavailable(str(error))
        if isinstance(said, Deny):
            return said
        if said.refused:
            return self._refused(exchange, said)
        self._hold(exchange, reservation, said.taken.levels)
        return None

    async def _wait(
        self, exchange: Exchange, reservation: Reservation, room: WaitingRoom, said: Said | None
    ) -> Said | Deny:
        """What was taken when the turn had come, or the refusal where it did not come in time."""
        # The exchange's deadline is one of the process's own clock.
        seconds = min(room.max_wait_s, exchange.deadline - time.monotonic())
        if said is not None and (said.taken.retry_after_s or 0.0) > seconds:
            return self._refused(exchange, said)  # it would wait in vain
        tenant = (exchange.principal or ANYBODY).tenant
        try:
            turn = await room.wait(reservation, tenant, seconds)
        except QueueFull:
            turn = None
        if turn is not None:
            return turn
        takes = reservation.takes
        try:
            levels = await self.host.counters.levels([take.limit for take in takes])
        except ServiceError:
            levels = (Level(0, 0.0),) * len(takes)
        ahead = room.ahead()
        wait = wait_s(reservation.scoped, takes, levels, None, ahead)
        over = (
            take
            for take, level in zip(takes, levels, strict=True)
            if take.amount + ahead.get(take.limit.key, 0) > level.remaining
        )
        return self._denied(exchange, reservation.scoped, takes, levels, next(over, takes[0]), wait)

    def _may_wait(self, exchange: Exchange) -> bool:
        """Not where it would only be explained, and not in shadow, where a wait would be an effect."""
        return not self.host.reads_only and exchange.enforces(self)

    def _hold(self, exchange: Exchange, reservation: Reservation, levels: Sequence[Level]) -> None:
        """Remembers what was taken, and tells the client what is left."""
        now = reservation.since = self.host.clock.monotonic()
        scoped = reservation.scoped
        try:
            exchange[self._slot] = reservation
            if levels:
                tell(exchange, scoped, levels)
        except BaseException:
            # The kernel takes the slot back with everything else that a failed hook has written.
            reservation.settle(None, now)
            raise

    def _refused(self, exchange: Exchange, said: Said) -> Deny:
        taken = said.taken
        assert taken.refused is not None
        wait = wait_s(said.scoped, said.takes, taken.levels, taken.retry_after_s)
        return self._denied(exchange, said.scoped, said.takes, taken.levels, taken.refused, wait)

    def _denied(
        self,
        exchange: Exchange,
        scoped: Scoped,
        takes: Sequence[Take],
        levels: Sequence[Level],
        refused: Take,
        wait: float,
    ) -> Deny:
        tell(exchange, scoped, levels)
        bound = bound_of(scoped, takes, refused)
        self._limited.inc((bound.rule.name, bound.rule.kind))
        return limit_reached(bound, refused.amount, wait, self.config.max_retry_after_s)

    # -- up -------------------------------------------------------------------------------------
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """From the first attempt on the request is spent; one that none of them has sent is given back at the end."""
        reservation = exchange.get(self._slot)
        if reservation is not None:
            reservation.send(self.host.clock.monotonic())
        yield
        # Where a component further in has skipped or refused it, the attempt has got no wire.
        if reservation is not None and attempt.wire:
            reservation.upstream = True

    def on_settle(self, exchange: Exchange) -> None:
        """Counts what was used and gives back the rest, however the exchange has ended."""
        reservation = exchange.take(self._slot)
        if reservation is None:
            return
        usage, output = exchange.usage, reservation.output
        if output is not None and usage.output_tokens > output and not usage.estimated:
            self._overrun(exchange, reservation)
        reservation.settle(usage, self.host.clock.monotonic())
        if self._room is not None:
            self._room.wake(reservation.takes)

    def _overrun(self, exchange: Exchange, reservation: Reservation) -> None:
        if exchange.enforces(self):  # there the cap was not sent
            for name in {bound.rule.name for bound, _ in reservation.scoped.tokens}:
                self._overruns.inc((name,))

    # -- set-up ---------------------------------------------------------------------------------
    def health(self) -> Health | None:
        """Degraded while the counter store is gone."""
        return self._stores.health()

    def admin_routes(self) -> list[AdminRoute]:
        """``GET levels``: what is left of the limits that this process has applied lately, or that the query names."""
        return [AdminRoute("GET", "levels", self._levels)]

    async def _levels(self, call: AdminCall) -> object:
        bounds = list(islice(self._scopes.asked_for(call.query), MAX_LEVELS))
        store = self.host.counters
        shown: dict[str, object] = {"store": "shared" if store.shared else "process"}
        try:
            levels: Sequence[Level | None] = await store.levels([bound.limit for bound in bounds])
        except ServiceError:
            shown["store"], levels = "gone", [None] * len(bounds)
        shown["limits"] = [
            {
                "limit": bound.rule.name,
                "kind": bound.rule.kind,
                "scope": bound.values,
                "capacity": bound.capacity,
                "window_s": bound.limit.window_s,
                "remaining": level.remaining if level is not None else None,
                "reset_s": level.reset_s if level is not None else None,
            }
            for bound, level in zip(bounds, levels, strict=True)
        ]
        if self._room is not None:
            shown["waiting"] = len(self._room)
        return shown
