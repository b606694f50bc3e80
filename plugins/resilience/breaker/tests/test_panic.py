"""Where nothing is well: who is tried all the same, and what slowness is no reason for."""

from __future__ import annotations

import asyncio
import json

import pytest

from lmg.testing import Wait, chat_body

from .conftest import DOWN, Opened, breaker_of, calls, clock_of, fail_until_open, state_of

# Panic


async def test_where_all_are_open_each_request_makes_one_call_to_the_least_bad(opened: Opened) -> None:
    gateway = await opened("a", "b", below=("move_on",), open_s=5, heal_s=1000)
    for name in "ab":
        gateway.upstreams[name].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat()
    before = calls(gateway)
    assert before == {"a": 5, "b": 5}
    for _ in range(6):
        assert (await gateway.chat()).status == 502
    assert sum(calls(gateway).values()) - sum(before.values()) == 6
    panics = gateway.host.metrics.counter("llm_breaker_panics_total", "", ("target",)).series
    assert sum(panics.values()) == 6


async def test_in_a_panic_the_target_that_is_well_again_is_back_at_once(opened: Opened) -> None:
    gateway = await opened("a", "b", below=("move_on",), open_s=100)
    for name in "ab":
        gateway.upstreams[name].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat()
    for name in "ab":
        gateway.upstreams[name].reply(chat_body())
    assert [(await gateway.chat()).status for _ in range(3)] == [200] * 3
    assert "closed" in {state_of(gateway, "a"), state_of(gateway, "b")}


async def test_in_a_panic_a_target_that_has_announced_a_pause_is_the_last_to_be_tried(opened: Opened) -> None:
    gateway = await opened("a", "b", below=("move_on",), open_s=50, failure_rate=None)
    await fail_until_open(gateway, "a")
    gateway.upstreams["b"].reply(DOWN, status=429, headers=[("retry-after", "5")])
    await gateway.chat()
    before = calls(gateway)
    await gateway.chat()
    assert calls(gateway) == {"a": before["a"] + 1, "b": before["b"]}


async def test_what_an_operator_has_opened_is_never_called(opened: Opened) -> None:
    gateway = await opened("a", "b")
    for name in "ab":
        breaker_of(gateway).registry.add(f"scripted/{name}", "test-model").circuit.force(0.0, 100.0)
    answer = await gateway.chat()
    assert (answer.status, "retry-after" in answer.headers) == (503, False)
    assert calls(gateway) == {"a": 0, "b": 0}


async def test_panic_from_null_never_calls_an_open_target(opened: Opened) -> None:
    gateway = await opened("a", "b", panic_from=None)
    for name in "ab":
        gateway.upstreams[name].reply(DOWN, status=500)
        for _ in range(5):
            await gateway.chat()
    before = calls(gateway)
    assert (await gateway.chat()).status == 503
    assert calls(gateway) == before


async def test_an_open_target_is_not_tried_after_a_closed_one_that_failed(opened: Opened) -> None:
    gateway = await opened("a", "b", below=("move_on",), failure_rate=None)
    await fail_until_open(gateway, "a")
    gateway.upstreams["b"].reply(DOWN, status=500)
    assert (await gateway.chat()).status == 502
    assert calls(gateway)["a"] == 5


async def test_an_upstreams_own_retry_after_is_the_one_that_clients_get(opened: Opened) -> None:
    gateway = await opened("a", "b", below=("move_on",))
    breaker_of(gateway).registry.add("scripted/a", "test-model").circuit.force(0.0, 100.0)
    gateway.upstreams["b"].reply(DOWN, status=429, headers=[("retry-after", "7")])
    client = await gateway.connect()
    await client.send(gateway.encode(gateway.body()))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429")
    assert head.lower().count(b"retry-after: ") == 1
    assert b"retry-after: 7" in head.lower()


# Slow targets


async def test_a_slow_target_is_left_alone_only_while_there_is_another(opened: Opened) -> None:
    gateway = await opened("a", "b", slow_call_ms=50, min_calls=2, adaptive_sensitivity=None, open_s=300)
    for name in "ab":
        gateway.upstreams[name].reply(b" ", Wait(0.08), json.dumps(chat_body()).encode())
    await gateway.chat()
    await gateway.chat()
    assert (state_of(gateway, "a"), calls(gateway)) == ("open", {"a": 2, "b": 0})
    await gateway.chat()
    await gateway.chat()
    assert (state_of(gateway, "b"), calls(gateway)) == ("open", {"a": 2, "b": 2})
    assert [(await gateway.chat()).status for _ in range(3)] == [200] * 3


async def test_calls_without_an_answer_open_it_before_they_time_out(opened: Opened) -> None:
    gateway = await opened("a", "b", slow_call_ms=3000, min_calls=4)
    held = asyncio.Event()
    gateway.upstreams["a"].reply(b" ", Wait(event=held), json.dumps(chat_body()).encode())
    running = [asyncio.ensure_future(gateway.chat()) for _ in range(4)]
    await gateway.upstreams["a"].arrival(4)
    await clock_of(gateway).advance(3.5)
    assert state_of(gateway, "a") == "open"
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 4, "b": 1}
    held.set()
    await asyncio.gather(*running)


@pytest.mark.parametrize(("counts", "state"), [(False, "closed"), (True, "open")])
async def test_clients_that_lose_patience_count_only_where_told(
    opened: Opened, counts: bool, state: str
) -> None:
    gateway = await opened("a", slow_call_ms=1, slow_cancels=counts, min_calls=2, adaptive_sensitivity=None)
    gateway.upstreams["a"].stream(Wait(event=asyncio.Event()))
    for n in range(2):
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await gateway.upstreams["a"].arrival(n + 1)
        await asyncio.sleep(0.005)  # durations are the kernel's own, not the virtual clock's
        await client.close(reset=True)
        await gateway.ended(n + 1)
    assert state_of(gateway, "a") == state
