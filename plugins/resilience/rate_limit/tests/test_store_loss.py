"""While the counter store is gone each limit does what it has declared, and all heals by itself."""

from __future__ import annotations

import asyncio
from typing import Any

from lmg.testing import Harness, VirtualClock, Wait, chat_body, chat_events

from .conftest import CLASSES, Distant, by, mesh


def distant(settings: dict[str, Any], *, clock: VirtualClock | None = None) -> Harness:
    whole = {**mesh(settings), "services": {"distant": {}}}
    return Harness(whole, classes=CLASSES, clock=clock)


def store_of(gateway: Harness) -> Distant:
    store = gateway.host.counters
    assert isinstance(store, Distant)
    gateway.host.metrics.enabled = True
    return store


def counted(gateway: Harness, name: str) -> dict[tuple[str, ...], float]:
    return next(dict(f.series) for f in gateway.host.metrics.families() if f.name == name)  # type: ignore[attr-defined]


async def test_one_call_takes_all_limits() -> None:
    async with distant({"requests": "9/day", "tokens": "9k/day", "concurrency": 9}) as gateway:
        store = store_of(gateway)
        for _ in range(3):
            assert (await gateway.chat(max_tokens=10)).status == 200
        assert store.asked == 3


async def test_deny_refuses_with_503_and_when_to_come_again() -> None:
    limits = [{"requests": "100/day", "on_store_loss": "deny"}, {"concurrency": 5, "on_store_loss": "allow"}]
    async with distant({"limits": limits}) as gateway:
        store = store_of(gateway)
        assert (await gateway.chat()).status == 200
        store.gone = True
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (503, "limits_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert "server" not in refused.error["message"]
        assert (await gateway.get("/readyz")).json["degraded"] == {"rate_limit": "degraded"}
        store.gone = False
        assert (await gateway.chat()).status == 200
        assert (await gateway.get("/readyz")).json["degraded"] == {}
        assert counted(gateway, "llm_rate_limit_store_loss_total") == {("allow",): 1, ("deny",): 1}
        assert len(gateway.upstream.received) == 2


async def test_allow_lets_everything_pass() -> None:
    async with distant({"requests": "1/day", "on_store_loss": "allow"}) as gateway:
        store = store_of(gateway)
        store.gone = True
        answers = [await gateway.chat() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert not any("ratelimit" in name for answer in answers for name in answer.headers)
        assert counted(gateway, "llm_rate_limit_store_loss_total") == {("allow",): 5}


async def test_local_keeps_a_share_of_the_limit_in_this_process() -> None:
    async with distant({"requests": "10/day", "local_share": 0.3}) as gateway:
        store = store_of(gateway)
        store.gone = True
        answers = [await gateway.chat() for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
        assert (await gateway.chat(headers=by("other"))).status == 200
        store.gone = False
        assert [(await gateway.chat()).status for _ in range(11)] == [200] * 10 + [429]


async def test_what_was_taken_here_is_given_back_here_and_what_was_taken_there_there() -> None:
    async with distant({"tokens": "10k/day", "concurrency": 2}, clock=VirtualClock()) as gateway:
        store = store_of(gateway)
        ends = [asyncio.Event(), asyncio.Event()]
        upstream = gateway.upstream
        for event in ends:
            upstream.stream(Wait(event=event), *chat_events("a", usage=(20, 10)))
        there = asyncio.create_task(gateway.chat(stream=True, max_tokens=50))
        await upstream.arrival(1)
        store.gone = True
        here = asyncio.create_task(gateway.chat(stream=True, max_tokens=50))
        await upstream.arrival(2)
        store.gone = False
        for event in ends:
            event.set()
        assert {(await there).status, (await here).status} == {200}
        assert {key.split("/")[1]: bucket[::2] for key, bucket in store.there._buckets.items()} == {
            "concurrency:acme": (0.0, 0), "tokens:acme": (30.0, 0),
        }  # fmt: skip
        (limits,) = (c for _, c in gateway.process.gateway.pipeline.listed if c.name == "rate_limit")
        local: Any = limits._stores._local  # type: ignore[attr-defined]
        assert {key.split("/")[1]: bucket[::2] for key, bucket in local._buckets.items()} == {
            "concurrency:acme": (0.0, 0), "tokens:acme": (30.0, 0),
        }  # fmt: skip


async def test_a_request_that_is_more_than_the_share_passes_when_nothing_else_does() -> None:
    async with distant({"tokens": "1000/day", "local_share": 0.2}, clock=VirtualClock()) as gateway:
        store = store_of(gateway)
        store.gone = True
        gateway.upstream.reply(chat_body(usage=(50, 200)))
        assert [(await gateway.chat(max_tokens=400)).status for _ in range(2)] == [200, 429]


async def test_a_client_that_leaves_while_the_store_is_asked_has_taken_nothing() -> None:
    async with distant({"concurrency": 1, "tokens": "10k/day"}) as gateway:
        store = store_of(gateway)
        for turns in range(12):
            client = await gateway.connect()
            await client.send(gateway.encode(gateway.body(max_tokens=10)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close(reset=True)
        async with asyncio.timeout(10):
            while gateway.process.gateway.pipeline.in_flight:
                await asyncio.sleep(0.005)
        assert {held for _, _, held in store.there._buckets.values()} <= {0}
        assert (await gateway.chat(max_tokens=10)).status == 200


async def test_who_waits_for_a_turn_is_told_when_the_store_is_gone() -> None:
    clock = VirtualClock()
    limits = [{"concurrency": 1, "on_store_loss": "deny"}]
    async with distant({"limits": limits, "queue": {"max_wait_ms": 5000}}, clock=clock) as gateway:
        store = store_of(gateway)
        gateway.upstream.raw(Wait(600.0))
        first = await gateway.connect()
        await first.send(gateway.encode(gateway.body()))
        await gateway.upstream.arrival()
        waits = asyncio.create_task(gateway.chat())
        while counted(gateway, "llm_queue_depth") != {("rate_limit",): 1}:
            await asyncio.sleep(0.005)
        store.gone = True
        await clock.advance(0.2)  # others share the store: it is asked now and then
        refused = await waits
        assert (refused.status, refused.error["code"]) == (503, "limits_unavailable")
        await first.close()


async def test_operators_see_that_the_store_is_gone() -> None:
    async with distant({"requests": "5/day"}) as gateway:
        store = store_of(gateway)
        await gateway.chat()
        assert (await gateway.get("/admin/v1/rate_limit/levels")).json["store"] == "shared"
        store.gone = True
        shown = (await gateway.get("/admin/v1/rate_limit/levels")).json
        assert (shown["store"], [one["remaining"] for one in shown["limits"]]) == ("gone", [None])
