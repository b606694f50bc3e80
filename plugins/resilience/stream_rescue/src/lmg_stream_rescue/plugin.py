"""`stream_rescue`: an answer that breaks off in mid-stream is asked for anew, or goes on elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from lmg import Attempt, Component, Exchange, Failure, Host, Next, Outcome, Resume, Slot, StreamFilter, Target
from lmg.telemetry import Counter

from .config import StreamRescueConfig
from .continuing import Continuation, Progress
from .holding import HeldAnswer, HeldMemory

__all__ = ["BREAKS", "StreamRescue"]

BREAKS: Final = frozenset({"closed", "protocol", "timeout", "status", "overloaded", "rate_limited"})
"""The kinds of failure that break an answer off by no fault of the request's: another model may do better."""
_OF_THE_REQUEST: Final = frozenset({"bad_request", "context_length", "content_filter"})
_WITH_PREFILL: Final = frozenset({"content_filter"})


@dataclass(frozen=True, slots=True)
class _Rescue:
    """How many rescues an exchange has had, and which attempt is the latest one's."""

    count: int
    attempt: int


class StreamRescue(Component):
    """Saves answers that had begun; what fails before its first event is somebody else's."""

    Config = StreamRescueConfig
    summary = "streams that break off are asked for anew, or go on with another model"
    stability = "beta"
    config: StreamRescueConfig
    _rescues: Counter

    def __init__(self, config: StreamRescueConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._continues = config.rescue == "continue"
        self.needs_written = self._continues
        self._memory = HeldMemory(config.max_total_held_bytes)
        self._continuation = Continuation(config, host)
        self._progress = Slot[Progress](f"{name}.progress")
        self._routed = Slot[Sequence[Target]](f"{name}.routed")
        self._until = Slot[float](f"{name}.until")
        self._rescue = Slot[_Rescue](f"{name}.rescue")

    async def start(self) -> None:
        """Registers the metric."""
        self._rescues = self.host.metrics.counter(
            "llm_stream_rescues_total",
            "Answers that broke off: how the rescue with a target ended, or why there was none.",
            ("target", "outcome"),
        )

    # -- what must be known beforehand ------------------------------------------------------------
    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        """Remembers the list, for after commit a failure no longer says what is left of it; or the hour."""
        if self._continues:
            exchange[self._routed] = tuple(targets)
        elif self.config.max_held_s is not None:
            # Of the exchange and not of an attempt: it is the client's patience.
            exchange[self._until] = self.host.clock.monotonic() + self.config.max_held_s
        return targets

    def on_stream(self, exchange: Exchange) -> StreamFilter | None:
        """Holds the answer, or follows how far it has come."""
        attempt = exchange.attempts[-1] if exchange.attempts else None
        if not exchange.request.stream or attempt is None or attempt.outcome is not None:
            return None  # a whole answer: it is all there
        if self._continues:
            progress = exchange[self._progress] = Progress()
            return progress
        target = attempt.target

        def released() -> None:
            self._count(exchange, target, "released")

        return HeldAnswer(
            self._memory,
            self.config.max_held_bytes,
            released,
            clock=self.host.clock.monotonic,
            until=exchange.get(self._until),
        )

    # -- the break ------------------------------------------------------------------------------
    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | Resume | None:
        """Where an answer that had begun goes on, None where it cannot or where it had not begun."""
        if not exchange.request.stream or (failure.committed and not self._continues):
            return None
        before = exchange.get(self._rescue) or _Rescue(0, 0)
        of_rescue = before.attempt == failure.attempt.number
        if not _is_ours(failure, of_rescue):
            return None
        outcome = failure.attempt.outcome
        # An attempt that was skipped has asked nobody.
        count = before.count - (of_rescue and outcome is not None and outcome.status == "skipped")
        decision: Next | Resume | str = "max_rescues"
        if count < self.config.max_rescues:
            decision = self._resume(exchange) if failure.committed else self._restart(exchange, failure)
        if isinstance(decision, str):
            self._count(exchange, failure.attempt.target, decision)
            return None
        exchange[self._rescue] = _Rescue(count + 1, len(exchange.attempts) + 1)
        return decision

    def _restart(self, exchange: Exchange, failure: Failure) -> Next | str:
        if failure.targets_left:
            return Next()
        target = next(self._untried(exchange, ()), None)
        return Next(target.name) if target is not None else "no_target"

    def _resume(self, exchange: Exchange) -> Resume | str:
        progress, written = exchange.get(self._progress), exchange.written
        if progress is None or progress.over or written is None:
            return "unsupported"
        obstacle = self._continuation.obstacle(exchange)
        if obstacle:
            return obstacle
        for target in self._untried(exchange, exchange.get(self._routed) or ()):
            if self._continuation.takes(exchange, target, written):
                return Resume(target.name, written)
        return "no_target"

    def _untried(self, exchange: Exchange, routed: Sequence[Target]) -> Generator[Target, None, None]:
        """The targets that are left: the routed ones, then those that ``to`` names, within the bounds."""
        tried = {attempt.target.name for attempt in exchange.attempts}
        for target in (*routed, *self._chained(exchange)):
            if target.name not in tried and exchange.bounds.admit(target):
                tried.add(target.name)
                yield target

    def _chained(self, exchange: Exchange) -> Generator[Target, None, None]:
        model, chains = exchange.request.model, self.config.to
        names = chains.get(model) or next((to for key, to in chains.items() if fnmatchcase(model, key)), ())
        if names:
            offered = exchange.offered()
            for name in names:
                yield from (target for target in offered if name in (target.name, target.model))

    # -- the rescue -------------------------------------------------------------------------------
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """Tells a model that goes on what it is to do, and counts how a rescue ended."""
        if attempt.prefill is None:
            exchange.written = ""  # of an answer that was given up before anything of it was sent
        rescue = exchange.get(self._rescue)
        if rescue is None or rescue.attempt != attempt.number:
            yield
            return
        if attempt.prefill is not None:
            attempt.body = self._continuation.written_for(
                exchange, attempt.target, attempt.body, attempt.prefill
            )
        outcome = yield
        self._count(exchange, attempt.target, outcome.status)

    def _count(self, exchange: Exchange, target: Target, outcome: str) -> None:
        # A provider that names no models takes whatever name a caller writes: that is no label.
        named = exchange.pipeline.catalogue.lists(target.model)
        self._rescues.inc((target.name if named else f"{target.provider}:*", outcome))


def _is_ours(failure: Failure, of_rescue: bool) -> bool:
    if failure.attempt.first_byte_at is not None:
        return failure.kind in BREAKS
    # What fails before its first event is a rescue's only where it is one itself. A begun answer that an upstream
    # does not take (400) is no fault of the caller's.
    return of_rescue and failure.kind not in (_WITH_PREFILL if failure.committed else _OF_THE_REQUEST)
