"""The logic without a gateway: when overload is one, how it rises, who is refused first, and that it heals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_load_shedding import LoadSheddingConfig
from lmg_load_shedding.overload import LoopDelay, Span
from lmg_load_shedding.priorities import Priorities

SPAN = Span(0.05, 0.5)
SHARES = st.floats(0, 1)


def run(lates: list[float], *, for_s: float = 0.5, sample_s: float = 0.1) -> list[float]:
    """The level after each sample of a loop that was late by these seconds."""
    delay, now, levels = LoopDelay(SPAN, for_s), 0.0, []
    for late_s in lates:
        now += sample_s + late_s
        levels.append(delay.observe(now, late_s))
    return levels


@pytest.mark.parametrize(
    ("value", "level"), [(0, 0), (0.05, 0), (0.275, 0.5), (0.5, 1), (3, 1), (0.0501, 0.0001 / 0.45)]
)
def test_the_level_rises_evenly_from_one_bound_to_the_other(value: float, level: float) -> None:
    assert SPAN.level(value) == pytest.approx(level)


@pytest.mark.parametrize(
    "lates",
    [[0.0] * 20, [0.04] * 20, [5.0, *[0.0] * 20], [0.0, 0.3] * 10, [0.2, 0.2, 0.0] * 6],
    ids=["calm", "below", "one long stop", "every other", "two of three"],
)
def test_what_passes_by_itself_is_no_overload(lates: list[float]) -> None:
    assert run(lates) == [0.0] * len(lates)


def test_a_delay_that_stays_for_the_time_is_one() -> None:
    levels = run([0.1] * 8)
    # Each sample comes 0.2 s after the one before; the first that is late starts the time.
    assert levels[:3] == [0.0] * 3
    assert all(level > 0 for level in levels[3:])
    assert levels[-1] == pytest.approx(SPAN.level(0.1), abs=0.02)


def test_it_ends_by_itself_and_falls_evenly() -> None:
    levels = run([0.4] * 10 + [0.0] * 30)
    falling = levels[10:]
    assert falling[0] > 0.3
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0
    assert max(a - b for a, b in zip(levels[9:], falling, strict=False)) < 0.2, "no sudden end"


def test_it_begins_anew_only_after_the_time() -> None:
    levels = run([0.1] * 10 + [0.0] * 30 + [0.1] * 4)
    assert levels[-4:-1] == [0.0] * 3 and levels[-1] > 0


@given(st.lists(st.floats(0, 10), max_size=60))
def test_a_level_is_a_share_whatever_is_measured(lates: list[float]) -> None:
    assert all(0 <= level <= 1 for level in run(lates))


# -- who is refused first ---------------------------------------------------------------------------


def priorities(**settings: object) -> Priorities:
    return Priorities(LoadSheddingConfig.model_validate(settings))


@pytest.mark.parametrize(
    ("level", "lowest", "middle", "highest"),
    [(0, 0, 0, 0), (1 / 6, 0.5, 0, 0), (1 / 3, 1, 0, 0), (0.5, 1, 0.5, 0), (2 / 3, 1, 1, 0), (5 / 6, 1, 1, 0.5), (1, 1, 1, 1)],
)  # fmt: skip
def test_the_lowest_is_refused_first_and_the_highest_only_at_the_end(
    level: float, lowest: float, middle: float, highest: float
) -> None:
    three = priorities(priorities={"batch": 1, "gold": 9})
    assert [three.share(priority, level) for priority in (1, 5, 9)] == pytest.approx(
        [lowest, middle, highest]
    )


@given(SHARES, SHARES, st.sets(st.integers(0, 9), min_size=1))
def test_shares_rise_with_the_level_and_fall_with_the_priority(a: float, b: float, there: set[int]) -> None:
    some = priorities(priorities={f"t{n}": n for n in there})
    low, high = sorted((a, b))
    ranked = sorted(there | {5})
    for priority in ranked:
        assert some.share(priority, low) <= some.share(priority, high)
        assert (some.share(priority, 0), some.share(priority, 1)) == (0, 1)
    for level in (low, high):
        shares = [some.share(priority, level) for priority in ranked]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) / len(shares) == pytest.approx(level, abs=1e-9), "together they make the level"


# -- the loop is closed -----------------------------------------------------------------------------


def test_under_twice_the_load_that_can_be_served_the_rest_is_served_in_time_and_then_all_of_it() -> None:
    """A worker of 500 requests a second: each costs 2 ms of the loop, a refusal 0.1 ms; 10 s at 1000/s, then 300/s."""
    delay, chance = LoopDelay(SPAN, 0.5), random.Random(1)
    now, due, level, wait = 0.0, 0.1, 0.0, 0.0
    took: list[tuple[float, float]] = []
    late: list[tuple[float, float]] = []
    levels: list[tuple[float, float]] = []
    arrived = 0.0
    while now < 20:
        rate = 1000 if now < 10 else 300
        arrived += wait * rate
        begun, served = now, 0
        for _ in range(int(arrived)):
            refused = chance.random() < level
            now += 0.0001 if refused else 0.002
            served += not refused
        arrived -= int(arrived)
        now = max(now, begun + 0.001)
        wait = now - begun
        took.append((begun, served))
        late.append((begun, wait))
        if now >= due:
            level = delay.observe(now, now - due)
            levels.append((now, level))
            due = now + 0.1
    busy = [value for at, value in late if 3 < at < 10]
    assert max(busy) < 0.5, "never as late as the hard bound"
    assert max(busy) - min(busy) < 0.2, "and it does not swing"
    assert sum(n for at, n in took if 3 < at < 10) / 7 > 0.85 * 500, "and the worker is not idle meanwhile"
    assert all(value == 0 for at, value in levels if at > 12), "it ends by itself"
    assert all(wait < 0.05 for at, wait in late if at > 12)
