"""The official Anthropic client against the gateway, before an upstream that speaks OpenAI chat completions.

The upstream reads every request with the types that the OpenAI client publishes; one that they do not allow fails.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest
from openai.types.chat import completion_create_params
from pydantic import BaseModel, TypeAdapter

from lmg.testing import Cut, Harness, Received, Script, ScriptedUpstream, chat_body, sse

PARAMS: Any = TypeAdapter(completion_create_params.CompletionCreateParams)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 12},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def consumed(value: Any) -> Any:
    """``value`` with what pydantic would have read only when somebody asks for it."""
    if isinstance(value, dict):
        return {key: consumed(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [consumed(item) for item in value]


class Upstream:
    """Reads each request strictly, then answers with what it was given."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def __call__(self, request: Received) -> Script:
        assert request.path == "/v1/chat/completions"
        consumed(PARAMS.validate_python(request.json))
        answer = self.answers.pop(0)
        if isinstance(answer, Script):
            return answer
        return Script(200, [("content-type", "application/json")], [json.dumps(answer).encode()])


class Served:
    """A gateway, its upstream, and clients of it."""

    def __init__(self, gateway: Harness, script: Upstream) -> None:
        self.gateway = gateway
        self.script = script
        options: Any = {"base_url": gateway.url, "api_key": "sk-callers-own", "max_retries": 0}
        self.client = anthropic.AsyncAnthropic(**options)
        self.blocking = anthropic.Anthropic(**options)

    @property
    def sent(self) -> Any:
        """The last request that the upstream got."""
        return self.gateway.upstream.received[-1].json

    async def ask(self, *answers: Any, **fields: Any) -> Any:
        """One message, answered by ``answers``."""
        self.script.answers += answers
        given: Any = {"model": "test-model", "max_tokens": 100, "messages": HELLO, **fields}
        return await self.client.messages.create(**given)


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    script = Upstream()
    harness = Harness(models=["test-model", "other-model"])
    harness.upstream = ScriptedUpstream(answer=script)
    async with harness as gateway:
        one = Served(gateway, script)
        try:
            yield one
        finally:
            await one.client.close()
            one.blocking.close()
        assert not gateway.upstream.faults


def events(*deltas: dict[str, Any], finish: str = "stop", usage: Any = USAGE) -> Script:
    """A streamed chat completion."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
        return {**base, "choices": [choice]}

    values = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish)]
    values.append({**chunk({}), "choices": [], "usage": usage})
    return Script(200, [("content-type", "text/event-stream")], sse(*values, "[DONE]"), "chunked")


def call(index: int, id: str, *pieces: str) -> list[dict[str, Any]]:
    """A streamed call of the tool."""
    first = {
        "index": index,
        "id": id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [one]} for one in (first, *rest)]


# -- messages -------------------------------------------------------------------------------------


async def test_a_message_comes_back_whole() -> None:
    async with served() as one:
        answer = await one.ask(
            chat_body("Hi there.") | {"usage": USAGE}, system="Be brief.", stop_sequences=["END"]
        )
        assert one.sent == {
            "model": "test-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            "max_tokens": 100,
            "stop": ["END"],
        }
    assert isinstance(answer, anthropic.types.Message)
    assert (answer.content[0].text, answer.stop_reason, answer.model) == (
        "Hi there.",
        "end_turn",
        "test-model",
    )
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (8, 12, 7)
    assert usage.output_tokens_details.thinking_tokens == 3


async def test_the_blocking_client_gets_the_same() -> None:
    async with served() as one:
        one.script.answers.append(chat_body("Hi."))
        ask = one.blocking.messages.create
        answer = await asyncio.to_thread(ask, model="test-model", max_tokens=9, messages=HELLO)
    assert answer.content[0].text == "Hi."


async def test_the_blocking_client_streams() -> None:
    def read(client: anthropic.Anthropic) -> tuple[list[str], str | None]:
        with client.messages.stream(model="test-model", max_tokens=9, messages=HELLO) as stream:
            return list(stream.text_stream), stream.get_final_message().stop_reason

    async with served() as one:
        one.script.answers.append(events({"content": "Hel"}, {"content": "lo"}, finish="length"))
        texts, reason = await asyncio.to_thread(read, one.blocking)
    assert (texts, reason) == (["Hel", "lo"], "max_tokens")


async def test_a_beta_client_gets_the_same() -> None:
    async with served() as one:
        one.script.answers.append(chat_body("Hi."))
        answer = await one.client.beta.messages.create(
            model="test-model", max_tokens=9, messages=HELLO, betas=["files-api-2025-04-14"]
        )
    assert answer.content[0].text == "Hi."


async def test_what_the_upstream_cannot_do_is_named_in_a_header() -> None:
    async with served() as one:
        one.script.answers.append(chat_body("Hi."))
        answer = await one.client.messages.with_raw_response.create(
            model="test-model",
            max_tokens=9,
            messages=HELLO,
            extra_body={"context_management": {"edits": []}},
        )
        ignored = answer.headers["x-lmg-ignored-fields"]
    assert ignored == "context_management"


async def test_our_own_field_is_read_and_removed() -> None:
    async with served() as one:
        await one.ask(chat_body("Hi."), extra_body={"routing_hint": "low_latency"})
        assert "routing_hint" not in one.sent


async def test_images_and_documents_arrive() -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"},
        },
    ]
    async with served() as one:
        await one.ask(chat_body("A pixel."), messages=[{"role": "user", "content": content}])
        assert one.sent["messages"][0]["content"] == [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQK", "filename": "a.pdf"},
            },
        ]


async def test_a_request_that_cannot_be_carried_over_is_a_400_that_names_the_field() -> None:
    block = {"type": "search_result", "source": "a", "title": "b", "content": [{"type": "text", "text": "c"}]}
    async with served() as one:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await one.ask(messages=[{"role": "user", "content": [block]}])
        with pytest.raises(anthropic.BadRequestError):
            await one.ask(extra_body={"inference_geo": "us"})
        assert one.gateway.upstream.received == []
    assert caught.value.type == "invalid_request_error"
    assert caught.value.error_code == "unsupported_field"
    assert "messages[0].content[0].type" in str(caught.value)


# -- tools ----------------------------------------------------------------------------------------


async def test_tools_go_round() -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        for n, arguments in enumerate(['{"city": "Paris"}', ""])
    ]
    message = {"role": "assistant", "content": "I shall look.", "tool_calls": calls}
    whole = chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    async with served() as one:
        answer = await one.ask(
            whole,
            tools=[{**WEATHER, "strict": True}],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        )
        assert one.sent["tool_choice"] == "required"
        assert one.sent["parallel_tool_calls"] is False
        assert one.sent["tools"][0]["function"]["strict"] is True
        assert [block.type for block in answer.content] == ["text", "tool_use", "tool_use"]
        assert answer.stop_reason == "tool_use"
        assert [block.input for block in answer.content[1:]] == [{"city": "Paris"}, {}]
        results = [
            {"type": "tool_result", "tool_use_id": "call_0", "content": "18"},
            {
                "type": "tool_result",
                "tool_use_id": "call_1",
                "content": [{"type": "text", "text": "no"}],
                "is_error": True,
            },
            {"type": "text", "text": "And now?"},
        ]
        history = [
            *HELLO,
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": results},
        ]
        final = await one.ask(chat_body("Warm."), tools=[WEATHER], messages=history)
        sent = one.sent["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [json.loads(call["function"]["arguments"]) for call in sent[1]["tool_calls"]] == [
        {"city": "Paris"},
        {},
    ]
    assert [message.get("tool_call_id") for message in sent[2:4]] == ["call_0", "call_1"]
    assert final.content[0].text == "Warm."


async def test_a_streamed_call_comes_in_pieces_of_its_json() -> None:
    script = events(
        {"content": "I shall "},
        {"content": "look."},
        *call(0, "call_1", '{"ci', 'ty": "Par', 'is"}'),
        *call(1, "call_2", '{"city"', ': "Rome"}'),
        finish="tool_calls",
    )
    async with served() as one:
        one.script.answers.append(script)
        pieces: list[str] = []
        async with one.client.messages.stream(
            model="test-model", max_tokens=100, messages=HELLO, tools=[WEATHER]
        ) as stream:
            async for event in stream:
                if event.type == "input_json":
                    pieces.append(event.partial_json)
            final = await stream.get_final_message()
    assert pieces == ['{"ci', 'ty": "Par', 'is"}', '{"city"', ': "Rome"}']
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    uses: Any = final.content[1:]
    assert [(use.id, use.name, use.input) for use in uses] == [
        ("call_1", "get_weather", {"city": "Paris"}),
        ("call_2", "get_weather", {"city": "Rome"}),
    ]
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("tool_use", 8, 7)


async def test_the_client_s_own_tool_runner_works() -> None:
    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"18 degrees in {city}"

    calls = [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        }
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    whole = chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    async with served() as one:
        one.script.answers += [whole, chat_body("It is 18 degrees.")]
        runner = one.client.beta.messages.tool_runner(
            model="test-model", max_tokens=100, messages=HELLO, tools=[get_weather]
        )
        final = await runner.until_done()
        told = one.sent["messages"][-1]
    assert final.content[0].text == "It is 18 degrees."
    assert told == {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees in Paris"}


# -- reasoning and structured output --------------------------------------------------------------


async def test_thinking_is_asked_for_and_read() -> None:
    message = {"role": "assistant", "content": "7 is prime.", "reasoning_content": "No divisors."}
    whole = chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    async with served() as one:
        answer = await one.ask(whole, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=4000)
        assert one.sent["reasoning_effort"] == "low"
        assert [block.type for block in answer.content] == ["thinking", "text"]
        assert answer.content[0].thinking == "No divisors."
        await one.ask(chat_body(), thinking={"type": "adaptive"}, output_config={"effort": "high"})
        assert one.sent["reasoning_effort"] == "high"
        await one.ask(chat_body(), thinking={"type": "disabled"})
        assert one.sent["reasoning_effort"] == "none"


async def test_thinking_streams() -> None:
    script = events(
        {"reasoning_content": "No "}, {"reasoning_content": "divisors."}, {"content": "7 is prime."}
    )
    async with served() as one:
        one.script.answers.append(script)
        thoughts: list[str] = []
        async with one.client.messages.stream(
            model="test-model", max_tokens=4000, messages=HELLO, thinking={"type": "adaptive"}
        ) as stream:
            async for event in stream:
                if event.type == "thinking":
                    thoughts.append(event.thinking)
            final = await stream.get_final_message()
    assert thoughts == ["No ", "divisors."]
    assert [block.type for block in final.content] == ["thinking", "text"]


async def test_structured_output_is_parsed() -> None:
    class Person(BaseModel):
        name: str
        age: int

    async with served() as one:
        one.script.answers.append(chat_body('{"name": "Ada", "age": 36}'))
        answer = await one.client.messages.parse(
            model="test-model", max_tokens=100, messages=HELLO, output_format=Person
        )
        form = one.sent["response_format"]
    assert answer.parsed_output == Person(name="Ada", age=36)
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["additionalProperties"] is False


async def test_a_refusal_is_one_to_this_client_too() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    whole = chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    async with served() as one:
        answer = await one.ask(whole)
        assert (answer.stop_reason, answer.content[0].text) == ("refusal", "I will not.")
        one.script.answers.append(events({"refusal": "I will "}, {"refusal": "not."}))
        async with one.client.messages.stream(model="test-model", max_tokens=9, messages=HELLO) as stream:
            final = await stream.get_final_message()
    assert (final.stop_reason, final.content[0].text) == ("refusal", "I will not.")


# -- tokens and models ----------------------------------------------------------------------------


async def test_tokens_are_estimated_where_the_upstream_cannot_be_asked() -> None:
    async with served() as one:
        raw = await one.client.messages.with_raw_response.count_tokens(
            model="test-model", messages=HELLO, system="Be brief."
        )
        counted = await raw.parse()
        receipt = (await one.gateway.ended()).receipt
        assert one.gateway.upstream.received == []
    assert counted.input_tokens == 5
    assert raw.headers["x-lmg-estimated"] == "true"
    assert receipt is not None
    assert (receipt.operation, receipt.input_tokens, receipt.output_tokens) == ("count_tokens", 0, 0)


async def test_models_are_listed_page_by_page() -> None:
    async with served() as one:
        first = await one.client.models.list(limit=1)
        assert [model.id for model in first.data] == ["test-model"]
        assert first.has_more
        assert [model.id async for model in first] == ["test-model", "other-model"]
        found = await one.client.models.retrieve("other-model")
        assert (found.id, found.type, found.lifecycle) == ("other-model", "model", "active")
        with pytest.raises(anthropic.NotFoundError) as caught:
            await one.client.models.retrieve("nowhere")
        with pytest.raises(anthropic.BadRequestError):
            await one.client.models.list(limit=5000)
        with pytest.raises(anthropic.BadRequestError):
            await one.client.models.list(after_id="nowhere")
    assert caught.value.type == "not_found_error"


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "raised", "type_"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (409, anthropic.ConflictError, "conflict_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (422, anthropic.UnprocessableEntityError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.InternalServerError, "overloaded_error"),
        (504, anthropic.InternalServerError, "timeout_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_errors_of_the_upstream_raise_the_client_s_own_exceptions(
    status: int, raised: type[anthropic.APIStatusError], type_: str, streamed: bool
) -> None:
    body = json.dumps({"error": {"message": "It failed.", "type": "some_type", "code": "some_code"}}).encode()
    headers = [("content-type", "application/json"), ("retry-after", "7")]
    async with served() as one:
        with pytest.raises(raised) as caught:
            await one.ask(Script(status, headers, [body]), stream=streamed)
    error = caught.value
    assert (error.status_code, error.type) == (502 if status == 500 else status, type_)
    assert error.response.headers["retry-after"] == "7"
    assert error.error_code == "some_code"
    assert isinstance(error.body, dict)
    assert error.body["request_id"] == error.response.headers["x-request-id"]


async def test_the_account_s_own_trouble_is_not_the_caller_s() -> None:
    async with served() as one:
        with pytest.raises(anthropic.InternalServerError) as caught:
            await one.ask(Script(401, [], [b"{}"]))
    assert (caught.value.status_code, caught.value.type) == (502, "api_error")


async def test_a_caller_without_a_key_is_told_in_this_client_s_words() -> None:
    mesh = {"pipeline": [{"auth_static": {"keys": [{"key": "sk-0123456789abcdef", "subject": "a"}]}}]}
    pytest.importorskip("lmg_auth_keys")
    async with Harness(mesh) as gateway:
        client = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="sk-wrong-wrong-wrong", max_retries=0)
        for ask in (
            client.messages.create(model="test-model", max_tokens=9, messages=HELLO),
            client.messages.count_tokens(model="test-model", messages=HELLO),
        ):
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await ask
            assert caught.value.type == "authentication_error"
        with pytest.raises(anthropic.AuthenticationError):
            await client.models.list()
        key = {"x-api-key": "sk-0123456789abcdef"}
        body = {"model": "test-model", "max_tokens": 9, "messages": HELLO}
        assert (await gateway.request(body, path="/v1/messages", headers=key)).status == 200
        await client.close()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ],
)
async def test_what_is_no_request_is_refused_with_its_place(fields: dict[str, Any], param: str) -> None:
    body = {"model": "test-model", "max_tokens": 9, "messages": HELLO, **fields}
    async with served() as one:
        answer = await one.gateway.request(body, path="/v1/messages")
        assert one.gateway.upstream.received == []
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["details"]["param"] == param


async def test_a_stream_that_breaks_raises() -> None:
    script = events({"content": "Hel"})
    script.pieces = [*script.pieces[:2], Cut()]
    async with served() as one:
        stream = await one.ask(script, stream=True)
        seen: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for event in stream:
                seen.append(event.type)
    assert seen == ["message_start", "content_block_start", "content_block_delta"]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "api_error"
