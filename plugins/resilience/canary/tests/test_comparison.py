"""What is measured adds up, and experiments are decided rightly: good canaries stay, bad ones go, and soon."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Outcome
from lmg_canary.comparison import Finding, Report, compare
from lmg_canary.config import Experiment
from lmg_canary.measures import Arm, Batch, failures_of, moments_of

ALL_LIMITS = {"max_cost_ratio": 1.3, "max_signal_increase": 0.05}
LOOKS = [*range(50, 400, 50), *range(400, 1201, 200)]


def experiment(**settings: Any) -> Experiment:
    return Experiment.model_validate({"name": "t", "model": "*", "canary": "b", **settings})


WATCHED = experiment(limits=ALL_LIMITS)


def answer(first_token_s: float = 0.1, total_s: float = 1.0) -> Outcome:
    return Outcome("complete", first_token_s=first_token_s, duration_s=total_s)


def finding(report: Report, measure: str) -> Finding:
    return next(found for found in report.findings if found.measure == measure)


# -- sums -------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 10**13), st.floats(0.001, 3600), st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_sums_give_back_what_was_measured(samples: list[tuple[int, float, float]]) -> None:
    batch = Batch()
    for cost, seconds, risk in samples:
        batch.arms["canary"].observe(answer(seconds, seconds), streamed=True, cost=cost)
        batch.arms["canary"].observe_risk(risk)
    sums = batch.sums()
    n = len(samples)
    costs = moments_of(sums, "cost", "canary")
    assert (costs.n, costs.total) == (n, sum(cost for cost, _, _ in samples))
    assert costs.squares == pytest.approx(sum(cost * cost for cost, _, _ in samples))
    times = moments_of(sums, "latency", "canary")
    assert times.mean == pytest.approx(sum(log(max(1, s * 1000)) for _, s, _ in samples) / n, abs=0.001)
    risks = moments_of(sums, "risk", "canary")
    assert risks.mean == pytest.approx(sum(risk for _, _, risk in samples) / n, abs=0.001)
    assert all(type(value) is int and 0 <= value < 2**63 for value in sums.values()), (
        "a store counts in 64 bits"
    )


@pytest.mark.parametrize(
    ("outcome", "streamed", "n", "failed", "latency", "first_token"),
    [
        (answer(), True, 1, 0, 1, 1),
        (answer(), False, 1, 0, 1, 0),
        (Outcome("failed", duration_s=1.0), True, 1, 1, 0, 0),
        (Outcome("cancelled", duration_s=9.0), True, 0, 0, 0, 1),
        (Outcome("cancelled", duration_s=9.0), False, 0, 0, 1, 0),
        (Outcome("cancelled", first_token_s=0.1, duration_s=9.0), True, 0, 0, 0, 0),
    ],
)
def test_what_an_attempt_counts_as(
    outcome: Outcome, streamed: bool, n: int, failed: int, latency: int, first_token: int
) -> None:
    batch = Batch()
    batch.arms["baseline"].observe(outcome, streamed=streamed, cost=None)
    sums = batch.sums()
    assert (failures_of(sums, "baseline").n, failures_of(sums, "baseline").total) == (n, failed)
    assert moments_of(sums, "latency", "baseline").n == latency
    assert moments_of(sums, "first_token", "baseline").n == first_token
    assert moments_of(sums, "cost", "baseline").n == 0


# -- decisions --------------------------------------------------------------------------------------


class Traffic:
    """Requests of two arms whose answers differ by ``worse``: seeded, and as uneven as real ones."""

    def __init__(self, seed: int, share: float, worse: Mapping[str, float]) -> None:
        self._draws = random.Random(seed)
        self._share, self._worse = share, worse
        self.batch = Batch()
        self.seen = 0

    def until(self, count: int) -> None:
        draws, batch = self._draws, self.batch
        while self.seen < count:
            self.seen += 1
            arm: Arm = "canary" if draws.random() < self._share else "baseline"
            worse = self._worse if arm == "canary" else {}
            if draws.random() < 0.01 + worse.get("errors", 0.0):
                batch.arms[arm].observe(Outcome("failed"), streamed=True, cost=None)
                continue
            slower = worse.get("slower", 1.0)
            first = draws.lognormvariate(-1.0, 0.6) * slower
            total = first + draws.lognormvariate(1.0, 0.7) * slower
            cost = round(draws.lognormvariate(14.0, 0.9) * worse.get("dearer", 1.0))
            batch.arms[arm].observe(answer(first, total), streamed=True, cost=cost)
            batch.arms[arm].observe_risk(draws.betavariate(0.5, 9.5) + worse.get("riskier", 0.0))


def decided(
    seed: int,
    share: float,
    worse: Mapping[str, float],
    of: Experiment = WATCHED,
    looks: Sequence[int] = LOOKS,
) -> tuple[str, int]:
    """How an experiment ends that is looked at again and again, and how many requests the canary had by then."""
    traffic = Traffic(seed, share, worse)
    for look in looks:
        traffic.until(look)
        report = compare(of, traffic.batch.sums(), 0)
        if report.beyond is not None:
            return report.beyond.measure, report.canary
        if all(found.state in ("within", "unseen") for found in report.findings):
            return "promoted", report.canary
    return "open", report.canary


def test_a_canary_as_good_as_the_baseline_is_rolled_back_no_more_often_than_alpha() -> None:
    runs = 1000
    ends = Counter(decided(seed, 0.25, {})[0] for seed in range(runs))
    rolled_back = runs - ends["promoted"] - ends["open"]
    assert rolled_back <= WATCHED.alpha * runs


def test_a_canary_at_its_limits_is_neither_rolled_back_nor_promoted_more_often_than_stated() -> None:
    """The hardest case there is: as much worse as it may be, by every measure at once."""
    runs = 200
    at_limits = {"errors": 0.02, "slower": 1.5, "dearer": 1.3, "riskier": 0.05}
    ends = Counter(decided(seed, 0.25, at_limits)[0] for seed in range(runs))
    assert ends["promoted"] <= WATCHED.beta * runs
    assert runs - ends["promoted"] - ends["open"] <= WATCHED.alpha * runs


@pytest.mark.parametrize(
    ("worse", "measure", "within"),
    [
        ({"errors": 0.95}, {"error_rate"}, 20),
        ({"errors": 0.20}, {"error_rate"}, 200),
        ({"slower": 3.0}, {"first_token", "latency"}, 120),
        ({"dearer": 2.5}, {"cost"}, 400),
        ({"riskier": 0.30}, {"signals"}, 180),
    ],
    ids=["an outage", "errors", "slower", "dearer", "riskier"],
)
def test_a_bad_canary_is_rolled_back_within_so_many_requests(
    worse: dict[str, float], measure: set[str], within: int
) -> None:
    """Nine runs of ten, and by the measure that is bad."""
    runs = 40
    ends = [decided(seed, 0.25, worse) for seed in range(runs)]
    assert {end for end, _ in ends} <= measure
    assert sorted(count for _, count in ends)[runs * 9 // 10] <= within


def test_a_good_canary_is_promoted_within_so_many_requests() -> None:
    lenient = experiment(limits={"max_error_rate_increase": 0.05, "max_cost_ratio": 1.5})
    ends = [decided(seed, 0.25, {}, lenient, range(200, 2401, 200)) for seed in range(40)]
    assert sum(end == "promoted" for end, _ in ends) >= 36
    assert max(count for end, count in ends if end == "promoted") <= 600


def test_users_that_send_much_are_accounted_for() -> None:
    """Where each user sends ten requests that share one fate, the design effect keeps the promise of ``alpha``."""

    def rolled_back(of: Experiment) -> int:
        ended = 0
        for seed in range(200):
            draws = random.Random(seed)
            batch = Batch()
            for number in range(150):
                arm: Arm = "canary" if draws.random() < 0.25 else "baseline"
                unlucky = draws.random() < 0.08
                for _ in range(20):
                    outcome = Outcome("failed") if unlucky else answer()
                    batch.arms[arm].observe(outcome, streamed=False, cost=None)
                if number % 5 == 0 and compare(of, batch.sums(), 0).beyond is not None:
                    ended += 1
                    break
        return ended

    only_errors = {"max_first_token_ratio": None, "max_latency_ratio": None}
    assert rolled_back(experiment(limits=only_errors)) > 10, "the example is one in which it matters"
    assert rolled_back(experiment(limits=only_errors, requests_per_observation=20)) <= 10


# -- what is not compared ---------------------------------------------------------------------------


def sums_of(*, streamed: bool, cost: tuple[int | None, int | None], copies: bool = False) -> dict[str, int]:
    batch = Batch()
    arms: tuple[tuple[Arm, int | None], ...] = (
        ("baseline", cost[0]),
        ("mirror" if copies else "canary", cost[1]),
    )
    for arm, price in arms:
        for _ in range(2000):
            batch.arms[arm].observe(answer(0.1, 1.0), streamed=streamed and arm != "mirror", cost=price)
    return batch.sums()


def test_streams_are_not_waited_for_where_there_are_none() -> None:
    report = compare(experiment(), sums_of(streamed=False, cost=(None, None)), 0)
    assert finding(report, "first_token").state == "unseen"
    assert {found.state for found in report.findings} == {"unseen", "within"}


@pytest.mark.parametrize("cost", [(5, None), (None, 5), (None, None)])
def test_an_unknown_price_is_not_zero(cost: tuple[int | None, int | None]) -> None:
    report = compare(experiment(limits={"max_cost_ratio": 2}), sums_of(streamed=False, cost=cost), 0)
    assert finding(report, "cost").state == "unpriced"


def test_two_models_that_cost_nothing_cost_the_same() -> None:
    report = compare(experiment(limits={"max_cost_ratio": 2}), sums_of(streamed=False, cost=(0, 0)), 0)
    assert finding(report, "cost").state == "within"


def test_a_canary_that_costs_something_where_the_baseline_is_free_is_beyond_any_ratio() -> None:
    report = compare(experiment(limits={"max_cost_ratio": 9}), sums_of(streamed=False, cost=(0, 5)), 0)
    assert finding(report, "cost").state == "beyond"


def test_copies_are_measured_like_the_canary_but_for_streams_and_signals() -> None:
    of = experiment(
        limits={"max_signal_increase": 0.1},
        plan=[0, 50, 100],
        mirror={"share": 1, "max_cost_usd_per_hour": 1},
    )
    report = compare(of, sums_of(streamed=True, cost=(None, None), copies=True), 0)
    assert (report.canary, report.mirrored) == (2000, 2000)
    states = {found.measure: found.state for found in report.findings}
    assert states == {
        "error_rate": "within", "first_token": "unseen", "latency": "within", "signals": "unseen",
    }  # fmt: skip
    later = compare(of, sums_of(streamed=True, cost=(None, None), copies=True), 1)
    assert finding(later, "first_token").state == "open", "in a stage with users, streams are waited for"


def test_times_are_shown_as_seconds_and_harm_as_a_ratio() -> None:
    batch = Batch()
    for _ in range(4000):
        batch.arms["baseline"].observe(answer(1.0, 1.0), streamed=False, cost=None)
        batch.arms["canary"].observe(answer(2.0, 2.0), streamed=False, cost=None)
    found = finding(compare(experiment(), batch.sums(), 0), "latency")
    assert (found.baseline, found.canary) == (pytest.approx(1.0, abs=0.01), pytest.approx(2.0, abs=0.01))
    assert found.low < 2.0 < found.high < 2 * exp(0.1)
    assert found.state == "beyond"
