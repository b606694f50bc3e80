"""Waiting for a turn: bounded, fair between tenants, and given up by who leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmg.testing import Wait, chat_body

from .conftest import Asked, Inside, by, inside, limited
from .test_interleavings import run


def queue(**more: Any) -> dict[str, Any]:
    return {"queue": {"max_wait_ms": 10_000, **more}}


def depth(there: Inside) -> int:
    room = there.limits._room
    assert room is not None
    return len(room)


async def finish(there: Inside) -> None:
    """The model answers what it has been asked, and what was waiting for that goes on."""
    for call in list(there.calls):
        call.says()
    await there.turn()


async def test_a_request_waits_until_the_bucket_has_drained_far_enough() -> None:
    async with inside({"requests": "6/min", **queue()}) as there:
        for _ in range(6):
            there.ask()
        await there.turn()
        waits = there.ask()
        await there.turn()
        assert (waits.status, depth(there), len(there.calls)) == (0, 1, 6)
        await there.clock.advance(9.99)
        assert len(there.calls) == 6
        await there.clock.advance(0.01)
        await there.turn()
        assert (len(there.calls), depth(there)) == (7, 0)
        await finish(there)
        assert waits.status == 200
        assert waits.answer is not None
        assert waits.answer.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_request_waits_until_somebody_gives_something_back() -> None:
    async with inside({"concurrency": 1, **queue()}) as there:
        first, second, third = there.ask(), there.ask(), there.ask()
        await there.turn()
        assert (len(there.calls), depth(there)) == (1, 2)
        await finish(there)
        assert (first.status, len(there.calls), depth(there)) == (200, 2, 1)
        await finish(there)
        assert (second.status, len(there.calls), depth(there)) == (200, 3, 0)
        await finish(there)
        assert third.status == 200


async def test_who_would_wait_in_vain_is_refused_at_once() -> None:
    async with inside({"requests": "1/min", **queue()}) as there:
        there.ask()
        await there.turn()
        refused = there.ask()
        await there.turn()
        assert refused.answer is not None and refused.status == 429
        assert refused.answer.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    "limit", [{"concurrency": 1}, {"requests": "60/min", "burst": 1}, {"tokens": "6000/min"}]
)
async def test_a_wait_ends_in_time_and_what_it_says_then_is_true(limit: dict[str, Any]) -> None:
    async with inside({**limit, "queue": {"max_wait_ms": 3000}}) as there:
        asks = [there.ask(max_tokens=4000) for _ in range(6)]
        await there.turn()
        await there.clock.advance(3.0)
        ended = [asked for asked in asks if asked.status == 429]
        assert ended and depth(there) == 0
        assert ended[-1].answer is not None
        wait = int(ended[-1].answer.headers["retry-after-ms"]) / 1000
        assert 0 < wait <= 120
        await finish(there)
        await there.clock.advance(wait)
        again = there.ask(max_tokens=4000)
        await there.turn()
        assert there.calls[-1].answer.done() is False
        await finish(there)
        assert again.status == 200


async def test_a_wait_is_no_longer_than_the_exchange_may_take() -> None:
    async with inside({"concurrency": 1, **queue()}, deadline_s=0.2) as there:
        there.ask()
        waits = there.ask()
        await there.turn()
        assert depth(there) == 1
        await there.clock.advance(0.3)
        assert (waits.status, depth(there)) == (429, 0)


async def test_places_are_bounded_for_all_and_for_each() -> None:
    async with inside({"per": "global", "concurrency": 1, **queue(max_size=3, max_per_tenant=2)}) as there:
        asks = {name: there.ask(name[0]) for name in ("a0", "a1", "a2", "a3", "b1", "b2")}
        await there.turn()
        assert depth(there) == 3
        assert {name: asked.status for name, asked in asks.items()} == {
            "a0": 0, "a1": 0, "a2": 0, "a3": 429, "b1": 0, "b2": 429,
        }  # fmt: skip
        answer = asks["a3"].answer
        assert (
            answer is not None
            and answer.error["code"] == "rate_limit_exceeded"
            and "retry-after" in answer.headers
        )


async def test_who_leaves_makes_room() -> None:
    async with inside({"concurrency": 1, **queue(max_size=2)}) as there:
        there.ask()
        waits, leaves = there.ask(), there.ask()
        await there.turn()
        leaves.leave()
        await there.turn()
        assert depth(there) == 1
        last = there.ask()
        await there.turn()
        assert depth(there) == 2
        for _ in range(3):
            await finish(there)
        assert (waits.status, last.status, len(there.calls), there.held) == (200, 200, 3, 0)


@pytest.mark.parametrize("distant", [False, True])
@pytest.mark.parametrize("turns", range(24))
async def test_a_turn_that_comes_as_its_client_leaves_goes_to_the_next(turns: int, distant: bool) -> None:
    async with inside({"concurrency": 1, "tokens": "10k/day", **queue()}, distant=distant) as there:
        asks = [there.ask(max_tokens=100) for _ in range(3)]
        await there.turn(20)
        assert (len(there.calls), depth(there)) == (1, 2)
        there.calls[0].says()
        await there.turn(turns)
        asks[1].leave()
        await there.turn(30)
        await finish(there)
        await there.turn(30)
        await finish(there)
        assert asks[2].status == 200, "what the one who left was given is lost"
        assert (there.held, depth(there)) == (0, 0)


async def test_one_tenants_flood_does_not_slow_anothers_requests() -> None:
    limits = {"per": "global", "concurrency": 2, **queue(max_wait_ms=60_000)}
    async with inside(limits) as there:
        flood = [there.ask("flood") for _ in range(300)]
        await there.turn()
        for _ in range(5):
            small = there.ask("small")
            await there.turn()
            rounds = 0
            while small.status == 0:
                rounds += 1
                await finish(there)
            assert rounds <= 3, "it waited behind the flood"
        assert sum(asked.status == 200 for asked in flood) < 20


async def test_a_tenant_at_its_own_limit_does_not_hold_up_the_queue() -> None:
    async with inside({"concurrency": 1, **queue()}) as there:
        for _ in range(5):
            there.ask("a")
        await there.turn()
        other = there.ask("b")
        await there.turn()
        assert depth(there) == 4
        there.calls[-1].says()
        await there.turn()
        assert other.status == 200


async def test_a_newcomer_does_not_take_what_another_waits_for() -> None:
    limits = {"per": "global", "tokens": "6000/min", **queue(max_wait_ms=120_000)}
    async with inside(limits) as there:
        there.ask("large", max_tokens=5000)
        await there.turn()
        there.calls[0].says((900, 5000))
        await there.turn()
        large = there.ask("large", max_tokens=5000)
        await there.turn()
        small = []
        for _ in range(40):
            small.append(there.ask("small", max_tokens=50))
            await there.clock.advance(1.0)
        await there.clock.advance(15.0)
        assert any(call.body["max_tokens"] == 5000 for call in there.calls[1:]), "it starves"
        await finish(there)
        assert large.status == 200


async def test_shares_follow_the_weights() -> None:
    limits = {"per": "global", "concurrency": 1, **queue(max_wait_ms=60_000, weights={"gold*": 3})}
    async with inside(limits) as there:
        asks: dict[str, list[Asked]] = {"gold-1": [], "plain": []}
        for _ in range(40):
            for tenant, waiting in asks.items():
                waiting.append(there.ask(tenant))
        await there.turn(20)
        for _ in range(21):
            await finish(there)
        served = Counter({t: sum(asked.status == 200 for asked in waiting) for t, waiting in asks.items()})
        assert 14 <= served["gold-1"] <= 17 and served["gold-1"] + served["plain"] == 21


async def test_its_depth_and_waits_are_measured() -> None:
    async with inside({"concurrency": 1, **queue()}) as there:
        there.gateway.host.metrics.enabled = True
        there.ask(), there.ask(), there.ask("other")
        await there.turn()

        def series(name: str) -> Any:
            return next(f.series for f in there.gateway.host.metrics.families() if f.name == name)  # type: ignore[attr-defined]

        assert series("llm_queue_depth") == {("rate_limit",): 1}
        await there.clock.advance(2.0)
        await finish(there)
        assert series("llm_queue_depth") == {("rate_limit",): 0}
        assert series("llm_queue_wait_seconds")[("rate_limit",)][-1] == 2.0


async def test_a_reload_ends_no_wait() -> None:
    async with limited({"concurrency": 1, **queue()}) as gateway:
        more = asyncio.Event()
        gateway.upstream.raw(Wait(event=more), b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
        first = asyncio.create_task(gateway.chat())
        await gateway.upstream.arrival()
        waits = asyncio.create_task(gateway.chat())
        room = next(c for _, c in gateway.process.gateway.pipeline.listed if c.name == "rate_limit")._room  # type: ignore[attr-defined]
        while not len(room):
            await asyncio.sleep(0.005)
        changed = {"pipeline": ["caller", {"rate_limit": {"concurrency": 3}}]}
        assert await gateway.reload(changed)
        gateway.upstream.reply(chat_body())
        more.set()
        assert (await first).status == 503
        assert (await waits).status == 200
        assert (await gateway.chat(headers=by("x"))).status == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nobody_is_forgotten_and_no_limit_is_passed(data: st.DataObject) -> None:
    run(_crowd(data))


async def _crowd(data: st.DataObject) -> None:
    limits = [
        {"requests": "30/min", "burst": 4},
        {"name": "all", "per": "global", "concurrency": 3},
        {"tokens": "3000/min"},
    ]
    most = data.draw(st.integers(1, 12), "places")
    async with inside({"limits": limits, "queue": {"max_wait_ms": 8000, "max_size": most}}, "guard") as there:
        asks: list[Asked] = []
        for _ in range(data.draw(st.integers(5, 50), "steps")):
            match data.draw(
                st.sampled_from(["ask", "ask", "ask", "blocked", "turn", "end", "leave", "pass"]), "step"
            ):
                case "ask":
                    tenant = data.draw(st.sampled_from("abc"), "tenant")
                    asks.append(there.ask(tenant, max_tokens=data.draw(st.integers(1, 1500), "size")))
                case "blocked":
                    asks.append(there.ask("a", "refuse me", max_tokens=5))
                case "turn":
                    await there.turn(data.draw(st.integers(1, 5), "turns"))
                case "leave" if asks:
                    data.draw(st.sampled_from(asks), "who").leave()
                case "pass":
                    await there.clock.advance(data.draw(st.floats(0.01, 4), "seconds"))
                case "end" if there.calls:
                    data.draw(st.sampled_from(there.calls), "call").says((10, 1))
            assert sum(not call.answer.done() for call in there.calls) <= 3
            assert depth(there) <= most
        for _ in range(200):
            if all(asked.task.done() for asked in asks):
                break
            await finish(there)
            await there.clock.advance(0.5)
        assert all(asked.task.done() for asked in asks), "somebody waits for ever"
        assert {asked.status for asked in asks if not asked.left} <= {200, 403, 429}
        assert (there.held, depth(there)) == (0, 0)
        assert there.limits._room is not None and not there.limits._room._ahead
