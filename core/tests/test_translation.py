"""A request over another wire and its answer back: what the kernel does around a pair of codecs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lmg import Component, Exchange, Failure, HttpProvider, Next, StreamEvent, StreamFilter
from lmg.dialects.form import FEATURES
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.openai_chat.request import SUPPORT
from lmg.dialects.wire import Support, support
from lmg.testing import Cut, Harness, Wait, chat_body, chat_events, sse


class OtherChat(OpenAIChat):
    """The same JSON under another name, so that everything goes through the intermediate form; it knows no seeds."""

    name = "other.chat"
    support = {**SUPPORT, "seed": "refused", "user": "ignored"}


class Other(HttpProvider):
    """Speaks the other wire."""

    wires = {"chat": (OtherChat(),)}

    def path(self, operation: Any, attempt: Any) -> str:
        return "/other"


class Plain(HttpProvider):
    """Speaks the client's own dialect."""


class Seen(Component):
    """Reads what leaves."""

    texts: list[str] = []

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        texts = self.texts

        class Filter(StreamFilter):
            def feed(self, event: StreamEvent) -> tuple[StreamEvent]:
                texts.extend(delta.text for delta in event.deltas)
                return (event,)

        return Filter()


class MoveOn(Component):
    """Tries the next target, whatever happened."""

    kinds: list[str] = []

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        self.kinds.append(failure.kind)
        return Next()


class OtherHarness(Harness):
    """A gateway before an upstream that speaks the other wire, and where ``plain`` one that does not."""

    def __init__(self, *pipeline: str, plain: bool = False) -> None:
        classes = {"other": Other, "plain": Plain, "seen": Seen, "move_on": MoveOn}
        super().__init__({"pipeline": list(pipeline)}, classes=classes)
        self._plain = plain

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url, "models": ["test-model"]}
        providers: dict[str, Any] = {"other": {**settings, "priority": 1}}
        if self._plain:
            providers["plain"] = {**settings, "priority": 2}
        return super().read({**mesh, "providers": providers})


async def test_a_request_goes_through_the_intermediate_form_and_its_answer_back() -> None:
    async with OtherHarness() as gateway:
        gateway.upstream.reply(chat_body("Hi", usage=(7, 3)))
        answer = await gateway.chat("Hello", temperature=0.5, stop="END")
        (sent,) = gateway.upstream.received
        exchange = await gateway.ended()
    assert sent.path == "/other"
    assert sent.json["stop"] == ["END"]
    assert answer.text == "Hi"
    assert answer.json["usage"]["total_tokens"] == 10
    assert (exchange.receipt.input_tokens, exchange.receipt.estimated) == (7, False)


async def test_a_stream_is_translated_event_by_event_and_guards_see_the_client_s_dialect() -> None:
    Seen.texts.clear()
    async with OtherHarness("seen") as gateway:
        gateway.upstream.stream(*chat_events("Hel", "lo", usage=(7, 2)))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Hello"
    assert answer.events[-1] == "[DONE]"
    assert "".join(Seen.texts) == "Hello"
    assert not any(event != "[DONE]" and event.get("usage") for event in answer.events)
    assert exchange.receipt.output_tokens == 2


async def test_what_the_wire_cannot_express_is_refused_with_the_caller_s_own_name_for_it() -> None:
    async with OtherHarness() as gateway:
        answer = await gateway.chat(seed=7)
        assert not gateway.upstream.received
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_field", "seed")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_wire_may_leave_out_is_named_in_a_header(stream: bool) -> None:
    async with OtherHarness() as gateway:
        answer = await gateway.chat(user="u-1", x_new={"a": 1}, stream=stream)
        (sent,) = gateway.upstream.received
    assert answer.status == 200
    assert set(answer.headers["x-lmg-ignored-fields"].split(", ")) == {"user", "x_new"}
    assert "x_new" not in sent.json


async def test_a_target_that_can_express_it_may_take_the_request() -> None:
    MoveOn.kinds.clear()
    async with OtherHarness("move_on", plain=True) as gateway:
        answer = await gateway.chat(seed=7)
        (sent,) = gateway.upstream.received
    assert answer.status == 200
    assert sent.path == "/v1/chat/completions"
    assert MoveOn.kinds == ["unsupported"]


async def test_a_content_part_without_words_in_the_form_is_refused_with_its_path() -> None:
    content = [{"type": "hologram", "hologram": {}}]
    async with OtherHarness() as gateway:
        answer = await gateway.request(
            {"model": "test-model", "messages": [{"role": "user", "content": content}]}
        )
    assert (answer.status, answer.error["param"]) == (400, "messages[0].content[0].type")


async def test_an_error_before_the_first_event_is_a_real_status() -> None:
    async with OtherHarness() as gateway:
        gateway.upstream.stream(*sse({"error": {"message": "busy", "code": 429, "type": "rate_limit_error"}}))
        answer = await gateway.chat(stream=True)
    assert (answer.status, answer.error["type"]) == (429, "rate_limit_error")


async def test_what_came_in_the_same_read_as_a_fault_leaves_before_it() -> None:
    events = b"".join([*chat_events("Hel", "lo", done=False)[:3], *sse({"error": {"message": "broke"}})])
    async with OtherHarness() as gateway:
        gateway.upstream.stream(events)
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello"
    assert answer.error is not None
    assert "[DONE]" not in answer.events


@pytest.mark.parametrize("last", [Cut("fin"), Cut("rst"), b"data: {not json\n\n", b"data: [1]\n\n"])
async def test_a_translated_stream_that_broke_never_looks_finished(last: Any) -> None:
    async with OtherHarness() as gateway:
        gateway.upstream.stream(*chat_events("Hel", "lo", done=False)[:3], last)
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.error is not None
    assert "[DONE]" not in answer.events
    assert not any(
        e["choices"][0]["finish_reason"] for e in answer.events if isinstance(e, dict) and e.get("choices")
    )
    assert exchange.ended == "failed"


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"choices": 1}', b'{"choices":[{"message":7}]}', b"nothing"]
)
async def test_an_answer_that_its_api_does_not_send_is_502(body: bytes) -> None:
    async with OtherHarness() as gateway:
        gateway.upstream.reply(body)
        answer = await gateway.chat()
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")


async def test_a_client_that_leaves_ends_the_upstream_call() -> None:
    async with OtherHarness() as gateway:
        gateway.upstream.stream(*chat_events("a", done=False)[:2], Wait(30))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body("x", stream=True)))
        await client.head()
        received = await gateway.upstream.arrival()
        await client.close()
        await asyncio.wait_for(received.gone.wait(), 1.0)


async def test_the_prefix_of_usage_that_a_broken_stream_stated_is_in_the_receipt() -> None:
    chunk = json.loads(chat_events("a", done=False)[1][6:])
    chunk["usage"] = {"prompt_tokens": 50, "completion_tokens": 1}
    async with OtherHarness() as gateway:
        gateway.upstream.stream(*sse(chunk), Cut())
        await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert exchange.receipt.input_tokens == 50


def test_a_wire_must_decide_on_every_feature_once() -> None:
    everything = " ".join(FEATURES)
    table: Any = support(carried=everything)
    assert set(table.values()) == {"carried"}
    for carried, refused in (
        (everything, "seed"),
        (everything + " what", ""),
        (everything.replace(" seed ", " "), ""),
    ):
        with pytest.raises(ValueError, match="not decided"):
            support(carried=carried, refused=refused)
    how: Support = table["seed"]
    assert how == "carried"
