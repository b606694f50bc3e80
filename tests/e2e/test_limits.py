"""Limits that all workers and all replicas share, on real processes and a real Redis, up to the last request and token."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmg.testing import ScriptedUpstream, Wait, chat_body
from lmg.testing.servers import RedisServer

CLIENTS = 200
ASK = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Say hello."}]}
USED = (5, 2)
LIMITED = """
server: {{workers: {workers}, port: 0}}
providers:
  local: {{endpoint: "{upstream}", models: [m]}}
{services}
pipeline:
  - rate_limit:
      limits:
        - {{per: tenant, {limit}, on_store_loss: {loss}}}
  - router
"""


def mesh(
    upstream: ScriptedUpstream,
    limit: str,
    *,
    workers: int = 1,
    redis: RedisServer | None = None,
    loss: str = "deny",
) -> str:
    services = (
        f"services: {{redis: {{url: '{redis.url}', holder_ttl_s: 2, heartbeat_ms: 300}}}}" if redis else ""
    )
    return LIMITED.format(workers=workers, upstream=upstream.url, limit=limit, services=services, loss=loss)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def model() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        upstream.reply(chat_body(usage=USED))
        yield upstream


@contextlib.asynccontextmanager
async def clients(*gateways: Any) -> AsyncIterator[Callable[..., Any]]:
    """``ask()`` is one request on a connection of its own, at each gateway in turn."""
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=0)
    async with contextlib.AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=g.url, timeout=60.0, limits=limits))
            for g in gateways
        ]
        number = iter(range(10**9))

        async def ask(**more: Any) -> httpx.Response:
            return await pools[next(number) % len(pools)].post("/v1/chat/completions", json=ASK | more)

        yield ask


async def statuses(ask: Callable[..., Any], count: int) -> Counter[int]:
    return Counter(answer.status_code for answer in await asyncio.gather(*(ask() for _ in range(count))))


@pytest.mark.parametrize("store", ["file", "redis"])
async def test_200_clients_reach_a_limit_exactly_over_four_workers(
    store: str, served: Callable[..., Any], redis: RedisServer, model: ScriptedUpstream
) -> None:
    if store == "file":
        text = mesh(model, "requests: 120/day", workers=4)
        gateways = [await asyncio.to_thread(served, text)]
    else:
        text = mesh(model, "requests: 120/day", workers=2, redis=redis)
        gateways = [await asyncio.to_thread(served, text) for _ in range(2)]
    async with clients(*gateways) as ask:
        assert await statuses(ask, CLIENTS) == {200: 120, 429: CLIENTS - 120}
    assert len(model.received) == 120


async def test_tokens_are_never_passed_and_no_more_is_left_than_one_request_reserves(
    served: Callable[..., Any], redis: RedisServer, model: ScriptedUpstream
) -> None:
    text = mesh(model, "tokens: 1000/day", workers=4, redis=redis)
    gateway = await asyncio.to_thread(served, text)
    async with clients(gateway) as ask:
        answered = (await statuses(ask, CLIENTS))[200]
        while (last := await ask()).status_code == 200:
            answered += 1 + (await statuses(ask, 20))[200]
        used = answered * sum(USED)
        assert used <= 1000
        assert last.status_code == 429
        left = int(last.headers["x-ratelimit-remaining-tokens"])
        assert left == 1000 - used, "what was reserved and not used has come back"


async def test_a_killed_worker_and_a_client_that_leaves_give_back_their_places(
    served: Callable[..., Any], redis: RedisServer, model: ScriptedUpstream
) -> None:
    gateway = await asyncio.to_thread(served, mesh(model, "concurrency: 4", workers=2, redis=redis))
    async with clients(gateway) as ask:
        assert (await ask()).status_code == 200
        model.raw(Wait(600.0))
        held = [asyncio.create_task(ask()) for _ in range(4)]
        await model.arrival(5)
        assert (await ask()).status_code == 429
        for task in held[:2]:
            task.cancel()
        await asyncio.gather(*held[:2], return_exceptions=True)
        model.reply(chat_body(usage=USED))
        await until(ask, 200)
        for pid in children(gateway.process.pid):
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*held[2:], return_exceptions=True)
        model.raw(Wait(600.0))
        again: list[asyncio.Task[Any]] = []
        before, ends = len(model.received), time.monotonic() + 20
        while len(model.received) < before + 4 and time.monotonic() < ends:
            again = [task for task in again if not task.done()]
            again += [asyncio.create_task(ask()) for _ in range(4 - len(again))]
            await asyncio.wait(again, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        assert sum(not task.done() for task in again) == 4
        for task in again:
            task.cancel()
        await asyncio.gather(*again, return_exceptions=True)


def children(parent: int) -> list[int]:
    """The workers of a gateway."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


async def until(ask: Callable[..., Any], status: int, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            found: object = (await ask()).status_code
        except httpx.HTTPError as error:
            found = error
        if found == status:
            return
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("loss", "meanwhile"), [("deny", 503), ("allow", 200), ("local", 200)])
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_while_redis_is_gone_the_declared_mode_holds_nothing_hangs_and_it_heals(
    how: str,
    loss: str,
    meanwhile: int,
    served: Callable[..., Any],
    redis: RedisServer,
    model: ScriptedUpstream,
) -> None:
    text = mesh(model, "requests: 100000/min", workers=2, redis=redis, loss=loss)
    gateway = await asyncio.to_thread(served, text)
    async with clients(gateway) as ask, httpx.AsyncClient(base_url=gateway.url) as plain:
        assert (await ask()).status_code == 200
        load = [asyncio.create_task(timed(ask)) for _ in range(20)]
        (redis.freeze if how == "frozen" else redis.kill)()
        answers = await asyncio.gather(*load, *(timed(ask) for _ in range(100)))
        assert {status for status, _ in answers} <= {200, meanwhile}
        assert sorted(seconds for _, seconds in answers)[int(len(answers) * 0.99)] < 5.0
        assert [(await ask()).status_code for _ in range(20)] == [meanwhile] * 20
        ready = await plain.get("/readyz")
        assert ready.status_code == 200 and ready.json()["degraded"].get("redis") == "degraded"
        (redis.thaw if how == "frozen" else redis.start)()
        await until(ask, 200)
        ends = time.monotonic() + 20
        while (await plain.get("/readyz")).json()["degraded"]:
            assert time.monotonic() < ends
            await ask()
        assert await statuses(ask, 50) == {200: 50}


async def timed(ask: Callable[..., Any]) -> tuple[int, float]:
    began = time.monotonic()
    return (await ask()).status_code, time.monotonic() - began
