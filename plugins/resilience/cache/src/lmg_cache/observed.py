"""What is told of a cache: metrics for dashboards, numbers for the admin API."""

from __future__ import annotations

from typing import Any, Final

from lmg.telemetry import Recorder

from .memory import MemoryEntries

__all__ = ["RESULTS", "Observed"]

RESULTS: Final = ("hit", "miss", "bypass", "coalesced")


class Observed:
    """Counts requests by result. Gauges add up over the caches of a process: each moves them by what it has changed."""

    def __init__(self, metrics: Recorder, entries: MemoryEntries) -> None:
        self._metrics, self._entries = metrics, entries
        self._requests = metrics.counter(
            "llm_cache_requests_total", "Requests that the cache saw, by what it did.", ("result",)
        )
        self._bytes = metrics.gauge("llm_cache_bytes", "What kept answers take in memory.")
        self._count = metrics.gauge("llm_cache_entries", "Answers that are kept in memory.")
        self._labels = {result: (result,) for result in RESULTS}
        self._results = dict.fromkeys(RESULTS, 0)
        self._told = (0, 0)
        self.stored = 0

    def count(self, result: str) -> None:
        """One more request."""
        self._results[result] += 1
        if self._metrics.enabled:
            self._requests.inc(self._labels[result])

    def measure(self) -> None:
        """Sets the gauges to what is kept now."""
        if self._metrics.enabled:
            self._move(len(self._entries), self._entries.bytes)

    def stop(self) -> None:
        """Takes this cache out of the gauges."""
        if self._metrics.enabled:
            self._move(0, 0)

    def _move(self, count: int, size: int) -> None:
        if self._told != (count, size):
            self._count.inc((), count - self._told[0])
            self._bytes.inc((), size - self._told[1])
            self._told = (count, size)

    def told(self) -> dict[str, Any]:
        """The numbers since the start."""
        entries = self._entries
        return {
            "requests": dict(self._results),
            "entries": len(entries),
            "bytes": entries.bytes,
            "held_bytes": entries.held,
            "tenants": entries.tenants,
            "stored": self.stored,
            "evicted": entries.evicted,
        }
