"""`rescue: hold`: the events of an answer wait until it is complete, within two bounds of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lmg import StreamEvent, StreamFilter

__all__ = ["HeldAnswer", "HeldMemory", "weight_of"]

_OBJECTS: Final = 200
"""Bytes that an event's objects take up (CPython 3.11: 195): a million events without text are no small thing."""


def weight_of(event: StreamEvent) -> int:
    """The memory that ``event`` takes up, in bytes: it is kept as it came, with its data beside it."""
    return 2 * len(event.sse.raw) + _OBJECTS


class HeldMemory:
    """What all answers of a worker may hold together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Takes ``size`` bytes, or nothing (and False) where they do not fit."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Frees what was taken."""
        self.used -= size


class HeldAnswer(StreamFilter):
    """Holds every event up to the answer's end and lets them go as they came, in their order.

    Beyond a bound (its own size, that of all, its time) it lets go of what it holds and of everything after it;
    ``released`` is told, once.
    """

    __slots__ = ("_clock", "_events", "_limit", "_memory", "_open", "_released", "_size", "_until")

    def __init__(
        self,
        memory: HeldMemory,
        limit: int,
        released: Callable[[], None],
        *,
        clock: Callable[[], float],
        until: float | None = None,
    ) -> None:
        self._memory = memory
        self._limit = limit
        self._released = released
        self._clock = clock
        self._until = until
        self._events: list[StreamEvent] = []
        self._size = 0
        self._open = False

    def feed(self, event: StreamEvent) -> list[StreamEvent] | tuple[StreamEvent, ...]:
        if self._open:
            return (event,)
        size = weight_of(event)
        self._events.append(event)
        if (
            self._size + size <= self._limit
            and (self._until is None or self._clock() < self._until)
            and self._memory.take(size)
        ):
            self._size += size
            return ()
        self._open = True
        self._released()
        return self._let_go()

    def finish(self) -> list[StreamEvent]:
        return self._let_go()

    def close(self) -> None:
        self._let_go()

    def _let_go(self) -> list[StreamEvent]:
        self._memory.give_back(self._size)
        self._size = 0
        events, self._events = self._events, []
        return events
