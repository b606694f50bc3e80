"""Checks that every counter store passes, as plain functions that take a store.

Whoever writes a store (``CounterStore``) runs ``check_counter_store`` against a real one of its servers.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from ..services import CounterStore, Limit, Settle, Take
from ..services.memory_counters import MemoryCounters

__all__ = ["check_counter_store"]

Sleep = Callable[[float], Awaitable[None]]
STEADY_S: Final = 1e9
"""A window so long that nothing drains while a check runs."""


async def check_counter_store(store: CounterStore, *, sleep: Sleep = asyncio.sleep, seed: int = 0) -> None:
    """All checks: limits, what is held, draining, sums, values and leases. ``sleep`` passes the store's time."""
    await check_exact(store)
    await check_all_or_nothing(store)
    await check_draining(store, sleep)
    await check_holding(store)
    await check_sums_and_values(store, sleep)
    await check_like_the_model(store, seed)


def _key(name: str) -> str:
    return f"check:{name}:{secrets.token_hex(6)}"


async def check_exact(store: CounterStore) -> None:
    """A limit of N means N under concurrency, spent or held, not N+1 and not N-1."""
    for held in (False, True):
        limit = Limit(_key("exact"), 10, STEADY_S)
        taken = await asyncio.gather(*(store.take([Take(limit, 1, held)]) for _ in range(64)))
        granted = [one for one in taken if one.refused is None]
        assert len(granted) == 10, f"{len(granted)} of 64 were granted where 10 fit (held={held})"
        assert sorted(one.levels[0].remaining for one in granted) == list(range(10))
        assert (await store.levels([limit]))[0].remaining == 0


async def check_all_or_nothing(store: CounterStore) -> None:
    """Takes are granted together or not at all, also where two fall on the same key."""
    a, b = Limit(_key("a"), 10, STEADY_S), Limit(_key("b"), 10, STEADY_S)
    looked = await store.peek([Take(a, 3), Take(b, 11)])
    refused = await store.take([Take(a, 3), Take(b, 11)])
    assert looked.refused == refused.refused, looked
    assert refused.refused == Take(b, 11) and refused.retry_after_s is None, refused
    assert [one.remaining for one in refused.levels] == [10, 10]
    assert [one.remaining for one in await store.levels([a, b])] == [10, 10]
    twice = await store.take([Take(a, 6), Take(a, 6, held=True)])
    assert twice.refused == Take(a, 6, held=True), twice
    assert (await store.peek([Take(a, 6), Take(a, 4, held=True)])).refused is None
    assert (await store.take([Take(a, 6), Take(a, 4, held=True)])).refused is None
    assert (await store.levels([a]))[0].remaining == 0


async def check_draining(store: CounterStore, sleep: Sleep) -> None:
    """A bucket drains evenly, and a wait that it asked for is enough."""
    limit = Limit(_key("drain"), 100, 20.0)
    assert (await store.take([Take(limit, 100)])).refused is None
    refused = await store.take([Take(limit, 2)])
    assert refused.refused is not None and refused.retry_after_s is not None
    assert 0.2 < refused.retry_after_s <= 0.4 + 1e-6, refused
    assert 19 < refused.levels[0].reset_s <= 20, refused
    await sleep(refused.retry_after_s + 0.002)
    assert (await store.take([Take(limit, 2)])).refused is None, "the stated wait was not enough"


async def check_holding(store: CounterStore) -> None:
    """What is held comes back as it is settled, and use beyond the reservation blocks what comes next."""
    tokens, slots = Limit(_key("tokens"), 100, STEADY_S), Limit(_key("slots"), 2, None)
    takes = [Take(tokens, 60, held=True), Take(slots, 1, held=True)]
    assert (await store.take(takes)).refused is None
    over = await store.take([Take(tokens, 60, held=True), Take(slots, 1, held=True)])
    assert over.refused is not None and over.refused.limit == tokens
    store.settle([Settle(tokens, 60, 10), Settle(slots, 1, 1)])
    assert [one.remaining for one in await store.levels([tokens, slots])] == [90, 2]
    store.settle([Settle(tokens, 0, -4)])
    assert (await store.levels([tokens]))[0].remaining == 94
    store.settle([Settle(tokens, 0, -100)])
    assert (await store.levels([tokens]))[0].remaining == 100, "more was given back than was spent"
    store.settle([Settle(tokens, 0, 10)])
    assert (await store.levels([tokens]))[0].remaining == 90
    for _ in range(2):
        assert (await store.take([Take(slots, 1, held=True)])).refused is None
    full = await store.take([Take(slots, 1, held=True)])
    assert full.refused is not None and full.retry_after_s is None
    assert (await store.take([Take(tokens, 50, held=True)])).refused is None
    store.settle([Settle(tokens, 50, 500)])
    assert (await store.take([Take(tokens, 1)])).refused is not None, (
        "what an upstream used was not booked in full"
    )


async def check_sums_and_values(store: CounterStore, sleep: Sleep) -> None:
    """Sums add up; a value is kept for its time, a lease is one holder's alone."""
    key = _key("sum")
    totals = await asyncio.gather(*(store.tally(key, {"n": 1, "bad": -2}, 60.0) for _ in range(10)))
    assert max(one["n"] for one in totals) == 10
    assert await store.tally(key, {}, 60.0) == {"n": 10, "bad": -20}
    key = _key("value")
    assert await store.get([key]) == [None]
    won = await asyncio.gather(*(store.put(key, b"%d" % n, 60.0, only_new=True) for n in range(8)))
    assert won.count(True) == 1
    mine = b"%d" % won.index(True)
    assert await store.get([key, _key("none")]) == [mine, None]
    assert not await store.remove(key, b"somebody else's")
    assert await store.remove(key, mine)
    assert not await store.remove(key)
    assert await store.put(key, bytes(range(256)), 0.05)
    assert await store.get([key]) == [bytes(range(256))]
    await sleep(0.06)
    assert await store.get([key]) == [None]
    assert await store.put(key, b"again", 60.0, only_new=True)


async def check_like_the_model(store: CounterStore, seed: int, steps: int = 200) -> None:
    """Any order of takes and settlements leaves what the reference leaves."""
    rng = random.Random(seed)
    model = MemoryCounters(lambda: 0.0)
    limits = [Limit(_key(f"m{n}"), rng.randint(5, 30), None if n == 3 else STEADY_S) for n in range(4)]
    open_: list[Take] = []
    for step in range(steps):
        if open_ and rng.random() < 0.45:
            take = open_.pop(rng.randrange(len(open_)))
            settle = [Settle(take.limit, take.amount, rng.randint(0, 3))]
            store.settle(settle)
            model.settle(settle)
            continue
        takes = [
            Take(limit, rng.randint(0, 8), limit.window_s is None or rng.random() < 0.6)
            for limit in rng.sample(limits, rng.randint(1, 4))
        ]
        ours, theirs = await store.take(takes), await model.take(takes)
        # Which take waits longest may be a tie; whether there is one is not.
        assert (ours.refused is None) == (theirs.refused is None), (
            f"step {step}: {ours} where the model says {theirs}"
        )
        assert [one.remaining for one in ours.levels] == [one.remaining for one in theirs.levels], step
        if ours.refused is None:
            open_ += [take for take in takes if take.held]
