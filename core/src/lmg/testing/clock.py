"""A clock that stands still until it is told."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from ..host import Clock

__all__ = ["VirtualClock"]


class VirtualClock(Clock):
    """Put it into ``Harness(clock=…)``; ``await clock.advance(seconds)`` wakes what slept till then, in order."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), waiting))
        await waiting

    async def advance(self, seconds: float) -> None:
        """Lets ``seconds`` pass; returns when everything that was due has run up to its next wait."""
        until = self._elapsed + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, waiting = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, at)
            if not waiting.done():
                waiting.set_result(None)
            await _settle()
        self._elapsed = until
        await _settle()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
