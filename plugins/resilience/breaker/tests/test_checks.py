"""Active checks: what is asked, when, and what the answer changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lmg import UpstreamError
from lmg.testing import Harness, VirtualClock, chat_body
from lmg.testing.gateway import Scripted
from lmg_breaker import Breaker

from .conftest import DOWN, Opened, breaker_of, calls, clock_of, fail_until_open, state_of

EVERY_S = 5.0


def answering(answer: Callable[[], int | None]) -> tuple[type[Scripted], list[str]]:
    """A provider whose ``probe`` gives what ``answer`` gives; the names of those asked are noted."""
    asked: list[str] = []

    class Probed(Scripted):
        async def probe(self) -> int | None:
            asked.append(self.name)
            return answer()

    return Probed, asked


async def ill(opened: Opened, answer: Callable[[], int | None], **settings: Any) -> tuple[Harness, list[str]]:
    """A gateway whose target ``a`` is open for a minute."""
    provider, asked = answering(answer)
    gateway = await opened(
        "a", "b", classes={"scripted": provider}, open_s=60, active={"every_ms": 5000, **settings}
    )
    gateway.upstreams["a"].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat()
    assert state_of(gateway, "a") == "open"
    return gateway, asked


def raising(error: Exception) -> Callable[[], int | None]:
    def answer() -> int | None:
        raise error

    return answer


async def test_without_active_nobody_is_asked(opened: Opened) -> None:
    provider, asked = answering(lambda: 200)
    gateway = await opened("a", classes={"scripted": provider})
    gateway.upstreams["a"].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat()
    await clock_of(gateway).advance(100)
    assert asked == []


@pytest.mark.parametrize("status", [200, 204, 404, 405])
async def test_an_answer_brings_the_probe_forward(opened: Opened, status: int) -> None:
    gateway, asked = await ill(opened, lambda: status)
    await clock_of(gateway).advance(EVERY_S)
    assert asked == ["scripted/a"], "the others are well"
    assert state_of(gateway, "a") == "half_open"
    gateway.upstreams["a"].reply(chat_body())
    await gateway.chat()
    assert state_of(gateway, "a") == "closed"
    await clock_of(gateway).advance(10 * EVERY_S)
    assert asked == ["scripted/a"]


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_an_answer_about_the_key_or_the_limit_is_no_news(opened: Opened, status: int) -> None:
    gateway, _ = await ill(opened, lambda: status)
    await clock_of(gateway).advance(59)
    assert state_of(gateway, "a") == "open"
    before = calls(gateway)["a"]
    await clock_of(gateway).advance(1)
    await gateway.chat()
    assert calls(gateway)["a"] == before + 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda: 503,
        raising(UpstreamError("connect", "connect_error")),
        raising(RuntimeError("a bug of theirs")),
    ],
)
async def test_a_failed_check_keeps_it_open_beyond_its_time(
    opened: Opened, answer: Callable[[], int | None]
) -> None:
    well = [False]
    gateway, _ = await ill(opened, lambda: 200 if well[0] else answer())
    before = calls(gateway)["a"]
    for _ in range(30):
        await clock_of(gateway).advance(EVERY_S)
        assert (await gateway.chat()).status == 200
    assert calls(gateway)["a"] == before, "no client had to find out"
    well[0] = True
    await clock_of(gateway).advance(2 * EVERY_S)
    gateway.upstreams["a"].reply(chat_body())
    await clock_of(gateway).advance(20)
    await gateway.chat()
    assert state_of(gateway, "a") == "closed"


async def test_a_provider_without_a_free_question_is_asked_once(opened: Opened) -> None:
    gateway, asked = await ill(opened, lambda: None)
    await clock_of(gateway).advance(10 * EVERY_S)
    assert asked == ["scripted/a"]


async def test_a_check_that_hangs_has_failed(opened: Opened) -> None:
    class Hangs(Scripted):
        async def probe(self) -> int | None:
            await asyncio.Event().wait()
            return 200

    gateway = await opened("a", classes={"scripted": Hangs}, active={"every_ms": 5000, "timeout_ms": 20})
    gateway.upstreams["a"].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat()
    checks = gateway.host.metrics.counter("llm_breaker_checks_total", "", ("provider", "result")).series
    await clock_of(gateway).advance(EVERY_S)
    async with asyncio.timeout(5):
        while not checks:
            await asyncio.sleep(0.005)
    assert checks == {("scripted/a", "ill"): 1}


async def test_all_also_asks_those_that_are_well_and_a_failed_check_counts(opened: Opened) -> None:
    provider, asked = answering(lambda: 500)
    gateway = await opened("a", "b", classes={"scripted": provider}, active={"every_ms": 5000, "all": True})
    await gateway.chat()
    await clock_of(gateway).advance(4 * EVERY_S)
    assert (asked, state_of(gateway, "a")) == (["scripted/a"] * 4, "closed")
    await clock_of(gateway).advance(EVERY_S)
    assert state_of(gateway, "a") == "open"


async def test_a_check_says_nothing_about_an_announced_pause(opened: Opened) -> None:
    provider, _ = answering(lambda: 200)
    gateway = await opened("a", "b", classes={"scripted": provider}, active={"every_ms": 5000})
    gateway.upstreams["a"].reply(DOWN, status=429, headers=[("retry-after", "60")])
    await gateway.chat()
    await clock_of(gateway).advance(50)
    assert state_of(gateway, "a") == "open"


async def test_a_check_that_passes_ends_the_wait_for_a_key(opened: Opened) -> None:
    provider, _ = answering(lambda: 200)
    gateway = await opened("a", "b", classes={"scripted": provider}, active={"every_ms": 5000})
    gateway.upstreams["a"].reply(DOWN, status=401)
    await gateway.chat()
    gateway.upstreams["a"].reply(chat_body())
    await clock_of(gateway).advance(EVERY_S)
    await gateway.chat()
    assert calls(gateway) == {"a": 2, "b": 0}


async def test_after_a_reload_the_new_provider_is_asked() -> None:
    provider, asked = answering(lambda: 503)
    mesh = {"pipeline": [{"breaker": {"active": {"every_ms": 5000}}}]}
    upstreams: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    harness = Harness(
        mesh, classes={"breaker": Breaker, "scripted": provider}, upstreams=upstreams, clock=VirtualClock()
    )
    async with harness as gateway:
        await fail_until_open(gateway, "a")
        before, kept = gateway.process.gateway.pipeline.providers["scripted/a"], breaker_of(gateway)
        upstreams["a"]["region"] = "eu"
        assert await gateway.reload(mesh)
        after = gateway.process.gateway.pipeline.providers["scripted/a"]
        assert breaker_of(gateway) is kept and after is not before
        await gateway.chat()
        assert kept.registry.providers["scripted/a"] is after, "known from routing: it has had no call"
        await clock_of(gateway).advance(EVERY_S)
        assert asked == ["scripted/a"]
