"""How overloaded a worker is, as one number from 0 (not at all) to 1 (nothing more may come in)."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LoopDelay", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """From where overload begins to where it is complete."""

    soft: float
    hard: float

    def level(self, value: float) -> float:
        """Where ``value`` lies: 0 up to ``soft``, 1 from ``hard`` on, and rising evenly between."""
        return min(1.0, max(0.0, (value - self.soft) / (self.hard - self.soft)))


class LoopDelay:
    """What samples of an event loop's lateness say, in the way of CoDel: a burst is none, a standing queue is one.

    Refusing begins when every sample of ``for_s`` was late by more than the span's ``soft``, and ends when the smoothed
    delay is below it: ``level`` falls to 0 evenly, so that clients are let in again little by little.

    Source: RFC 8289 "Controlled Delay Active Queue Management", §3; the delay takes the place of a packet's sojourn.
    """

    __slots__ = ("_above_since", "_at", "_for_s", "_refusing", "_span", "delay_s")

    def __init__(self, span: Span, for_s: float) -> None:
        self._span = span
        self._for_s = for_s
        self._at: float | None = None
        self._above_since: float | None = None
        self._refusing = False
        self.delay_s = 0.0

    def observe(self, now: float, late_s: float) -> float:
        """Takes a sample (seconds, both) and returns the level of overload."""
        # Weighed by the time that it stands for: one sample of a loop that was stuck for seconds says it all.
        passed = now - self._at if self._at is not None else self._for_s
        self._at = now
        self.delay_s += (late_s - self.delay_s) * -math.expm1(-passed / self._for_s)
        if late_s <= self._span.soft:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        elif now - self._above_since >= self._for_s:
            self._refusing = True
        if self._refusing and self.delay_s <= self._span.soft:
            self._refusing = False
        return self._span.level(self.delay_s) if self._refusing else 0.0
