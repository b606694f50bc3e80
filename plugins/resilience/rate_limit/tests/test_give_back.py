"""Whatever happens to a client, its place and its tokens come back: over real connections, left at every stage."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from lmg.testing import Cut, Harness, RawClient, Wait, chat_body, chat_events

from .conftest import Inside, by, inside, limited

LIMITS = {"requests": "1000/day", "tokens": "100k/day", "concurrency": 2}


def levels(gateway: Harness) -> dict[str, tuple[float, int]]:
    store: Any = gateway.host.counters
    return {
        key.split("/")[1].split(":")[0]: (spent, held) for key, (spent, _, held) in store._buckets.items()
    }


async def sent(gateway: Harness, **fields: Any) -> RawClient:
    client = await gateway.connect()
    await client.send(gateway.encode(gateway.body(max_tokens=500, **fields)))
    return client


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("stage", ["before the answer", "before the first event", "within the stream"])
async def test_a_client_that_leaves_gives_its_place_and_tokens_back(
    stage: str, how: Literal["fin", "rst"]
) -> None:
    async with limited(LIMITS) as gateway:
        events = chat_events("one", "two")
        pieces = {
            "before the answer": [Wait(600.0)],
            "before the first event": [Wait(600.0)],
            "within the stream": [*events[:2], Wait(600.0)],
        }[stage]
        streamed = stage != "before the answer"
        for n in range(2):
            if streamed:
                gateway.upstream.stream(*pieces)
            else:
                gateway.upstream.raw(*pieces)
            client = await sent(gateway, stream=streamed)
            call = await gateway.upstream.arrival(n + 1)
            if stage == "within the stream":
                await client.head()
            assert levels(gateway)["concurrency"] == (0.0, 1)
            assert levels(gateway)["tokens"][1] > 500
            await client.close(reset=how == "rst")
            await gateway.ended(n + 1)
            await asyncio.wait_for(call.gone.wait(), 5)
        after = levels(gateway)
        assert {kind: held for kind, (_, held) in after.items()} == {
            "requests": 0,
            "tokens": 0,
            "concurrency": 0,
        }
        assert after["requests"][0] == pytest.approx(2, abs=0.1), "both went upstream"
        # Of a stream that was left, what had come is counted, and the input that it answered.
        assert (after["tokens"][0] > 0) == (stage == "within the stream")
        assert after["tokens"][0] < 20


@pytest.mark.parametrize("pieces", [[], chat_events("one", "two")[:3]], ids=["at once", "in the stream"])
async def test_an_upstream_that_dies_gives_the_tokens_back(pieces: list[bytes]) -> None:
    async with limited(LIMITS) as gateway:
        for _ in range(3):
            gateway.upstream.stream(*pieces, Cut())
            await gateway.chat(max_tokens=500, stream=True)
        after = levels(gateway)
        assert {kind: held for kind, (_, held) in after.items()} == {
            "requests": 0,
            "tokens": 0,
            "concurrency": 0,
        }
        assert after["tokens"][0] < 30


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_an_error_of_the_upstream_uses_no_tokens(status: int) -> None:
    async with limited(LIMITS) as gateway:
        gateway.upstream.reply({"error": {"message": "no"}}, status=status)
        await gateway.chat(max_tokens=500)
        assert levels(gateway)["tokens"] == (0.0, 0)
        assert levels(gateway)["concurrency"] == (0.0, 0)


async def test_200_clients_that_leave_at_random_leave_nothing_behind() -> None:
    async with limited({"requests": "100k/day", "tokens": "10M/day", "concurrency": 150}) as gateway:
        gateway.upstream.stream(*chat_events("a")[:2], Wait(600.0))

        async def leaves(n: int) -> None:
            client = await sent(gateway, stream=n % 3 > 0)
            for _ in range(n % 17):
                await asyncio.sleep(0)
            if n % 5 == 0:
                await asyncio.wait({asyncio.ensure_future(client.reader.read(1))}, timeout=0.2)
            await client.close(reset=n % 2 == 0)

        await asyncio.gather(*(leaves(n) for n in range(200)))
        # Who left before its head was read has begun no exchange.
        async with asyncio.timeout(20):
            while gateway.process.gateway.pipeline.in_flight or gateway.upstream.open:
                await asyncio.sleep(0.01)
        assert {kind: held for kind, (_, held) in levels(gateway).items()} == {
            "requests": 0, "tokens": 0, "concurrency": 0,
        }  # fmt: skip
        gateway.upstream.stream(*chat_events("a"))
        answers = await asyncio.gather(*(gateway.chat(stream=True) for _ in range(150)))
        assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("turns", range(40))
async def test_leaving_at_any_moment_gives_everything_back(turns: int) -> None:
    async with inside({**LIMITS, "queue": {"max_wait_ms": 1000}}, "slow") as there:
        asks = [there.ask(max_tokens=500) for _ in range(4)]
        for n in range(turns):
            await there.turn(1)
            if n % 5 == 0:
                await there.clock.advance(0.25)
        for asked in asks:
            asked.leave()
        await _ended(there)
        for asked in asks:
            assert asked.task.done()
        assert there.held == 0
        if not there.calls:
            assert all(max(spent, 0) == 0 for spent, _ in there.buckets().values())


async def _ended(there: Inside) -> None:
    for _ in range(5):
        await there.turn()
        for call in there.calls:
            call.dies()
        await there.clock.advance(1.0)


async def test_a_tenant_that_is_full_does_not_keep_another_out() -> None:
    async with limited({"concurrency": 1}) as gateway:
        gateway.upstream.raw(Wait(600.0))
        held = await sent(gateway)
        await gateway.upstream.arrival()
        assert (await gateway.chat()).status == 429
        gateway.upstream.reply(chat_body())
        assert (await gateway.chat(headers=by("beta"))).status == 200
        await held.close()
