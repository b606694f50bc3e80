"""Intervals that hold at every moment at once: whoever looks all the time is misled no more often than whoever looks once.

A confidence *sequence* at level ``alpha`` covers the true mean at all sample sizes together with probability
``1 - alpha``, so that a test may be read every second and ended at any of them. Two are enough here:

- means of what lies in [0, 1] (errors): the beta mixture of likelihood ratios, exact at every size;
- means of anything (logarithms of times, costs, risks): the normal mixture with the variance estimated, right as
  samples grow; nothing is said before ``BURN_IN`` of them.

The harm is a difference of two arms. Each arm gets half of ``alpha`` and the bounds are subtracted: that is a little
wide, but holds for any shares, any order of arrival, and where the arms depend on each other, as a mirrored
request's two answers do.

Sources: Johari, Koomen, Pekelis, Walsh, "Peeking at A/B Tests" (KDD 2017); Howard, Ramdas, McAuliffe, Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences" (Annals of Statistics 49, 2021); Robbins,
"Statistical methods related to the law of the iterated logarithm" (1970); Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52, 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, lgamma, log, sqrt
from typing import Final

__all__ = [
    "ALL",
    "BURN_IN",
    "BURN_IN_SKEWED",
    "Interval",
    "Moments",
    "bounded_mean",
    "difference",
    "mean",
    "ratio",
]

BURN_IN: Final = 50
"""So many samples are needed before the variance that is estimated from them can be relied on."""
BURN_IN_SKEWED: Final = 100
"""So many where a few large values make up much of the mean, as in costs."""

_HALF: Final = 0.5  # Jeffreys' prior, whose price for not knowing the mean is half a logarithm of n
_PSEUDO: Final = 10.0  # observations that the assumed variance is worth
_STEPS: Final = 48
_PRECISION: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Interval:
    """What a mean may be."""

    low: float
    high: float


ALL: Final = Interval(-inf, inf)
"""Nothing is known."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What is kept of a sample: how many, their sum, the sum of their squares."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """The sample's mean; 0 of nothing."""
        return self.total / self.n if self.n else 0.0

    def thinned(self, by: float) -> Moments:
        """The same sample where ``by`` observations tell as much as one (Kish's design effect)."""
        return self if by == 1.0 else Moments(self.n / by, self.total / by, self.squares / by)


def bounded_mean(sample: Moments, alpha: float) -> Interval:
    """What the mean of a variable within [0, 1] may be, at every sample size (squares are not needed).

    The martingale is the mixture of ``(q/p)^x ((1-q)/(1-p))^(1-x)`` over ``q`` ~ Beta(1/2, 1/2): for a Bernoulli
    variable a likelihood ratio, for any other within [0, 1] below it, by convexity. By Ville's inequality it passes
    ``1/alpha`` for the true ``p`` with probability at most ``alpha``, ever.
    """
    n = sample.n
    if n <= 0:
        return Interval(0.0, 1.0)
    hits = min(max(sample.total, 0.0), n)
    misses = n - hits
    evidence = _log_beta(hits + _HALF, misses + _HALF) - _log_beta(_HALF, _HALF) + log(alpha)

    def refuted(p: float) -> bool:
        against = evidence
        if hits:
            against -= hits * log(p)
        if misses:
            against -= misses * log(1.0 - p)
        return against >= 0.0

    at = hits / n
    low = _edge(refuted, 0.0, at) if hits else 0.0
    high = _edge(refuted, 1.0, at) if misses else 1.0
    return Interval(low, high)


def mean(
    sample: Moments, alpha: float, *, tuned_for: float, assumed_sd: float, burn_in: int = BURN_IN
) -> Interval:
    """What the mean of any variable with a variance may be, as samples grow; nothing before ``burn_in`` of them.

    ``tuned_for`` is the sample size at which the interval is to be narrowest (it is valid at all), ``assumed_sd`` the
    spread that a handful of pseudo-observations add, so that a sample that happens to be even proves nothing.
    """
    n = sample.n
    if n < burn_in:
        return ALL
    centre = sample.total / n
    deviations = max(0.0, sample.squares - n * centre * centre)
    variance = (deviations + _PSEUDO * assumed_sd * assumed_sd) / (n - 1.0 + _PSEUDO)
    wanted = -2.0 * log(alpha)
    rho = (wanted + log(wanted) + 1.0) / tuned_for  # the mixture's variance, in units of the sample's
    grown = n * rho + 1.0
    radius = sqrt(variance * 2.0 * grown / (n * n * rho) * log(sqrt(grown) / alpha))
    return Interval(centre - radius, centre + radius)


def difference(of: Interval, against: Interval) -> Interval:
    """What ``of - against`` may be."""
    return Interval(of.low - against.high, of.high - against.low)


def ratio(of: Interval, against: Interval) -> Interval:
    """What ``of / against`` may be, of two means that are not negative; 0/0 is 1."""
    if of.high <= 0.0 and against.high <= 0.0:
        return Interval(1.0, 1.0)
    low = max(0.0, of.low) / against.high if against.high > 0.0 else inf
    return Interval(low, of.high / against.low if against.low > 0.0 else inf)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _edge(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    """The last value that is refuted on the way from ``outside``, which is, to ``inside``, which is not."""
    for _ in range(_STEPS):
        if abs(outside - inside) < _PRECISION:
            break
        middle = (outside + inside) / 2.0
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside
