"""`idempotency` in a running gateway: one call, one answer, one receipt for each key."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from lmg.testing import Harness, VirtualClock, Wait, chat_body, chat_events

from .conftest import (
    CHAT,
    CUT,
    ROUTE,
    Spoken,
    calls,
    component,
    every_dialect,
    gateway_of,
    idempotent,
    key,
    of,
    raw,
    replayed,
    said,
    told,
    until,
)


async def waiting(gateway: Harness, count: int) -> None:
    """Waits until ``count`` repeats wait for a first one."""
    part = component(gateway, "idempotency")
    await until(lambda: sum(claim.waiting for claim in part._claims.values()) == count)


# -- repeats --------------------------------------------------------------------------------------


@every_dialect
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_repeat_gets_the_first_answer_and_no_receipt(spoken: Spoken, stream: bool) -> None:
    async with gateway_of(idempotent()) as gateway:
        if stream:
            gateway.upstream.stream(*spoken.events("Good ", "morning"))
        else:
            gateway.upstream.reply(spoken.body("Good morning"))
        first, again = [await spoken.request(gateway, stream=stream, headers=key()) for _ in range(2)]
        assert (replayed(first), replayed(again), again.status) == (False, True, 200)
        assert spoken.text(again) == spoken.text(first) == "Good morning"
        assert spoken.usage(again) == spoken.usage(first) == (5, 2)
        assert stream or again.raw == first.raw
        assert calls(gateway) == 1
        await gateway.ended(2)
        (receipt,) = await gateway.host.ledger.recent()
        assert receipt.exchange_id == gateway.exchanges[0].id and receipt.output_tokens == 2
        assert gateway.exchanges[1].replay_of == receipt.exchange_id


async def test_embeddings_are_repeated_too() -> None:
    async with gateway_of(idempotent()) as gateway:
        ask = {"model": "test-model", "input": "hello"}
        answers = [await gateway.request(ask, path="/v1/embeddings", headers=key()) for _ in range(2)]
        assert answers[0].raw == answers[1].raw and replayed(answers[1]) and calls(gateway) == 1


async def test_without_a_key_every_request_is_a_call() -> None:
    async with gateway_of(idempotent()) as gateway:
        for _ in range(2):
            assert not replayed(await gateway.chat("hello"))
        assert calls(gateway) == 2


@pytest.mark.parametrize("change", ["body", "bytes", "path"])
async def test_a_key_with_another_request_is_refused(change: str) -> None:
    async with gateway_of(idempotent()) as gateway:
        body = raw(
            {"model": "test-model", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
        )
        await gateway.request(body, headers=key())
        other = {"body": body.replace(b"hello", b"bye"), "bytes": body + b" ", "path": body}[change]
        path = "/v1/messages" if change == "path" else "/v1/chat/completions"
        refused = await gateway.request(other, path=path, headers=key())
        assert refused.status == 422 and refused.headers["x-should-retry"] == "false"
        assert change == "path" or refused.error["code"] == "idempotency_key_reused"
        assert calls(gateway) == 1


async def test_keys_belong_to_their_tenant() -> None:
    async with gateway_of(idempotent()) as gateway:
        await gateway.chat("hello", headers=key() | of("acme", user="a"))
        assert not replayed(await gateway.chat("hello", headers=key() | of("rival")))
        assert replayed(await gateway.chat("hello", headers=key() | of("acme", user="b")))
        assert (await gateway.chat("bye", headers=key() | of("acme", user="b"))).status == 422


async def test_scope_principal_keeps_the_keys_of_callers_apart() -> None:
    async with gateway_of(idempotent(scope="principal")) as gateway:
        await gateway.chat("hello", headers=key() | of("acme", user="a"))
        assert not replayed(await gateway.chat("bye", headers=key() | of("acme", user="b")))


async def test_who_may_not_use_the_model_gets_no_answer_of_it() -> None:
    async with gateway_of(idempotent()) as gateway:
        await gateway.chat("hello", headers=key())
        refused = await gateway.chat("hello", headers=key() | of("acme", models="other"))
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize("value", ["", "x" * 256, "caf\xe9", "a\tb"])
async def test_a_key_must_be_printable_and_short(value: str) -> None:
    async with gateway_of(idempotent()) as gateway:
        refused = await gateway.chat("hello", headers=key(value))
        assert (refused.status, refused.error["code"]) == (400, "idempotency_key_invalid")
        assert calls(gateway) == 0
        assert (await gateway.chat("hello", headers=key("x" * 255))).status == 200


async def test_two_keys_are_none() -> None:
    async with gateway_of(idempotent()) as gateway:
        refused = await gateway.chat("hello", headers={"idempotency-key": "a", "Idempotency-Key": "b"})
        assert refused.status == 400


async def test_a_key_is_forgotten_after_its_time() -> None:
    clock = VirtualClock()
    async with gateway_of(idempotent(), clock=clock) as gateway:
        await gateway.chat("hello", headers=key())
        await clock.advance(86_399)
        assert replayed(await gateway.chat("hello", headers=key()))
        await clock.advance(2)
        assert not replayed(await gateway.chat("something else", headers=key()))


async def test_a_repeat_is_unmasked_and_reviewed_for_its_own_caller() -> None:
    async with gateway_of(idempotent("mask", "forbid")) as gateway:
        gateway.upstream.reply(chat_body("Hello <NAME>"))
        named = key() | {"x-name": "Ada"}
        assert [(await gateway.chat("I am Ada", headers=named)).text for _ in range(2)] == ["Hello Ada"] * 2
        assert (await gateway.chat("I am Ada", headers=named | {"x-forbid": "Hello"})).status == 403
        assert calls(gateway) == 1


async def test_a_kept_answer_of_the_cache_is_the_first_answer_too() -> None:
    mesh = {"pipeline": ["who", "idempotency", {"cache": {"routes": [ROUTE]}}]}
    async with gateway_of(mesh) as gateway:
        await gateway.chat("hello")
        hit = await gateway.chat("hello", headers=key())
        again = await gateway.chat("hello", headers=key())
        assert said(hit) == "hit" and replayed(again) and said(again) == ""
        assert again.raw == hit.raw and calls(gateway) == 1
        await gateway.ended(3)
        assert len(await gateway.host.ledger.recent()) == 2


def form(boundary: str, language: str) -> dict[str, Any]:
    parts = [("model", "test-model"), ("language", language)]
    text = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts
    )
    text += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--{boundary}--\r\n'
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return {"body": text.encode(), "path": "/v1/audio/transcriptions", "headers": key() | kind}


async def test_a_form_is_the_same_whatever_boundary_it_is_sent_with() -> None:
    """Clients draw a new boundary for each try."""
    async with gateway_of(idempotent()) as gateway:
        gateway.upstream.reply({"text": "hello"})
        answers = [
            await gateway.request(**form(boundary, "en")) for boundary in ("aaa111", "bbb222", "aaa111")
        ]
        assert [one.status for one in answers] == [200] * 3 and list(map(replayed, answers)) == [
            False,
            True,
            True,
        ]
        assert (await gateway.request(**form("aaa111", "de"))).status == 422
        assert calls(gateway) == 1


async def test_a_form_is_not_kept_by_the_cache() -> None:
    """What two files have in common may be all that the request's value tells of them."""
    async with gateway_of({"pipeline": ["who", {"cache": {"routes": [ROUTE]}}]}) as gateway:
        gateway.upstream.reply({"text": "hello"})
        for _ in range(2):
            assert said(await gateway.request(**form("aaa111", "en"))) == "bypass"


# -- failures do not burn the key -----------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_after_a_failure_the_next_one_tries_anew(stream: bool) -> None:
    async with gateway_of(idempotent("forbid")) as gateway:
        gateway.upstream.reply({"error": {"message": "no"}}, status=503)
        assert (await gateway.chat("hello", stream=stream, headers=key())).status == 503
        gateway.upstream.reply({"error": {"message": "no"}}, status=400)
        assert (await gateway.chat("hello", stream=stream, headers=key())).status == 400
        if stream:
            gateway.upstream.stream(*chat_events("Hel")[:2])
            assert (await gateway.chat("hello", stream=True, headers=key())).error is not None
            gateway.upstream.stream(*chat_events("launch"))
        else:
            gateway.upstream.reply(chat_body("launch"))
        refused = await gateway.chat("hello", stream=stream, headers=key() | {"x-forbid": "launch"})
        assert refused.status == 403
        good = await gateway.chat("hello", stream=stream, headers=key())
        assert (good.status, good.text, replayed(good)) == (200, "launch", False)
        assert replayed(await gateway.chat("hello", stream=stream, headers=key()))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_after_the_client_left_the_next_one_tries_anew(stream: bool) -> None:
    async with gateway_of(idempotent()) as gateway:
        never = asyncio.Event()
        first, *rest = chat_events("Hello", "!")
        if stream:
            gateway.upstream.stream(first, rest[0], Wait(event=never), *rest[1:])
        else:
            gateway.upstream.reply(b"", Wait(event=never), raw(chat_body()))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("hello", stream=stream), headers=key()))
        await gateway.upstream.arrival(1)
        await client.close(reset=True)
        await gateway.ended(1)
        if stream:
            gateway.upstream.stream(first, *rest)
        else:
            gateway.upstream.reply(chat_body())
        again = await gateway.chat("hello", stream=stream, headers=key())
        assert (again.status, replayed(again), again.text) == (200, False, "Hello!")


# -- answers that cannot be kept ------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_too_large_to_keep_is_not_asked_for_twice(stream: bool) -> None:
    async with gateway_of(idempotent(max_entry_bytes=1024)) as gateway:
        if stream:
            gateway.upstream.stream(*chat_events(*["x" * 100] * 20))
        else:
            gateway.upstream.reply(chat_body("x" * 2000))
        assert (await gateway.chat("hello", stream=stream, headers=key())).status == 200
        refused = await gateway.chat("hello", stream=stream, headers=key())
        assert (refused.status, refused.error["code"]) == (409, "idempotency_answer_not_kept")
        assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
        assert (await gateway.chat("bye", stream=stream, headers=key())).status == 422
        assert calls(gateway) == 1


async def test_a_stream_that_cannot_be_put_together_is_not_told_falsely() -> None:
    """Log probabilities would be lost."""
    events = [
        one.replace(b'"delta"', b'"logprobs": {"content": [1]}, "delta"') for one in chat_events("Hello")
    ]
    async with gateway_of(idempotent()) as gateway:
        gateway.upstream.stream(*events)
        assert (await gateway.chat("hello", stream=True, logprobs=True, headers=key())).status == 200
        refused = await gateway.chat("hello", stream=True, logprobs=True, headers=key())
        assert refused.error["code"] == "idempotency_answer_not_kept"


async def test_a_truncated_answer_and_a_call_of_a_tool_are_repeated_as_they_were() -> None:
    """Unlike the cache, a repeat has asked for this very answer."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for choice in (
        CUT,
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [call]},
            "finish_reason": "tool_calls",
        },
    ):
        async with gateway_of(idempotent()) as gateway:
            gateway.upstream.reply(chat_body(choices=[choice]))
            first, again = [await gateway.chat("hello", headers=key()) for _ in range(2)]
            assert replayed(again) and again.raw == first.raw


async def test_the_room_for_answers_is_bounded_and_keys_are_known_beyond_it() -> None:
    async with gateway_of(idempotent(max_bytes=2**20, max_entry_bytes=2**19)) as gateway:
        gateway.upstream.reply(chat_body("x" * 200_000))
        for n in range(4):
            await gateway.chat("hello", headers=key(f"k{n}"))
        again = [await gateway.chat("hello", headers=key(f"k{n}")) for n in range(4)]
        assert Counter(one.status for one in again) == {200: 2, 409: 2}
        assert calls(gateway) == 4


# -- at the same time -----------------------------------------------------------------------------


async def test_repeats_at_the_same_time_wait_for_the_first() -> None:
    async with gateway_of(idempotent()) as gateway:
        gateway.host.metrics.enabled = True
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        tasks = [asyncio.ensure_future(gateway.chat("hello", headers=key())) for _ in range(10)]
        await waiting(gateway, 9)
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert {one.status for one in answers} == {200} and len({one.raw for one in answers}) == 1
        assert Counter(map(replayed, answers)) == {False: 1, True: 9}
        assert calls(gateway) == 1
        await gateway.ended(10)
        assert len(await gateway.host.ledger.recent()) == 1
        assert told(gateway, "llm_idempotency_requests_total") == {("first",): 1, ("replayed",): 9}


async def test_when_the_first_fails_one_repeat_becomes_the_first() -> None:
    async with gateway_of(idempotent()) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), b'{"error":{"message":"no"}}', status=503)
        gateway.upstream.reply(chat_body())
        tasks = [asyncio.ensure_future(gateway.chat("hello", headers=key())) for _ in range(5)]
        await waiting(gateway, 4)
        ready.set()
        answers = await asyncio.gather(*tasks)
        assert sorted(one.status for one in answers) == [200] * 4 + [503]
        assert Counter(map(replayed, answers)) == {False: 2, True: 3} and calls(gateway) == 2


async def test_a_repeat_that_has_waited_long_enough_is_told_to_come_again() -> None:
    clock = VirtualClock()
    async with gateway_of(idempotent(max_wait_ms=5000), clock=clock) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await gateway.upstream.arrival(1)
        again = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await waiting(gateway, 1)
        await clock.advance(5.1)
        refused = await again
        assert (refused.status, refused.error["code"]) == (409, "idempotency_in_progress")
        assert refused.headers["retry-after"] == "1"
        ready.set()
        assert (await first).status == 200
        assert replayed(await gateway.chat("hello", headers=key())) and calls(gateway) == 1


async def test_further_repeats_than_the_bound_do_not_wait() -> None:
    async with gateway_of(idempotent(max_waiting=1)) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        tasks = [asyncio.ensure_future(gateway.chat("hello", headers=key()))]
        await gateway.upstream.arrival(1)
        tasks.append(asyncio.ensure_future(gateway.chat("hello", headers=key())))
        await waiting(gateway, 1)
        assert (await gateway.chat("hello", headers=key())).status == 409
        ready.set()
        assert [one.status for one in await asyncio.gather(*tasks)] == [200, 200]


async def test_another_request_with_the_key_of_a_running_one_is_refused_at_once() -> None:
    async with gateway_of(idempotent()) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await gateway.upstream.arrival(1)
        assert (await gateway.chat("bye", headers=key())).status == 422
        ready.set()
        assert (await first).status == 200


async def test_a_repeat_whose_client_leaves_changes_nothing() -> None:
    async with gateway_of(idempotent()) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await gateway.upstream.arrival(1)
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("hello"), headers=key()))
        await waiting(gateway, 1)
        await client.close()
        await waiting(gateway, 0)
        ready.set()
        assert (await first).status == 200
        assert replayed(await gateway.chat("hello", headers=key()))


async def test_a_running_exchange_of_an_older_configuration_is_found_through_the_store() -> None:
    clock = VirtualClock()
    async with gateway_of(idempotent(), clock=clock) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        first = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await gateway.upstream.arrival(1)
        assert await gateway.reload(idempotent(max_waiting=3))
        again = asyncio.ensure_future(gateway.chat("hello", headers=key()))
        await until(lambda: component(gateway, "idempotency")._claims)
        ready.set()
        assert (await first).status == 200
        while not again.done():
            await clock.advance(1)
        assert replayed(await again) and calls(gateway) == 1
        assert CHAT.text(await first) == CHAT.text(await again)
