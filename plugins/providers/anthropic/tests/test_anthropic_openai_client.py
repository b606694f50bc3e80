"""The official OpenAI client against the gateway, before an upstream that speaks the Anthropic API.

The upstream reads every request with the types that the Anthropic client publishes; one that they do not allow fails.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from anthropic.types import content_block_param, message_create_params
from pydantic import BaseModel, Field, TypeAdapter

from lmg.testing import Cut, Harness, Received, Script, ScriptedUpstream
from lmg_anthropic import Anthropic

KEY = "sk-ant-api03-0123456789abcdef"
OLD, NEW = "claude-sonnet-4-5", "claude-opus-5-5"
PARAMS: Any = TypeAdapter(message_create_params.MessageCreateParams, config={"extra": "forbid"})
BLOCK: Any = TypeAdapter(content_block_param.ContentBlockParam, config={"extra": "forbid"})
SAMPLING = ("temperature", "top_p", "top_k")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 8,
    "cache_read_input_tokens": 100,
    "output_tokens": 30,
    "output_tokens_details": {"thinking_tokens": 10},
}


def consumed(value: Any) -> None:
    """Reads what pydantic validates only when it is asked for."""
    if isinstance(value, dict):
        for item in value.values():
            consumed(item)
    elif not isinstance(value, str | bytes | int | float | None):
        for item in value:
            consumed(item)


class Upstream:
    """Reads each request strictly, then answers with what it was given."""

    def __init__(self) -> None:
        self.answers: list[Script] = []

    def __call__(self, request: Received) -> Script:
        assert request.path == "/v1/messages"
        assert request.header("x-api-key") == KEY
        body = request.json
        if request.header("anthropic-version") == "2023-06-01":
            body = {key: item for key, item in body.items() if key not in SAMPLING}
        consumed(PARAMS.validate_python(body))
        for message in body["messages"]:
            assert message["content"], "a message needs content"
            for block in message["content"] if isinstance(message["content"], list) else ():
                consumed(BLOCK.validate_python(block))
        return self.answers.pop(0)


def message(*content: Any, reason: str = "end_turn", **more: Any) -> Script:
    """A whole answer."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }
    return Script(200, [("content-type", "application/json")], [json.dumps(body).encode()])


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def block(index: int, shell: Any, *deltas: Any) -> list[bytes]:
    """The events of one block."""
    return [
        event("content_block_start", index=index, content_block=shell),
        event("ping"),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def streamed(*blocks: list[bytes], reason: str = "end_turn") -> Script:
    """A streamed answer."""
    shell = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    start = event("message_start", message={**shell, "usage": {**USAGE, "output_tokens": 1}})
    delta = {"stop_reason": reason, "stop_sequence": None}
    end = [event("message_delta", delta=delta, usage={"output_tokens": 30}), event("message_stop")]
    pieces = [start, *(one for given in blocks for one in given), *end]
    return Script(200, [("content-type", "text/event-stream")], pieces, "chunked")


class AnthropicHarness(Harness):
    """A gateway whose one provider is `anthropic`, before a strict upstream."""

    def __init__(self, script: Upstream) -> None:
        super().__init__(classes={"anthropic": Anthropic}, models=[OLD, NEW])
        self.upstream = ScriptedUpstream(answer=script)

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url, "api_key": KEY, "models": [OLD, NEW]}
        return super().read({**mesh, "providers": {"anthropic": settings}})


class Served:
    """A gateway, its upstream, and clients of it."""

    def __init__(self, gateway: Harness, script: Upstream) -> None:
        self.gateway = gateway
        self.script = script
        options: Any = {"base_url": f"{gateway.url}/v1", "api_key": "sk-callers-own", "max_retries": 0}
        self.client = openai.AsyncOpenAI(**options)
        self.blocking = openai.OpenAI(**options)

    @property
    def sent(self) -> Any:
        """The last request that the upstream got."""
        return self.gateway.upstream.received[-1].json

    async def ask(self, *answers: Script, **fields: Any) -> Any:
        """One chat completion, answered by ``answers``."""
        self.script.answers += answers
        given: Any = {"model": OLD, "messages": HELLO, **fields}
        return await self.client.chat.completions.create(**given)


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    script = Upstream()
    async with AnthropicHarness(script) as gateway:
        one = Served(gateway, script)
        try:
            yield one
        finally:
            await one.client.close()
            one.blocking.close()
        assert not gateway.upstream.faults


# -- completions ----------------------------------------------------------------------------------


async def test_a_completion_comes_back_whole() -> None:
    async with served() as one:
        answer = await one.ask(
            message(text("Hi "), text("there.")),
            messages=[{"role": "developer", "content": "Be brief."}, *HELLO],
            temperature=1.4,
            stop="END",
            user="u-1",
        )
        assert one.sent == {
            "model": OLD,
            "max_tokens": 8192,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Hello"}],
            "temperature": 1,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u-1"},
        }
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hi there.", "stop")
    assert (answer.id, answer.model) == ("msg_1", "claude-x")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (120, 30, 150)
    assert usage.prompt_tokens_details.cached_tokens == 100
    assert usage.completion_tokens_details.reasoning_tokens == 10


async def test_the_blocking_client_gets_the_same() -> None:
    async with served() as one:
        one.script.answers.append(message(text("Hi.")))
        answer = await asyncio.to_thread(one.blocking.chat.completions.create, model=NEW, messages=HELLO)
    assert answer.choices[0].message.content == "Hi."


async def test_a_stream_comes_piece_by_piece_with_its_usage() -> None:
    deltas = [{"type": "text_delta", "text": word} for word in ("Hel", "lo")]
    async with served() as one:
        stream = await one.ask(
            streamed(block(0, text(""), *deltas)), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert one.sent["stream"] is True
        receipt = (await one.gateway.ended()).receipt
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["", "Hel", "lo", None]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (120, 30)
    assert receipt is not None
    assert (receipt.input_tokens, receipt.cached_tokens, receipt.output_tokens) == (120, 100, 30)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "stop"),
    ],
)
async def test_the_reason_of_the_end_is_told(reason: str, finish: str) -> None:
    async with served() as one:
        whole = await one.ask(message(text("x"), reason=reason))
        stream = await one.ask(streamed(block(0, text("x")), reason=reason), stream=True)
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].finish_reason == finish
    assert chunks[-1].choices[0].finish_reason == finish


async def test_images_and_files_arrive() -> None:
    content: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK"},
        },
        {
            "type": "file",
            "file": {
                "filename": "a.txt",
                "file_data": f"data:text/plain;base64,{base64.b64encode(b'Once.').decode()}",
            },
        },
    ]
    async with served() as one:
        await one.ask(message(text("A pixel.")), messages=[{"role": "user", "content": content}])
        assert one.sent["messages"][0]["content"] == [
            {"type": "text", "text": "What is it?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"},
                "title": "a.pdf",
            },
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Once."},
                "title": "a.txt",
            },
        ]


# -- tools ----------------------------------------------------------------------------------------


async def test_tools_go_round() -> None:
    uses = [
        {"type": "tool_use", "id": f"toolu_{n}", "name": "get_weather", "input": {"city": city}}
        for n, city in enumerate(["Paris", "Rome"])
    ]
    async with served() as one:
        answer = await one.ask(
            message(text("I shall look."), *uses, reason="tool_use"),
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=True,
        )
        assert one.sent["tools"] == [
            {
                "name": "get_weather",
                "description": "The weather of a city",
                "input_schema": WEATHER["function"]["parameters"],
            }
        ]
        assert one.sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": False}
        calls = answer.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Rome"]
        assert answer.choices[0].finish_reason == "tool_calls"
        history = [
            *HELLO,
            answer.choices[0].message,
            *({"role": "tool", "tool_call_id": call.id, "content": "18"} for call in calls),
            {"role": "user", "content": "And now?"},
        ]
        final = await one.ask(message(text("Warm.")), tools=[WEATHER], messages=history)
        messages = one.sent["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == [text("I shall look."), *uses]
    assert [one["type"] for one in messages[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert final.choices[0].message.content == "Warm."


async def test_streamed_calls_come_in_pieces_under_their_own_number() -> None:
    def use(index: int, id_: str, *pieces: str) -> list[bytes]:
        shell = {"type": "tool_use", "id": id_, "name": "get_weather", "input": {}}
        return block(index, shell, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))

    script = streamed(
        block(0, text(""), {"type": "text_delta", "text": "I shall look."}),
        use(1, "toolu_1", "", '{"ci', 'ty":"Paris"}'),
        use(2, "toolu_2"),
        reason="tool_use",
    )
    async with served() as one:
        one.script.answers.append(script)
        strict: Any = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
        async with one.client.chat.completions.stream(model=OLD, messages=HELLO, tools=[strict]) as stream:
            final = await stream.get_final_completion()
        assert one.sent["tools"][0]["strict"] is True
        assert one.sent["tools"][0]["input_schema"]["additionalProperties"] is False
    calls = final.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("toolu_1", "get_weather", '{"city":"Paris"}'),
        ("toolu_2", "get_weather", "{}"),
    ]
    assert final.choices[0].message.content == "I shall look."


async def test_a_tool_that_must_be_called_is_refused_for_a_model_that_cannot_be_made_to() -> None:
    async with served() as one:
        with pytest.raises(openai.BadRequestError) as caught:
            await one.ask(model=NEW, tools=[WEATHER], tool_choice="required")
        assert one.gateway.upstream.received == []
    assert (caught.value.code, caught.value.param) == ("unsupported_field", "tool_choice")


# -- structured output and reasoning --------------------------------------------------------------


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)


async def test_structured_output_is_parsed() -> None:
    async with served() as one:
        one.script.answers.append(message(text('{"name": "Ada", "age": 36}')))
        answer = await one.client.chat.completions.parse(model=NEW, messages=HELLO, response_format=Person)
        form = one.sent["output_config"]["format"]
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    assert form["type"] == "json_schema"
    assert form["schema"]["additionalProperties"] is False
    assert "minimum" not in form["schema"]["properties"]["age"]
    assert "minimum: 0" in form["schema"]["properties"]["age"]["description"]


async def test_any_json_cannot_be_asked_for() -> None:
    async with served() as one:
        with pytest.raises(openai.BadRequestError) as caught:
            await one.ask(response_format={"type": "json_object"})
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "config"),
    [
        (NEW, "high", {"type": "adaptive"}, {"effort": "high"}),
        (NEW, "minimal", {"type": "adaptive"}, {"effort": "low"}),
        (NEW, "none", None, {"effort": "low"}),
        (OLD, "low", {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD, "none", {"type": "disabled"}, None),
    ],
)
async def test_reasoning_is_asked_for_in_the_model_s_own_way(
    model: str, effort: Any, thinking: Any, config: Any
) -> None:
    async with served() as one:
        await one.ask(message(text("x")), model=model, reasoning_effort=effort, temperature=0.3)
        sent = one.sent
    assert (sent.get("thinking"), sent.get("output_config")) == (thinking, config)
    assert sent["max_tokens"] > (thinking or {}).get("budget_tokens", 0)
    assert ("temperature" in sent) == (model == OLD and effort == "none")


async def test_thoughts_come_along_and_go_back_with_their_signatures() -> None:
    thought = {"type": "thinking", "thinking": "No divisors.", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "enc"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    async with served() as one:
        answer = await one.ask(message(thought, hidden, use, reason="tool_use"), tools=[WEATHER])
        said = answer.choices[0].message
        assert said.reasoning_content == "No divisors."
        history = [
            *HELLO,
            said.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": "toolu_1", "content": "18"},
        ]
        await one.ask(message(text("x")), tools=[WEATHER], messages=history, reasoning_effort="low")
        assert one.sent["messages"][1]["content"] == [thought, hidden, use]
        assert one.sent["thinking"]["type"] == "enabled"


async def test_thoughts_stream() -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "No "},
        {"type": "thinking_delta", "thinking": "divisors."},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    answer = block(1, text(""), {"type": "text_delta", "text": "Yes."})
    async with served() as one:
        stream = await one.ask(streamed(thinking, answer), stream=True)
        deltas = [chunk.choices[0].delta.model_dump() async for chunk in stream if chunk.choices]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "No divisors."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Yes."
    details = [one for delta in deltas for one in delta.get("reasoning_details") or ()]
    assert [one.get("signature") for one in details] == [None, None, "c2ln"]


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_errors_raise_the_client_s_own_exceptions(
    status: int, raised: type[openai.APIStatusError], stream: bool
) -> None:
    body = {"type": "error", "error": {"type": "some_error", "message": "It failed."}, "request_id": "req_1"}
    headers = [("content-type", "application/json"), ("retry-after", "7")]
    async with served() as one:
        with pytest.raises(raised) as caught:
            await one.ask(Script(status, headers, [json.dumps(body).encode()]), stream=stream)
    assert caught.value.type == "some_error"
    assert caught.value.response.headers["retry-after"] == "7"
    if status < 500:
        assert "It failed." in caught.value.message


async def test_a_prompt_that_is_too_long_has_the_name_that_this_client_looks_for() -> None:
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
    }
    async with served() as one:
        with pytest.raises(openai.BadRequestError) as caught:
            await one.ask(Script(400, [], [json.dumps(body).encode()]))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("sent", [4, 5, 6])
async def test_a_stream_that_breaks_raises(sent: int) -> None:
    script = streamed(block(0, text(""), {"type": "text_delta", "text": "Hel"}))
    script.pieces = [*script.pieces[:sent], Cut()]
    async with served() as one:
        stream = await one.ask(script, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


async def test_an_error_in_the_stream_is_told_as_what_it_is() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    script = streamed()
    script.pieces = [script.pieces[0], error]
    async with served() as one:
        with pytest.raises(openai.InternalServerError) as before:
            await one.ask(script, stream=True)
        late = streamed(block(0, text(""), {"type": "text_delta", "text": "Hel"}))
        late.pieces = [*late.pieces[:4], error]
        stream = await one.ask(late, stream=True)
        with pytest.raises(openai.APIError) as after:
            async for _ in stream:
                pass
    assert before.value.status_code == 503
    assert after.value.type == "overloaded_error"
