"""What calls add up to: windows, baselines, and what is unusual for a target."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_breaker.baseline import Baseline, deviation
from lmg_breaker.config import BreakerConfig
from lmg_breaker.evidence import TargetEvidence
from lmg_breaker.reasons import FAILURE_RATE, UNUSUAL_FAILURES, UNUSUALLY_SLOW, Reason
from lmg_breaker.window import BUCKETS, Bucket, Window


def evidence(**settings: Any) -> TargetEvidence:
    return TargetEvidence(BreakerConfig.model_validate({"consecutive": None, **settings}).rules())


# The window


@given(
    calls=st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=200),
    span=st.sampled_from([1.0, 5.0, 30.0]),
)
def test_the_window_holds_what_happened_within_it(calls: list[tuple[float, bool]], span: float) -> None:
    spilled: list[int] = []
    window = Window(span, lambda bucket: spilled.append(bucket.calls))
    at: list[tuple[int, bool]] = []
    now = 0.0
    for gap, failed in calls:
        now += gap
        bucket = window.at(now)
        window.calls += 1
        bucket.calls += 1
        window.failures += failed
        bucket.failures += failed
        at.append((int(now * BUCKETS / span), failed))
        newest = at[-1][0]
        within = [one for one in at if one[0] > newest - BUCKETS]
        assert (window.calls, window.failures) == (len(within), sum(failed for _, failed in within))
        assert sum(spilled) == len(at) - len(within), "what leaves the window is learned from, once"


def test_clearing_the_window_spills_all_of_it() -> None:
    spilled: list[int] = []
    window = Window(10.0, lambda bucket: spilled.append(bucket.calls))
    for second in range(10):
        window.at(float(second)).calls += 1
        window.calls += 1
    window.clear()
    assert (sum(spilled), window.calls) == (10, 0)


# The share of failures


def test_a_share_is_judged_only_when_there_are_calls_enough() -> None:
    found = evidence(min_calls=20, failure_rate=0.5)
    said: list[Reason | None] = []
    for n in range(10):
        found.succeeded(float(n), None, False)
        said.append(found.failed(float(n)))
    assert said == [None] * 9 + [FAILURE_RATE]


def test_failures_that_are_long_past_do_not_count() -> None:
    found = evidence(min_calls=10, failure_rate=0.5, window_s=30)
    for n in range(9):
        assert found.failed(n * 10.0) is None


# The baseline


def test_a_deviation_is_the_number_of_standard_deviations() -> None:
    assert deviation(2, 100, 0.02, 1e9) == 0.0
    assert deviation(1, 100, 0.02, 1e9) == 0.0
    # 60 of 100 at one half: exactly two of them.
    assert deviation(60, 100, 0.5, 1e9) == pytest.approx(2.0, rel=0.02)
    assert deviation(20, 20, 0.02, 1e9) == pytest.approx(math.sqrt(2 * 20 * math.log(50)), rel=1e-3)


def test_a_young_baseline_is_relied_on_less() -> None:
    old, young = deviation(30, 100, 0.1, 10_000), deviation(30, 100, 0.1, 100)
    assert 5 < old < 6
    assert 3 < young < 4


@given(n=st.integers(1, 60), share=st.floats(0.01, 0.6), data=st.data())
def test_by_chance_it_is_as_rare_as_the_bound_says(n: int, share: float, data: st.DataObject) -> None:
    """Chernoff: so many hits or more come with a probability of at most exp(-deviation² / 2)."""
    hits = data.draw(st.integers(0, n))
    tail = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits, n + 1))
    assert tail <= math.exp(-(deviation(hits, n, share, 1e9) ** 2) / 2) * (1 + 1e-4)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(1, 1e6), st.data())
def test_a_deviation_is_a_number_wherever_it_is_asked(
    n: int, share: float, calls: float, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, n))
    assert 0.0 <= deviation(hits, n, share, calls) < math.inf


def taught(
    found: TargetEvidence, share: float, latency_s: float = 0.5, seconds: int = 200, seed: int = 3
) -> float:
    """Ten calls a second with this share of failures; returns the time."""
    random = Random(seed)
    for n in range(seconds * 10):
        if random.random() < share:
            found.failed(n / 10)
        else:
            found.succeeded(n / 10, latency_s * math.exp(random.gauss(0, 0.3)), False)
    return float(seconds)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_a_target_that_always_fails_so_often_stays_closed(share: float, seed: int) -> None:
    found = evidence(failure_rate=None)
    random, said = Random(seed), set()
    for n in range(20_000):
        failed = random.random() < share
        said.add(found.failed(n / 10) if failed else found.succeeded(n / 10, 0.5, False))
    assert said == {None}


@pytest.mark.parametrize(
    ("usual", "now_fails", "opens"), [(0.02, 0.35, True), (0.02, 0.06, False), (0.3, 0.35, False)]
)
def test_a_share_is_judged_against_the_targets_own(usual: float, now_fails: float, opens: bool) -> None:
    found = evidence(failure_rate=None)
    now = taught(found, usual)
    random, said = Random(9), []
    for n in range(600):
        failed = random.random() < now_fails
        said.append(found.failed(now + n / 10) if failed else found.succeeded(now + n / 10, 0.5, False))
    assert (UNUSUAL_FAILURES in said) is opens


def test_a_new_target_is_judged_by_the_fixed_rules_alone() -> None:
    found = evidence(failure_rate=None, min_calls=20)
    assert {found.failed(n / 10) for n in range(90)} == {None}


def test_sensitivity_null_switches_it_off() -> None:
    found = evidence(failure_rate=None, adaptive_sensitivity=None)
    now = taught(found, 0.01)
    assert {found.failed(now + n / 10) for n in range(200)} == {None}


def test_the_calls_that_are_judged_are_no_part_of_what_they_are_judged_by() -> None:
    found = evidence(failure_rate=None, adaptive_sensitivity=None, window_s=30)
    now = taught(found, 0.0, seconds=100)
    for n in range(290):
        found.failed(now + n / 10)
    assert found.baseline.failures == 0.0


def test_what_lasts_becomes_usual() -> None:
    found = evidence(failure_rate=None, adaptive_sensitivity=None, baseline_calls=1000)
    now = taught(found, 0.0)
    for n in range(10_000):
        found.failed(now + n / 10)
    assert found.baseline.failures > 0.99


# Latency


def test_a_target_that_is_always_slow_is_not_slow() -> None:
    found = evidence()
    random = Random(5)
    said = {found.succeeded(n / 10, 20.0 * math.exp(random.gauss(0, 0.5)), False) for n in range(5000)}
    assert said == {None}


@pytest.mark.parametrize(("factor", "opens"), [(2.0, False), (6.0, True)])
def test_a_latency_is_judged_against_the_targets_own(factor: float, opens: bool) -> None:
    found = evidence()
    now = taught(found, 0.0, latency_s=0.8)
    random = Random(11)
    said = [
        found.succeeded(now + n / 10, 0.8 * factor * math.exp(random.gauss(0, 0.3)), False)
        for n in range(300)
    ]
    assert (UNUSUALLY_SLOW in said) is opens


def test_what_is_fast_enough_for_anybody_is_never_unusually_slow() -> None:
    found = evidence(adaptive_slow_floor_ms=1000)
    now = taught(found, 0.0, latency_s=0.02)
    assert {found.succeeded(now + n / 10, 0.9, False) for n in range(300)} == {None}


def test_streams_and_whole_answers_have_their_own_usual() -> None:
    """Whole answers take as long as they are: more of them in the mix is no slowness."""
    found = evidence()
    random = Random(5)
    for n in range(2000):
        streamed = n % 4 != 0
        found.succeeded(n / 10, (0.4 if streamed else 12.0) * math.exp(random.gauss(0, 0.3)), streamed)
    said = {found.succeeded(200 + n / 10, 12.0 * math.exp(random.gauss(0, 0.3)), False) for n in range(300)}
    assert said == {None}
    assert found.patience_s(streamed=True) < 4 < 12 < found.patience_s(streamed=False)


def test_an_empty_bucket_teaches_no_latency() -> None:
    baseline, bucket = Baseline(100, 3.0, 1.0), Bucket()
    bucket.calls = 5
    baseline.learn(bucket)
    assert baseline.limits == [math.inf, math.inf]


# Settings


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"open_s": 10, "max_open_s": 5}, "open_s is longer than max_open_s"),
        ({"rate_limit_open_s": 400}, "rate_limit_open_s is longer than max_rate_limit_open_s"),
        ({"credential_open_s": 1000}, "credential_open_s is longer than max_credential_open_s"),
        ({"slow_cancels": True, "adaptive_sensitivity": None}, "slow_cancels counts slow calls"),
        ({"failure_rate": 1.5}, "less than or equal to 1"),
        ({"consecutiv": 5}, "not permitted"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_what_is_wrong(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        BreakerConfig.model_validate(settings)
