"""Listens to a stream without touching it: what an answer was is put together when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from lmg import Exchange, StreamEvent, StreamFilter

__all__ = ["Collector", "completed"]

PER_EVENT: Final = 64
"""What holding an event takes beside its bytes, about."""


def completed(exchange: Exchange) -> bool:
    """Whether the upstream has given all of its answer: a whole one, or a stream with its terminal event."""
    attempts = exchange.attempts
    outcome = attempts[-1].outcome if attempts else None
    return outcome is not None and outcome.status == "complete"


class Collector(StreamFilter):
    """Keeps the bytes of each event; ``done`` is called once, where the stream was complete, with them, or with None
    where they were more than ``limit`` or ``hold`` had no room. ``let_go`` gives the room back.
    """

    __slots__ = ("_done", "_events", "_exchange", "_hold", "_let_go", "_limit", "_size")

    observes = True
    """Every event leaves as it came."""

    def __init__(
        self,
        exchange: Exchange,
        limit: int,
        done: Callable[[list[bytes] | None], None],
        hold: Callable[[int], bool] | None = None,
        let_go: Callable[[int], None] | None = None,
    ) -> None:
        self._exchange, self._limit, self._done = exchange, limit, done
        self._hold, self._let_go = hold, let_go
        self._events: list[bytes] | None = []
        self._size = 0

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent]:
        events = self._events
        if events is not None:
            raw = event.raw
            size = len(raw) + PER_EVENT
            if self._size + size <= self._limit and (self._hold is None or self._hold(size)):
                self._size += size
                events.append(raw)
            else:
                self._forget()
        return (event,)

    def close(self) -> None:
        events = self._events
        if completed(self._exchange):
            self._done(events)
        self._forget()

    def _forget(self) -> None:
        self._events = None
        if self._let_go is not None:
            self._let_go(self._size)
        self._size = 0
