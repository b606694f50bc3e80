"""What a refused client is told is true: who waits it out succeeds, and who comes a little sooner does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Asked, Inside, inside
from .test_interleavings import run

RATES: dict[str, Any] = {
    "requests": {"requests": "7/min"},
    "burst": {"requests": "600/min", "burst": 3},
    "tokens": {"tokens": "1500/min"},
    "input": {"input_tokens": "700/min"},
    "output": {"output_tokens": "900/min"},
    "weighted": {"weighted_tokens": {"limit": "5k/min", "input": 1, "cached": 0.1, "output": 4}},
}
COMBINATIONS = [
    {"limits": [{"name": name, **RATES[name]} for name in names]}
    for names in [
        *([name] for name in RATES),
        ["requests", "tokens"],
        ["burst", "output", "input"],
        ["requests", "burst", "tokens", "input", "output", "weighted"],
    ]
]


async def answered(there: Inside, **fields: Any) -> Asked:
    """One request that the model answers with all that it may use."""
    asked = there.ask(**fields)
    await there.turn()
    if asked.status == 0:
        there.calls[-1].says((len(asked._raw), fields.get("max_tokens", 100)))
        await there.turn()
    return asked


def told_s(asked: Asked) -> float:
    assert asked.answer is not None and asked.status == 429
    exact = int(asked.answer.headers["retry-after-ms"]) / 1000
    assert exact <= int(asked.answer.headers["retry-after"]) < exact + 1 or exact < 1
    return exact


@pytest.mark.parametrize("limits", COMBINATIONS, ids=lambda c: "+".join(one["name"] for one in c["limits"]))
async def test_waiting_it_out_succeeds_and_a_moment_less_does_not(limits: dict[str, Any]) -> None:
    async with inside(limits) as there:
        refused = 0
        while refused < 5:
            asked = await answered(there, max_tokens=100)
            if asked.status == 200:
                continue
            refused += 1
            wait = told_s(asked)
            await there.clock.advance(max(0.0, wait - 0.002))
            early = await answered(there, max_tokens=100)
            assert early.status == 429, "it was said to be longer than it is"
            await there.clock.advance(0.002)
            assert (await answered(there, max_tokens=100)).status == 200


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(COMBINATIONS),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 150), st.floats(0, 20)), min_size=10, max_size=40),
)
def test_it_is_true_for_requests_of_every_size_at_every_time(
    limits: dict[str, Any], asks: list[tuple[int, int, float]]
) -> None:
    async def work() -> None:
        async with inside(limits) as there:
            for size, longest, pause in asks:
                fields: dict[str, Any] = {"text": "x" * size, "max_tokens": longest}
                asked = await answered(there, **fields)
                if asked.status == 429:
                    await there.clock.advance(told_s(asked))
                    assert (await answered(there, **fields)).status == 200
                await there.clock.advance(pause)

    run(work())


async def test_a_place_is_said_to_be_free_after_as_long_as_places_are_usually_held() -> None:
    async with inside({"concurrency": 2, "requests": "100k/min"}) as there:
        for _ in range(3):
            asked = there.ask()
            await there.turn()
            await there.clock.advance(7.5)
            there.calls[-1].says()
            await there.turn()
            assert asked.status == 200
        held = [there.ask(), there.ask()]
        await there.turn()
        refused = await answered(there)
        assert told_s(refused) == 7.5
        await there.clock.advance(7.5)
        for call in there.calls[-2:]:
            call.says()
        await there.turn()
        assert [one.status for one in held] == [200, 200]
        assert (await answered(there)).status == 200


async def test_tokens_that_are_held_count_from_when_they_are_usually_settled() -> None:
    async with inside({"tokens": "6000/min"}) as there:
        first = there.ask(max_tokens=100)
        await there.turn()
        await there.clock.advance(4.0)
        there.calls[-1].says((0, 0))
        await there.turn()
        assert first.status == 200
        held = there.ask(max_tokens=4000)
        await there.turn()
        refused = await answered(there, max_tokens=4000)
        # All of it may be used, and drains only from then on: 100 tokens a second.
        over = len(held._raw) + len(refused._raw) + 8000 - 6000
        assert told_s(refused) == pytest.approx(4.0 + over / 100, abs=0.01)
        await there.clock.advance(4.0)
        there.calls[-1].says((len(held._raw), 4000))
        await there.turn()
        await there.clock.advance(told_s(refused) - 4.0)
        assert (await answered(there, max_tokens=4000)).status == 200


async def test_requests_that_are_on_their_way_upstream_are_waited_for() -> None:
    async with inside({"requests": "6/min"}, "slow") as there:
        there.ask()
        await there.clock.advance(1.0)  # the guard between here and the upstream takes as long
        there.calls.pop().says()
        await there.clock.advance(600.0)
        asks = [there.ask() for _ in range(6)]
        await there.turn()
        refused = there.ask()
        await there.turn()
        assert 11.0 <= told_s(refused) <= 13.0
        await there.clock.advance(1.0)
        for call in there.calls:
            call.says()
        await there.turn()
        assert [one.status for one in asks] == [200] * 6
        await there.clock.advance(told_s(refused) - 1.0)
        late = there.ask()
        await there.clock.advance(1.0)
        assert late.status == 0 and len(there.calls) == 7, "it is let through"
