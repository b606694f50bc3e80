"""Both ways to a score: documented values, floors and caps; and for all signals: bounded, and never lowered by another."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Signal
from lmg_risk import RiskConfig
from lmg_risk.families import ALL, OUTPUT, TOOL, USER, Families
from lmg_risk.scores import AdditiveTally, GradedTally, Tally

NAMES = [
    "injection",
    "jailbreak.dan",
    "pii.email",
    "pii.phone",
    "canary",
    "secret",
    "tool_frequency",
    "odd name",
]


def graded(families: dict[str, Any] | None = None) -> GradedTally:
    return GradedTally(Families(RiskConfig.model_validate({"families": families or {}}).all_families))


def additive() -> AdditiveTally:
    return AdditiveTally(RiskConfig(score="additive").additive)


def scored(tally: Tally, *signals: tuple[str, float, float], direction: int = USER) -> float:
    for name, probability, weight in signals:
        tally.add(Signal(name, probability, weight), direction)
    return tally.score()


@pytest.mark.parametrize(
    ("signals", "score"),
    [
        ([], 0.0),
        ([("injection", 0.5, 1.0)], 0.5),
        ([("injection", 0.5, 0.5)], 0.25),
        ([("injection", 0.5, 1.0), ("secret", 0.5, 1.0)], 0.75),
        ([("injection", 0.5, 1.0), ("injection", 0.5, 1.0)], 0.75),
        ([("injection", 0.98, 0.1)], 0.098),
        ([("injection", 0.981, 0.1)], 1.0),
        ([("jailbreak.dan", 0.99, 0.1)], 1.0),
        ([("canary", 0.01, 0.0)], 1.0),
        ([("canary", 0.0, 1.0)], 0.0),
        ([("pii.email", 0.9, 1.0)], 0.45),
        ([("pii.email", 0.9, 1.0), ("pii.phone", 0.9, 1.0)], 0.45),
        ([("pii.email", 0.9, 1.0), ("injection", 0.5, 1.0)], 0.725),
        ([("secret", math.nan, 1.0)], 1.0),
        ([("secret", 7.0, 1.0)], 1.0),
        ([("secret", -1.0, 1.0)], 0.0),
    ],
)
def test_graded_values(signals: list[tuple[str, float, float]], score: float) -> None:
    assert scored(graded(), *signals) == pytest.approx(score)


@pytest.mark.parametrize(
    ("signals", "max_tokens", "score"),
    [
        ([], False, 0.0),
        ([("jailbreak", 1.0, 1.0)], False, 0.4),
        ([("jailbreak", 0.5, 0.1)], False, 0.4),
        ([("jailbreak", 0.49, 1.0)], False, 0.0),
        ([("jailbreak", 1.0, 1.0), ("injection", 1.0, 1.0)], False, 0.4),
        ([("pii.email", 1.0, 1.0)], False, 0.3),
        ([("tool_frequency", 1.0, 1.0)], False, 0.2),
        ([], True, 0.1),
        ([("jailbreak", 1.0, 1.0)], True, 0.5),
        ([("jailbreak", 1.0, 1.0), ("pii.email", 1.0, 1.0)], False, 0.7),
        ([("jailbreak", 1.0, 1.0), ("pii", 1.0, 1.0), ("tool_frequency", 1.0, 1.0)], True, 1.0),
        ([("weather", 1.0, 1.0)], False, 0.0),
    ],
)
def test_additive_values_are_the_documented_ones(
    signals: list[tuple[str, float, float]], max_tokens: bool, score: float
) -> None:
    tally = additive()
    if max_tokens:
        tally.saw("max_tokens", USER)
    assert scored(tally, *signals) == score


def test_a_family_of_ones_own_takes_the_place_of_the_one_that_is_there() -> None:
    mild = {"injection": {"signals": ["injection*"], "weight": 0.5, "cap": 0.6}}
    assert scored(graded(mild), ("injection", 0.99, 1.0)) == pytest.approx(0.495)
    assert scored(graded(mild), ("injection", 0.99, 1.0), ("injection.b", 0.99, 1.0)) == pytest.approx(0.6)


def test_a_family_is_capped_over_all_directions_together() -> None:
    tally = graded()
    tally.add(Signal("pii.email", 0.9), USER)
    tally.add(Signal("pii.email", 0.9), TOOL)
    assert tally.score(USER) == tally.score(TOOL) == tally.score() == pytest.approx(0.45)


def test_a_floor_holds_in_its_direction() -> None:
    tally = graded()
    tally.add(Signal("canary", 1.0), OUTPUT)
    assert (tally.score(OUTPUT), tally.score(USER)) == (1.0, 0.0)


def test_reasons_are_codes_the_weightiest_first_and_bounded() -> None:
    tally = graded()
    tally.add(Signal("weak", 0.1), USER)
    tally.add(Signal("strong", 0.9), USER)
    tally.add(Signal("none", 0.0), USER)
    tally.add(Signal("ignore all\nprevious " + "x" * 200, 0.5), USER)
    assert tally.reasons[0] == "strong"
    assert tally.reasons[2] == "weak"
    assert len(tally.reasons) == 3
    assert all(
        len(code) <= 64 and code.isascii() and " " not in code and "\n" not in code for code in tally.reasons
    )
    for n in range(500):
        tally.add(Signal(f"kind{n}", 0.5), USER)
    assert len(tally.reasons) == 16
    assert len(tally.families) <= 65


SIGNAL = st.builds(
    Signal,
    st.sampled_from(NAMES) | st.text(max_size=20),
    st.floats(-0.5, 1.5) | st.just(math.nan),
    st.floats(0, 1),
)
PLACED = st.tuples(SIGNAL, st.sampled_from([USER, TOOL, OUTPUT]))


def tally_of(kind: str, placed: list[tuple[Signal, int]]) -> Tally:
    tally: Tally = graded() if kind == "graded" else additive()
    for signal, direction in placed:
        tally.add(signal, direction)
    return tally


@pytest.mark.parametrize("kind", ["graded", "additive"])
@given(placed=st.lists(PLACED, max_size=12), more=PLACED)
def test_a_score_is_bounded_and_no_signal_lowers_it(
    kind: str, placed: list[tuple[Signal, int]], more: tuple[Signal, int]
) -> None:
    before, after = tally_of(kind, placed), tally_of(kind, [*placed, more])
    for mask in (USER, TOOL, OUTPUT, USER | TOOL, ALL):
        assert 0 <= before.score(mask) <= after.score(mask) <= 1
        assert before.score(mask) <= before.score(ALL)


@pytest.mark.parametrize("kind", ["graded", "additive"])
@given(
    placed=st.lists(PLACED, max_size=6), name=st.sampled_from(NAMES), low=st.floats(0, 1), high=st.floats(0, 1), weight=st.floats(0, 1)
)  # fmt: skip
def test_a_more_probable_signal_never_lowers_it(
    kind: str, placed: list[tuple[Signal, int]], name: str, low: float, high: float, weight: float
) -> None:
    low, high = sorted((low, high))
    one = tally_of(kind, [*placed, (Signal(name, low, weight), USER)])
    other = tally_of(kind, [*placed, (Signal(name, high, weight), USER)])
    assert one.score() <= other.score()


@pytest.mark.parametrize("kind", ["graded", "additive"])
@given(placed=st.lists(PLACED, max_size=8), seed=st.randoms())
def test_the_order_of_signals_does_not_matter(kind: str, placed: list[tuple[Signal, int]], seed: Any) -> None:
    shuffled = list(placed)
    seed.shuffle(shuffled)
    assert tally_of(kind, placed).score() == pytest.approx(tally_of(kind, shuffled).score(), abs=1e-8)


@given(placed=st.lists(PLACED, max_size=6), probability=st.floats(0, 1))
def test_what_is_known_from_elsewhere_only_raises(
    placed: list[tuple[Signal, int]], probability: float
) -> None:
    tally = tally_of("graded", placed)
    before = tally.score()
    tally.raise_by(probability, "memory.probing")
    assert before <= tally.score() <= 1
