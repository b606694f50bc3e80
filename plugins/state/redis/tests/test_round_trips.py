"""What a decision costs the server, and what it leaves there."""

from __future__ import annotations

import asyncio
import time

from lmg.services import Limit, Settle, Take

from .conftest import Counters, RedisServer, until

TOKENS, REQUESTS, SLOTS = (
    Limit("tokens", 10**9, 60.0),
    Limit("requests", 10**9, 60.0),
    Limit("slots", 10**9, None),
)
DECISION = [Take(REQUESTS, 1), Take(TOKENS, 500, held=True), Take(SLOTS, 1, held=True)]
SETTLED = [Settle(TOKENS, 500, 321), Settle(SLOTS, 1, 0)]


async def test_a_decision_is_one_round_trip(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, heartbeat_ms=60_000, holder_ttl_s=180)
    await store.take(DECISION)  # the first one brings the script along
    before = redis_server.calls("evalsha")
    for _ in range(50):
        store.settle(SETTLED)
        await store.take(DECISION)
    assert redis_server.calls("evalsha") - before == 50, "a settlement did not travel with the next take"
    assert redis_server.calls("eval") == 2  # the greeting, and the first take


async def test_settlements_of_one_turn_are_one_call(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, heartbeat_ms=60_000, holder_ttl_s=180)
    await asyncio.gather(*(store.take(DECISION) for _ in range(50)))
    before = redis_server.calls("evalsha")
    for _ in range(50):
        store.settle(SETTLED)
    await until(lambda: redis_server.calls("evalsha") - before == 1)
    assert (await store.levels([SLOTS]))[0].remaining == 10**9
    tokens = (await store.levels([TOKENS]))[0].remaining
    assert tokens >= 10**9 - 50 * 321


async def test_nothing_is_left_of_slots_that_are_free_again(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url)
    await store.take([Take(SLOTS, 1, held=True)])
    assert b"{lmg}:l:slots" in redis_server.stored()
    store.settle([Settle(SLOTS, 1, 0)])
    await until(lambda: b"{lmg}:l:slots" not in redis_server.stored())


async def test_every_key_expires_when_it_says_nothing_any_more(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url)
    await store.take([Take(Limit("minute", 60, 60.0), 30)])
    await store.take([Take(Limit("held", 60, 60.0), 30, held=True)])
    await store.take([Take(Limit("both", 60, 7200.0), 60), Take(Limit("both", 60, 7200.0), 0, held=True)])
    await store.tally("sums", {"n": 1}, 20.0)
    await store.put("value", b"x", 30.0)
    ttl = {key: redis_server.do("PTTL", key) / 1000 for key in redis_server.stored()}
    assert 29 < ttl[b"{lmg}:l:minute"] <= 31
    assert 890 < ttl[b"{lmg}:l:held"] <= 900
    assert 7190 < ttl[b"{lmg}:l:both"] <= 7201
    assert 19 < ttl[b"{lmg}:t:sums"] <= 20 and 29 < ttl[b"{lmg}:v:value"] <= 30
    assert all(seconds > 0 for seconds in ttl.values()), ttl


async def test_what_is_held_for_long_does_not_expire(redis_server: RedisServer, counters: Counters) -> None:
    store = await counters(redis_server.url, heartbeat_ms=50)
    await store.take([Take(SLOTS, 1, held=True)])
    redis_server.do("PEXPIRE", "{lmg}:l:slots", 5000)  # as if ten minutes had passed
    store._session._keep_at = time.monotonic()
    await until(lambda: redis_server.do("PTTL", "{lmg}:l:slots") > 800_000)


async def test_a_process_that_stops_leaves_nothing_held(
    redis_server: RedisServer, counters: Counters
) -> None:
    one, other = await counters(redis_server.url), await counters(redis_server.url)
    slow = Limit("slow", 100, 1e9)
    await one.take([Take(SLOTS, 5, held=True), Take(slow, 7, held=True)])
    one.settle([Settle(slow, 7, 9)])
    await one.stop()
    free, used = await other.levels([SLOTS, slow])
    assert (free.remaining, used.remaining) == (10**9, 91)
    assert len(redis_server.stored("{lmg}:p:*")) == 1  # the other's
    assert redis_server.do("ZCARD", "{lmg}:holders") == 1
