"""The model that answers with what it was asked: its answers, and each way of failing that it can be told."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from typing import Any

import pytest

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import ChatAnswer, Harness, Trace, VirtualClock
from lmg_echo import Echo


def echo(settings: dict[str, Any] | None = None, **more: Any) -> Harness:
    return Harness({"providers": {"echo": settings or {}}}, classes={"echo": Echo}, models=["echo"], **more)


async def embed(gateway: Harness, value: object, **extra: Any) -> ChatAnswer:
    return await gateway.request({"model": "echo", "input": value, **extra}, path="/v1/embeddings")


def contents(answer: ChatAnswer) -> list[str]:
    choices = [event["choices"][0] for event in answer.events if event != "[DONE]" and event["choices"]]
    return [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]


# Answers


@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers_with_the_last_user_message_and_is_the_same_every_time(stream: bool) -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "no"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "the last "}, {"type": "text", "text": "word"}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "no"},
    ]
    async with echo() as gateway:
        answers = [await gateway.chat(stream=stream, messages=messages) for _ in range(2)]
    assert answers[0].text == "the last word"
    assert answers[0].raw == answers[1].raw


@pytest.mark.parametrize(
    "text", ["one", "one two  three", " led", "trailing \n", "  ", "", "a\nb\tc", "日本 語"]
)
async def test_a_stream_holds_the_text_exactly(text: str) -> None:
    async with echo() as gateway:
        answer = await gateway.chat(text, stream=True)
        assert answer.text == text == (await gateway.chat(text)).text
        assert answer.events[-1] == "[DONE]"
        assert len(contents(answer)) >= min(1, len(text))


async def test_a_stream_comes_word_by_word() -> None:
    async with echo() as gateway:
        assert contents(await gateway.chat("one two  three", stream=True)) == ["one", " two", "  three"]


async def test_a_long_run_of_white_space_takes_no_time() -> None:
    async with echo() as gateway:
        started = time.monotonic()
        assert len((await gateway.chat(" " * 200_000, stream=True)).text) == 200_000
    assert time.monotonic() - started < 5


async def test_usage_counts_words() -> None:
    async with echo() as gateway:
        usage = (await gateway.chat("three words here")).json["usage"]
        assert usage == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        asked = await gateway.chat("three words here", stream=True, stream_options={"include_usage": True})
        assert asked.events[-2]["usage"] == usage
        assert all("usage" not in event for event in (await gateway.chat(stream=True)).events[:-1])
        await gateway.ended(3)
        assert [(r.input_tokens, r.output_tokens) for r in gateway.receipts[:2]] == [(3, 3), (3, 3)]


async def test_it_serves_the_models_that_it_is_given_and_answers_by_their_names() -> None:
    async with echo({"models": ["a", "b"]}) as gateway:
        assert (await gateway.chat(model="b")).json["model"] == "b"
        assert (await gateway.chat(model="echo")).status == 404


# Embeddings


async def test_embeddings_are_deterministic_and_told_apart() -> None:
    async with echo() as gateway:
        answer = (await embed(gateway, ["cat", "dog", "cat"])).json
        cat, dog, again = (item["embedding"] for item in answer["data"])
        assert cat == again != dog
        assert [item["index"] for item in answer["data"]] == [0, 1, 2]
        assert all(-1.0 <= x <= 1.0 for x in cat)
        assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
        assert (await embed(gateway, "cat")).json["data"][0]["embedding"] == cat


async def test_embeddings_come_as_base64_where_that_is_asked_for() -> None:
    async with echo() as gateway:
        plain = (await embed(gateway, "cat")).json["data"][0]["embedding"]
        packed = (await embed(gateway, "cat", encoding_format="base64")).json["data"][0]["embedding"]
    assert struct.unpack(f"<{len(plain)}f", base64.b64decode(packed)) == pytest.approx(plain)


@pytest.mark.parametrize(("tokens", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
async def test_embeddings_take_token_ids(tokens: list[Any], count: int) -> None:
    async with echo() as gateway:
        answer = (await embed(gateway, tokens)).json
    assert len(answer["data"]) == count
    assert answer["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("value", [[None], [{}], ["a", 1], [1, "a"], [[]], [["a"]], [True], [1.5]])
async def test_an_input_that_is_none_is_a_400(value: object) -> None:
    async with echo() as gateway:
        answer = await embed(gateway, value)
    assert answer.status == 400
    assert answer.error["param"] == "input"


# Behaviours


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
async def test_fail_status_is_an_error_of_the_upstream(status: int, stream: bool) -> None:
    async with echo() as gateway:
        answer = await gateway.chat(stream=stream, echo={"fail_status": status})
    assert answer.status == (502 if status == 500 else status)
    assert answer.error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_connect_is_an_upstream_that_cannot_be_reached(stream: bool) -> None:
    async with echo() as gateway:
        answer = await gateway.chat(stream=stream, echo={"fail": "connect"})
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        (attempt,) = (await gateway.ended()).attempts
    assert attempt.outcome is not None
    assert attempt.outcome.error is not None
    assert attempt.outcome.error.stage == "connect"


@pytest.mark.parametrize("stream", [False, True])
async def test_timeout_is_an_upstream_that_never_answers(stream: bool) -> None:
    async with echo({"timeout_ms": 50}) as gateway:
        answer = await gateway.chat(stream=stream, echo={"fail": "timeout"})
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("text", ["one two three four", "one"])
async def test_cut_breaks_a_stream_in_the_middle(text: str) -> None:
    async with echo() as gateway:
        answer = await gateway.chat(text, stream=True, echo={"fail": "cut"})
        assert answer.status == 200
        assert contents(answer.__class__(answer.status, answer.headers, answer.raw.rpartition(b"data: ")[0]))
        assert answer.error["code"] == "upstream_error"
        assert "[DONE]" not in answer.events
        assert (await gateway.chat(text, echo={"fail": "cut"})).status == 502


async def test_cut_after_says_how_much_comes_before() -> None:
    async with echo() as gateway:
        answer = await gateway.chat("a b c d", stream=True, echo={"fail": "cut", "cut_after": 3})
        assert b'" c"' in answer.raw
        assert b'" d"' not in answer.raw
        none = await gateway.chat("a b c d", stream=True, echo={"fail": "cut", "cut_after": 0})
        assert none.status == 502


async def test_error_event_ends_a_stream_with_the_upstream_s_code() -> None:
    async with echo() as gateway:
        answer = await gateway.chat("a b c d", stream=True, echo={"fail": "error_event"})
        assert answer.status == 200
        assert answer.error["code"] == "echo_failed"
        assert "[DONE]" not in answer.events
        assert (await gateway.chat("a b c d", echo={"fail": "error_event"})).status == 502


async def test_text_replaces_the_answer() -> None:
    async with echo() as gateway:
        assert (await gateway.chat("hello", echo={"text": "told so"})).text == "told so"
        assert (await gateway.chat("hello", stream=True, echo={"text": ""})).text == ""


@pytest.mark.parametrize("stream", [False, True])
async def test_delay_holds_the_answer_for_so_long(stream: bool) -> None:
    clock = VirtualClock()
    async with echo(clock=clock) as gateway:
        asked = asyncio.create_task(gateway.chat(stream=stream, echo={"delay_ms": 30_000}))
        while not gateway.process.gateway.pipeline.in_flight:
            await asyncio.sleep(0.001)
        await clock.advance(29.9)
        assert not asked.done()
        await clock.advance(0.2)
        assert (await asked).text == "hello"


async def test_chunk_delay_comes_before_each_word() -> None:
    clock = VirtualClock()
    async with echo(clock=clock) as gateway:
        asked = asyncio.create_task(gateway.chat("a b c", stream=True, echo={"chunk_delay_ms": 1000}))
        for _ in range(3):
            assert not asked.done()
            while not clock._sleepers:
                await asyncio.sleep(0.001)
            await clock.advance(1.0)
        assert (await asked).text == "a b c"


async def test_the_configuration_says_how_it_behaves_and_a_request_may_change_it() -> None:
    async with echo({"behaviour": {"text": "configured", "fail_status": 503}}) as gateway:
        assert (await gateway.chat()).status == 503
        assert (await gateway.chat(echo={"fail_status": None})).text == "configured"


async def test_uncontrolled_ignores_the_request_s_field() -> None:
    async with echo({"controlled": False}) as gateway:
        for told in ({"fail_status": 500}, {"fail": "no such"}, 5, "text"):
            assert (await gateway.chat(echo=told)).text == "hello"


@pytest.mark.parametrize(
    "told", [{"fail": "burn"}, {"delay": 1}, {"delay_ms": -1}, {"fail_status": 200}, [], "cut", 5, True]
)
async def test_a_field_that_is_no_behaviour_is_a_400(told: object) -> None:
    async with echo() as gateway:
        answer = await gateway.chat(echo=told)
    assert answer.status == 400
    assert answer.error["param"] == "echo"


async def test_a_client_that_leaves_ends_the_call() -> None:
    async with echo() as gateway:
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True, echo={"delay_ms": 60_000})))
        while not gateway.process.gateway.pipeline.in_flight:
            await asyncio.sleep(0.001)
        await client.close(reset=True)
        assert (await gateway.ended()).ended == "cancelled"


async def test_components_see_its_answers() -> None:
    async with Harness(
        {"pipeline": ["trace"], "providers": {"echo": {}}},
        classes={"echo": Echo, "trace": Trace},
        models=["echo"],
    ) as gateway:
        assert (await gateway.chat("a b", stream=True)).text == "a b"
        assert (await gateway.chat("a b")).text == "a b"


# Configuration


def test_it_is_always_part_of_the_embedded_default() -> None:
    settings = Echo.embedded({})
    assert settings is not None
    config = validate(MeshConfig, {"providers": {"echo": settings}}, (), None)
    (part,) = draft(config, installed={}, classes={"echo": Echo}).providers
    assert part.settings.models == ["echo"]


@pytest.mark.parametrize(
    "settings",
    [{"behaviour": {"fail": "burn"}}, {"behaviour": {"delay_ms": -1}}, {"behavior": {}}, {"endpoint": "x"}],
)
def test_a_setting_that_is_wrong_is_an_error(settings: dict[str, Any]) -> None:
    config = validate(MeshConfig, {"providers": {"echo": settings}}, (), None)
    with pytest.raises(ConfigError, match=r"providers\.echo"):
        draft(config, installed={}, classes={"echo": Echo})
