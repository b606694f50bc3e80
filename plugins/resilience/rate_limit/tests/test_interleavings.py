"""Never one request or token above a limit, and not one below: for every order of beginnings, endings and departures."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Asked, Call, Inside, inside

TENANTS = ("a", "b")
ENDINGS = ("answers", "uses less", "fails", "refuses", "dies", "leaves")

exhaustive = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def end(asked: Asked, call: Call | None, how: str) -> tuple[int, int]:
    """Ends a request in one of the ways in which they end; what it has used then."""
    if how == "leaves" or call is None:
        asked.leave()
        return 0, 0
    most = call.body["max_tokens"]
    if how == "answers":
        call.says((20, most))
        return 20, most
    if how == "uses less":
        call.says((3, 1))
        return 3, 1
    {"fails": call.fails, "refuses": lambda: call.fails(400), "dies": call.dies}[how]()
    return 0, 0


# -- one after the other, against a model of the limits ---------------------------------------------


@dataclass
class Bucket:
    """The textbook's token bucket, with what is held."""

    capacity: int
    window_s: float
    spent: float = 0.0
    held: int = 0

    def passes(self, seconds: float) -> None:
        self.spent = max(0.0, self.spent - seconds * self.capacity / self.window_s)

    def fits(self, amount: int) -> bool:
        return self.spent + self.held + amount <= self.capacity + 1e-6


@dataclass
class Expected:
    """What one tenant may do: 6 requests and 2,000 tokens a minute, 3 at a time."""

    requests: Bucket = field(default_factory=lambda: Bucket(6, 60))
    tokens: Bucket = field(default_factory=lambda: Bucket(2000, 60))
    open: dict[Asked, tuple[Call, int]] = field(default_factory=dict)

    def admits(self, amount: int) -> bool:
        return self.requests.fits(1) and self.tokens.fits(amount) and len(self.open) < 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(TENANTS), st.integers(1, 900), st.booleans()),
        st.tuples(st.just("end"), st.sampled_from(TENANTS), st.integers(0, 2), st.sampled_from(ENDINGS)),
        st.tuples(st.just("pass"), st.floats(0.01, 30)),
    ),
    max_size=40,
)


@exhaustive
@given(STEPS)
def test_a_request_is_let_through_exactly_where_all_its_limits_have_room(
    steps: list[tuple[Any, ...]],
) -> None:
    run(_against_the_model(steps))


async def _against_the_model(steps: list[tuple[Any, ...]]) -> None:
    limits = {"requests": "6/min", "tokens": "2000/min", "concurrency": 3}
    async with inside(limits, "guard") as there:
        expected = {tenant: Expected() for tenant in TENANTS}
        for step in steps:
            if step[0] == "pass":
                await there.clock.advance(step[1])
                for one in expected.values():
                    one.requests.passes(step[1])
                    one.tokens.passes(step[1])
            elif step[0] == "ask":
                await _one_asks(there, expected[step[1]], *step[1:])
            else:
                await _one_ends(there, expected[step[1]], *step[2:])
            levels = there.buckets()
            for tenant, one in expected.items():
                assert levels.get(f"default/tokens:{tenant}", (0.0, 0))[1] == one.tokens.held
                assert levels.get(f"default/concurrency:{tenant}", (0.0, 0))[1] == len(one.open)


async def _one_asks(there: Inside, one: Expected, tenant: str, size: int, blocked: bool) -> None:
    before = len(there.calls)
    asked = there.ask(tenant, "refuse me" if blocked else "x" * (size // 3), max_tokens=size)
    await there.turn()
    amount = len(asked._raw) + size
    if not one.admits(amount):
        assert (asked.status, len(there.calls)) == (429, before)
    elif blocked:
        assert (asked.status, len(there.calls)) == (403, before)
    else:
        assert (asked.status, len(there.calls)) == (0, before + 1)
        one.requests.spent += 1
        one.tokens.held += amount
        one.open[asked] = (there.calls[-1], amount)


async def _one_ends(there: Inside, one: Expected, place: int, how: str) -> None:
    if place >= len(one.open):
        return
    asked = list(one.open)[place]
    call, amount = one.open.pop(asked)
    used = end(asked, call, how)
    await there.turn()
    assert asked.task.done()
    one.tokens.held -= amount
    one.tokens.spent += sum(used)


# -- all at once, in every order --------------------------------------------------------------------


@exhaustive
@given(st.data())
def test_nothing_is_passed_nothing_is_lost_and_the_limit_is_reached_exactly(data: st.DataObject) -> None:
    run(_all_at_once(data))


async def _all_at_once(data: st.DataObject) -> None:
    limits = {"requests": "12/day", "tokens": "40k/day", "concurrency": 5}
    async with inside(limits, "guard") as there:
        asked: list[Asked] = []
        used = 0
        for _ in range(data.draw(st.integers(5, 60), "steps")):
            match data.draw(st.sampled_from(["ask", "ask", "blocked", "turn", "end", "leave"]), "step"):
                case "ask":
                    asked.append(there.ask(max_tokens=data.draw(st.integers(1, 3000), "size")))
                case "blocked":
                    asked.append(there.ask(text="refuse me", max_tokens=10))
                case "turn":
                    await there.turn(data.draw(st.integers(1, 6), "turns"))
                case "leave" if asked:
                    data.draw(st.sampled_from(asked), "who").leave()
                case "end" if there.calls:
                    call = data.draw(st.sampled_from(there.calls), "call")
                    if not call.answer.done():
                        used += sum(end(asked[0], call, data.draw(st.sampled_from(ENDINGS[:-1]), "how")))
            open_ = [call for call in there.calls if not call.answer.done()]
            assert len(there.calls) <= 12, "a request too many"
            assert len(open_) <= 5, "one too many at a time"
            spent, held = there.buckets().get("default/tokens:acme", (0.0, 0))
            assert spent + held <= 40_000, "tokens too many"
        while not all(one.task.done() for one in asked):
            await there.turn()
            for call in there.calls:
                call.dies()
        assert there.held == 0, "something was not given back"
        while (status := await _answered_at_once(there)) == 200:
            used += 7
        assert status == 429
        assert len(there.calls) == 12, "a request less than there may be"
        assert there.buckets()["default/tokens:acme"][0] <= used


async def _answered_at_once(there: Inside) -> int:
    asked = there.ask(max_tokens=2)
    await there.turn()
    for call in there.calls:
        call.says()
    await there.turn()
    return asked.status


@pytest.mark.parametrize("how", ENDINGS)
async def test_tokens_come_back_and_what_was_used_stays(how: str) -> None:
    async with inside({"tokens": "10k/day", "concurrency": 1}) as there:
        asked = there.ask(max_tokens=5000)
        await there.turn()
        assert there.buckets()["default/tokens:acme"][1] > 5000
        used = sum(end(asked, there.calls[0], how))
        await there.turn()
        assert there.buckets() == {"default/tokens:acme": (used, 0), "default/concurrency:acme": (0.0, 0)}
