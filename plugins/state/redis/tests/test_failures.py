"""The server frozen, killed, emptied, slow, cut off: calls fail in time, it heals, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from lmg import ServiceError
from lmg.services import Limit, Settle, Take
from lmg_redis import RedisCounters

from .conftest import Counters, RedisServer, Wire, until

TOKENS, SLOTS = Limit("tokens", 100, 1e9), Limit("slots", 10, None)
DECISION = [Take(TOKENS, 10, held=True), Take(SLOTS, 1, held=True)]
QUICK = {"timeout_ms": 250, "heartbeat_ms": 100, "connect_timeout_ms": 500}


async def remaining(store: RedisCounters) -> tuple[int, ...]:
    return tuple(level.remaining for level in await store.levels([TOKENS, SLOTS]))


async def healed(store: RedisCounters) -> None:
    await until(lambda: store._session.link.connection is not None)


def errors(store: RedisCounters, kind: str) -> float:
    (family,) = [one for one in store.host.metrics.families() if one.name == "lmg_store_errors_total"]
    return family.series.get((kind,), 0)


def up(store: RedisCounters) -> float:
    (family,) = [one for one in store.host.metrics.families() if one.name == "lmg_store_up"]
    return family.series[()]


CALLS: dict[str, Callable[[RedisCounters], Awaitable[object]]] = {
    "take": lambda store: store.take(DECISION),
    "levels": lambda store: store.levels([TOKENS]),
    "tally": lambda store: store.tally("sum", {"n": 1}, 60.0),
    "put": lambda store: store.put("key", b"value", 60.0),
    "get": lambda store: store.get(["key"]),
    "remove": lambda store: store.remove("key"),
    "compare and remove": lambda store: store.remove("key", b"value"),
}


# -- frozen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_of_a_frozen_server_fails_within_its_deadline(
    redis_server: RedisServer, counters: Counters, call: str
) -> None:
    store = await counters(redis_server.url, timeout_ms=100, heartbeat_ms=1500)
    redis_server.freeze()
    began = time.monotonic()
    with pytest.raises(ServiceError, match="no answer within 100 ms"):
        await CALLS[call](store)
    assert 0.09 < time.monotonic() - began < 0.5
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(ServiceError, match="not there"):
            await CALLS[call](store)
    assert time.monotonic() - began < 0.1, "a call waited for a server that is known to be gone"
    redis_server.thaw()
    await healed(store)
    await CALLS[call](store)


async def test_a_thawed_server_has_counted_nothing_twice(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    await store.take(DECISION)
    await store.take(DECISION)
    redis_server.freeze()
    # The server will read these when it thaws: their callers were told that nothing was taken.
    failed = await asyncio.gather(*(store.take(DECISION) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(one, ServiceError) for one in failed)
    store.settle([Settle(TOKENS, 10, 3), Settle(SLOTS, 1, 0)])
    await until(lambda: errors(store, "connect") >= 3)  # whose greetings it will read, too
    assert store.health() is not None and up(store) == 0
    redis_server.thaw()
    await healed(store)
    assert await remaining(store) == (100 - 10 - 3, 9)
    assert store.health() is None and up(store) == 1
    store.settle([Settle(TOKENS, 10, 4), Settle(SLOTS, 1, 0)])
    assert await remaining(store) == (93, 10)


async def test_an_idle_store_notices_a_frozen_server(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, **QUICK)
    redis_server.freeze()
    await until(lambda: store.health() is not None, 2.0)
    await until(lambda: errors(store, "timeout") == 1)
    redis_server.thaw()
    await until(lambda: store.health() is None, 3.0)


# -- gone -----------------------------------------------------------------------------------------


async def test_what_is_held_is_held_in_the_empty_server_that_comes_back(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    for _ in range(3):
        await store.take(DECISION)
    redis_server.kill()
    await until(lambda: store.health() is not None)
    store.settle([Settle(TOKENS, 10, 3), Settle(SLOTS, 1, 0)])
    with pytest.raises(ServiceError):
        await store.take(DECISION)
    redis_server.start()
    await healed(store)
    assert await remaining(store) == (100 - 20 - 3, 8)
    assert all(redis_server.do("PTTL", key) > 0 for key in redis_server.stored()), "a key would stay for ever"


async def test_a_server_that_comes_back_with_its_data_is_told_what_has_changed(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    for _ in range(3):
        await store.take(DECISION)
    store.settle([Settle(TOKENS, 10, 5), Settle(SLOTS, 1, 0)])
    assert await remaining(store) == (75, 8)
    redis_server.do("SAVE")
    redis_server.kill()
    store.settle([Settle(TOKENS, 10, 7), Settle(SLOTS, 1, 0)])
    await until(lambda: store._session.link.connection is None)
    redis_server.start()
    await healed(store)
    assert await remaining(store) == (100 - 5 - 7 - 10, 9)
    other = await counters(redis_server.url)
    assert await remaining(other) == (78, 9)


async def test_an_emptied_server_is_noticed_by_the_next_call_which_does_not_fail(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url)
    for _ in range(3):
        await store.take(DECISION)
    redis_server.do("FLUSHALL")
    taken = await asyncio.gather(*(store.take(DECISION) for _ in range(20)))
    assert sum(one.refused is None for one in taken) == 7
    assert await remaining(store) == (0, 0)


async def test_an_emptied_server_is_noticed_by_the_heartbeat(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, heartbeat_ms=100)
    other = await counters(redis_server.url)
    await store.take(DECISION)
    redis_server.do("DEL", "{lmg}:holders", "{lmg}:l:tokens", "{lmg}:l:slots")
    await until(lambda: redis_server.do("EXISTS", "{lmg}:l:slots", "{lmg}:l:tokens") == 2)
    await until(lambda: redis_server.do("ZCARD", "{lmg}:holders") >= 1)
    assert await remaining(other) == (90, 9)


async def test_a_bucket_that_was_evicted_is_noticed(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, heartbeat_ms=100)
    await store.take(DECISION)
    redis_server.do("DEL", "{lmg}:l:slots")
    store._session._keep_at = 0.0
    await until(lambda: redis_server.do("EXISTS", "{lmg}:l:slots"))
    assert await remaining(store) == (90, 9)


async def test_a_loss_that_takes_no_longer_than_an_answer_fails_no_call(
    wire: Wire, counters: Counters
) -> None:
    store = await counters(f"redis://127.0.0.1:{wire.port}")
    await store.take(DECISION)
    wire.close()
    while store._session.link.connection is not None:
        await asyncio.sleep(0)
    taken = await asyncio.gather(*(store.take(DECISION) for _ in range(9)))
    assert all(one.refused is None for one in taken)
    assert (await store.take([Take(SLOTS, 1, held=True)])).refused is not None
    assert store.health() is None


async def test_use_that_the_gone_server_did_not_hear_of_blocks_for_a_window_at_most(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    redis_server.kill()
    await until(lambda: store.health() is not None)
    for _ in range(1000):
        store.settle([Settle(TOKENS, 0, 70)])
    redis_server.start()
    await healed(store)
    level = (await store.levels([TOKENS]))[0]
    assert level.remaining == 0 and level.reset_s <= 1e9


async def test_use_of_too_many_limits_is_dropped_and_counted(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    redis_server.kill()
    await until(lambda: store.health() is not None)
    for n in range(10_005):
        store.settle([Settle(Limit(f"k{n}", 10, 1e9), 0, 1)])
    assert errors(store, "dropped") == 5
    redis_server.start()
    await healed(store)
    await until(lambda: len(redis_server.stored("{lmg}:l:k*")) == 10_000)


# -- slow, cut off, late --------------------------------------------------------------------------


async def test_an_answer_that_comes_too_late_is_nobody_s(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK | {"heartbeat_ms": 1500})
    await store.put("mine", b"mine", 60.0)
    await store.put("yours", b"yours", 60.0)
    redis_server.freeze()
    asked = [asyncio.ensure_future(store.get(["mine"])) for _ in range(5)]
    await asyncio.wait(asked)
    redis_server.thaw()
    assert all(isinstance(one.exception(), ServiceError) for one in asked)
    await healed(store)
    for _ in range(50):
        assert await store.get(["yours"]) == [b"yours"]
        assert await store.get(["mine"]) == [b"mine"]


async def test_a_cut_wire_heals(wire: Wire, counters: Counters) -> None:
    store = await counters(f"redis://127.0.0.1:{wire.port}", **QUICK)
    await store.take(DECISION)
    wire.hold()
    with pytest.raises(ServiceError):
        await store.take(DECISION)
    store.settle([Settle(TOKENS, 10, 1), Settle(SLOTS, 1, 0)])
    await until(lambda: errors(store, "connect") >= 2)
    wire.release()
    await healed(store)
    assert await remaining(store) == (99, 10)
    wire.close()
    await until(lambda: store._session.link.connection is None)
    assert await remaining(store) == (99, 10)


async def test_what_arrives_after_the_next_connection_changes_nothing(
    wire: Wire, redis_server: RedisServer, counters: Counters
) -> None:
    """Takes, a settlement and a greeting are kept back until a later connection has said what is true."""
    store = await counters(f"redis://127.0.0.1:{wire.port}", **QUICK)
    spent = Limit("spent", 100, 1e9)
    for _ in range(2):
        await store.take([*DECISION, Take(spent, 1)])
    wire.hold()
    store.settle([Settle(TOKENS, 10, 1), Settle(SLOTS, 1, 0)])
    with pytest.raises(ServiceError):
        await store.take([*DECISION, Take(spent, 1)])
    await until(lambda: errors(store, "connect") >= 1)
    store.settle([Settle(TOKENS, 10, 1), Settle(SLOTS, 1, 0)])
    wire.let_new_pass()
    await healed(store)
    assert await remaining(store) == (98, 10)
    wire.release()
    for _ in range(50):
        assert await remaining(store) == (98, 10), "a late call was counted"
        assert (await store.levels([spent]))[0].remaining == 98, "a late call was counted"
    assert redis_server.do("ZCARD", "{lmg}:holders") == 1, "a late greeting was accepted"


async def test_a_settlement_whose_answer_was_lost_counts_once(
    wire: Wire, redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(f"redis://127.0.0.1:{wire.port}", **QUICK)
    for _ in range(4):
        await store.take(DECISION)
    wire.hold(answers_only=True)
    store.settle([Settle(TOKENS, 10, 7), Settle(SLOTS, 1, 0)])
    with pytest.raises(ServiceError):
        await store.take([Take(SLOTS, 1, held=True)])  # another settlement travels with it
    store.settle([Settle(TOKENS, 10, 5), Settle(SLOTS, 1, 0)])
    await until(lambda: errors(store, "connect") >= 2)
    wire.let_new_pass()
    await healed(store)
    assert await remaining(store) == (100 - 20 - 7 - 5, 8)


@pytest.mark.parametrize("seed", range(3))
async def test_no_loss_of_a_connection_loses_or_doubles_a_settlement(
    wire: Wire, redis_server: RedisServer, counters: Counters, seed: int
) -> None:
    store = await counters(f"redis://127.0.0.1:{wire.port}", timeout_ms=500, heartbeat_ms=100)
    wide, many = Limit("wide", 10**9, 1e12), Limit("many", 10**6, None)
    used = 0

    async def work() -> None:
        nonlocal used
        for n in range(60):
            try:
                taken = await store.take([Take(wide, 50, held=True), Take(many, 1, held=True)])
            except ServiceError:
                await asyncio.sleep(0.01)
                continue
            assert taken.refused is None
            await asyncio.sleep(0.001 * (n % 3))
            store.settle([Settle(wide, 50, n), Settle(many, 1, 0)])
            used += n

    tasks = [asyncio.ensure_future(work()) for _ in range(8)]
    for _ in range(6):
        await asyncio.sleep(0.02 + seed * 0.004)
        wire.close()
    await asyncio.gather(*tasks)
    await until(lambda: store._session.link.connection is not None)
    assert wire.accepted >= 4
    assert [one.remaining for one in await store.levels([wide, many])] == [10**9 - used, 10**6]


# -- scripts and bounds ---------------------------------------------------------------------------


async def test_a_server_that_forgot_its_scripts_is_given_them_again(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    used = 0
    for n in range(10):
        for call in CALLS.values():
            await call(store)
        store.settle([Settle(TOKENS, 10, n % 3), Settle(SLOTS, 1, 0)])
        used += n % 3
        redis_server.do("SCRIPT", "FLUSH")
    assert await remaining(store) == (100 - used, 10)
    redis_server.do("SCRIPT", "FLUSH")
    before = redis_server.calls("eval")
    await until(lambda: redis_server.calls("eval") > before)  # the heartbeat
    await store.take(DECISION)
    redis_server.do("SCRIPT", "FLUSH")
    store.settle([Settle(TOKENS, 10, 0), Settle(SLOTS, 1, 0)])
    await until(lambda: not redis_server.do("EXISTS", "{lmg}:l:slots"))
    assert store.health() is None and errors(store, "lost") == 0


async def test_one_call_too_many_fails_at_once(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, max_in_flight=16)
    taken = await asyncio.gather(
        *(store.take([Take(SLOTS, 1, held=True)]) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(one, ServiceError) for one in taken) == 4
    assert (await store.levels([SLOTS]))[0].remaining == 0
    assert errors(store, "full") == 4


async def test_settlements_never_raise_and_none_is_lost_where_the_wire_is_full(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, max_in_flight=16, heartbeat_ms=100)
    for n in range(9000):
        store.settle([Settle(Limit(f"k{n}", 10, 1e9), 0, 1)])
    await until(lambda: len(redis_server.stored("{lmg}:l:k*")) == 9000, 15.0)


async def test_a_key_of_somebody_else_s_is_said(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, **QUICK)
    redis_server.do("SET", "{lmg}:l:slots", "theirs")
    with pytest.raises(ServiceError, match="WRONGTYPE"):
        await store.take(DECISION)
    await healed(store)
    assert (await store.levels([TOKENS]))[0].remaining == 100, "half of a decision was taken"


async def test_a_server_out_of_memory_is_said_and_heals(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url, **QUICK)
    await store.take(DECISION)
    redis_server.do("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(ServiceError, match="out of memory"):
        await store.take(DECISION)
    store.settle([Settle(TOKENS, 10, 2), Settle(SLOTS, 1, 0)])
    await until(lambda: store.health() is not None)
    redis_server.do("CONFIG", "SET", "maxmemory", "0")
    await healed(store)
    assert await remaining(store) == (98, 10)


# -- the start ------------------------------------------------------------------------------------


async def test_the_gateway_starts_without_the_server_and_heals(
    redis_server: RedisServer, counters: Counters
) -> None:
    redis_server.kill()
    store = await counters(redis_server.url, **QUICK)
    health = store.health()
    assert health is not None and health.state == "degraded" and "refused" in health.detail
    with pytest.raises(ServiceError):
        await store.take(DECISION)
    redis_server.start()
    await healed(store)
    assert (await store.take(DECISION)).refused is None


async def test_a_required_server_stops_the_start(redis_server: RedisServer, counters: Counters) -> None:
    redis_server.kill()
    with pytest.raises(ServiceError, match=r"services\.redis: connection refused"):
        await counters(redis_server.url, required_at_start=True)
