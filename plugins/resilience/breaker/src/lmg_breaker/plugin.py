"""`breaker`: a target that fails is left alone for a while, then tried with one call at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator, Sequence
from random import Random
from typing import Final

from lmg import (
    AdminRoute,
    Attempt,
    Component,
    Exchange,
    Failure,
    Health,
    Host,
    Next,
    Outcome,
    Skip,
    Slot,
    Target,
)

from .admin import Admin
from .checks import Checks
from .circuit import CLOSED, Permit
from .config import BreakerConfig
from .outcomes import Verdict, row_of, was_cut_short
from .reasons import CREDENTIAL
from .registry import Registry
from .sharing import Sharing
from .telemetry import Telemetry
from .watch import Watch, available_first, least_bad

__all__ = ["Breaker"]

OPEN_REASON: Final = "open"
"""What a skipped attempt says: the circuit of its target, or of its provider's key, is open."""


class Breaker(Component):
    """Circuits around every target and every provider's key."""

    Config = BreakerConfig
    summary = "leaves failing targets alone, and lets one call at a time find out whether they are well again"
    stability = "beta"
    on_error = "allow"
    config: BreakerConfig

    def __init__(self, config: BreakerConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        rules = config.rules()
        self.random = Random()
        self.telemetry = Telemetry(host, name)
        self.registry = Registry(rules, self.random, self.telemetry, config.max_targets)
        self._sharing = Sharing(host, name, self.registry, rules, self.telemetry, config.sync_ms / 1000)
        self._admin = Admin(host, self.registry)
        self._fair_s = config.fair_timeout_ms / 1000
        self._panic_from = config.panic_from if config.panic_from is not None else math.inf
        self._asks_providers = config.active is not None
        self._now = host.clock.monotonic
        self._routed = Slot[Sequence[Target]]("breaker.routed")
        self._panicked = Slot[bool]("breaker.panicked")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes over what is known to be open, then looks at it twice a second."""
        await self._sharing.restore()
        self._tasks.append(self.host.spawn(self._run(), name=f"{self.name}:rounds"))
        if self.config.active is not None:
            checks = Checks(self.config.active, self.host, self.registry, self.telemetry)
            self._tasks.append(self.host.spawn(checks.run(), name=f"{self.name}:checks"))

    async def stop(self) -> None:
        """Ends the tasks and lets other replicas probe."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            await self._sharing.leave()

    async def _run(self) -> None:
        while True:
            await self.host.clock.sleep(self.config.sync_ms / 1000)
            await self.round()

    async def round(self) -> None:
        """What is due without any call: overdue probes, calls that wait for too long, and news from other replicas."""
        now = self._now()
        for circuit in list(self.registry.circuits()):
            circuit.look(now)
        await self._sharing.round()

    # -- hooks --------------------------------------------------------------------------------
    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        """Puts targets that are open at the end."""
        if len(targets) > 1:
            exchange[self._routed] = targets
        if not self.registry.unsettled or not targets:
            return targets
        if self._asks_providers:
            for target in targets:
                # A target at the end of every list has no attempts to tell that a reload has replaced its provider.
                self.registry.providers[target.provider] = exchange.provider(target)
        watches = [self.registry.find(target) for target in targets]
        return available_first(targets, watches, self._now())

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """Lets a call through, or skips its target; then learns from what became of it."""
        target = attempt.target
        watch = self.registry.of(target, exchange)
        circuit, key = watch.circuit, watch.key
        if self._asks_providers:
            self.registry.providers[target.provider] = exchange.provider(target)
        now = self._now()
        if circuit.state == CLOSED and key.state == CLOSED:
            permit, key_permit = circuit.passing, key.passing
        else:
            permit, key_permit = self._permits(exchange, attempt, watch, now)
        circuit.waiting[attempt] = now
        outcome: Outcome | None = None
        try:
            outcome = yield
        finally:
            circuit.waiting.pop(attempt, None)
            if outcome is None:  # not even the kernel's own ending: nothing may leak
                circuit.freed(permit)
                key.freed(key_permit)
        now = self._now()
        if outcome.status == "complete":
            latency_s = outcome.first_token_s if exchange.operation != "count_tokens" else None
            circuit.succeeded(permit, now, latency_s, attempt.stream)
            if key_permit is not key.passing or key.evidence.row:
                key.succeeded(key_permit, now)
        else:
            self._learn(exchange, attempt, outcome, watch, permit, key_permit)

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        """Goes on to the next target after one that this component has skipped; says when, where there is none."""
        if failure.skip_reason != OPEN_REASON or failure.committed:
            return None
        if failure.targets_left:
            return Next()
        if any(one.outcome is not None and one.outcome.error is not None for one in exchange.attempts):
            return None  # the client gets what an upstream said, with that upstream's own time
        now = self._now()
        routed = exchange.get(self._routed) or (failure.attempt.target,)
        watches = [self.registry.find(target) for target in routed]
        ready = [
            watch.ready_at(now) for watch in watches if watch is not None and watch.badness(now) is not None
        ]
        if ready:
            exchange.reply_header(b"retry-after", b"%d" % max(1, math.ceil(min(ready) - now)))
        return None

    # -- set-up hooks -------------------------------------------------------------------------
    def health(self) -> Health | None:
        """Degraded while the store cannot be reached, or while every target is open."""
        if any(task.done() for task in self._tasks):
            return Health("failed", "a background task has ended")
        if self._sharing.failing:
            return Health("degraded", "the shared store cannot be reached: circuits are this process's alone")
        watches = self.registry.watches.values()
        if watches and all(watch.circuit.state != CLOSED or watch.key.state != CLOSED for watch in watches):
            return Health("degraded", "every target that was called is open")
        return None

    def admin_routes(self) -> list[AdminRoute]:
        """``states``, ``open`` and ``reset``."""
        return self._admin.routes()

    # -- letting through ----------------------------------------------------------------------
    def _permits(
        self, exchange: Exchange, attempt: Attempt, watch: Watch, now: float
    ) -> tuple[Permit, Permit]:
        """The permits of a call to a target that is not simply closed.

        Raises:
            Skip: it is open, and something better is there, or nothing is to be done.
        """
        circuit, key = watch.circuit, watch.key
        circuit.look(now)
        key.look(now)
        if not watch.blocks(now):
            # Neither blocks, so both grant; and nothing runs between the two.
            permit, key_permit = circuit.permit(now, attempt), key.permit(now, attempt)
            assert permit is not None and key_permit is not None
            return permit, key_permit
        if not self._is_last_resort(exchange, attempt, watch, now):
            self.telemetry.skips.inc((circuit.label,))
            raise Skip(OPEN_REASON)
        self.telemetry.panics.inc((circuit.label,))
        return (
            circuit.passing if circuit.state == CLOSED else circuit.extra(),
            key.passing if key.state == CLOSED else key.extra(),
        )

    def _is_last_resort(self, exchange: Exchange, attempt: Attempt, watch: Watch, now: float) -> bool:
        """Whether a call may go to ``watch`` although it is open."""
        target = attempt.target
        routed = [one for one in exchange.get(self._routed) or () if exchange.bounds.admit(one)]
        known = {one.name: self.registry.find(one) for one in routed}
        known[target.name] = watch
        tried = {one.target.name for one in exchange.attempts if one is not attempt}
        to_come = [found for name, found in known.items() if name not in tried or found is watch]
        if any(found is None or not found.blocks(now) for found in to_come):
            return False  # something better is still to be tried
        if least_bad((found for found in to_come if found is not None), now) is not watch:
            return False
        if watch.soft(now):
            return True
        all_open = all(found is not None and found.blocks(now) for found in known.values())
        if not all_open or len(known) < self._panic_from or exchange.get(self._panicked):
            return False
        exchange[self._panicked] = True
        return True

    # -- learning -----------------------------------------------------------------------------
    def _learn(
        self,
        exchange: Exchange,
        attempt: Attempt,
        outcome: Outcome,
        watch: Watch,
        permit: Permit,
        key_permit: Permit,
    ) -> None:
        """What a call that was not answered says of its target and its key (see ``outcomes.TABLE``)."""
        circuit, key, now = watch.circuit, watch.key, self._now()
        verdict: Verdict = row_of(outcome).verdict
        if verdict == "overloaded" and not outcome.reset_after_s:
            verdict = "failure"
        if verdict == "failure" and was_cut_short(exchange, attempt, outcome, self._fair_s):
            verdict = "nothing"
        if verdict == "failure":
            circuit.failed(permit, now)
            key.freed(key_permit)
        elif verdict == "alive":
            circuit.alive(permit, now)
            key.succeeded(key_permit, now)
        elif verdict == "limited":
            circuit.limited(permit, now, outcome.reset_after_s)
            key.succeeded(key_permit, now)
        elif verdict == "overloaded":
            circuit.overloaded(permit, now, outcome.reset_after_s or 0.0)
            key.freed(key_permit)
        elif verdict == "credential":
            circuit.freed(permit)
            key.refused(key_permit, now, CREDENTIAL)
        elif verdict == "forbidden":
            circuit.alive(permit, now)
            key.failed(key_permit, now, CREDENTIAL)
        else:
            self._without_verdict(attempt, outcome, watch, permit, now)
            key.freed(key_permit)

    def _without_verdict(
        self, attempt: Attempt, outcome: Outcome, watch: Watch, permit: Permit, now: float
    ) -> None:
        circuit = watch.circuit
        if self.config.slow_cancels and outcome.status == "cancelled" and permit is not circuit.probe:
            waited_s = outcome.duration_s if outcome.first_token_s is None else outcome.first_token_s
            if circuit.evidence.pace(waited_s, attempt.stream) != "usual":
                circuit.succeeded(permit, now, waited_s, attempt.stream)
                return
        circuit.freed(permit)
