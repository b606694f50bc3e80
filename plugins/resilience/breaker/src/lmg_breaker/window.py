"""What has happened within the last seconds: a ring of buckets, O(1) a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["BUCKETS", "Bucket", "Window"]

BUCKETS: Final = 10


class Bucket:
    """Counts of one slice of time. ``slow`` is by the operator's limit, ``unusual`` by the target's own.

    ``whole`` and ``streamed`` are (how many, sum, sum of squares) of the logarithms of latencies in seconds.
    """

    __slots__ = ("calls", "failures", "slow", "streamed", "unusual", "whole")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Back to nothing."""
        self.calls = self.failures = self.slow = self.unusual = 0
        self.whole = [0, 0.0, 0.0]
        self.streamed = [0, 0.0, 0.0]


class Window:
    """Sums over the last ``span_s`` seconds (to a tenth of it). What leaves the window is given to ``spill`` first."""

    __slots__ = ("_per_s", "_ring", "_spill", "bucket", "calls", "failures", "index", "slow", "unusual")

    def __init__(self, span_s: float, spill: Callable[[Bucket], None]) -> None:
        self._per_s = BUCKETS / span_s
        self._ring = [Bucket() for _ in range(BUCKETS)]
        self._spill = spill
        self.calls = self.failures = self.slow = self.unusual = 0
        self.index = 0
        self.bucket = self._ring[0]

    def at(self, now: float) -> Bucket:
        """The bucket that ``now`` falls into; those that are over have left the sums."""
        index = int(now * self._per_s)
        if index > self.index:
            self._turn(index)
        return self.bucket

    def _turn(self, index: int) -> None:
        # A longer silence than the window empties every bucket once.
        for step in range(1, min(index - self.index, BUCKETS) + 1):
            self._leave(self._ring[(self.index + step) % BUCKETS])
        self.index = index
        self.bucket = self._ring[index % BUCKETS]

    def _leave(self, bucket: Bucket) -> None:
        if bucket.calls:
            self.calls -= bucket.calls
            self.failures -= bucket.failures
            self.slow -= bucket.slow
            self.unusual -= bucket.unusual
            self._spill(bucket)
            bucket.clear()

    def clear(self) -> None:
        """Empties the window; what was in it is spilled."""
        for bucket in self._ring:
            self._leave(bucket)
