"""`shared: true`: answers in the counter store, for every worker and replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmg import Host, ServiceError
from lmg.services.file_counters import FileCounters
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import VirtualClock, chat_body

from .conftest import ADMIN, cached, calls, control, gateway_of, of, said, told, until


class Flaky(MemoryCounters):
    """A store that can be away."""

    away = False

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.away:
            raise ServiceError("away")
        return await super().get(keys)

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        if self.away:
            raise ServiceError("away")
        return await super().put(key, value, ttl_s, only_new=only_new)


def host(store: Any, clock: VirtualClock | None = None) -> Host:
    made = Host(clock=clock)
    made.counters = store
    return made


SHARED = cached(shared=True, routes=[{"model": "*", "ttl_s": 60}])
# The key holds the whole configuration, so both are in front of the same upstream.


async def stored(store: MemoryCounters, count: int) -> None:
    await until(lambda: len(store._values) >= count)


async def test_what_one_gateway_was_answered_another_gives() -> None:
    store = Flaky()
    clock = VirtualClock()
    async with gateway_of(SHARED, host=host(store, clock)) as one:
        url = one.upstream.url
        providers = {"scripted": {"endpoint": url, "models": ["test-model"]}}
        mesh = SHARED | {"providers": providers}
        assert await one.reload(mesh)
        async with gateway_of(mesh, host=host(store, clock)) as other:
            first = await one.chat("hello")
            await stored(store, 1)
            await clock.advance(7)
            again = await other.chat("hello", stream=True)
            assert (said(first), said(again), again.headers["age"]) == ("miss", "hit", "7")
            assert calls(one) == 1 and calls(other) == 0
            assert said(await other.chat("hello", headers=of("rival"))) == "miss"
            await clock.advance(53)
            assert said(await other.chat("hello")) == "miss"


async def test_a_store_that_is_away_is_a_miss_and_counted() -> None:
    store = Flaky()
    async with gateway_of(SHARED, host=host(store)) as gateway:
        gateway.host.metrics.enabled = True
        store.away = True
        assert [said(await gateway.chat("hello")) for _ in range(2)] == ["miss", "miss"]
        assert told(gateway, "llm_cache_store_errors_total")[()] >= 2
        store.away = False
        assert said(await gateway.chat("hello")) == "miss"
        await stored(store, 1)
        assert said(await gateway.chat("hello")) == "hit"


async def test_a_purge_holds_for_everybody_and_for_what_is_on_its_way() -> None:
    store, clock = Flaky(), VirtualClock()
    async with gateway_of(SHARED, host=host(store, clock)) as gateway:
        await gateway.chat("hello")
        await stored(store, 1)
        await clock.advance(1)
        purge = await gateway.request({"tenant": "acme"}, path="/admin/v1/cache/purge", headers=ADMIN)
        assert purge.status == 200
        assert said(await gateway.chat("hello")) == "miss"
        await clock.advance(1)
        await gateway.chat("again")
        await stored(store, 3)
        assert said(await gateway.chat("again")) == "hit"


async def test_a_purge_that_did_not_happen_says_so() -> None:
    store = Flaky()
    async with gateway_of(SHARED, host=host(store)) as gateway:
        store.away = True
        refused = await gateway.request({}, path="/admin/v1/cache/purge", headers=ADMIN)
        assert (refused.status, refused.error["code"]) == (503, "store_unavailable")


async def test_what_is_written_within_a_lifetime_is_bounded() -> None:
    store, clock = Flaky(), VirtualClock()
    mesh = cached(shared=True, routes=[{"model": "*", "ttl_s": 60}], max_bytes=2**20, max_entry_bytes=2**19)
    async with gateway_of(mesh, host=host(store, clock)) as gateway:
        gateway.upstream.reply(chat_body("x" * 200_000))
        for n in range(6):
            await gateway.chat(f"hello {n}")
        async with asyncio.timeout(5):
            while (await gateway.get("/admin/v1/cache/stats", headers=ADMIN)).json["not_stored"] < 4:
                await asyncio.sleep(0.002)
        assert sum(len(value) for value, _ in store._values.values() if isinstance(value, bytes)) < 2**20


async def test_processes_of_a_machine_share_a_file(tmp_path: Path) -> None:
    store = FileCounters(tmp_path)
    async with gateway_of(SHARED, host=host(store)) as gateway:
        await gateway.chat("hello")
        async with asyncio.timeout(5):
            while said(await gateway.chat("hello", headers=control("only-if-cached"))) != "hit":
                await asyncio.sleep(0.002)
        assert calls(gateway) == 1
