"""Replicas that share a store: what one learns the others know, and one of them probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from lmg import Host, ServiceError
from lmg.services.file_counters import FileCounters
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import Harness, VirtualClock, Wait, chat_body
from lmg_breaker import Breaker

from .conftest import DOWN, EXACT, breaker_of, calls, state_of

KEY = "breaker:breaker:scripted/a:test-model"
ROUND_S = 0.5


class SharedStore(MemoryCounters):
    """A store that two replicas reach, until it is told to fail or to hang."""

    shared = True
    broken = False
    hangs: asyncio.Event | None = None
    writes = 0

    async def _reach(self) -> None:
        if self.hangs is not None:
            await self.hangs.wait()
        if self.broken:
            raise ServiceError("gone")

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        await self._reach()
        self.writes += 1
        return await super().put(key, value, ttl_s, only_new=only_new)

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._reach()
        return await super().get(keys)

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        await self._reach()
        return await super().remove(key, value)


class Replicas:
    """Gateways with the same configuration, one store and one clock."""

    def __init__(self, clock: VirtualClock, store: SharedStore, gateways: Sequence[Harness]) -> None:
        self.clock, self.store = clock, store
        self.gateways = gateways

    async def rounds(self, count: int = 1) -> None:
        await self.clock.advance(count * ROUND_S)

    def all_reply(self, body: object, status: int = 200) -> None:
        for gateway in self.gateways:
            gateway.upstreams["a"].reply(body, status=status)

    async def open_at(self, gateway: Harness) -> None:
        gateway.upstreams["a"].reply(DOWN, status=500)
        for _ in range(5):
            await gateway.chat()
        assert state_of(gateway, "a") == "open"

    @property
    def states(self) -> list[str]:
        return [state_of(gateway, "a") for gateway in self.gateways]

    @property
    def calls(self) -> int:
        return sum(calls(gateway)["a"] for gateway in self.gateways)


@pytest.fixture
async def replicas() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(count: int = 2, **settings: Any) -> Replicas:
            clock = VirtualClock()
            store = SharedStore(clock.monotonic)
            gateways = []
            for _ in range(count):
                host = Host(clock=clock)
                host.counters = store
                harness = Harness(
                    {"pipeline": [{"breaker": {**EXACT, **settings}}]},
                    classes={"breaker": Breaker}, upstreams={"a": {}, "b": {}}, host=host,
                )  # fmt: skip
                gateway = await stack.enter_async_context(harness)
                gateway.host.metrics.enabled = True
                gateways.append(gateway)
            return Replicas(clock, store, gateways)

        yield start


async def test_what_one_replica_has_opened_another_leaves_alone(replicas: Any) -> None:
    both = await replicas()
    one, other = both.gateways
    await both.open_at(one)
    await both.rounds()
    assert both.states == ["open", "open"], "also where no call was made to it yet"
    assert (await other.chat()).status == 200
    assert calls(other) == {"a": 0, "b": 1}


async def test_news_from_elsewhere_is_not_told_again(replicas: Any) -> None:
    both = await replicas()
    await both.open_at(both.gateways[0])
    await both.rounds()
    before = both.store.writes
    await both.rounds(5)
    assert both.store.writes == before


async def test_one_replica_probes_and_its_success_closes_all(replicas: Any) -> None:
    both = await replicas(open_s=5)
    await both.open_at(both.gateways[0])
    before = both.calls
    held = asyncio.Event()
    for gateway in both.gateways:
        gateway.upstreams["a"].reply(b" ", Wait(event=held), orjson.dumps(chat_body()))
    await both.rounds(11)
    running = [asyncio.ensure_future(gateway.chat()) for gateway in both.gateways for _ in range(20)]
    async with asyncio.timeout(10):
        while sum(len(gateway.exchanges) for gateway in both.gateways) < 5 + 39:
            await asyncio.sleep(0.005)
    assert both.calls == before + 1
    held.set()
    assert {answer.status for answer in await asyncio.gather(*running)} == {200}
    await both.rounds(2)
    assert both.states == ["closed", "closed"]


async def test_the_failure_of_the_one_probe_opens_it_everywhere_for_longer(replicas: Any) -> None:
    both = await replicas(open_s=5)
    await both.open_at(both.gateways[0])
    await both.rounds(11)
    for gateway in both.gateways:
        gateway.upstreams["a"].reply(DOWN, status=500)
        await gateway.chat()
    await both.rounds(1)
    assert both.states == ["open", "open"]
    left = [
        breaker_of(gateway).registry.unsettled["scripted/a:test-model"].open_until - both.clock.monotonic()
        for gateway in both.gateways
    ]
    assert left == [pytest.approx(9.5), pytest.approx(9.5)]


async def test_a_replica_without_a_call_to_make_hands_the_probe_on(replicas: Any) -> None:
    both = await replicas(open_s=5)
    one, other = both.gateways
    await both.open_at(one)
    both.all_reply(chat_body())
    await both.rounds(11)
    holder = next(g for g in both.gateways if breaker_of(g)._sharing._leases._held)
    idle = other if holder is one else one
    before = calls(idle)["a"]
    for _ in range(20):
        await idle.chat()
        await both.rounds()
    assert calls(idle)["a"] > before
    assert state_of(idle, "a") == "closed"


async def test_a_store_that_fails_leaves_each_replica_to_itself(replicas: Any) -> None:
    both = await replicas(open_s=5)
    one, other = both.gateways
    both.store.broken = True
    await both.open_at(one)
    await both.rounds()
    assert both.states == ["open", "unknown"]
    ready = (await one.get("/readyz")).json
    assert ready["degraded"] == {"breaker": "degraded"}
    errors = one.host.metrics.counter("llm_breaker_store_errors_total", "").series
    assert sum(errors.values()) >= 1
    await both.rounds(10)
    one.upstreams["a"].reply(chat_body())
    assert (await one.chat()).status == 200
    assert state_of(one, "a") == "closed", "it probes on its own account"

    await both.open_at(other)
    both.store.broken = False
    await both.rounds(2)
    assert both.states == ["open", "open"], "what could not be told is told later"
    await one.chat()
    assert (await one.get("/readyz")).json["degraded"] == {}


async def test_a_store_that_hangs_keeps_no_call_waiting_and_no_replica_from_probing(replicas: Any) -> None:
    both = await replicas(open_s=5)
    one, _ = both.gateways
    await both.rounds()
    both.store.hangs = asyncio.Event()
    await both.open_at(one)
    assert (await one.chat()).status == 200
    await both.rounds(10)
    one.upstreams["a"].reply(chat_body())
    await one.chat()
    assert state_of(one, "a") == "open", "it waits for news at first"
    await both.rounds(4)
    await one.chat()
    assert state_of(one, "a") == "closed"
    both.store.hangs.set()


async def test_an_operators_word_reaches_all(replicas: Any) -> None:
    both = await replicas()
    one, _ = both.gateways
    await one.chat()
    breaker_of(one).registry.add("scripted/a", "test-model").circuit.force(both.clock.monotonic(), 600.0)
    await both.rounds()
    assert both.states == ["open", "open"]
    breaker_of(one).registry.add("scripted/a", "test-model").circuit.close(
        both.clock.monotonic(), "reset", forget=True
    )
    await both.rounds()
    assert both.states == ["closed", "closed"]


async def test_a_refused_key_is_known_to_all(replicas: Any) -> None:
    both = await replicas()
    one, other = both.gateways
    one.upstreams["a"].reply(DOWN, status=401)
    await one.chat()
    await both.rounds()
    assert (await other.chat()).status == 200
    assert calls(other) == {"a": 0, "b": 1}


async def test_a_reload_with_other_settings_forgets_no_open_target() -> None:
    settings: dict[str, Any] = {"pipeline": [{"breaker": EXACT}]}
    harness = Harness(
        settings, classes={"breaker": Breaker}, upstreams={"a": {}, "b": {}}, clock=VirtualClock()
    )
    async with harness as gateway:
        gateway.upstreams["a"].reply(DOWN, status=500)
        for _ in range(5):
            await gateway.chat()
        await gateway.host.clock.advance(ROUND_S)  # type: ignore[attr-defined]
        before = breaker_of(gateway)
        assert await gateway.reload({"pipeline": [{"breaker": {**EXACT, "min_calls": 50}}]})
        assert breaker_of(gateway) is not before
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == {"a": 5, "b": 1}


async def test_a_reload_with_the_same_settings_keeps_the_same_circuits() -> None:
    harness = Harness({"pipeline": [{"breaker": EXACT}]}, classes={"breaker": Breaker}, clock=VirtualClock())
    async with harness as gateway:
        before = breaker_of(gateway)
        assert await gateway.reload({"pipeline": [{"breaker": EXACT}], "server": {"max_attempts": 3}})
        assert breaker_of(gateway) is before


@pytest.mark.parametrize(
    "record",
    [
        b"", b"not json", b"[]", b"{}", b'{"open_until": "x", "why": "consecutive", "opens": 1}',
        b'{"open_until": 1e999, "why": "consecutive", "opens": 1}', b'{"open_until": 9e99, "why": "nonsense", "opens": 1}',
        b'{"open_until": 9e99, "why": "consecutive", "opens": null}',
    ],
)  # fmt: skip
async def test_what_is_malformed_in_the_store_does_no_harm(replicas: Any, record: bytes) -> None:
    both = await replicas(1)
    (one,) = both.gateways
    await one.chat()
    await both.store.put(KEY, record, 100.0)
    await both.store.put("breaker:breaker", record, 100.0)
    await both.rounds(2)
    assert breaker_of(one).health() is None
    assert (await one.chat()).status == 200


async def test_however_wrong_a_clock_is_nothing_is_open_for_longer_than_the_most(replicas: Any) -> None:
    both = await replicas(1, max_open_s=40, max_rate_limit_open_s=50, max_credential_open_s=60)
    (one,) = both.gateways
    await one.chat()
    far = orjson.dumps({"open_until": both.clock.now() + 1e6, "why": "consecutive", "opens": 3, "at": 0})
    await both.store.put(KEY, far, 100.0)
    await both.rounds()
    circuit = breaker_of(one).registry.unsettled["scripted/a:test-model"]
    assert circuit.open_until - both.clock.monotonic() <= 60
    assert circuit.opens == 3


async def test_nothing_runs_after_stop_and_leases_are_returned(replicas: Any) -> None:
    both = await replicas(open_s=5)
    await both.open_at(both.gateways[0])
    await both.rounds(11)
    for gateway in both.gateways:
        await breaker_of(gateway).stop()
    assert not [key for key in both.store._values if key.startswith("vbreaker-probe:")]
    await breaker_of(both.gateways[0]).stop()


async def test_workers_of_a_machine_share_by_file(tmp_path: Path) -> None:
    store = FileCounters(tmp_path)
    breakers = []
    for _ in range(2):
        host = Host(clock=VirtualClock())
        host.counters = store
        breakers.append(Breaker(Breaker.Config(), host, "breaker"))
    breakers[0].registry.add("openai", "gpt").circuit.force(0.0, 100.0)
    for breaker in breakers:
        await breaker.round()
    assert list(breakers[1].registry.unsettled) == ["openai:gpt"]
    store.close()
