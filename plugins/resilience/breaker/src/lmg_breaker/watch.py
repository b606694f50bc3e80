"""A target as a request sees it: its own circuit, and that of the key it is called with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from .circuit import CLOSED, Circuit
from .reasons import FORCED

__all__ = ["Watch", "available_first", "least_bad"]

T = TypeVar("T")
Badness = tuple[int, float, int]


class Watch:
    """The two circuits that a call passes. A target can be called where neither blocks."""

    __slots__ = ("circuit", "key")

    def __init__(self, circuit: Circuit, key: Circuit) -> None:
        self.circuit, self.key = circuit, key

    def blocks(self, now: float) -> bool:
        """Whether a call would get no permit now."""
        circuit, key = self.circuit, self.key
        return (circuit.state != CLOSED and circuit.blocks(now)) or (key.state != CLOSED and key.blocks(now))

    def blocking(self, now: float) -> list[Circuit]:
        """Which of the two block."""
        return [circuit for circuit in (self.circuit, self.key) if circuit.blocks(now)]

    def ready_at(self, now: float) -> float:
        """When neither blocks any more, as far as is known."""
        return max((circuit.ready_at for circuit in self.blocking(now)), default=now)

    def soft(self, now: float) -> bool:
        """Whether whatever blocks lets the target be used where there is nothing better."""
        return all(circuit.soft for circuit in self.blocking(now))

    def badness(self, now: float) -> Badness | None:
        """What to sort blocked targets by, the least bad first; None where it must not be called at all.

        One that still answers comes before one that failed, and that before one whose upstream has announced that it
        refuses; then the one that is ready first; then the one that was open less often.
        """
        blocking = self.blocking(now)
        reasons = [circuit.reason for circuit in blocking if circuit.reason is not None]
        if FORCED in reasons:
            return None
        rank = max((2 if reason.refuses else 0 if reason.soft else 1 for reason in reasons), default=0)
        return rank, self.ready_at(now), max((circuit.opens for circuit in blocking), default=0)


def least_bad(watches: Iterable[Watch], now: float) -> Watch | None:
    """Of blocked ``watches`` the one to try if one must be; None where none may."""
    best: Watch | None = None
    least: Badness | None = None
    for watch in watches:
        badness = watch.badness(now)
        if badness is not None and (least is None or badness < least):
            best, least = watch, badness
    return best


def available_first(items: Sequence[T], watches: Sequence[Watch | None], now: float) -> Sequence[T]:
    """``items`` with those that are blocked at the end; the order is kept otherwise, and nothing is left out.

    Where all are blocked the least bad one comes first, as it is the one that may be tried. ``watches`` are those of
    the items, None where nothing is known of one.
    """
    blocked = [watch is not None and watch.blocks(now) for watch in watches]
    if not any(blocked):
        return items
    if all(blocked):
        best = least_bad((watch for watch in watches if watch is not None), now)
        chosen = [watch is not best for watch in watches]
    else:
        chosen = blocked
    # Sorting is stable: False comes before True.
    return [items[n] for n in sorted(range(len(items)), key=chosen.__getitem__)]
