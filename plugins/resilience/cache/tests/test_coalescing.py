"""Requests that are the same at a time: one call, however its caller fares."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from lmg.testing import ChatAnswer, Harness, VirtualClock, Wait, chat_body, chat_events

from .conftest import (
    CUT,
    Spoken,
    cached,
    calls,
    component,
    control,
    every_dialect,
    gateway_of,
    of,
    raw,
    said,
    told,
    until,
)


async def following(gateway: Harness, count: int) -> None:
    """Waits until ``count`` requests wait for others."""
    flights = component(gateway, "cache")._flights
    await until(lambda: flights.followers == count)


async def led(
    gateway: Harness, count: int, *, stream: bool = False, followers: bool = False, **more: Any
) -> list[Any]:
    """A leader whose call has arrived upstream, then ``count`` that wait for it."""
    tasks = [asyncio.ensure_future(gateway.chat("hello", stream=stream, **more))]
    await gateway.upstream.arrival(1)
    tasks += [asyncio.ensure_future(gateway.chat("hello", stream=followers)) for _ in range(count)]
    await following(gateway, count)
    return tasks


def held(gateway: Harness, text: str = "Hello!") -> asyncio.Event:
    """The upstream's next answer waits for the event."""
    event = asyncio.Event()
    gateway.upstream.reply(b"", Wait(event=event), raw(chat_body(text)))
    return event


def results(answers: list[ChatAnswer]) -> Counter[str]:
    return Counter(said(one) for one in answers)


async def test_fifty_clients_at_a_time_are_one_call() -> None:
    async with gateway_of(cached()) as gateway:
        gateway.host.metrics.enabled = True
        ready = held(gateway)
        tasks = await led(gateway, 49)
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert {one.status for one in answers} == {200} and len({one.raw for one in answers}) == 1
        assert results(answers) == {"miss": 1, "coalesced": 49}
        assert calls(gateway) == 1
        await gateway.ended(50)
        assert sorted(one.output_tokens for one in gateway.receipts) == [0] * 49 + [2]
        assert told(gateway, "llm_cache_requests_total") == {("miss",): 1, ("coalesced",): 49}


@every_dialect
@pytest.mark.parametrize("followers", [False, True], ids=["whole", "streamed"])
async def test_followers_get_a_leaders_stream_when_it_is_complete(spoken: Spoken, followers: bool) -> None:
    async with gateway_of(cached()) as gateway:
        first, *rest = spoken.events("Good ", "morning")
        ready = asyncio.Event()
        gateway.upstream.stream(first, *rest[:-2], Wait(event=ready), *rest[-2:])
        leader = asyncio.ensure_future(spoken.request(gateway, stream=True))
        await gateway.upstream.arrival(1)
        tasks = [asyncio.ensure_future(spoken.request(gateway, stream=followers)) for _ in range(5)]
        await following(gateway, 5)
        ready.set()
        answers = await asyncio.gather(leader, *tasks)
        assert {spoken.text(one) for one in answers} == {"Good morning"}
        assert results(answers) == {"miss": 1, "coalesced": 5} and calls(gateway) == 1


async def test_other_tenants_do_not_wait_for_each_other() -> None:
    async with gateway_of(cached()) as gateway:
        ready = held(gateway)
        tasks = [asyncio.ensure_future(gateway.chat("hello", headers=of(name))) for name in ("acme", "rival")]
        await gateway.upstream.arrival(2)
        ready.set()
        assert results(await asyncio.gather(*tasks)) == {"miss": 2}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_when_the_leaders_client_leaves_one_follower_takes_its_place(stream: bool, reset: bool) -> None:
    async with gateway_of(cached()) as gateway:
        never, ready = asyncio.Event(), asyncio.Event()
        if stream:
            first, *rest = chat_events("Hello", "!")
            gateway.upstream.stream(first, rest[0], Wait(event=never), *rest[1:])
            gateway.upstream.stream(first, Wait(event=ready), *rest)
        else:
            gateway.upstream.reply(b"", Wait(event=never), raw(chat_body()))
            gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        leader = await gateway.connect()
        await leader.send(gateway.encode(gateway.body("hello", stream=stream)))
        await gateway.upstream.arrival(1)
        tasks = [asyncio.ensure_future(gateway.chat("hello", stream=stream)) for _ in range(9)]
        await following(gateway, 9)
        await leader.close(reset=reset)
        await gateway.upstream.arrival(2)
        await following(gateway, 8)
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert {one.text for one in answers} == {"Hello!"}
        assert results(answers) == {"miss": 1, "coalesced": 8} and calls(gateway) == 2


async def test_when_the_leader_fails_one_follower_after_the_other_tries() -> None:
    async with gateway_of(cached()) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), b'{"error":{"message":"no"}}', status=503)
        gateway.upstream.reply({"error": {"message": "no"}}, status=503)
        gateway.upstream.reply(chat_body("at last"))
        tasks = await led(gateway, 10)
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert sorted(one.status for one in answers) == [200] * 9 + [503] * 2
        assert results(answers) == {"miss": 3, "coalesced": 8} and calls(gateway) == 3


async def test_a_leader_that_is_refused_by_a_guard_above_has_still_answered_its_followers() -> None:
    async with gateway_of(cached("forbid")) as gateway:
        ready = held(gateway, "the launch code")
        leader, *tasks = await led(gateway, 2, headers={"x-forbid": "launch"})
        ready.set()
        assert (await leader).status == 403
        assert results(await asyncio.gather(*tasks)) == {"coalesced": 2} and calls(gateway) == 1


async def test_after_an_answer_that_cannot_be_shared_nobody_waits_for_the_next() -> None:
    """Followers of a call whose answer is not kept go on at once, side by side, and so do those who come after."""
    clock = VirtualClock()
    async with gateway_of(cached(), clock=clock) as gateway:
        ready, later = asyncio.Event(), asyncio.Event()
        cut = raw(chat_body(choices=[CUT]))
        gateway.upstream.reply(b"", Wait(event=ready), cut)
        gateway.upstream.reply(b"", Wait(event=later), cut)
        tasks = await led(gateway, 3)
        ready.set()
        await gateway.upstream.arrival(4)
        tasks.append(asyncio.ensure_future(gateway.chat("hello")))
        await gateway.upstream.arrival(5)
        later.set()
        assert results(await asyncio.gather(*tasks)) == {"miss": 5}
        await clock.advance(11)
        again = held(gateway)
        tasks = [asyncio.ensure_future(gateway.chat("hello")) for _ in range(2)]
        await following(gateway, 1)
        again.set()
        assert results(await asyncio.gather(*tasks)) == {"miss": 1, "coalesced": 1}


async def test_a_follower_waits_no_longer_than_it_may() -> None:
    clock = VirtualClock()
    async with gateway_of(cached(max_wait_ms=5000), clock=clock) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        gateway.upstream.reply(chat_body())
        leader, follower = await led(gateway, 1)
        await clock.advance(4.9)
        assert calls(gateway) == 1
        await clock.advance(0.2)
        assert said(await follower) == "miss"
        ready.set()
        assert said(await leader) == "miss" and calls(gateway) == 2


async def test_further_followers_than_the_bound_go_on_themselves() -> None:
    async with gateway_of(cached(max_followers=2)) as gateway:
        ready = held(gateway)
        tasks = await led(gateway, 2)
        tasks.append(asyncio.ensure_future(gateway.chat("hello")))
        await gateway.upstream.arrival(2)
        ready.set()
        assert results(await asyncio.gather(*tasks)) == {"miss": 2, "coalesced": 2}


async def test_a_follower_that_leaves_frees_its_place() -> None:
    async with gateway_of(cached(max_followers=1)) as gateway:
        ready = held(gateway)
        leader = asyncio.ensure_future(gateway.chat("hello"))
        await gateway.upstream.arrival(1)
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("hello")))
        await following(gateway, 1)
        await client.close()
        await following(gateway, 0)
        follower = asyncio.ensure_future(gateway.chat("hello"))
        await following(gateway, 1)
        ready.set()
        assert results([await leader, await follower]) == {"miss": 1, "coalesced": 1}


async def test_nobody_waits_where_waiting_is_off_or_something_fresh_is_asked_for() -> None:
    for mesh, headers in ((cached(max_wait_ms=0), {}), (cached(), control("no-cache"))):
        async with gateway_of(mesh) as gateway:
            ready = held(gateway)
            tasks = [asyncio.ensure_future(gateway.chat("hello"))]
            await gateway.upstream.arrival(1)
            tasks.append(asyncio.ensure_future(gateway.chat("hello", headers=headers)))
            await gateway.upstream.arrival(2)
            ready.set()
            assert results(await asyncio.gather(*tasks)) == {"miss": 2}


async def test_shadow_waits_for_nobody() -> None:
    async with gateway_of(cached(mode="shadow")) as gateway:
        ready = held(gateway)
        tasks = [asyncio.ensure_future(gateway.chat("hello")) for _ in range(3)]
        await gateway.upstream.arrival(3)
        ready.set()
        await asyncio.gather(*tasks)


async def test_what_streams_hold_while_they_are_kept_is_given_back() -> None:
    async with gateway_of(cached()) as gateway:
        ready = asyncio.Event()
        first, *rest = chat_events("Hello", "!")
        gateway.upstream.stream(first, *rest[:2], Wait(event=ready), *rest[2:])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("hello", stream=True)))
        await client.head()
        await until(lambda: component(gateway, "cache")._entries.held)
        await client.close(reset=True)
        await gateway.ended(1)
        assert (
            component(gateway, "cache")._entries.held == 0 and len(component(gateway, "cache")._flights) == 0
        )


async def test_each_event_passes_before_the_next_one_comes() -> None:
    async with gateway_of(cached()) as gateway:
        events = chat_events("one", "two", "three")
        gates = [asyncio.Event() for _ in events]
        pieces: list[Any] = []
        for event, gate in zip(events, gates, strict=True):
            pieces += [event, Wait(event=gate)]
        gateway.upstream.stream(*pieces)
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("hello", stream=True)))
        gates[0].set()  # the opening event waits for the next one, whoever listens
        await client.head()
        for word, gate in zip((b"one", b"two", b"three"), gates[1:], strict=False):
            async with asyncio.timeout(5):
                while word not in await client.reader.readuntil(b"\n\n"):
                    pass
            gate.set()
        for gate in gates:
            gate.set()
        assert b"[DONE]" in await client.reader.readuntil(b"[DONE]")
