"""The counters of a single process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from . import Level, Limit, Settle, Take, Taken
from .buckets import EPSILON, drained, judge, level

__all__ = ["MAX_COUNTERS", "MemoryCounters"]

MAX_COUNTERS: Final = 100_000
MAX_VALUES: Final = 100_000
_NEW: Final = (0.0, 0.0, 0)


class MemoryCounters:
    """Counters of a single process; beyond 100,000 the oldest that hold nothing are forgotten."""

    shared = False

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float, int]] = OrderedDict()
        self._values: OrderedDict[str, tuple[bytes | dict[str, int], float]] = OrderedDict()

    def _load(self, key: str) -> tuple[float, float, int]:
        return self._buckets.get(key, _NEW)

    async def peek(self, takes: Sequence[Take]) -> Taken:
        return judge(takes, self._load, self._now())[0]

    async def take(self, takes: Sequence[Take]) -> Taken:
        return self.take_now(takes)

    def take_now(self, takes: Sequence[Take]) -> Taken:
        """``take``, for those who know that nothing is waited for.

        Written as it goes and taken back where one does not fit: most fit, and this stands in every request's way.
        """
        now, buckets = self._now(), self._buckets
        before: dict[str, tuple[float, float, int] | None] = {}
        levels = []
        for limit, amount, is_held in takes:
            key, capacity, window_s = limit
            bucket = buckets.get(key)
            before.setdefault(key, bucket)
            spent, at, held = bucket or _NEW
            if spent:
                spent = drained(spent, at, now, limit)
            left = capacity - spent - held - amount
            if left < -EPSILON:
                self._take_back(before)
                return judge(takes, self._load, now)[0]
            if is_held:
                held += amount
            else:
                spent += amount
            buckets[key] = spent, now, held
            buckets.move_to_end(key)
            reset_s = spent / capacity * window_s if spent and window_s is not None and capacity else 0.0
            levels.append(Level(int(left + EPSILON) if left > 0 else 0, reset_s))
        if len(before) != len(takes):  # two on one bucket: what is left is what the last has left
            levels = [level(*_state(buckets[limit.key]), limit) for limit, _, _ in takes]
        if len(buckets) > MAX_COUNTERS:
            self._forget_one()
        return Taken(None, None, tuple(levels))

    def _take_back(self, before: Mapping[str, tuple[float, float, int] | None]) -> None:
        for key, bucket in before.items():
            if bucket is None:
                self._buckets.pop(key, None)
            else:
                self._buckets[key] = bucket

    def _forget_one(self) -> None:
        for key, (_, _, held) in self._buckets.items():
            if not held:
                del self._buckets[key]
                return

    def settle(self, settles: Sequence[Settle]) -> None:
        now, buckets = self._now(), self._buckets
        for limit, release, spend in settles:
            key, _, window_s = limit
            spent, at, held = buckets.get(key, _NEW)
            if spent:
                spent = drained(spent, at, now, limit)
            if window_s is not None:
                spent = max(0.0, spent + spend)
            held -= release
            buckets[key] = spent, now, held if held > 0 else 0

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        now = self._now()
        found = []
        for limit in limits:
            spent, at, held = self._load(limit.key)
            found.append(level(drained(spent, at, now, limit), held, limit))
        return tuple(found)

    def _value(self, key: str) -> bytes | dict[str, int] | None:
        value, ends = self._values.get(key, (None, 0.0))
        return value if ends > self._now() else None

    def _keep(self, key: str, value: bytes | dict[str, int], ttl_s: float) -> None:
        self._values[key] = (value, self._now() + ttl_s)
        self._values.move_to_end(key)
        while len(self._values) > MAX_VALUES:
            self._values.popitem(last=False)

    async def tally(self, key: str, amounts: Mapping[str, int], ttl_s: float) -> dict[str, int]:
        there = self._value("t" + key)
        sums = dict(there) if isinstance(there, dict) else {}
        for name, amount in amounts.items():
            sums[name] = sums.get(name, 0) + amount
        self._keep("t" + key, sums, ttl_s)
        return dict(sums)

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        if only_new and self._value("v" + key) is not None:
            return False
        self._keep("v" + key, value, ttl_s)
        return True

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        values = [self._value("v" + key) for key in keys]
        return [value if isinstance(value, bytes) else None for value in values]

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        there = self._value("v" + key)
        if there is None or (value is not None and there != value):
            return False
        del self._values["v" + key]
        return True


def _state(bucket: tuple[float, float, int]) -> tuple[float, int]:
    return bucket[0], bucket[2]
