"""Keys over several processes with one store: who is first, who dies, and what happens while the store is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from lmg import Host, ServiceError
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import VirtualClock, Wait, chat_body

from .conftest import calls, component, gateway_of, idempotent, key, raw, replayed, told, until


def shared_by(clock: VirtualClock, count: int = 2) -> list[Host]:
    """Hosts of several processes with one store."""
    store = MemoryCounters(clock.monotonic)
    hosts = [Host(clock=clock) for _ in range(count)]
    for host in hosts:
        host.counters = store
    return hosts


async def passed(clock: VirtualClock, tasks: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """The results of ``tasks``; time passes until they are there."""
    async with asyncio.timeout(10):
        while not all(task.done() for task in tasks):
            await clock.advance(0.2)
    return [task.result() for task in tasks]


async def test_two_gateways_make_one_call() -> None:
    clock = VirtualClock()
    one_host, other_host = shared_by(clock)
    async with (
        gateway_of(idempotent(), host=one_host) as one,
        gateway_of(idempotent(), host=other_host) as other,
    ):
        ready = asyncio.Event()
        one.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(one.chat("hello", headers=key()))
        await one.upstream.arrival(1)
        tasks = [asyncio.ensure_future(other.chat("hello", headers=key())) for _ in range(5)]
        await until(lambda: component(other, "idempotency")._claims)
        assert (await other.chat("bye", headers=key())).status == 422
        ready.set()
        assert (await first).status == 200
        answers = await passed(clock, tasks)
        assert all(map(replayed, answers)) and {one.raw for one in answers} == {(await first).raw}
        assert (calls(one), calls(other)) == (1, 0)
        assert len(await one.host.ledger.recent()) == 1
        # The 422 has one, the replays have none.
        assert len(await other.host.ledger.recent()) == 1


async def test_a_race_of_many_gateways_and_keys_is_one_call_each() -> None:
    clock = VirtualClock()
    hosts = shared_by(clock, 3)
    async with (
        gateway_of(idempotent(), host=hosts[0]) as a,
        gateway_of(idempotent(), host=hosts[1]) as b,
        gateway_of(idempotent(), host=hosts[2]) as c,
    ):
        tasks = [
            asyncio.ensure_future(gateway.chat(f"hello {n % 4}", headers=key(f"k{n % 4}")))
            for n in range(24)
            for gateway in (a, b, c)
        ]
        answers = await passed(clock, tasks)
        assert {one.status for one in answers} == {200}
        assert Counter(map(replayed, answers)) == {False: 4, True: 68}
        assert sum(map(calls, (a, b, c))) == 4
        assert sum([len(await gateway.host.ledger.recent()) for gateway in (a, b, c)]) == 4


async def test_a_key_is_held_for_as_long_as_its_call_takes() -> None:
    clock = VirtualClock()
    one_host, other_host = shared_by(clock)
    mesh = idempotent(max_wait_ms=0, lease_s=30)
    async with gateway_of(mesh, host=one_host) as one, gateway_of(mesh, host=other_host) as other:
        ready = asyncio.Event()
        one.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(one.chat("hello", headers=key()))
        await one.upstream.arrival(1)
        for _ in range(20):
            await clock.advance(10)
            assert (await other.chat("hello", headers=key())).status == 409
        ready.set()
        assert (await first).status == 200
        assert replayed(await other.chat("hello", headers=key())) and calls(other) == 0
        await clock.advance(20)
        assert component(one, "idempotency")._leases._keeper.done()  # nothing is held: nothing runs


async def test_what_a_dead_process_held_is_free_after_one_lease() -> None:
    clock = VirtualClock()
    one_host, other_host = shared_by(clock)
    mesh = idempotent(max_wait_ms=0, lease_s=30)
    async with gateway_of(mesh, host=one_host) as one, gateway_of(mesh, host=other_host) as other:
        never = asyncio.Event()
        one.upstream.reply(b"", Wait(event=never), raw(chat_body()))
        first = asyncio.ensure_future(one.chat("hello", headers=key()))
        await one.upstream.arrival(1)
        component(one, "idempotency")._leases.stop()  # as a process that is gone: nobody renews
        await clock.advance(29)
        assert (await other.chat("hello", headers=key())).status == 409
        await clock.advance(2)
        again = await other.chat("hello", headers=key())
        assert (again.status, replayed(again), calls(other)) == (200, False, 1)
        never.set()
        await first


async def test_who_lost_the_key_does_not_free_it_for_others() -> None:
    """The first was away for longer than a lease and fails at last: the answer of the second stands."""
    clock = VirtualClock()
    one_host, other_host = shared_by(clock)
    mesh = idempotent(max_wait_ms=0, lease_s=30)
    async with gateway_of(mesh, host=one_host) as one, gateway_of(mesh, host=other_host) as other:
        ready = asyncio.Event()
        one.upstream.reply(b"", Wait(event=ready), b"{}", status=503)
        first = asyncio.ensure_future(one.chat("hello", headers=key()))
        await one.upstream.arrival(1)
        component(one, "idempotency")._leases.stop()
        await clock.advance(31)
        await other.chat("hello", headers=key())
        ready.set()
        assert (await first).status == 503
        assert replayed(await one.chat("hello", headers=key()))


class Away(MemoryCounters):
    """A store that can be lost, at once or from the next call on that is counted."""

    away = False

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        if self.away:
            raise ServiceError("away")
        return await super().put(key, value, ttl_s, only_new=only_new)

    async def take(self, takes: Any) -> Any:
        if self.away:
            raise ServiceError("away")
        return await super().take(takes)

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        if self.away:
            raise ServiceError("away")
        return await super().remove(key, value)


async def test_without_the_store_a_key_is_refused_and_other_requests_are_not() -> None:
    async with gateway_of(idempotent()) as gateway:
        gateway.host.metrics.enabled = True
        gateway.host.counters = store = Away()
        store.away = True
        refused = await gateway.chat("hello", headers=key())
        assert (refused.status, refused.error["code"]) == (503, "idempotency_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert (await gateway.chat("hello")).status == 200 and calls(gateway) == 1
        assert told(gateway, "llm_idempotency_store_errors_total") == {(): 1}
        store.away = False
        assert (await gateway.chat("hello", headers=key())).status == 200


async def test_local_knows_the_keys_of_this_process_while_the_store_is_away() -> None:
    async with gateway_of(idempotent(on_store_loss="local")) as gateway:
        gateway.host.counters = store = Away()
        store.away = True
        answers = [await gateway.chat("hello", headers=key()) for _ in range(2)]
        assert list(map(replayed, answers)) == [False, True] and calls(gateway) == 1
        assert (await gateway.chat("bye", headers=key())).status == 422


@pytest.mark.parametrize(("policy", "status"), [("deny", 409), ("local", 200)])
async def test_an_answer_is_not_withheld_because_the_store_was_lost_meanwhile(
    policy: str, status: int
) -> None:
    clock = VirtualClock()
    async with gateway_of(idempotent(on_store_loss=policy, max_wait_ms=0), clock=clock) as gateway:
        gateway.host.counters = store = Away(clock.monotonic)
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await gateway.upstream.arrival(1)
        store.away = True
        ready.set()
        assert (await first).status == 200
        # `local` remembers while the store is away; under `deny`, the lease keeps the key from being used again.
        store.away = policy == "local"
        again = await gateway.chat("hello", headers=key())
        assert again.status == status and calls(gateway) == 1


async def test_waiters_of_this_process_get_the_answer_that_the_store_did_not() -> None:
    async with gateway_of(idempotent()) as gateway:
        gateway.host.counters = store = Away()
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        tasks = [asyncio.ensure_future(gateway.chat("hello", headers=key())) for _ in range(3)]
        await until(
            lambda: sum(claim.waiting for claim in component(gateway, "idempotency")._claims.values()) == 2
        )
        store.away = True
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert [one.status for one in answers] == [200] * 3 and calls(gateway) == 1


async def test_a_record_that_cannot_be_read_is_no_answer() -> None:
    async with gateway_of(idempotent()) as gateway:
        await gateway.chat("hello", headers=key())
        store = gateway.host.counters
        (name,) = [one[1:] for one in store._values if not one.endswith(":bytes")]  # type: ignore[attr-defined]
        await store.put(name, b"garbage", 60.0)
        assert (await gateway.chat("hello", headers=key())).status == 503
