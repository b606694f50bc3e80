"""The official Python SDK against the gateway, over a real socket, with nothing changed but its base URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from lmg.testing import Cut, ScriptedUpstream, Wait, chat_body, chat_events, sse

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
                "required": ["place", "days"],
                "additionalProperties": False,
            },
        },
    }
]


def client_of(gateway: Any, key: str, **more: Any) -> OpenAI:
    return OpenAI(
        base_url=gateway.v1,
        api_key=key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=60),
        **more,
    )


@pytest.fixture
def client(sdk_gateway: Any, key: str, upstream: ScriptedUpstream) -> Iterator[OpenAI]:
    with client_of(sdk_gateway, key) as made:
        yield made


@pytest.fixture
def llama_client(llama_gateway: Any, key: str) -> Iterator[OpenAI]:
    with client_of(llama_gateway, key) as made:
        yield made


# Answers


def test_chat(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.reply(chat_body("Hello there"))
    answer = client.chat.completions.create(model="gpt-4", messages=HELLO, temperature=0.5, seed=7)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7
    expected = {"model": "gpt-4", "messages": HELLO, "temperature": 0.5, "seed": 7}
    assert upstream.received[0].json == expected


@pytest.mark.parametrize("usage", [None, False, True])
def test_stream(client: OpenAI, upstream: ScriptedUpstream, usage: bool | None) -> None:
    upstream.stream(*chat_events("Hel", "lo"))
    options: Any = {} if usage is None else {"stream_options": {"include_usage": usage}}
    chunks = list(client.chat.completions.create(model="gpt-4", messages=HELLO, stream=True, **options))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Hello"
    assert chunks[-2 if usage else -1].choices[0].finish_reason == "stop"
    stated = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [one.total_tokens for one in stated] == ([7] if usage else [])
    # The gateway counts in any case.
    assert upstream.received[0].json["stream_options"]["include_usage"] is True


def test_the_stream_helper_assembles_the_answer(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.stream(*chat_events("Hel", "lo"))
    with client.chat.completions.stream(model="gpt-4", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello"


def test_tools_reach_the_upstream_untouched_and_calls_come_back(
    client: OpenAI, upstream: ScriptedUpstream
) -> None:
    arguments = '{"place": "Paris", "days": 2}'
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.reply(
        chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    )
    answer = client.chat.completions.create(
        model="gpt-4", messages=HELLO, tools=TOOLS, tool_choice="auto", parallel_tool_calls=False
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (made,) = answer.choices[0].message.tool_calls or []
    assert made.type == "function"
    assert (made.id, made.function.name, made.function.arguments) == ("call_1", "get_weather", arguments)
    sent = upstream.received[0].json
    assert (sent["tools"], sent["tool_choice"], sent["parallel_tool_calls"]) == (TOOLS, "auto", False)

    # And the conversation goes on with the tool's result.
    upstream.reply(chat_body("Sunny"))
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    history: list[Any] = [*HELLO, answer.choices[0].message.model_dump(exclude_none=True), result]
    client.chat.completions.create(model="gpt-4", messages=history, tools=TOOLS)
    assert upstream.received[1].json["messages"] == json.loads(json.dumps(history))


def test_streamed_tool_calls_come_back_piece_by_piece(client: OpenAI, upstream: ScriptedUpstream) -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-4",
            "choices": [choice],
        }

    def part(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **more.pop("function", {})}
        return chunk({"tool_calls": [{"index": index, "function": function, **more}]})

    pieces = [
        chunk({"role": "assistant", "content": None}),
        part(0, "", id="call_a", type="function", function={"name": "get_weather"}),
        part(0, '{"place": '),
        part(0, '"Paris", "days": 1}'),
        part(1, "", id="call_b", type="function", function={"name": "get_weather"}),
        part(1, '{"place": "Lyon", "days": 2}'),
        chunk({}, "tool_calls"),
    ]
    upstream.stream(*sse(*pieces, "[DONE]"))
    with client.chat.completions.stream(model="gpt-4", messages=HELLO, tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [(call.id, json.loads(call.function.arguments)) for call in calls] == [
        ("call_a", {"place": "Paris", "days": 1}),
        ("call_b", {"place": "Lyon", "days": 2}),
    ]


def test_structured_output_is_asked_for_and_parsed(client: OpenAI, upstream: ScriptedUpstream) -> None:
    from pydantic import BaseModel

    class Capital(BaseModel):
        city: str

    upstream.reply(chat_body('{"city": "Paris"}'))
    answer = client.chat.completions.parse(model="gpt-4", messages=HELLO, response_format=Capital)
    assert answer.choices[0].message.parsed == Capital(city="Paris")
    assert upstream.received[0].json["response_format"]["json_schema"]["name"] == "Capital"


def test_embeddings(client: OpenAI, upstream: ScriptedUpstream) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=2)
    assert made.data[0].embedding == [0.1, 0.2]
    sent = upstream.received[0].json
    assert (sent["input"], sent["dimensions"], sent["encoding_format"]) == (["a", "b"], 2, "base64")


def test_embeddings_of_echo_are_unpacked_by_the_sdk(client: OpenAI) -> None:
    packed = client.embeddings.create(model="echo", input="a").data[0].embedding
    plain = client.embeddings.create(model="echo", input="a", encoding_format="float").data[0].embedding
    assert packed == pytest.approx(plain, abs=1e-6)


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    listed = {model.id: model.owned_by for model in client.models.list()}
    assert listed["gpt-4"] == "openai"
    assert set(listed) == {"gpt-4", "gpt-4o-mini", "text-embedding-3-small", "slow", "echo"}
    assert client.models.retrieve("gpt-4").id == "gpt-4"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-none")


def test_the_raw_response_has_the_gateway_s_request_id(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4", messages=HELLO)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.request_id
    mine = client.chat.completions.with_raw_response.create(
        model="gpt-4", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert mine.parse().choices


async def test_the_asynchronous_client_is_served_too(
    sdk_gateway: Any, key: str, upstream: ScriptedUpstream
) -> None:
    http = httpx.AsyncClient(trust_env=False)
    async with AsyncOpenAI(base_url=sdk_gateway.v1, api_key=key, max_retries=0, http_client=http) as client:
        whole = await client.chat.completions.create(model="gpt-4", messages=HELLO)
        assert whole.choices[0].message.content == "Hello!"
        stream = await client.chat.completions.create(model="gpt-4", messages=HELLO, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(parts) == "Hello!"


# Errors


@pytest.mark.parametrize("given", ["sk-e2e-of-somebody-else", "short"])
def test_a_wrong_key_is_an_authentication_error(sdk_gateway: Any, given: str) -> None:
    with client_of(sdk_gateway, given) as client:
        for call in (
            client.models.list,
            lambda: client.chat.completions.create(model="gpt-4", messages=HELLO),
        ):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert caught.value.code == "invalid_api_key"
            assert caught.value.request_id
            assert caught.value.response.headers["www-authenticate"] == "Bearer"


def test_an_unknown_model_is_a_not_found_error(client: OpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert upstream.received == []


def test_a_request_that_is_none_is_a_bad_request_error(client: OpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4", messages=[])
    assert caught.value.param == "messages"
    assert upstream.received == []


def test_a_body_over_the_limit_is_a_413(client: OpenAI, upstream: ScriptedUpstream) -> None:
    long: list[Any] = [{"role": "user", "content": "x" * 200_000}]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="gpt-4", messages=long)
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert upstream.received == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "error", "seen"),
    [
        (400, openai.BadRequestError, 400),
        (403, openai.PermissionDeniedError, 403),
        (404, openai.NotFoundError, 404),
        (409, openai.ConflictError, 409),
        (422, openai.UnprocessableEntityError, 422),
        (429, openai.RateLimitError, 429),
        (500, openai.InternalServerError, 502),
        (503, openai.InternalServerError, 503),
        # The gateway's account was refused, not the caller's: no reason to doubt the caller's key.
        (401, openai.InternalServerError, 502),
    ],
)
def test_errors_of_the_upstream_are_the_sdk_s_own_classes(
    client: OpenAI,
    upstream: ScriptedUpstream,
    status: int,
    error: type[openai.APIStatusError],
    seen: int,
    stream: bool,
) -> None:
    body = {"error": {"message": "It says no.", "type": "some_type", "code": "some_code", "param": "p"}}
    upstream.reply(body, status=status, headers=[("retry-after", "7")])
    with pytest.raises(error) as caught:
        client.chat.completions.create(model="gpt-4", messages=HELLO, stream=stream)
    assert caught.value.status_code == seen
    assert caught.value.request_id
    if seen == status:
        assert (caught.value.code, caught.value.param, caught.value.type) == ("some_code", "p", "some_type")
        assert "It says no." in caught.value.message
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
    assert len(upstream.received) == 1


def test_an_upstream_that_is_too_slow_is_a_504(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.raw(Wait(2), b"")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="slow", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="slow", messages=HELLO, stream=True)
    assert caught.value.status_code == 504


def test_the_sdk_s_own_timeout_ends_the_call(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.raw(Wait(5), b"")
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="gpt-4", messages=HELLO, timeout=0.2)


@pytest.mark.parametrize("how", ["fin", "rst", "unfinished", "error", "stall"])
def test_a_stream_that_breaks_raises(client: OpenAI, upstream: ScriptedUpstream, how: str) -> None:
    events = chat_events("one", "two", "three")
    broken: dict[str, list[Any]] = {
        "fin": [*events[:3], Cut("fin")],
        "rst": [*events[:3], Wait(0.05), Cut("rst")],
        "unfinished": events[:3],
        "error": [*events[:3], *sse({"error": {"message": "overloaded", "code": "x"}})],
        "stall": [*events[:3], Wait(2), *events[3:]],
    }
    upstream.stream(*broken[how])
    model = "slow" if how == "stall" else "gpt-4"
    text = ""
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == "onetwo"
    assert isinstance(caught.value.body, dict)
    assert caught.value.code == {"stall": "upstream_timeout", "error": "x"}.get(how, "upstream_error")


def test_retries_are_the_sdk_s_and_follow_what_the_gateway_says(
    sdk_gateway: Any, key: str, upstream: ScriptedUpstream
) -> None:
    upstream.reply({"error": {"message": "busy"}}, status=429, headers=[("retry-after-ms", "10")])
    upstream.reply(chat_body("at last"))
    with OpenAI(
        base_url=sdk_gateway.v1, api_key=key, max_retries=2, http_client=httpx.Client(trust_env=False)
    ) as client:
        answer = client.chat.completions.create(model="gpt-4", messages=HELLO)
        assert answer.choices[0].message.content == "at last"
        assert len(upstream.received) == 2
        # A model that does not exist will not exist the next time either.
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-none", messages=HELLO)


# A real model


def test_a_real_model_answers(llama_client: OpenAI) -> None:
    answer = llama_client.chat.completions.create(
        model="smollm", messages=QUESTION, temperature=0, max_tokens=40
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("usage", [False, True])
def test_a_real_model_streams(llama_client: OpenAI, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    stream = llama_client.chat.completions.create(
        model="smollm", messages=QUESTION, temperature=0, max_tokens=40, stream=True, **options
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert "Paris" in text
    assert len(chunks) > 4
    assert (chunks[-1].usage is not None) == usage


def test_a_real_model_places_related_texts_closer(llama_client: OpenAI) -> None:
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Interest rates rose by two percent.",
    ]
    cat, kitten, rates = (
        item.embedding for item in llama_client.embeddings.create(model="smollm", input=texts).data
    )

    def product(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert product(cat, kitten) > product(cat, rates)


def test_a_real_server_s_refusal_is_the_sdk_s_own_class(llama_client: OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 5000}]
    with pytest.raises(openai.BadRequestError):
        llama_client.chat.completions.create(model="smollm", messages=long, max_tokens=5)
