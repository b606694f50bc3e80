"""How much worse the canary is than the baseline, measure by measure: at least, and at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, inf
from typing import Final, Literal, NamedTuple

from .config import Experiment, Limits
from .measures import Arm, failures_of, moments_of
from .sequential import BURN_IN, BURN_IN_SKEWED, Interval, Moments, bounded_mean, difference, mean, ratio

__all__ = ["Finding", "Report", "compare"]

Verdict = Literal["within", "beyond", "open", "unpriced", "unseen"]
Sides = tuple[Moments, Moments]  # the canary's, the baseline's

_TIME_SD: Final = 0.5  # the spread that a logarithm of a time is taken to have at first: a factor of 1.6
_COST_SD: Final = 0.5  # that of a cost, as a share of its mean
_RISK_SD: Final = 0.1
_LARGE: Final = 700.0  # the exponential of more is no float
_RARE: Final = 0.05
"""What is seen in fewer of the arms' requests than this share of them keeps nobody from being promoted."""


class Finding(NamedTuple):
    """One measure of both arms, and how much worse the canary is.

    ``low`` is how much it is at least (wrong with probability ``alpha``), ``high`` at most (``beta``); as a difference
    of shares or as a ratio, whichever the limit is. ``state`` is ``beyond`` where it is surely over the limit,
    ``within`` where surely not, ``open`` where neither is known, ``unpriced`` where it cannot be known, ``unseen``
    where there is nothing to compare. Times are seconds, costs nano-dollars.
    """

    measure: str
    baseline: float
    canary: float
    low: float
    high: float
    limit: float
    state: Verdict


class Report(NamedTuple):
    """The samples of each arm (mirrored ones among the canary's), and the findings."""

    baseline: int
    canary: int
    mirrored: int
    findings: tuple[Finding, ...]

    @property
    def beyond(self) -> Finding | None:
        """The first measure that is surely over its limit."""
        return next((found for found in self.findings if found.state == "beyond"), None)


def compare(experiment: Experiment, sums: Mapping[str, int], stage: int) -> Report:
    """What the sums of a stage say, read as often as one likes."""
    return _Comparison(experiment, sums, stage).report()


class _Comparison:
    """``alpha`` is shared by the stages and limits, any of which could roll a good canary back; a bad one has to get past
    every limit that it breaks, in every stage, so ``beta`` is not. Both are shared by the two arms.
    """

    def __init__(self, experiment: Experiment, sums: Mapping[str, int], stage: int) -> None:
        limits = experiment.limits
        watched = sum(getattr(limits, name) is not None for name in Limits.model_fields)
        judged = sum(one.percent < 100 for one in experiment.plan)
        self._alpha = experiment.alpha / max(1, watched * judged) / 2.0
        self._beta = experiment.beta / 2.0
        self._limits = limits
        self._sums = sums
        self._thin = experiment.requests_per_observation
        self._tuned_for = max(1.0, experiment.plan[stage].min_samples / self._thin)
        self._only_copies = experiment.plan[stage].percent == 0
        self._baseline = failures_of(sums, "baseline")
        self._canary = failures_of(sums, "canary", "mirror")

    def report(self) -> Report:
        limits = self._limits
        findings = [
            found(limit)
            for limit, found in (
                (limits.max_error_rate_increase, self._failures),
                (limits.max_first_token_ratio, self._first_token),
                (limits.max_latency_ratio, self._latency),
                (limits.max_cost_ratio, self._cost),
                (limits.max_signal_increase, self._signals),
            )
            if limit is not None
        ]
        mirrored = failures_of(self._sums, "mirror").n
        return Report(int(self._baseline.n), int(self._canary.n), int(mirrored), tuple(findings))

    def _failures(self, limit: float) -> Finding:
        of, against = self._canary.thinned(self._thin), self._baseline.thinned(self._thin)
        low, high = self._apart(
            lambda alpha: difference(bounded_mean(of, alpha), bounded_mean(against, alpha))
        )
        return _finding("error_rate", (of.mean, against.mean), low, high, limit)

    def _first_token(self, limit: float) -> Finding:
        # A copy is answered whole, so that it says nothing of a stream's first token.
        of, against = self._sides("first_token", "canary")
        seen = max(of.n / max(1.0, self._canary.n), against.n / max(1.0, self._baseline.n)) * self._thin
        found = self._times("first_token", (of, against), limit)
        return _optional(found) if self._only_copies or seen < _RARE else found

    def _latency(self, limit: float) -> Finding:
        return self._times("latency", self._sides("latency", "canary", "mirror"), limit)

    def _times(self, measure: str, sides: Sides, limit: float) -> Finding:
        low, high = self._apart(lambda alpha: difference(*self._means(sides, alpha, (_TIME_SD, _TIME_SD))))
        seconds = tuple(exp(side.mean) / 1000 if side.n else 0.0 for side in sides)
        return _finding(
            measure, (seconds[0], seconds[1]), exp(low), exp(high) if high < _LARGE else inf, limit
        )

    def _cost(self, limit: float) -> Finding:
        sides = of, against = self._sides("cost", "canary", "mirror")
        spreads = (_COST_SD * of.mean, _COST_SD * against.mean)
        low, high = self._apart(lambda alpha: ratio(*self._means(sides, alpha, spreads, BURN_IN_SKEWED)))
        found = _finding("cost", (of.mean, against.mean), low, high, limit)
        if (self._canary.n and not of.n) or (self._baseline.n and not against.n):
            return found._replace(state="unpriced")  # unknown is not zero
        return found

    def _signals(self, limit: float) -> Finding:
        sides = of, against = self._sides("risk", "canary")
        low, high = self._apart(
            lambda alpha: difference(*self._means(sides, alpha, (_RISK_SD, _RISK_SD), BURN_IN_SKEWED))
        )
        found = _finding("signals", (of.mean, against.mean), low, high, limit)
        return _optional(found) if self._only_copies else found  # nobody reviews what nobody gets

    def _sides(self, measure: Literal["first_token", "latency", "cost", "risk"], *arms: Arm) -> Sides:
        of, against = moments_of(self._sums, measure, *arms), moments_of(self._sums, measure, "baseline")
        return of.thinned(self._thin), against.thinned(self._thin)

    def _means(
        self, sides: Sides, alpha: float, spreads: tuple[float, float], burn_in: int = BURN_IN
    ) -> tuple[Interval, Interval]:
        of, against = (
            mean(side, alpha, tuned_for=self._tuned_for, assumed_sd=spread, burn_in=burn_in)
            for side, spread in zip(sides, spreads, strict=True)
        )
        return of, against

    def _apart(self, worse: Callable[[float], Interval]) -> tuple[float, float]:
        return worse(self._alpha).low, worse(self._beta).high


def _finding(measure: str, means: tuple[float, float], low: float, high: float, limit: float) -> Finding:
    state: Verdict = "beyond" if low > limit else "within" if high <= limit else "open"
    canary, baseline = means
    return Finding(measure, baseline, canary, low, high, limit, state)


def _optional(found: Finding) -> Finding:
    return found._replace(state="unseen") if found.state == "open" else found
