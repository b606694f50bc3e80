"""What is usual for a target: how often it fails, and how long it takes. What it does now is judged against that.

The baseline learns what leaves the window, so the calls that are judged are never part of what they are judged by.
"""

from __future__ import annotations

import math
from typing import Final

from .window import Bucket

__all__ = ["Baseline", "deviation"]

SURE_AFTER: Final = 100
"""Calls before a baseline is relied on."""
_SPREAD: Final = 2.0
"""Standard deviations (of the logarithm) within which a latency is usual in any case: 97.7 % of them."""
_NEVER: Final = math.inf


def deviation(hits: int, calls: int, usual_share: float, usual_calls: float) -> float:
    """How many standard deviations ``hits`` of ``calls`` lie above the usual share; 0 where they do not.

    The signed root of the G statistic of the two samples (likelihood ratio against "both have the same share"):
    a normal deviate where that approximation holds, and sound where it does not (few calls, small shares). That the
    usual is only known from ``usual_calls`` counts, too: a young baseline is not relied on as an old one is.
    """
    share = hits / calls
    if share <= usual_share:
        return 0.0
    pooled = (hits + usual_share * usual_calls) / (calls + usual_calls)
    return math.sqrt(
        2.0 * (calls * _divergence(share, pooled) + usual_calls * _divergence(usual_share, pooled))
    )


def _divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, of one coin from another, in nats."""
    found = p * math.log(p / q) if p > 0.0 else 0.0
    if p < 1.0 and q < 1.0:
        found += (1.0 - p) * math.log((1.0 - p) / (1.0 - q))
    return max(found, 0.0)


class _Usual:
    """Mean and variance of the logarithm of a latency: latencies are skewed, their logarithms hardly."""

    __slots__ = ("calls", "mean", "variance")

    def __init__(self) -> None:
        self.calls, self.mean, self.variance = 0.0, 0.0, 0.0

    def learn(self, moments: list[float], memory: int) -> None:
        new, total, squares = moments
        if not new:
            return
        old = self.calls
        every = old + new
        mean = (old * self.mean + total) / every
        self.variance = max(0.0, (old * (self.variance + self.mean**2) + squares) / every - mean**2)
        self.mean = mean
        self.calls = min(every, memory)


class Baseline:
    """Long averages over about ``memory`` calls: exact at first, then each new call weighs ``1 / memory``.

    ``limits`` are the latencies in seconds, of whole answers and of first events, beyond which a call is unusually
    slow: ``factor`` times the usual, outside the usual spread, and at least ``floor_s``. Infinite until it is sure.
    """

    __slots__ = (
        "_factor", "_floor_s", "_memory", "_streamed", "_sure_after", "_whole", "calls", "failures", "limits", "unusual",
    )  # fmt: skip

    def __init__(self, memory: int, factor: float, floor_s: float) -> None:
        self._memory, self._factor, self._floor_s = memory, factor, floor_s
        self._sure_after = min(SURE_AFTER, memory)
        self.calls = 0.0
        self.failures = 0.0
        self.unusual = 0.0
        self.forget_latency()

    @property
    def sure(self) -> bool:
        """Whether it has seen enough to judge by."""
        return self.calls >= self._sure_after

    def forget_latency(self) -> None:
        """What was usual is no more: begins anew."""
        self._whole, self._streamed = _Usual(), _Usual()
        self.limits = [_NEVER, _NEVER]
        self.unusual = 0.0

    def learn(self, bucket: Bucket) -> None:
        """Takes in what has left the window."""
        every = self.calls + bucket.calls
        self.failures = (self.calls * self.failures + bucket.failures) / every
        self.unusual = (self.calls * self.unusual + bucket.unusual) / every
        self.calls = min(every, self._memory)
        self._whole.learn(bucket.whole, self._memory)
        self._streamed.learn(bucket.streamed, self._memory)
        self.limits = [self._limit(self._whole), self._limit(self._streamed)]

    def _limit(self, usual: _Usual) -> float:
        if usual.calls < self._sure_after:
            return _NEVER
        typical = math.exp(usual.mean)
        spread = math.exp(_SPREAD * math.sqrt(usual.variance))
        return max(typical * max(self._factor, spread), self._floor_s)
