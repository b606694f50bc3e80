"""Intervals that may be looked at all the time: they cover the truth at every look, and narrow as they should."""

from __future__ import annotations

import random
from math import inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_canary.sequential import (
    BURN_IN,
    BURN_IN_SKEWED,
    Interval,
    Moments,
    bounded_mean,
    difference,
    mean,
    ratio,
)

RUNS = 1000
LOOKS = [*range(10, 200, 10), *range(200, 1001, 50)]


@pytest.mark.parametrize("p", [0.005, 0.05, 0.5])
def test_peeking_at_a_share_misleads_no_more_often_than_alpha(p: float) -> None:
    alpha, missed = 0.1, 0
    for seed in range(RUNS):
        draws = random.Random(seed)
        hits = n = 0
        for look in LOOKS:
            hits += sum(draws.random() < p for _ in range(look - n))
            n = look
            interval = bounded_mean(Moments(n, hits), alpha)
            if not interval.low <= p <= interval.high:
                missed += 1
                break
    assert missed <= alpha * RUNS


def test_a_bounded_variable_that_is_no_share_is_covered_too() -> None:
    alpha, missed = 0.1, 0
    for seed in range(RUNS // 2):
        draws = random.Random(seed)
        total, n = 0.0, 0
        for look in LOOKS:
            total += sum(draws.betavariate(0.3, 2.7) for _ in range(look - n))
            n = look
            interval = bounded_mean(Moments(n, total), alpha)
            if not interval.low <= 0.1 <= interval.high:
                missed += 1
                break
    assert missed <= alpha * RUNS / 2


@pytest.mark.parametrize("skewed", [False, True])
def test_peeking_at_a_mean_misleads_no_more_often_than_alpha(skewed: bool) -> None:
    alpha, missed = 0.1, 0
    burn_in = BURN_IN_SKEWED if skewed else BURN_IN
    truth = (
        1.6487212707 if skewed else 0.0
    )  # the mean of a log-normal variable is e to the half of its variance
    for seed in range(RUNS):
        draws = random.Random(seed)
        n, total, squares = 0, 0.0, 0.0
        for look in LOOKS:
            for _ in range(look - n):
                value = draws.lognormvariate(0, 1) if skewed else draws.gauss(0, 1)
                total, squares = total + value, squares + value * value
            n = look
            interval = mean(Moments(n, total, squares), alpha, tuned_for=300, assumed_sd=1.0, burn_in=burn_in)
            if not interval.low <= truth <= interval.high:
                missed += 1
                break
    assert missed <= alpha * RUNS


@given(st.integers(0, 5000), st.floats(0, 1), st.floats(1e-6, 0.4))
def test_a_share_lies_in_its_interval(n: int, share: float, alpha: float) -> None:
    hits = round(n * share)
    interval = bounded_mean(Moments(n, hits), alpha)
    assert 0.0 <= interval.low <= (hits / n if n else 0.0) <= interval.high <= 1.0
    assert (interval.low == 0.0) or hits
    assert (interval.high == 1.0) or hits < n


@given(st.integers(BURN_IN, 10**6), st.floats(-100, 100), st.floats(0, 1000), st.floats(1e-6, 0.4))
def test_a_mean_lies_in_its_interval(n: int, centre: float, variance: float, alpha: float) -> None:
    squares = n * (variance + centre * centre)
    interval = mean(Moments(n, n * centre, squares), alpha, tuned_for=200, assumed_sd=0.5)
    assert interval.low < interval.high
    assert interval.low <= centre + 1e-6
    assert centre - 1e-6 <= interval.high


@given(st.integers(60, 2000), st.floats(1e-5, 0.3))
def test_more_samples_and_less_certainty_narrow_it(n: int, alpha: float) -> None:
    def width(times: int, level: float) -> float:
        shares = bounded_mean(Moments(n * times, n * times * 0.2), level)
        means = mean(Moments(n * times, 0, n * times), level, tuned_for=200, assumed_sd=1)
        return (shares.high - shares.low) + (means.high - means.low)

    assert width(4, alpha) < width(1, alpha)
    assert width(1, alpha) < width(1, alpha / 2)


def test_nothing_is_said_of_a_mean_before_its_variance_is_known() -> None:
    assert mean(Moments(BURN_IN - 1, 0, 0), 0.05, tuned_for=100, assumed_sd=1) == Interval(-inf, inf)
    assert bounded_mean(Moments(), 0.05) == Interval(0.0, 1.0)


def test_a_sample_without_spread_proves_little() -> None:
    interval = mean(
        Moments(BURN_IN, BURN_IN * log(2), BURN_IN * log(2) ** 2), 0.05, tuned_for=200, assumed_sd=0.5
    )
    assert interval.high - interval.low > 0.15


def test_a_thinned_sample_has_the_same_mean_and_says_less() -> None:
    sample = Moments(1000, 200, 200)
    thin = sample.thinned(4.0)
    assert thin.mean == sample.mean
    assert bounded_mean(thin, 0.05).high > bounded_mean(sample, 0.05).high


@pytest.mark.parametrize(
    ("of", "against", "expected"),
    [
        (Interval(2, 4), Interval(1, 2), Interval(1, 4)),
        (Interval(-1, 4), Interval(1, 2), Interval(0, 4)),
        (Interval(2, 4), Interval(-1, 2), Interval(1, inf)),
        (Interval(2, 4), Interval(0, 0), Interval(inf, inf)),
        (Interval(0, 0), Interval(0, 0), Interval(1, 1)),
        (Interval(-inf, inf), Interval(1, 2), Interval(0, inf)),
    ],
)
def test_ratios_of_means_that_are_not_negative(of: Interval, against: Interval, expected: Interval) -> None:
    assert ratio(of, against) == expected


def test_a_difference_is_as_wide_as_both() -> None:
    assert difference(Interval(1, 2), Interval(0.5, 1)) == Interval(0, 1.5)
