"""Errors of the API and streams that break: what the caller gets of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmg import Component, Exchange, Failure, Next
from lmg.testing import Cut, Wait


class MoveOn(Component):
    """Notes what failed, and how."""

    kinds: list[str] = []

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        self.kinds.append(failure.kind)
        return Next()


@pytest.mark.parametrize(
    ("status", "name", "message", "seen", "code", "kind"),
    [
        (400, "ValidationException", "Malformed input.", 400, "validation", "bad_request"),
        (400, "ValidationException", "Input is too long for requested model.", 400, "context_length_exceeded", "context_length"),
        (403, "AccessDeniedException", "User: arn:aws:iam::1:user/x", 502, "upstream_credential", "credential"),
        (403, "UnrecognizedClientException", "The security token is invalid.", 502, "upstream_credential", "credential"),
        (403, "ExpiredTokenException", "Expired.", 502, "upstream_credential", "credential"),
        (403, "InvalidSignatureException", "The signature does not match.", 502, "upstream_credential", "credential"),
        (403, "SomethingNewException", "Forbidden.", 502, "upstream_credential", "credential"),
        (404, "ResourceNotFoundException", "No such model.", 404, "resource_not_found", "bad_request"),
        (408, "ModelTimeoutException", "Too slow.", 408, "model_timeout", "timeout"),
        (424, "ModelErrorException", "The model failed.", 502, "model_error", "status"),
        (429, "ThrottlingException", "Too many tokens, please wait.", 429, "throttling", "rate_limited"),
        (429, "ModelNotReadyException", "Not ready.", 429, "model_not_ready", "rate_limited"),
        (400, "ServiceQuotaExceededException", "Quota.", 429, "service_quota_exceeded", "rate_limited"),
        (500, "InternalServerException", "Oops.", 502, "internal_server", "status"),
        (503, "ServiceUnavailableException", "Busy.", 503, "service_unavailable", "overloaded"),
        (418, "TeapotException", "Short and stout.", 418, "upstream_refused", "bad_request"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_the_status_code_and_kind_that_fit(
    kit: Any, status: int, name: str, message: str, seen: int, code: str, kind: str, stream: bool
) -> None:
    MoveOn.kinds.clear()
    headers = [("x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/x/"), ("retry-after", "7")]
    async with kit.Harness(mesh={"pipeline": ["move_on"]}, extra={"move_on": MoveOn}) as gateway:
        gateway.upstream.reply({"message": message}, status=status, headers=headers)
        answer = await gateway.chat(stream=stream)
    assert (answer.status, answer.error["code"]) == (seen, code)
    assert MoveOn.kinds == [kind]
    if seen == status:
        assert answer.error["message"].split()[0] == message.split(maxsplit=1)[0]
        assert answer.headers["retry-after"] == "7"
    assert b"arn:aws" not in answer.raw and b"Exception" not in answer.raw and b"amazon" not in answer.raw


@pytest.mark.parametrize(
    "body",
    [
        {"__type": "com.amazon.coral.service#ThrottlingException", "message": "Slow down."},
        {"code": "ThrottlingException", "Message": "Slow down."},
        {"__type": "ThrottlingException"},
    ],
)
async def test_an_error_s_type_is_found_wherever_it_stands(kit: Any, body: Any) -> None:
    async with kit.Harness() as gateway:
        gateway.upstream.reply(body, status=400)
        answer = await gateway.chat()
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        429,
        "throttling",
        "rate_limit_error",
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b'{"message": 7}', b"\xff"])
async def test_an_error_that_is_no_json_is_an_error(kit: Any, body: bytes) -> None:
    async with kit.Harness() as gateway:
        gateway.upstream.reply(body, status=503)
        answer = await gateway.chat()
    assert (answer.status, answer.error["code"]) == (503, "upstream_error")


async def test_an_exception_before_the_first_output_is_a_real_status(kit: Any) -> None:
    async with kit.Harness() as gateway:
        opening = kit.event("messageStart", {"role": "assistant"})
        gateway.streams(opening, kit.exception("throttlingException", "Slow down."))
        answer = await gateway.chat(stream=True)
    assert (answer.status, answer.error["code"]) == (429, "throttling")


async def test_an_exception_in_the_stream_ends_it_with_an_error_and_no_end(kit: Any) -> None:
    async with kit.Harness() as gateway:
        frames = kit.text_stream("Hel", "lo")[:3]
        gateway.streams(*frames, kit.exception("modelStreamErrorException", "The model failed."))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Hello"
    assert answer.error is not None and answer.events[-1] != "[DONE]"
    assert not any(choice.get("finish_reason") for event in answer.events[:-1] for choice in event["choices"])
    assert exchange.ended == "failed"


@pytest.mark.parametrize("damage", ["cut", "flipped", "no metadata", "no messageStop", "reset"])
async def test_a_stream_that_broke_never_looks_finished(kit: Any, damage: str) -> None:
    frames: list[Any] = kit.text_stream("Hel", "lo")
    if damage == "cut":
        frames[-1] = frames[-1][:-1]
    elif damage == "flipped":
        frames[-2] = bytes([*frames[-2][:-1], frames[-2][-1] ^ 1])
    elif damage == "no metadata":
        del frames[-1]
    elif damage == "no messageStop":
        del frames[-2]
    else:
        frames[-1:] = [Cut("rst")]
    async with kit.Harness() as gateway:
        gateway.streams(*frames)
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Hello"
    assert answer.error is not None and "[DONE]" not in answer.events
    assert exchange.ended == "failed"


async def test_an_answer_that_breaks_off_is_an_upstream_error(kit: Any) -> None:
    async with kit.Harness() as gateway:
        for body in (b"", b"{}", b"[]", b'{"output":', b'{"output":{"message":{"content":[7]}}}', b"null"):
            gateway.upstream.reply(body)
            answer = await gateway.chat()
            assert (answer.status, answer.error["code"]) == (502, "upstream_error"), body


async def test_a_whole_answer_where_a_stream_was_asked_for_is_replayed_as_one(kit: Any) -> None:
    async with kit.Harness() as gateway:
        gateway.answers({"text": "Hello"})
        answer = await gateway.chat(stream=True)
    assert (answer.text, answer.events[-1]) == ("Hello", "[DONE]")


async def test_each_event_leaves_as_it_comes(kit: Any) -> None:
    gate = asyncio.Event()
    frames = kit.text_stream("first", "second")
    async with kit.Harness() as gateway:
        gateway.streams(*frames[:2], Wait(event=gate), *frames[2:])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await client.head()
        async with asyncio.timeout(10):
            assert b"first" in await client.reader.readuntil(b"first")
        gate.set()
        async with asyncio.timeout(10):
            assert b"[DONE]" in await client.reader.readuntil(b"[DONE]")


async def test_a_client_that_leaves_ends_the_call(kit: Any) -> None:
    async with kit.Harness() as gateway:
        gateway.streams(*kit.text_stream("first")[:2], Wait(seconds=60))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await client.head()
        await client.close(reset=True)
        received = await gateway.upstream.arrival()
        async with asyncio.timeout(5):
            await received.gone.wait()
