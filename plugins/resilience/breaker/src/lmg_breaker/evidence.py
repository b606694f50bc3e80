"""What the calls of a closed circuit add up to: nothing yet, or a reason to open."""

from __future__ import annotations

import math
from typing import Literal, Protocol

from .baseline import Baseline, deviation
from .reasons import (
    CONSECUTIVE,
    CREDENTIAL,
    FAILURE_RATE,
    SLOW,
    STALLED,
    UNUSUAL_FAILURES,
    UNUSUALLY_SLOW,
    Reason,
)
from .rules import Rules
from .window import Window

__all__ = ["Evidence", "KeyEvidence", "Pace", "TargetEvidence"]

Pace = Literal["usual", "unusual", "slow"]
"""How fast an answer was: as usual, slower than this target's own usual, or slower than the operator allows."""


class Evidence(Protocol):
    """What a circuit asks while it is closed."""

    row: int
    """Failures without a success between them."""
    times_out: bool
    """Whether no answer is a bad answer."""

    def succeeded(self, now: float, latency_s: float | None, streamed: bool) -> Reason | None:
        """Counts a success; a reason where it was too slow once too often."""

    def failed(self, now: float) -> Reason | None:
        """Counts a failure."""

    def stalled(self, now: float, late: int) -> Reason | None:
        """Judges that the last ``late`` calls which should have been answered by now were not; counts nothing."""

    def pace(self, latency_s: float | None, streamed: bool) -> Pace:
        """How fast that was."""

    def patience_s(self, streamed: bool) -> float:
        """How long a call may wait for its first event, or its whole answer, before it counts as stalled."""

    def close_book(self) -> None:
        """Ends a period: what was counted becomes part of what is usual."""

    def forget_latency(self) -> None:
        """Takes what is slow now for usual."""


class TargetEvidence:
    """The rules for a target: failures in a row, shares of a window, and both against the target's own baseline."""

    __slots__ = ("_in_time_at", "_rules", "baseline", "row", "window")
    times_out = True

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._in_time_at = -math.inf
        self.row = 0
        self.baseline = Baseline(
            rules.baseline_calls, rules.adaptive_slow_factor, rules.adaptive_slow_floor_s
        )
        self.window = Window(rules.window_s, self.baseline.learn)

    def succeeded(self, now: float, latency_s: float | None, streamed: bool) -> Reason | None:
        self.row = 0
        window = self.window
        bucket = window.at(now)
        window.calls += 1
        bucket.calls += 1
        if latency_s is None or latency_s <= 0.0:
            return None
        logarithm = math.log(latency_s)
        moments = bucket.streamed if streamed else bucket.whole
        moments[0] += 1
        moments[1] += logarithm
        moments[2] += logarithm * logarithm
        slow = latency_s > self._rules.slow_call_s
        unusual = latency_s > self.baseline.limits[streamed]
        if not (slow or unusual):
            self._in_time_at = now
            return None
        window.slow += slow
        bucket.slow += slow
        window.unusual += unusual
        bucket.unusual += unusual
        return self._slowness(window.calls, window.slow, window.unusual)

    def _slowness(self, calls: int, slow: int, unusual: int) -> Reason | None:
        rules = self._rules
        if calls < rules.min_calls:
            return None
        if slow / calls >= rules.slow_rate:
            return SLOW
        if unusual / calls >= rules.slow_rate and self._deviates(unusual, calls, self.baseline.unusual):
            return UNUSUALLY_SLOW
        return None

    def failed(self, now: float) -> Reason | None:
        rules, window = self._rules, self.window
        self.row += 1
        bucket = window.at(now)
        window.calls += 1
        window.failures += 1
        bucket.calls += 1
        bucket.failures += 1
        if self.row >= rules.consecutive:
            return CONSECUTIVE
        if window.calls < rules.min_calls:
            return None
        share = window.failures / window.calls
        if share >= rules.failure_rate:
            return FAILURE_RATE
        usual = self.baseline.failures
        if share >= usual + rules.adaptive_margin and self._deviates(window.failures, window.calls, usual):
            return UNUSUAL_FAILURES
        return None

    def _deviates(self, hits: int, calls: int, usual: float) -> bool:
        known = self.baseline
        return known.sure and deviation(hits, calls, usual, known.calls) >= self._rules.adaptive_sensitivity

    def stalled(self, now: float, late: int) -> Reason | None:
        patience_s = min(self.patience_s(streamed=False), self.patience_s(streamed=True))
        too_long = now - self._in_time_at > patience_s
        return STALLED if too_long and late >= min(self._rules.consecutive, self._rules.min_calls) else None

    def pace(self, latency_s: float | None, streamed: bool) -> Pace:
        if latency_s is None:
            return "usual"
        if latency_s > self._rules.slow_call_s:
            return "slow"
        return "unusual" if latency_s > self.baseline.limits[streamed] else "usual"

    def patience_s(self, streamed: bool) -> float:
        stated = self._rules.slow_call_s
        return stated if stated < math.inf else self.baseline.limits[streamed]

    def close_book(self) -> None:
        self.row = 0
        self.window.clear()

    def forget_latency(self) -> None:
        self.baseline.forget_latency()


class KeyEvidence:
    """The rule for a provider's key: so many refusals without one call that the key was good for."""

    __slots__ = ("_to_open", "row")
    times_out = False

    def __init__(self, rules: Rules) -> None:
        self._to_open = rules.forbidden_to_open
        self.row = 0

    def succeeded(self, now: float, latency_s: float | None, streamed: bool) -> Reason | None:
        self.row = 0
        return None

    def failed(self, now: float) -> Reason | None:
        self.row += 1
        return CREDENTIAL if self.row >= self._to_open else None

    def stalled(self, now: float, late: int) -> Reason | None:
        return None

    def pace(self, latency_s: float | None, streamed: bool) -> Pace:
        return "usual"

    def patience_s(self, streamed: bool) -> float:
        return math.inf

    def close_book(self) -> None:
        self.row = 0

    def forget_latency(self) -> None:
        return None
