"""The budget: how many retries the traffic of the last seconds pays for.

Source: Finagle's ``RetryBudget`` (a share of requests, with a floor a second, over a window); Google, "Site Reliability
Engineering", chapter 22 "Handling Overload" (retries as a share of requests, so that they cannot multiply an outage).
"""

from __future__ import annotations

from typing import Final

__all__ = ["Budget"]

BUCKETS: Final = 10
"""The window moves on by a tenth of itself."""


class Budget:
    """In any ``window_s`` seconds at most ``share`` of the requests, and ``min_per_s`` a second, are retries.

    The requests of up to a tenth of the window before it count too: times are kept by the bucket, in eleven buckets
    whatever the traffic. ``now`` is seconds of a clock that never runs backwards.
    """

    __slots__ = ("_floor", "_requests", "_retries", "_share", "_tick", "_width", "requests", "retries")

    def __init__(self, share: float, window_s: float, min_per_s: float) -> None:
        self._share = share
        self._floor = min_per_s * window_s
        self._width = window_s / BUCKETS
        # One more than the window has: the newest is not full yet.
        self._requests = [0] * (BUCKETS + 1)
        self._retries = [0] * (BUCKETS + 1)
        self._tick = 0
        self.requests = 0
        self.retries = 0

    def deposit(self, now: float) -> None:
        """One more request was made."""
        tick = int(now / self._width)
        if tick != self._tick:
            self._move_to(tick)
        self._requests[tick % (BUCKETS + 1)] += 1
        self.requests += 1

    def withdraw(self, now: float) -> bool:
        """Takes one retry; False, and nothing is taken, where the traffic does not pay for it."""
        tick = int(now / self._width)
        if tick != self._tick:
            self._move_to(tick)
        # A hair's breadth, because a fifth of five is not quite one.
        if self.retries + 1 > self._share * self.requests + self._floor + 1e-9:
            return False
        self._retries[tick % (BUCKETS + 1)] += 1
        self.retries += 1
        return True

    def _move_to(self, tick: int) -> None:
        for passed in range(min(tick - self._tick, BUCKETS + 1)):
            bucket = (tick - passed) % (BUCKETS + 1)
            self.requests -= self._requests[bucket]
            self.retries -= self._retries[bucket]
            self._requests[bucket] = self._retries[bucket] = 0
        self._tick = tick
