"""Responses at OpenAI: what a client of that API sends and gets passes unchanged, and is guarded all the same."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest

from lmg import Component, Exchange, Failure, Next, Response, StreamEvent, StreamFilter
from lmg.testing import Cut, Harness, Received, Script, ScriptedUpstream, Wait, chat_body
from lmg_openai import OpenAI

openai = pytest.importorskip("openai")

KEY = "sk-proj-0123456789abcdef"
SECRET = "swordfish"
USAGE = {
    "input_tokens": 11, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 16,
}  # fmt: skip


@cache
def published() -> tuple[Any, set[str]]:
    """What reads a request with the published types, and the members that these know."""
    from openai.types.responses.response_create_params import ResponseCreateParams
    from pydantic import TypeAdapter

    known = set().union(*(get_type_hints(one).keys() for one in get_args(ResponseCreateParams)))
    return TypeAdapter(ResponseCreateParams), known


def exhaust(value: Any) -> None:
    """Arrays that pydantic checks only when they are read are read."""
    for item in value.values() if isinstance(value, dict) else value:
        if hasattr(item, "__iter__") and not isinstance(item, str):
            exhaust(item)


def answer_of(text: str, **more: Any) -> dict[str, Any]:
    """A whole response, with a thought, a text and a call."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1760000000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "model": "gpt-5", "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [], "usage": USAGE, "x_new": {"digits": 12345678901234567890123},
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": f"On {text}"}], "encrypted_content": "E"},
            {
                "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": f"It is {text}.", "annotations": [], "logprobs": []}],
            },
            {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": json.dumps({"a": text}), "status": "completed"},
        ],
    } | more  # fmt: skip


def events_of(text: str, **more: Any) -> list[bytes]:
    """The same streamed, in deltas of three characters, as the API writes it."""
    whole = answer_of(text, **more)
    thought, message, call = whole["output"]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]

    def pieces(kind: str, text: str, **at: Any) -> None:
        for n in range(0, len(text), 3):
            said.append({"type": f"{kind}.delta", **at, "delta": text[n : n + 3], "obfuscation": "x" * (n % 5)})  # fmt: skip

    at: dict[str, Any] = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    summary = thought["summary"][0]
    said.append({"type": "response.output_item.added", "output_index": 0, "item": {**thought, "summary": []}})
    said.append({"type": "response.reasoning_summary_part.added", **at, "part": {**summary, "text": ""}})
    pieces("response.reasoning_summary_text", summary["text"], **at)
    said.append({"type": "response.reasoning_summary_text.done", **at, "text": summary["text"]})
    said.append({"type": "response.reasoning_summary_part.done", **at, "part": summary})
    said.append({"type": "response.output_item.done", "output_index": 0, "item": thought})
    at = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    part = message["content"][0]
    said.append({"type": "response.output_item.added", "output_index": 1, "item": {**message, "content": []}})
    said.append({"type": "response.content_part.added", **at, "part": {**part, "text": ""}})
    pieces("response.output_text", part["text"], **at, logprobs=[])
    said.append({"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []})
    said.append({"type": "response.content_part.done", **at, "part": part})
    said.append({"type": "response.output_item.done", "output_index": 1, "item": message})
    at = {"item_id": "fc_1", "output_index": 2}
    said.append({"type": "response.output_item.added", "output_index": 2, "item": {**call, "arguments": ""}})
    pieces("response.function_call_arguments", call["arguments"], **at)
    said.append({"type": "response.function_call_arguments.done", **at, "arguments": call["arguments"], "name": "f"})  # fmt: skip
    said.append({"type": "response.output_item.done", "output_index": 2, "item": call})
    said.append({"type": f"response.{whole['status']}", "response": whole})
    return [event(one | {"sequence_number": n}) for n, one in enumerate(said)]


def event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


def model(request: Received) -> Script:
    """Reads each request with the published types and says the same."""
    assert request.path == "/v1/responses"
    adapter, known = published()
    body = request.json
    exhaust(adapter.validate_python(body))
    assert body.keys() <= known
    if body.get("stream"):
        return Script(200, [("content-type", "text/event-stream")], events_of(SECRET), "chunked")
    return Script(200, [("content-type", "application/json")], [json.dumps(answer_of(SECRET)).encode()])


class Mask(Component):
    """Replaces a word in streams, however it is cut into deltas; whole answers are fed to it as streams."""

    word, mask = SECRET, "[hidden]"

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        word, mask = self.word, self.mask

        class Filter(StreamFilter):
            def __init__(self) -> None:
                self.held: dict[str, tuple[Any, str, StreamEvent]] = {}

            def feed(self, event: StreamEvent) -> list[StreamEvent]:
                ends = event.ends
                for delta in event.deltas:
                    _, held, _ = self.held.pop(delta.id, (None, "", None))
                    text = (held + delta.text).replace(word, mask)
                    sizes = range(min(len(text), len(word) - 1), 0, -1)
                    keep = next((size for size in sizes if word.startswith(text[-size:])), 0)
                    if keep and not delta.id.startswith(ends or "\0"):
                        self.held[delta.id] = (delta, text[-keep:], event)
                        text = text[:-keep]
                    event = event.replace(delta, text) if text != delta.text else event
                ready = [id_ for id_ in self.held if id_.startswith(ends or "\0")]
                return [*(last.only(d, text) for d, text, last in map(self.held.pop, ready)), event]

            def finish(self) -> list[StreamEvent]:
                return [event.only(delta, text) for delta, text, event in self.held.values()]

        return Filter()


class Watch(Component):
    """Lets every event pass."""

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return StreamFilter()


class Look(Component):
    """Reviews whole answers, and changes nothing."""

    seen: list[str] = []

    def on_response(self, exchange: Exchange, response: Response) -> None:
        self.seen.extend(segment.text for segment in response.segments() if segment.format != "opaque")


class MoveOn(Component):
    """Tries again, whatever happened."""

    kinds: list[str] = []

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        self.kinds.append(failure.kind)
        return Next()


class OpenAIHarness(Harness):
    """A gateway whose one provider is `openai`, before an upstream that reads requests with the published types."""

    def __init__(self, *pipeline: str) -> None:
        classes = {"openai": OpenAI, "mask": Mask, "watch": Watch, "look": Look, "move_on": MoveOn}
        super().__init__({"pipeline": list(pipeline)}, classes=classes, models=["gpt-5"])
        self.upstream = ScriptedUpstream(answer=model)

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url, "api_key": KEY, "models": ["gpt-5"]}
        return super().read({**mesh, "providers": {"openai": settings}})

    @property
    def client(self) -> Any:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="sk-callers", max_retries=0)

    async def respond(self, body: object) -> Any:
        return await self.request(body, path="/v1/responses")


REQUEST = (
    b'{ "model":"gpt-5", "input":[{"role":"user","content":[{"type":"input_text","text":"caf\\u00e9 \xe2\x82\xac"}]}],\n'
    b' "tools":[{"type":"web_search"},{"type":"mcp","server_label":"s","server_url":"https://a"}], "temperature":0.10,'
    b' "previous_response_id":"resp_0", "background":false, "moderation":{"model":"omni-moderation-latest"},'
    b' "prompt_cache_options":{"ttl":"30m"}%s}'
)


async def test_a_request_and_its_answer_pass_as_they_are() -> None:
    async with OpenAIHarness() as gateway:
        answer = await gateway.respond(REQUEST % b"")
        assert answer.status == 200
        assert answer.raw == json.dumps(answer_of(SECRET)).encode()
        assert gateway.upstream.received[0].body == REQUEST % b""
        assert gateway.upstream.received[0].header("authorization") == f"Bearer {KEY}"
        await gateway.ended()
        (receipt,) = gateway.receipts
        assert gateway.upstream.faults == []
    used = (receipt.input_tokens, receipt.output_tokens, receipt.cached_tokens, receipt.reasoning_tokens)
    assert (used, receipt.estimated) == ((11, 5, 8, 2), False)


@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_a_stream_passes_byte_for_byte_and_is_counted(status: str) -> None:
    async with OpenAIHarness() as gateway:
        events = events_of("Paris", status=status)
        gateway.upstream.stream(*events)
        answer = await gateway.respond(REQUEST % b', "stream":true')
        assert answer.raw == b"".join(events)
        assert gateway.upstream.received[0].body == REQUEST % b', "stream":true'
        await gateway.ended()
        (receipt,) = gateway.receipts
    used = (receipt.input_tokens, receipt.output_tokens, receipt.cached_tokens, receipt.reasoning_tokens)
    assert (used, receipt.estimated, receipt.ended) == ((11, 5, 8, 2), False, "complete")


async def test_no_event_is_held_for_more_than_the_next() -> None:
    async with OpenAIHarness() as gateway:
        events = events_of("Paris")
        for count in range(2, len(events)):
            gateway.upstream.stream(*events[:count], Wait(600))
            client = await gateway.connect()
            body = {"model": "gpt-5", "input": "x", "stream": True}
            await client.send(gateway.encode(body, path="/v1/responses"))
            await client.head()
            expected = b"".join(events[:count])
            got = b""
            while len(got) < len(expected):
                size = int(await client.reader.readuntil(b"\r\n"), 16)
                got += (await client.reader.readexactly(size + 2))[:-2]
            assert got == expected
            await client.close()


async def test_the_sdk_reads_what_passes() -> None:
    async with OpenAIHarness() as gateway, gateway.client as client:
        whole = await client.responses.create(model="gpt-5", input="x")
        assert whole.output_text == f"It is {SECRET}."
        async with client.responses.stream(model="gpt-5", input="x") as stream:
            final = await stream.get_final_response()
        assert final.output_text == f"It is {SECRET}."
        assert final.output[2].arguments == json.dumps({"a": SECRET})
        assert gateway.upstream.faults == []


async def test_a_client_of_another_api_still_gets_chat_completions() -> None:
    async with OpenAIHarness() as gateway:
        gateway.upstream.reply(chat_body("Hello"))
        assert (await gateway.chat()).text == "Hello"
        assert gateway.upstream.received[0].path == "/v1/chat/completions"


# Guards


async def test_a_word_that_a_guard_masks_is_in_no_event_of_a_stream() -> None:
    async with OpenAIHarness("mask") as gateway, gateway.client as client:
        raw = (await gateway.respond({"model": "gpt-5", "input": "x", "stream": True})).raw
        assert b"sword" not in raw
        async with client.responses.stream(model="gpt-5", input="x") as stream:
            final = await stream.get_final_response()
        assert final.output_text == "It is [hidden]."
        assert final.output[0].summary[0].text == "On [hidden]"
        assert final.output[2].arguments == '{"a": "[hidden]"}'
        numbers = [json.loads(one[6:])["sequence_number"] for one in raw.split(b"\n") if one[:5] == b"data:"]
        assert numbers == list(range(len(numbers)))
        assert b'"x_new": {"digits": 12345678901234567890123}' in raw


async def test_a_word_that_a_guard_masks_is_not_in_a_whole_answer() -> None:
    async with OpenAIHarness("mask") as gateway:
        answer = await gateway.respond({"model": "gpt-5", "input": "x"})
        assert SECRET not in answer.raw.decode()
        assert answer.json["output"][1]["content"][0]["text"] == "It is [hidden]."


async def test_a_guard_that_changes_nothing_changes_no_byte() -> None:
    async with OpenAIHarness("watch") as gateway:
        answer = await gateway.respond({"model": "gpt-5", "input": "x", "stream": True})
        assert answer.raw == b"".join(events_of(SECRET))


async def test_who_reviews_whole_answers_sees_that_of_a_stream() -> None:
    Look.seen.clear()
    async with OpenAIHarness("look") as gateway:
        answer = await gateway.respond({"model": "gpt-5", "input": "x", "stream": True})
        assert answer.raw == b"".join(events_of(SECRET))
        expected = [f"On {SECRET}", f"It is {SECRET}.", "f", json.dumps({"a": SECRET})]
        assert Look.seen == expected


# Failures


def last_of(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(raw.rstrip().rpartition(b"data: ")[2])
    return value


FAILED = {
    **answer_of(""),
    "status": "failed",
    "output": [],
    "error": {"code": "server_error", "message": "It broke."},
}
BROKEN: dict[str, list[Any]] = {
    "closed": [],
    "cut": [Cut("rst")],
    "done": [b"data: [DONE]\n\n"],
    "failed": [event({"type": "response.failed", "sequence_number": 9, "response": FAILED})],
    "error": [event({"type": "error", "code": "server_error", "message": "It broke.", "param": None, "sequence_number": 9})],
    "nested": [event({"type": "error", "sequence_number": 9, "error": {"code": "server_error", "message": "It broke."}})],
    "nonsense": [b"data: {\n\n"],
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("pipeline", [(), ("mask",)])
async def test_a_stream_that_broke_raises_and_never_looks_finished(
    how: str, pipeline: tuple[str, ...]
) -> None:
    async with OpenAIHarness(*pipeline) as gateway, gateway.client as client:
        gateway.upstream.stream(*events_of("Paris")[:6], *BROKEN[how])
        answer = await gateway.respond({"model": "gpt-5", "input": "x", "stream": True})
        last = last_of(answer.raw)
        assert not answer.broken
        assert last["type"] == "error"
        assert last["message"] == last["error"]["message"]
        for ending in (b"response.completed", b"response.failed", b"response.incomplete", b"[DONE]"):
            assert ending not in answer.raw
        seen = []
        with pytest.raises(openai.APIError):
            async for one in await client.responses.create(model="gpt-5", input="x", stream=True):
                seen.append(one.type)
        assert "response.output_item.added" in seen


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("rate_limit_exceeded", 429, "RateLimitError"),
        ("server_error", 502, "InternalServerError"),
        ("invalid_prompt", 400, "BadRequestError"),
    ],
)
async def test_an_error_before_the_first_output_is_a_status(code: str, status: int, raised: str) -> None:
    failed = {**FAILED, "error": {"code": code, "message": "It broke."}}
    async with OpenAIHarness() as gateway, gateway.client as client:
        gateway.upstream.stream(events_of("x")[0], event({"type": "response.failed", "response": failed}))
        with pytest.raises(getattr(openai, raised)) as caught:
            await client.responses.create(model="gpt-5", input="x", stream=True)
        assert (caught.value.status_code, caught.value.code) == (status, code)


async def test_a_failure_in_a_stream_is_one_that_a_fallback_is_told_of() -> None:
    MoveOn.kinds.clear()
    async with OpenAIHarness("move_on") as gateway:
        gateway.upstream.stream(event({"type": "error", "code": "rate_limit_exceeded", "message": "m"}))
        answer = await gateway.respond({"model": "gpt-5", "input": "x", "stream": True})
        assert answer.status == 429
        assert MoveOn.kinds == ["rate_limited"]


@pytest.mark.parametrize(
    ("status", "seen", "raised"),
    [
        (400, 400, "BadRequestError"),
        (401, 502, "InternalServerError"),
        (404, 404, "NotFoundError"),
        (429, 429, "RateLimitError"),
        (500, 502, "InternalServerError"),
    ],
)
async def test_errors_are_the_sdk_s_own(status: int, seen: int, raised: str) -> None:
    async with OpenAIHarness() as gateway, gateway.client as client:
        error = {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "c"}
        gateway.upstream.reply({"error": error}, status=status, headers=[("retry-after", "7")])
        with pytest.raises(getattr(openai, raised)) as caught:
            await client.responses.create(model="gpt-5", input="x")
        assert caught.value.status_code == seen
        if status in (400, 404, 429):
            assert (caught.value.param, caught.value.code) == ("input", "c")
            assert caught.value.response.headers["retry-after"] == "7"


async def test_errors_of_the_gateway_have_the_shape_of_the_api() -> None:
    async with OpenAIHarness() as gateway:
        for body, status in (({"model": "other", "input": "x"}, 404), ({"model": "gpt-5"}, 400), (b"{", 400)):
            answer = await gateway.respond(body)
            assert answer.status == status
            assert answer.error.keys() >= {"message", "type", "param", "code"}
        assert gateway.upstream.received == []
