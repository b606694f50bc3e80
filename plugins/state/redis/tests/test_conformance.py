"""What every counter store promises, on a real server, however it is reached."""

from __future__ import annotations

import asyncio
import random
import secrets
import time

import pytest

from lmg import Host
from lmg.server.process import new_loop
from lmg.services import Limit, Settle, Take
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import check_counter_store
from lmg.testing.counters import STEADY_S, check_all_or_nothing, check_exact
from lmg_redis import RedisCounters

from .conftest import Counters, RedisServer


@pytest.mark.parametrize("seed", range(6))
async def test_it_is_a_counter_store(redis_server: RedisServer, counters: Counters, seed: int) -> None:
    await check_counter_store(await counters(redis_server.url), seed=seed)


async def test_it_is_one_over_a_unix_socket_in_another_database(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(f"unix://{redis_server.socket}?db=3")
    await check_counter_store(store, seed=7)
    assert redis_server.stored() == set(), "something was written to database 0"


def test_it_is_one_on_the_gateway_s_own_loop(redis_server: RedisServer) -> None:
    async def run() -> None:
        config = RedisCounters.Config.model_validate({"url": redis_server.url, "timeout_ms": 2000})
        store = RedisCounters(config, Host(), "redis")
        await store.start()
        try:
            await check_counter_store(store, seed=11)
        finally:
            await store.stop()
            await store.host.aclose()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def test_everything_is_shared_with_other_processes(
    redis_server: RedisServer, counters: Counters
) -> None:
    one, other = await counters(redis_server.url), await counters(redis_server.url)
    assert one.shared
    limit, slots = Limit("both", 10, STEADY_S), Limit("slots", 2, None)
    assert (await one.take([Take(limit, 6, held=True), Take(slots, 1, held=True)])).refused is None
    assert (await other.levels([limit, slots]))[0].remaining == 4
    assert (await other.take([Take(limit, 5)])).refused is not None
    assert (await other.take([Take(slots, 1, held=True)])).refused is None
    one.settle([Settle(limit, 6, 2), Settle(slots, 1, 0)])
    assert [level.remaining for level in await one.levels([limit, slots])] == [8, 1]
    assert [level.remaining for level in await other.levels([limit, slots])] == [8, 1]
    assert await one.put("lease", b"one", 60.0, only_new=True)
    assert not await other.put("lease", b"other", 60.0, only_new=True)
    assert not await other.remove("lease", b"other")
    await one.tally("sums", {"n": 1}, 60.0)
    assert await other.tally("sums", {"n": 2}, 60.0) == {"n": 3}


class _InTurn:
    """Two processes' stores as one: each call goes to the other."""

    shared = True

    def __init__(self, *stores: object) -> None:
        self._stores = list(stores)

    def __getattr__(self, name: str) -> object:
        self._stores.reverse()
        return getattr(self._stores[0], name)


async def test_two_processes_in_turn_are_as_exact_as_one(
    redis_server: RedisServer, counters: Counters
) -> None:
    both = _InTurn(await counters(redis_server.url), await counters(redis_server.url))
    await check_exact(both)  # type: ignore[arg-type]
    await check_all_or_nothing(both)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
async def test_buckets_that_drain_are_the_reference_s(
    redis_server: RedisServer, counters: Counters, seed: int
) -> None:
    rng = random.Random(seed)
    store, model = await counters(redis_server.url), MemoryCounters(time.monotonic)
    limits = [
        Limit(f"d{n}", rng.randint(100, 10**6), rng.choice([0.5, 7.0, 3600.0, 86400.0, None]))
        for n in range(5)
    ]
    for _ in range(120):
        takes = [
            Take(limit, rng.randint(0, limit.capacity), rng.random() < 0.3)
            for limit in rng.sample(limits, rng.randint(1, 5))
        ]
        ours, theirs = await store.take(takes), await model.take(takes)
        # The two clocks were read a little apart: what drains in between is within the tolerance.
        near = pytest.approx
        if (ours.refused is None) == (theirs.refused is None):
            for take, here, there in zip(takes, ours.levels, theirs.levels, strict=True):
                rate = take.limit.capacity / take.limit.window_s if take.limit.window_s else 0
                assert here.remaining == near(there.remaining, abs=1 + rate * 0.1)
                assert here.reset_s == near(there.reset_s, abs=0.1)
            assert (ours.retry_after_s is None) == (theirs.retry_after_s is None)
            if ours.retry_after_s is not None:
                assert ours.retry_after_s == near(theirs.retry_after_s, abs=0.1)
        else:
            # Only where a fraction more or less had drained.
            waits = [one.retry_after_s for one in (ours, theirs) if one.refused is not None]
            assert waits[0] is not None and waits[0] < 0.1
            break
        if ours.refused is None:
            settles = [Settle(t.limit, t.amount, rng.randint(0, t.amount)) for t in takes if t.held]
            store.settle(settles)
            model.settle(settles)


async def test_of_what_is_refused_the_longest_wait_is_told(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url)
    fast, slow, slots = Limit("fast", 10, 10.0), Limit("slow", 10, 1000.0), Limit("slots", 0, None)
    await store.take([Take(fast, 10), Take(slow, 10)])
    both = await store.take([Take(fast, 1), Take(slow, 1), Take(fast, 1)])
    assert both.refused == Take(slow, 1) and both.retry_after_s == pytest.approx(100, abs=1)
    never = await store.take([Take(slow, 1), Take(slots, 1, held=True), Take(fast, 1)])
    assert never.refused == Take(slots, 1, held=True) and never.retry_after_s is None


async def test_large_numbers_keep_their_digits(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url)
    limit = Limit("nano-dollars", 9_000_000_000_000_000, None)
    assert (await store.take([Take(limit, 8_999_999_999_999_998, held=True)])).levels[0].remaining == 2
    assert (await store.take([Take(limit, 3, held=True)])).refused is not None
    assert (await store.take([Take(limit, 2, held=True)])).levels[0].remaining == 0


async def test_any_text_is_a_key(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, prefix="mesh.1")
    texts = ["", "a b\r\n{x}", "\ud800", "ü" * 1000, "ü" * 1000 + "!"]
    for n, text in enumerate(texts):
        await store.take([Take(Limit(text, 100, STEADY_S), n + 1)])
        await store.put(text, b"%d" % n, 60.0)
    levels = await store.levels([Limit(text, 100, STEADY_S) for text in texts])
    assert [level.remaining for level in levels] == [99, 98, 97, 96, 95]
    assert await store.get(texts) == [b"0", b"1", b"2", b"3", b"4"]
    keys = redis_server.stored()
    assert all(key.startswith(b"{mesh.1}:") for key in keys)
    assert max(map(len, keys)) < 300


async def test_peeking_takes_nothing(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url)
    limit = Limit("p", 10, STEADY_S)
    for _ in range(3):
        would = await store.peek([Take(limit, 7), Take(limit, 3, held=True)])
        assert would.refused is None and would.levels[1].remaining == 0
    assert (await store.peek([Take(limit, 11)])).refused is not None
    assert (await store.levels([limit]))[0].remaining == 10
    assert (
        await store.levels([]) == () and (await store.take([])).refused is None and await store.get([]) == []
    )


async def test_a_caller_who_leaves_has_taken_nothing(redis_server: RedisServer, counters: Counters) -> None:
    """Whenever it is cancelled: before the call is sent, on its way, or when its answer is there."""
    store = await counters(redis_server.url)
    for turns in range(12):
        bucket, slots = Limit(secrets.token_hex(4), 10, STEADY_S), Limit(secrets.token_hex(4), 10, None)
        task = asyncio.ensure_future(
            store.take([Take(bucket, 4), Take(bucket, 3, True), Take(slots, 1, True)])
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await store.get(["a round trip later"])
        left = [level.remaining for level in await store.levels([bucket, slots])]
        assert left == ([10, 10] if task.cancelled() else [3, 9]), turns


async def test_a_caller_who_leaves_as_the_answer_arrives_has_taken_nothing(
    redis_server: RedisServer, counters: Counters
) -> None:
    """Cancelled between the answer and the turn of the loop in which it would have read it."""
    store = await counters(redis_server.url, heartbeat_ms=60_000, holder_ttl_s=180)
    bucket, slots = Limit("bucket", 10, STEADY_S), Limit("slots", 10, None)
    connection = store._session.link.connection
    assert connection is not None
    task = asyncio.ensure_future(store.take([Take(bucket, 4), Take(bucket, 3, True), Take(slots, 1, True)]))
    await asyncio.sleep(0)
    while connection._waiting:
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert [level.remaining for level in await store.levels([bucket, slots])] == [10, 10]
