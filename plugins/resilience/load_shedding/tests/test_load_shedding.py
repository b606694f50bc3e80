"""The component in a gateway: who is refused, with what, and what is never refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from lmg import Component, Exchange, Principal
from lmg.testing import ChatAnswer, Harness, VirtualClock, Wait, chat_body, chat_events, check_component
from lmg_load_shedding import LoadShedding

CLASSES: dict[str, type[Any]] = {"load_shedding": LoadShedding}
QUICK = {"sample_ms": 100, "for_ms": 300}


class LateClock(VirtualClock):
    """A clock on a loop that wakes whoever sleeps too late, by ``late_s``."""

    late_s = 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self._elapsed += self.late_s


class Always:
    """Chance that refuses whoever may be refused; the wait is the shortest."""

    def random(self) -> float:
        return 0.0

    def uniform(self, low: float, high: float) -> float:
        return low


class Half(Always):
    def random(self) -> float:
        return 0.5


class Tenants(Component):
    """Who calls is what the header says."""

    provides = {"on_request": ("principal",)}

    def on_request(self, exchange: Exchange) -> None:
        name = (exchange.head.get(b"x-tenant") or b"nobody").decode()
        exchange.set_fact("principal", Principal(name, name))


def gateway_with(settings: dict[str, Any], *, above: tuple[str, ...] = (), **more: Any) -> Harness:
    classes = {**CLASSES, "tenants": Tenants, **more.pop("classes", {})}
    return Harness({"pipeline": [*above, {"load_shedding": settings}]}, classes=classes, **more)


def shedder(gateway: Harness, chance: Any = None) -> Any:
    component = next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, LoadShedding))
    component.random = chance or Always()
    return component


async def overload(gateway: Harness, clock: LateClock, late_s: float = 1.0, seconds: float = 3.0) -> None:
    clock.late_s = late_s
    await clock.advance(seconds)


def shed(gateway: Harness) -> dict[str, float]:
    family: Any = next(f for f in gateway.host.metrics.families() if f.name == "llm_requests_shed_total")
    return {labels[0]: count for labels, count in family.series.items()}


# -- the delay of the loop --------------------------------------------------------------------------


async def test_a_late_loop_refuses_and_a_loop_in_time_serves_again() -> None:
    clock = LateClock()
    async with gateway_with(QUICK, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        shedder(gateway)
        assert (await gateway.chat()).status == 200
        await overload(gateway, clock)
        refused = await gateway.chat()
        assert refused.status == 503
        clock.late_s = 0.0
        await clock.advance(3)
        assert (await gateway.chat()).status == 200
        await gateway.ended(3)
    assert len(gateway.upstream.received) == 2
    assert shed(gateway) == {"5": 1}


async def test_a_loop_that_is_late_for_a_moment_refuses_nobody() -> None:
    clock = LateClock()
    async with gateway_with(QUICK, clock=clock) as gateway:
        shedder(gateway)
        await overload(gateway, clock, late_s=5.0, seconds=0.1)
        clock.late_s = 0.0
        await clock.advance(0.1)
        assert (await gateway.chat()).status == 200


async def test_the_refusal_says_what_a_client_is_to_do() -> None:
    clock = LateClock()
    async with gateway_with(
        {**QUICK, "retry_after_min_s": 1.2, "retry_after_max_s": 9}, clock=clock
    ) as gateway:
        shedder(gateway)
        await overload(gateway, clock)
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.status == 503
    assert answer.error["code"] == "overloaded" and answer.error["type"] == "server_error"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["retry-after-ms"] == "1200"
    assert answer.headers["x-should-retry"] == "true"
    assert "delay" not in answer.error["message"], "what it measures is the operator's business"
    assert (exchange.ended, exchange.code) == ("failed", "overloaded")
    assert not gateway.upstream.received


async def test_clients_are_told_different_times() -> None:
    clock = LateClock()
    async with gateway_with(
        {**QUICK, "retry_after_min_s": 1, "retry_after_max_s": 5}, clock=clock
    ) as gateway:
        await overload(gateway, clock)
        component = shedder(gateway)
        import random

        component.random = random.Random(7)
        waits = [int((await gateway.chat()).headers["retry-after-ms"]) for _ in range(8)]
    assert len(set(waits)) == 8
    assert all(1000 <= wait <= 5000 for wait in waits)


async def test_the_body_of_a_refused_request_is_not_read() -> None:
    clock = LateClock()
    async with gateway_with(QUICK, clock=clock) as gateway:
        shedder(gateway)
        await overload(gateway, clock)
        client = await gateway.connect()
        head = gateway.encode(b"x" * 1000).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        await client.send(head)
        answer = await client.answer()
    assert answer.status == 503


async def test_the_share_that_is_refused_follows_the_delay() -> None:
    clock = LateClock()
    async with gateway_with({**QUICK, "max_delay_ms": 100, "hard_delay_ms": 1100}, clock=clock) as gateway:
        component = shedder(gateway, Half())
        await overload(gateway, clock, late_s=0.3, seconds=6)
        assert component._level == pytest.approx(0.2, abs=0.02)
        assert (await gateway.chat()).status == 200
        await overload(gateway, clock, late_s=0.8, seconds=6)
        assert component._level == pytest.approx(0.7, abs=0.02)
        assert (await gateway.chat()).status == 503


async def test_a_loop_that_is_really_blocked_refuses() -> None:
    settings = {"sample_ms": 10, "max_delay_ms": 5, "hard_delay_ms": 20, "for_ms": 40}
    async with gateway_with(settings) as gateway:
        gateway.host.metrics.enabled = True
        component = shedder(gateway)
        assert (await gateway.chat()).status == 200
        loop, busy = asyncio.get_running_loop(), [True]

        def block() -> None:
            until = time.perf_counter() + 0.03
            while time.perf_counter() < until:
                pass
            if busy:
                loop.call_soon(block)

        loop.call_soon(block)
        async with asyncio.timeout(10):
            while not component._level:
                await asyncio.sleep(0)
        answer = await gateway.chat()
        assert answer.status == 503
        busy.clear()
        gauge: Any = next(
            f for f in gateway.host.metrics.families() if f.name == "lmg_event_loop_delay_seconds"
        )
        assert gauge.series[()] > 0.005
        async with asyncio.timeout(10):
            while component._level:
                await asyncio.sleep(0.005)
        assert (await gateway.chat()).status == 200


# -- the number in flight -----------------------------------------------------------------------------


async def in_flight(settings: dict[str, Any], count: int, chance: Any = None) -> list[int]:
    """The statuses of ``count`` requests, each sent while those before are in flight."""
    go_on = asyncio.Event()
    async with gateway_with(settings) as gateway:
        shedder(gateway, chance)
        for _ in range(count):
            gateway.upstream.stream(chat_events("a")[0], Wait(event=go_on), *chat_events("a")[1:])
        asked: list[asyncio.Task[ChatAnswer]] = []
        for n in range(count):
            asked.append(asyncio.ensure_future(gateway.chat(stream=True)))
            arrived = asyncio.ensure_future(gateway.upstream.arrival(len(gateway.upstream.received) + 1))
            await asyncio.wait([asked[n], arrived], return_when=asyncio.FIRST_COMPLETED)
            arrived.cancel()
        go_on.set()
        statuses = [answer.status for answer in await asyncio.gather(*asked)]
        assert (await gateway.chat(stream=True)).status == 200, "and when they have ended it serves again"
    return statuses


async def test_up_to_the_bound_nobody_is_refused() -> None:
    assert await in_flight({"max_in_flight": 3, "hard_in_flight": 6}, 5) == [200, 200, 200, 200, 503]


async def test_at_the_hard_bound_everybody_is_refused() -> None:
    class Never(Always):
        def random(self) -> float:
            return 0.999999

    statuses = await in_flight({"max_in_flight": 3, "hard_in_flight": 6}, 8, Never())
    assert statuses == [200] * 6 + [503] * 2


async def test_the_flood_of_64_ends_at_the_hard_bound() -> None:
    go_on = asyncio.Event()
    async with gateway_with({"max_in_flight": 4, "hard_in_flight": 8, "max_delay_ms": None}) as gateway:
        for _ in range(64):
            gateway.upstream.stream(chat_events("a")[0], Wait(event=go_on), *chat_events("a")[1:])
        asked = [asyncio.ensure_future(gateway.chat(stream=True)) for _ in range(64)]
        await gateway.upstream.arrival(4)
        async with asyncio.timeout(10):
            while sum(task.done() for task in asked) < 64 - 8:
                await asyncio.sleep(0.005)
        assert 4 <= len(gateway.upstream.received) <= 8
        go_on.set()
        statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert statuses.count(200) == len(gateway.upstream.received)


# -- memory ---------------------------------------------------------------------------------------------


async def test_a_worker_that_has_grown_too_large_refuses() -> None:
    clock = VirtualClock()
    async with gateway_with({"max_rss_mb": 1000, "hard_rss_mb": 2000}, clock=clock) as gateway:
        component = shedder(gateway)
        component.resident_mb = lambda: 1500.0
        await clock.advance(0.1)
        assert (await gateway.chat()).status == 503

        def fails() -> float:
            raise OSError("no descriptor is left")

        component.resident_mb = fails
        await clock.advance(0.1)
        assert (await gateway.chat()).status == 503, "what was so a moment ago still is"
        component.resident_mb = lambda: 900.0
        await clock.advance(0.1)
        assert (await gateway.chat()).status == 200


def test_memory_is_measured_in_mebibytes() -> None:
    from lmg_load_shedding.memory import STATM, resident_mb

    if not STATM.exists():
        pytest.skip("not Linux")
    before = resident_mb()
    held = bytearray(b"x" * (64 * 2**20))
    assert 48 < resident_mb() - before < 96
    assert held


# -- priorities ------------------------------------------------------------------------------------------

TIERS = {**QUICK, "max_delay_ms": 100, "hard_delay_ms": 1000, "priorities": {"batch-*": 0, "gold": 9}}


@pytest.mark.parametrize(
    ("late_s", "refused"),
    [(0.2, {"batch-1"}), (0.6, {"batch-1", "other"}), (1.5, {"batch-1", "other", "gold"})],
)
async def test_the_lowest_priority_is_refused_first(late_s: float, refused: set[str]) -> None:
    clock = LateClock()
    async with gateway_with(TIERS, above=("tenants",), clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        shedder(gateway)
        await overload(gateway, clock, late_s, 8)
        statuses = {
            tenant: (await gateway.chat(headers={"x-tenant": tenant})).status
            for tenant in ("batch-1", "other", "gold")
        }
        await gateway.ended(3)
    assert {tenant for tenant, status in statuses.items() if status == 503} == refused
    assert set(shed(gateway)) == {{"batch-1": "0", "other": "5", "gold": "9"}[name] for name in refused}


@pytest.mark.parametrize(
    ("stated", "status"),
    [("9", 200), ("0", 503), ("10", 503), ("-1", 503), ("nine", 503), ("", 503), (None, 503)],
)
async def test_a_trusted_header_states_the_priority(stated: str | None, status: int) -> None:
    clock = LateClock()
    settings = {
        **QUICK,
        "max_delay_ms": 100,
        "hard_delay_ms": 1000,
        "header": "X-Priority",
        "default_priority": 1,
    }
    async with gateway_with(settings, clock=clock) as gateway:
        shedder(gateway)
        await overload(gateway, clock, 0.5, 8)
        headers = {"x-priority": stated} if stated is not None else {}
        assert (await gateway.chat(headers=headers)).status == status


async def test_a_header_that_nobody_trusts_changes_nothing() -> None:
    clock = LateClock()
    async with gateway_with(QUICK, clock=clock) as gateway:
        shedder(gateway)
        await overload(gateway, clock)
        assert (await gateway.chat(headers={"x-priority": "9"})).status == 503


async def test_a_header_that_comes_twice_is_none() -> None:
    clock = LateClock()
    settings = {
        **QUICK,
        "max_delay_ms": 100,
        "hard_delay_ms": 1000,
        "header": "x-priority",
        "default_priority": 0,
    }
    async with gateway_with(settings, clock=clock) as gateway:
        shedder(gateway)
        await overload(gateway, clock, 0.5, 8)
        client = await gateway.connect()
        raw = gateway.encode(gateway.body()).replace(b"\r\n", b"\r\nx-priority: 9\r\nx-priority: 9\r\n", 1)
        await client.send(raw)
        assert (await client.answer()).status == 503


# -- what is never refused ---------------------------------------------------------------------------------


async def test_health_and_readiness_are_never_refused_and_say_what_is_going_on() -> None:
    clock = LateClock()
    async with gateway_with(QUICK, clock=clock) as gateway:
        shedder(gateway)
        before = await gateway.get("/readyz")
        await overload(gateway, clock)
        assert (await gateway.get("/livez")).status == 200
        during = await gateway.get("/readyz")
        assert (await gateway.chat()).status == 503
        clock.late_s = 0.0
        await clock.advance(10)
        after = await gateway.get("/readyz")
    assert [answer.status for answer in (before, during, after)] == [200] * 3
    assert b"load_shedding" not in before.raw and b"load_shedding" not in after.raw
    assert b"degraded" in during.raw and b"load_shedding" in during.raw


async def test_refusing_by_the_number_in_flight_shows_for_a_moment() -> None:
    clock = VirtualClock()
    async with gateway_with({"max_in_flight": 1, "hard_in_flight": 2}, clock=clock) as gateway:
        component = shedder(gateway)
        gateway.process.gateway.pipeline.in_flight += 2
        assert (await gateway.chat()).status == 503
        gateway.process.gateway.pipeline.in_flight -= 2
        assert component.health().state == "degraded"
        await clock.advance(10)
        assert component.health() is None


class Forking(Component):
    """Asks a model itself, in the midst of overload."""

    requires = {"on_request": ("body",)}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.begin: Callable[[], None] = lambda: None

    async def on_request(self, exchange: Exchange) -> None:
        self.begin()
        result = await exchange.fork(exchange.candidates[0], "judge")
        assert result.response.status == 200


async def test_a_fork_is_part_of_what_was_let_in() -> None:
    mesh = {"pipeline": [{"load_shedding": QUICK}, "forking"]}
    async with Harness(mesh, classes={**CLASSES, "forking": Forking}) as gateway:
        component = shedder(gateway)
        forking: Any = gateway.process.gateway.pipeline.listed[-1][1]

        def begin() -> None:
            component._level = 1.0

        forking.begin = begin
        gateway.upstream.reply(chat_body())
        assert (await gateway.chat()).status == 200
    assert len(gateway.upstream.received) == 2


# -- life ------------------------------------------------------------------------------------------------


async def test_an_sdk_that_is_refused_comes_again_and_is_served() -> None:
    clock = LateClock()
    settings = {**QUICK, "retry_after_min_s": 0.05, "retry_after_max_s": 0.06}
    async with gateway_with(settings, clock=clock) as gateway:
        component = shedder(gateway)
        await overload(gateway, clock)

        class Once(Always):
            def uniform(self, low: float, high: float) -> float:
                component._level = 0.0
                return low

        component.random = Once()
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-x", max_retries=1) as client:
            completion = await client.chat.completions.create(
                model="test-model", messages=[{"role": "user", "content": "hello"}]
            )
        await gateway.ended(2)
    assert completion.choices[0].message.content == "Hello!"
    assert len(gateway.upstream.received) == 1


async def test_in_shadow_everybody_is_served_and_what_would_be_is_counted() -> None:
    clock = LateClock()
    async with gateway_with({**QUICK, "mode": "shadow"}, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        shedder(gateway)
        await overload(gateway, clock)
        assert (await gateway.chat()).status == 200
        exchange = await gateway.ended()
    assert exchange.shadowed == [("load_shedding", "on_request", "Deny(overloaded)")]
    assert shed(gateway) == {"5": 1}


async def test_measuring_ends_with_the_component() -> None:
    async with gateway_with(QUICK) as gateway:
        old = shedder(gateway)
        assert not old._task.done()
        assert await gateway.reload({"pipeline": [{"load_shedding": {**QUICK, "for_ms": 400}}]})
        new = shedder(gateway)
        assert new is not old
        await asyncio.wait([old._task], timeout=5)
        assert old._task.done() and not new._task.done()
    assert new._task.done()


async def test_it_behaves_like_every_component() -> None:
    def factory() -> tuple[type[Component], dict[str, Any]]:
        return LoadShedding, {"max_in_flight": 50, "hard_in_flight": 60}

    await check_component(factory)


async def test_with_priorities_it_behaves_like_every_component() -> None:
    def factory() -> tuple[type[Component], dict[str, Any]]:
        return LoadShedding, TIERS

    await check_component(factory, above=[("tenants", Tenants)])
