"""Several processes on one limit, and one of them killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from lmg.services import Limit, Take

from .conftest import Counters, RedisServer, until

WORKER = """
import asyncio, sys
from lmg import Host
from lmg.services import Limit, Settle, Take
from lmg_redis import RedisCounters

LIMITS = [Limit("spent", 120, 1e9), Limit("held", 100, None), Limit("wide", 1000, 1e9)]

async def main(url, tasks):
    config = RedisCounters.Config.model_validate({"url": url, "timeout_ms": 5000, "holder_ttl_s": 1, "heartbeat_ms": 200})
    store = RedisCounters(config, Host(), "redis")
    await store.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    takes = [Take(LIMITS[0], 1), Take(LIMITS[1], 1, held=True), Take(LIMITS[2], 3, held=True)]
    taken = await asyncio.gather(*(store.take(takes) for _ in range(tasks)))
    print(sum(one.refused is None for one in taken), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await store.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def worker(url: str, tasks: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(tasks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)).strip()


def ended(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


async def test_two_hundred_tasks_in_four_processes_reach_a_limit_exactly(
    redis_server: RedisServer, counters: Counters
) -> None:
    workers = [worker(redis_server.url, 50) for _ in range(4)]
    try:
        assert [await said(one) for one in workers] == ["ready"] * 4
        for one in workers:
            go(one)
        granted = [int(await said(one)) for one in workers]
        assert sum(granted) == 100, granted
        store = await counters(redis_server.url)
        spent, held, wide = await store.levels(
            [Limit("spent", 120, 1e9), Limit("held", 100, None), Limit("wide", 1000, 1e9)]
        )
        assert (spent.remaining, held.remaining, wide.remaining) == (20, 0, 700)
    finally:
        ended(workers)


async def test_what_a_killed_process_held_is_free_when_it_is_overdue(
    redis_server: RedisServer, counters: Counters
) -> None:
    store = await counters(redis_server.url)
    slots, spent = Limit("held", 100, None), Limit("spent", 120, 1e9)
    doomed = worker(redis_server.url, 10)
    try:
        assert await said(doomed) == "ready"
        go(doomed)
        assert await said(doomed) == "10"
        assert (await store.levels([slots]))[0].remaining == 90
        doomed.kill()
        died = time.monotonic()
        while (await store.levels([slots]))[0].remaining != 100:
            assert time.monotonic() - died < 1.5, "holder_ttl_s has passed"
            await asyncio.sleep(0.01)
        assert (await store.levels([spent]))[0].remaining == 110, "what it spent was forgotten too"
        assert (await store.take([Take(slots, 100, held=True)])).refused is None
        (mine,) = [name for name in redis_server.do("HKEYS", "{lmg}:l:held") if name.startswith(b"h:")]
        assert mine == b"h:" + store._session.holder.encode(), "the dead holder was not removed"
    finally:
        ended([doomed])


async def test_a_paused_process_says_again_what_it_holds(
    redis_server: RedisServer, counters: Counters
) -> None:
    """Overdue means gone for everybody else; who comes back holds what it holds."""
    settings = {"holder_ttl_s": 0.5, "heartbeat_ms": 60}
    one, other = await counters(redis_server.url, **settings), await counters(redis_server.url)
    slots = Limit("slots", 3, None)
    assert (await one.take([Take(slots, 2, held=True)])).refused is None
    redis_server.do("ZADD", "{lmg}:holders", 1, one._session.holder)  # as if it had been paused for long
    assert (await other.take([Take(slots, 1, held=True)])).levels[0].remaining == 2
    taken = await asyncio.gather(*(one.take([Take(slots, 1, held=True)]) for _ in range(3)))
    assert all(one.refused is not None for one in taken), "it took more than there are"
    assert (await other.levels([slots]))[0].remaining == 0
    await until(lambda: one.health() is None)
