"""Decisions of one version of a policy, by all that it was shown: bounded in number and in age."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["DecisionCache"]

T = TypeVar("T")


class DecisionCache(Generic[T]):
    """At most ``size`` values, each for ``ttl_s`` seconds at most; who was not asked for longest goes first.

    A new version of the policy gets a cache of its own, so nothing that an older one said outlives it.
    """

    __slots__ = ("_clock", "_kept", "_size", "_ttl_s")

    def __init__(self, size: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> T | None:
        """What was kept under ``key``, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] < self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, key: bytes, value: T) -> None:
        """Keeps ``value``."""
        if not self._size:
            return
        if len(self._kept) >= self._size and key not in self._kept:
            self._kept.popitem(last=False)
        self._kept[key] = (self._clock() + self._ttl_s, value)
