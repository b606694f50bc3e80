"""No move is lost, whoever makes it at the same moment, and every process comes to the same state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ServiceError
from lmg.services import CounterStore
from lmg.services.file_counters import FileCounters
from lmg.services.memory_counters import MemoryCounters
from lmg_canary.plan import Event, State
from lmg_canary.statelog import STATE_TTL_S, StateLog


def state(number: int) -> State:
    return State("running", 0, float(number), number, (Event(1.0, "5", "evidence", "détail"),))


async def written(store: CounterStore, count: int) -> StateLog:
    log = StateLog("k")
    for number in range(count):
        assert await log.append(store, state(number))
    return log


async def test_a_state_comes_back_as_it_was() -> None:
    store = MemoryCounters()
    await written(store, 1)
    other = StateLog("k")
    assert await other.follow(store)
    assert other.state == state(0)
    assert not await other.follow(store), "there is nothing newer"


async def test_who_comes_late_reads_on_to_the_newest() -> None:
    store = MemoryCounters()
    log = await written(store, 7)
    for reader in (StateLog("k"), await _at(store, 3)):
        await reader.follow(store)
        assert (reader.revision, reader.state) == (log.revision, state(6))


async def _at(store: CounterStore, revision: int) -> StateLog:
    log = StateLog("k")
    log.revision, log.state = revision, state(revision - 1)
    return log


async def test_of_two_moves_from_one_state_only_the_first_is_made() -> None:
    store = MemoryCounters()
    await written(store, 1)
    logs = [StateLog("k") for _ in range(8)]
    for log in logs:
        await log.follow(store)
    won = await asyncio.gather(*(log.append(store, state(10 + n)) for n, log in enumerate(logs)))
    assert won.count(True) == 1
    for log in logs:
        await log.follow(store)
    assert {log.state for log in logs} == {state(10 + won.index(True))}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["append", "follow", "refresh"])), max_size=60))
def test_any_interleaving_leaves_one_history(steps: list[tuple[int, str]]) -> None:
    async def run() -> None:
        store, logs, number, made = MemoryCounters(), [StateLog("k") for _ in range(3)], 0, []
        for who, what in steps:
            if what == "append":
                number += 1
                if await logs[who].append(store, state(number)):
                    made.append(state(number))
            elif what == "follow":
                await logs[who].follow(store)
            else:
                await logs[who].refresh(store)
        for log in logs:
            await log.follow(store)
            assert log.revision == len(made)
            assert log.state == (made[-1] if made else None)

    asyncio.run(run())


async def test_what_is_refreshed_outlives_what_is_not() -> None:
    now = 0.0
    store = MemoryCounters(lambda: now)
    log = await written(store, 3)
    now = STATE_TTL_S * 0.9
    await log.refresh(store)
    now = STATE_TTL_S * 1.5
    late = StateLog("k")
    await late.follow(store)
    assert (late.revision, late.state) == (3, state(2))


async def test_a_store_that_forgot_everything_is_told_again() -> None:
    store = MemoryCounters()
    log = await written(store, 4)
    emptied = MemoryCounters()
    newcomer = StateLog("k")
    assert await newcomer.append(emptied, state(99))
    await log.refresh(emptied)
    await newcomer.follow(emptied)
    assert newcomer.state == state(3), "those who were there know better than who has just begun"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"status": 1}', b"\xff"])
async def test_what_is_no_state_is_an_error_of_the_store(raw: bytes) -> None:
    store = MemoryCounters()
    await store.put("k:1", raw, 60.0)
    with pytest.raises(ServiceError):
        await StateLog("k").follow(store)


async def test_workers_of_a_machine_agree(tmp_path: Path) -> None:
    one = FileCounters(tmp_path)
    try:
        await written(one, 3)
    finally:
        one.close()
    again = FileCounters(tmp_path)
    try:
        log = StateLog("k")
        await log.follow(again)
        assert log.state == state(2), "a restart forgets nothing"
    finally:
        again.close()
