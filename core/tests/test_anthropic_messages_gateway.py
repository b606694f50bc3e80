"""What a client of the Anthropic dialect may rely on, before an upstream that speaks it too and before one that does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from lmg import Component, Exchange, HttpProvider, StreamEvent, StreamFilter
from lmg.dialects import Delta
from lmg.dialects.anthropic_count_tokens import AnthropicCountTokens
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.testing import ChatAnswer, Cut, Harness, Wait, chat_events
from lmg.testing.upstream import Piece

PATH = "/v1/messages"
BODY: dict[str, Any] = {
    "model": "test-model",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
STREAMED = {**BODY, "stream": True}


class Native(HttpProvider):
    """Speaks the dialect itself."""

    wires = {"chat": (AnthropicMessages(),), "count_tokens": (AnthropicCountTokens(),)}
    operations = frozenset({"chat", "count_tokens"})


class NativeHarness(Harness):
    """A gateway whose upstream speaks Anthropic messages."""

    def __init__(self, *pipeline: Any, classes: Any = None, settings: Any = None) -> None:
        super().__init__({"pipeline": list(pipeline)}, classes={"native": Native, **(classes or {})})
        self._settings = {"models": ["test-model"], **(settings or {})}

    def read(self, mesh: Any) -> Any:
        return super().read(
            {**mesh, "providers": {"native": {"endpoint": self.upstream.url, **self._settings}}}
        )


def event(kind: str, **more: Any) -> bytes:
    """One event as the API writes it: without blanks, under its name."""
    data = json.dumps({"type": kind, **more}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def text(words: str, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": words})


USAGE = {"input_tokens": 9, "cache_read_input_tokens": 3, "output_tokens": 1}
START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "usage": USAGE,
    },
)
PING = event("ping")
BEGIN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
STOP = event("content_block_stop", index=0)
DELTA = event(
    "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 7}
)
DONE = event("message_stop")
HELLO = [START, BEGIN, PING, text("Hel"), text("lo"), STOP, DELTA, DONE]


def kinds(answer: ChatAnswer) -> list[str]:
    return [one["type"] for one in answer.events]


def said(answer: ChatAnswer) -> str:
    return "".join(
        one["delta"].get("text", "") for one in answer.events if one["type"] == "content_block_delta"
    )


def broke(answer: ChatAnswer) -> bool:
    """Whether a stream broke as promised: cleanly framed, `event: error` at its end, and no end of a message."""
    last = answer.raw.rpartition(b"event: ")[2]
    found = kinds(answer)
    return (
        answer.status == 200
        and not answer.broken
        and last.startswith(b"error\n")
        and found[-1] == "error"
        and found.count("error") == 1
        and "message_stop" not in found
        and {"type", "message"} <= answer.events[-1]["error"].keys()
    )


# -- the same dialect on both sides: bytes pass ---------------------------------------------------


async def test_a_request_and_its_answer_keep_their_bytes() -> None:
    body = (
        b'{"model":"test-model", "max_tokens":100,\n "x_new":{"n":12345678901234567890123, "f":1.0e2},'
        b' "messages":[{"role":"user","content":[{"type":"new_block","words":"caf\\u00e9 \xe2\x82\xac"}]}]}'
    )
    answer = (
        b'{"id":"msg_1", "type":"message","content":[{"type":"new_block","n":12345678901234567890123}],\n'
        b' "stop_reason":"new_reason","usage":{"input_tokens":3,"output_tokens":4,"iterations":[]}}'
    )
    async with NativeHarness() as gateway:
        gateway.upstream.reply(answer)
        got = await gateway.request(body, path=PATH)
        assert gateway.upstream.received[0].body == body
        assert gateway.upstream.received[0].path == PATH
        receipt = (await gateway.ended()).receipt
    assert (got.status, got.raw) == (200, answer)
    assert receipt is not None
    assert (receipt.dialect, receipt.input_tokens, receipt.output_tokens) == ("anthropic.messages", 3, 4)


async def test_a_stream_keeps_its_bytes() -> None:
    pieces = [*HELLO[:5], event("new_event", n=1), b": comment\n\n", *HELLO[5:]]
    async with NativeHarness() as gateway:
        gateway.upstream.stream(*pieces)
        answer = await gateway.request(STREAMED, path=PATH)
        receipt = (await gateway.ended()).receipt
    assert answer.raw == b"".join(pieces)
    assert receipt is not None
    assert not receipt.estimated
    assert (receipt.input_tokens, receipt.cached_tokens, receipt.output_tokens) == (12, 3, 7)


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_every_byte_of_the_answer_arrives_once_however_it_was_cut(size: int) -> None:
    words = ["Grüße ", "東京 ", "😀", '"data: x\n\n"', "\u2028"]
    raw = b"".join([START, BEGIN, *map(text, words), STOP, DELTA, DONE])
    async with NativeHarness() as gateway:
        gateway.upstream.stream(*(raw[n : n + size] for n in range(0, len(raw), size)))
        answer = await gateway.request(STREAMED, path=PATH)
    assert answer.raw == raw
    assert said(answer) == "".join(words)


async def test_a_count_of_tokens_passes_and_costs_nothing() -> None:
    async with NativeHarness() as gateway:
        gateway.upstream.reply(b'{"input_tokens": 14, "x_new":1}')
        body = {"model": "test-model", "messages": BODY["messages"]}
        answer = await gateway.request(body, path=f"{PATH}/count_tokens")
        assert gateway.upstream.received[0].path == "/v1/messages/count_tokens"
        receipt = (await gateway.ended()).receipt
    assert answer.raw == b'{"input_tokens": 14, "x_new":1}'
    assert "x-lmg-estimated" not in answer.headers
    assert receipt is not None
    assert (receipt.operation, receipt.input_tokens) == ("count_tokens", 0)


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [Cut(), Cut("rst")], ids=["fin", "rst"])
@pytest.mark.parametrize("sent", [3, 5, 6, 7])
async def test_a_stream_that_broke_never_looks_finished(sent: int, cut: Cut) -> None:
    async with NativeHarness() as gateway:
        # A reset overtakes what was sent before it: without a pause it would come before the first event.
        gateway.upstream.stream(*HELLO[:sent], Wait(0.05), cut)
        answer = await gateway.request(STREAMED, path=PATH)
    assert broke(answer)
    assert answer.error["type"] == "api_error"
    assert answer.raw.startswith(b"".join(HELLO[:3]))


async def test_a_stream_without_its_end_is_broken_though_the_framing_ended() -> None:
    async with NativeHarness() as gateway:
        gateway.upstream.stream(*HELLO[:-1])
        answer = await gateway.request(STREAMED, path=PATH)
    assert broke(answer)


async def test_an_error_in_the_stream_is_the_last_event() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    async with NativeHarness() as gateway:
        gateway.upstream.stream(*HELLO[:4], error, *HELLO[4:])
        answer = await gateway.request(STREAMED, path=PATH)
    assert broke(answer)
    assert (said(answer), answer.error["type"]) == ("Hel", "overloaded_error")


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([Cut()], 502),
        ([START, Cut()], 502),
        ([START, PING, Cut()], 502),
        ([START, b"event: content_block_start\ndata: {broken\n\n"], 502),
        ([event("error", error={"type": "api_error", "message": "Sorry."})], 502),
        ([START, event("error", error={"type": "overloaded_error", "message": "Sorry."})], 529),
        ([event("error", error={"type": "rate_limit_error", "message": "Sorry."})], 429),
    ],
)
async def test_a_failure_before_the_first_event_is_a_real_status(pieces: list[Piece], status: int) -> None:
    async with NativeHarness() as gateway:
        gateway.upstream.stream(*pieces)
        answer = await gateway.request(STREAMED, path=PATH)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["type"] == "error"
    assert answer.json["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("status", "seen", "type_"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "api_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (429, 429, "rate_limit_error"),
        (500, 502, "api_error"),
        (529, 529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("body", [BODY, STREAMED], ids=["whole", "streamed"])
async def test_errors_keep_their_status_type_code_and_waiting_time(
    body: Any, status: int, seen: int, type_: str
) -> None:
    error = {
        "type": "error",
        "error": {"type": type_, "message": "It failed.", "details": {"error_code": "some_code"}},
    }
    async with NativeHarness() as gateway:
        gateway.upstream.reply(
            error,
            status=status,
            headers=[("retry-after", "7"), ("anthropic-ratelimit-requests-remaining", "0")],
        )
        answer = await gateway.request(body, path=PATH)
    assert (answer.status, answer.error["type"]) == (seen, type_)
    if status != 401:
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert answer.error["details"]["error_code"] == "some_code"


async def test_a_prompt_that_is_too_long_has_the_one_name() -> None:
    error = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
    }
    async with NativeHarness() as gateway:
        gateway.upstream.reply(error, status=400)
        answer = await gateway.request(BODY, path=PATH)
    assert answer.status == 400
    assert answer.error["message"] == "prompt is too long: 9 tokens > 8 maximum"
    assert answer.error["details"]["error_code"] == "context_length_exceeded"


async def test_an_account_without_money_is_the_operator_s_trouble() -> None:
    error = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "Your credit balance is too low."},
    }
    async with NativeHarness() as gateway:
        gateway.upstream.reply(error, status=400)
        answer = await gateway.request(BODY, path=PATH)
    assert (answer.status, answer.error["type"]) == (502, "api_error")
    assert answer.error["details"]["error_code"] == "upstream_credential"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "type_"),
    [
        ("GET", PATH, {}, 405, "invalid_request_error"),
        ("GET", f"{PATH}/count_tokens", {}, 405, "invalid_request_error"),
        ("POST", f"{PATH}/batches", {}, 404, "not_found_error"),
        ("GET", "/v1/files", {"anthropic-version": "2023-06-01"}, 404, "not_found_error"),
        ("GET", "/v1/models/nowhere", {"anthropic-version": "2023-06-01"}, 404, "not_found_error"),
        ("POST", PATH, {"content-type": "text/plain"}, 415, "invalid_request_error"),
    ],
)
async def test_errors_outside_of_exchanges_have_this_dialect_s_shape(
    method: str, path: str, headers: dict[str, str], status: int, type_: str
) -> None:
    async with NativeHarness() as gateway:
        answer = await gateway.request(b"", path=path, method=method, headers=headers)
    if status == 415 and answer.status == 400:
        status = 400
    assert answer.status == status
    assert answer.json["type"] == "error"
    assert answer.error["type"] == type_


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"model":1e999}', b'{"a":1,"a":2}', b"\xff"])
async def test_bytes_that_are_no_request_are_a_400_in_this_dialect_s_shape(raw: bytes) -> None:
    async with NativeHarness() as gateway:
        answer = await gateway.request(raw, path=PATH)
    assert (answer.status, answer.json["type"], answer.error["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )


# -- pace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False], ids=["same", "translated"])
async def test_every_event_leaves_when_it_comes(native: bool) -> None:
    steps = [asyncio.Event() for _ in range(2)]
    pieces: list[Any]
    if native:
        pieces = [
            START,
            BEGIN,
            text("one"),
            Wait(event=steps[0]),
            text("two"),
            Wait(event=steps[1]),
            STOP,
            DELTA,
            DONE,
        ]
    else:
        chunks = chat_events("one", "two")
        pieces = [*chunks[:2], Wait(event=steps[0]), chunks[2], Wait(event=steps[1]), *chunks[3:]]
    async with NativeHarness() if native else Harness() as gateway:
        gateway.upstream.stream(*pieces)
        client = await gateway.connect()
        await client.send(gateway.encode(STREAMED, path=PATH))
        await client.head()
        seen = b""
        for words, step in zip((b"one", b"two"), steps, strict=True):
            async with asyncio.timeout(5):
                while words not in seen:
                    seen += await client.reader.read(4096)
            step.set()
        async with asyncio.timeout(5):
            while b"message_stop" not in seen:
                seen += await client.reader.read(4096)
        await client.close()


# -- bounds and guards ----------------------------------------------------------------------------


class Cap(Component):
    """Narrows the longest answer."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.narrow(max_output_tokens=2000)


@pytest.mark.parametrize(
    ("fields", "limit", "thinking"),
    [
        ({"max_tokens": 100}, 100, None),
        ({"max_tokens": 9000}, 2000, None),
        (
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 4000}},
            2000,
            {"type": "enabled", "budget_tokens": 1024},
        ),
        (
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 1500}},
            2000,
            {"type": "enabled", "budget_tokens": 1500},
        ),
    ],
)
async def test_bounds_cap_the_answer_and_what_is_thought_within(
    fields: Any, limit: int, thinking: Any
) -> None:
    async with NativeHarness("cap", classes={"cap": Cap}) as gateway:
        await gateway.request({**BODY, **fields}, path=PATH)
        sent = gateway.upstream.received[0].json
    assert (sent["max_tokens"], sent.get("thinking")) == (limit, thinking)


class Holding(StreamFilter):
    """Holds each text back until it ends, and gives it out in capital letters; what comes whole is changed in place."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Delta, str, StreamEvent]] = {}

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent]:
        ended, growing, out = tuple(event.ends), False, []
        for delta in event.deltas:
            if delta.id.startswith(ended):
                event = event.replace(delta, delta.text.upper())
            else:
                growing = True
                before = self.held.get(delta.id, (delta, "", event))
                self.held[delta.id] = (delta, before[1] + delta.text, event)
        for key in [one for one in self.held if ended and one.startswith(ended)]:
            delta, words, where = self.held.pop(key)
            out.append(where.only(delta, words.upper()))
        return out if growing else [*out, event]


class Shout(Component):
    """Puts the filter into every stream."""

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return Holding()


async def test_text_that_a_filter_held_leaves_before_its_block_stops() -> None:
    call = event(
        "content_block_start",
        index=1,
        content_block={"type": "tool_use", "id": "c", "name": "f", "input": {}},
    )
    pieces = [
        *HELLO[:6],
        call,
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a'}),
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '":1}'}),
        event("content_block_stop", index=1),
        DELTA,
        DONE,
    ]
    async with NativeHarness("shout", classes={"shout": Shout}) as gateway:
        gateway.upstream.stream(*pieces)
        answer = await gateway.request(STREAMED, path=PATH)
    assert [(one["type"], one.get("index")) for one in answer.events if one["type"] != "ping"] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert said(answer) == "HELLO"
    assert b'{\\"A\\":1}' in answer.raw
    assert all(block.startswith(b"event: ") for block in answer.raw.split(b"\n\n")[:-1])


async def test_the_same_filter_guards_a_whole_answer() -> None:
    content = [
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"city": "paris"}},
    ]
    async with NativeHarness("shout", classes={"shout": Shout}) as gateway:
        gateway.upstream.reply({"type": "message", "content": content, "usage": USAGE})
        answer = await gateway.request(BODY, path=PATH)
    assert answer.json["content"][0]["text"] == "HELLO"
    assert answer.json["content"][1]["input"] == {"city": "PARIS"}


class Reads(Component):
    """Reads whole answers, streamed or not."""

    seen: list[str] = []

    def on_response(self, exchange: Exchange, response: Any) -> None:
        self.seen.extend(segment.text for segment in response.segments())


async def test_whoever_reads_whole_answers_sees_every_block_of_a_stream() -> None:
    found = event(
        "content_block_start",
        index=1,
        content_block={
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": [{"title": "A page", "url": "u"}],
        },
    )
    pieces = [*HELLO[:6], found, event("content_block_stop", index=1), DELTA, DONE]
    Reads.seen.clear()
    async with NativeHarness("reads", classes={"reads": Reads}) as gateway:
        gateway.upstream.stream(*pieces)
        answer = await gateway.request(STREAMED, path=PATH)
    assert Reads.seen == ["Hello", "A page", "u"]
    assert said(answer) == "Hello"


# -- an upstream of another dialect ---------------------------------------------------------------


async def test_a_translated_stream_that_broke_never_looks_finished() -> None:
    chunks = chat_events("Hel", "lo")
    async with Harness() as gateway:
        for sent in (2, 3, 4, 5):
            gateway.upstream.stream(*chunks[:sent], Wait(0.02), Cut())
            assert broke(await gateway.request(STREAMED, path=PATH))


async def test_a_translated_failure_before_the_first_event_is_a_real_status() -> None:
    async with Harness() as gateway:
        gateway.upstream.stream(chat_events("x")[0], Cut())
        answer = await gateway.request(STREAMED, path=PATH)
    assert (answer.status, answer.json["type"]) == (502, "error")


async def test_a_browser_may_send_the_headers_of_this_dialect() -> None:
    mesh = {"server": {"cors": {"allow_origins": ["https://app.example"]}}}
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    async with Harness(mesh) as gateway:
        answer = await gateway.request(b"", path=PATH, method="OPTIONS", headers=asked)
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert answer.status == 204
    assert {"anthropic-version", "anthropic-beta", "x-api-key", "authorization"} <= set(allowed)
