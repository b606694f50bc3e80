"""The official SDK's responses, and agents built on it, in front of an upstream that speaks chat completions alone."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from lmg.testing import Cut, Harness, Received, Script, ScriptedUpstream, sse

openai = pytest.importorskip("openai")

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": SCHEMA,
    "strict": True,
}
BASE = {"id": "chatcmpl-1", "created": 1760000000, "model": "upstream-model"}
USAGE = {
    "prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@cache
def published() -> tuple[Any, set[str]]:
    """What reads a chat completion's request with the published types, and the members that these know."""
    from openai.types.chat.completion_create_params import CompletionCreateParams
    from pydantic import TypeAdapter

    known = set().union(*(get_type_hints(one).keys() for one in get_args(CompletionCreateParams)))
    return TypeAdapter(CompletionCreateParams), known


def exhaust(value: Any) -> None:
    """Arrays that pydantic checks only when they are read are read."""
    for item in value.values() if isinstance(value, dict) else value:
        if hasattr(item, "__iter__") and not isinstance(item, str):
            exhaust(item)


def choice(finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}


def by_rule(body: dict[str, Any]) -> dict[str, Any]:
    """What a small model says: it calls each tool for two cities, then tells what it was told."""
    told = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    if told:
        return choice(content=f"I was told: {', '.join(told)}")
    if body.get("tools"):
        calls = [
            {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": city})}}
            for city in ("Paris", "Rome")
        ]  # fmt: skip
        return choice("tool_calls", tool_calls=calls)
    if body.get("response_format", {}).get("type") == "json_schema":
        return choice(content=json.dumps({"name": "Ada", "age": 36}))
    return choice(content="Hello there.")


def chunks(said: dict[str, Any], logprobs: Any = None) -> list[Any]:
    """The same answer streamed, in pieces of five characters."""
    message = said["message"]
    deltas: list[Any] = [{"role": "assistant", "content": ""}]
    for detail in message.get("reasoning_details") or ():
        deltas.append({"reasoning_details": [{"index": 0, **detail}]})
    for kind in ("content", "refusal"):
        text = message.get(kind) or ""
        deltas += [{kind: text[n : n + 5]} for n in range(0, len(text), 5)]
    for n, call in enumerate(message.get("tool_calls") or ()):
        text = call["function"]["arguments"]
        opening = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        deltas.append({"tool_calls": [{"index": n, **opening}]})
        deltas += [
            {"tool_calls": [{"index": n, "function": {"arguments": text[m : m + 5]}}]}
            for m in range(0, len(text), 5)
        ]
    made = [
        {**BASE, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]  # fmt: skip
    made.append({**made[0], "choices": [{"index": 0, "delta": {}, "finish_reason": said["finish_reason"]}]})
    return [*made, {**made[0], "choices": [], "usage": USAGE}]


def model(rule: Callable[[dict[str, Any]], dict[str, Any]] = by_rule) -> Callable[[Received], Script]:
    """An upstream that reads each request with the published types and answers by ``rule``."""

    def answer(request: Received) -> Script:
        assert request.path == "/v1/chat/completions"
        body = request.json
        adapter, known = published()
        exhaust(adapter.validate_python(body))
        assert body.keys() <= known
        said = rule(body)
        if body.get("stream"):
            return Script(
                200, [("content-type", "text/event-stream")], sse(*chunks(said), "[DONE]"), "chunked"
            )
        whole = {**BASE, "object": "chat.completion", "choices": [{"index": 0, **said}], "usage": USAGE}
        return Script(200, [("content-type", "application/json")], [json.dumps(whole).encode()])

    return answer


@asynccontextmanager
async def serving(rule: Callable[[dict[str, Any]], dict[str, Any]] = by_rule) -> AsyncIterator[Any]:
    """A gateway in front of such a model, and the SDK's client of it; no request may be one that the API refuses."""
    gateway = Harness()
    gateway.upstream = ScriptedUpstream(answer=model(rule))
    async with gateway:
        url = f"{gateway.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
            yield gateway, client
            assert gateway.upstream.faults == []


def sent(gateway: Harness, n: int = -1) -> Any:
    return gateway.upstream.received[n].json


# -- whole answers --------------------------------------------------------------------------------


async def test_text() -> None:
    async with serving() as (gateway, client):
        got = await client.responses.create(
            model="test-model", instructions="Be brief.", input="Hello", max_output_tokens=50, temperature=0.5
        )
        assert (got.output_text, got.status, got.error) == ("Hello there.", "completed", None)
        assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (11, 5, 16)
        assert got.usage.input_tokens_details.cached_tokens == 8
        assert got.usage.output_tokens_details.reasoning_tokens == 2
        assert got.id == "resp_chatcmpl-1"
        assert sent(gateway) == {
            "model": "test-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
            ],
            "max_tokens": 50,
            "temperature": 0.5,
        }
        await gateway.ended()
        (receipt,) = gateway.receipts
        assert (receipt.input_tokens, receipt.output_tokens, receipt.dialect) == (11, 5, "openai.responses")


async def test_a_synchronous_client() -> None:
    def ask(url: str) -> list[str]:
        with openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
            whole = client.responses.create(model="test-model", input="Hello").output_text
            with client.responses.stream(model="test-model", input="Hello") as stream:
                pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
                final = stream.get_final_response().output_text
            parsed = client.responses.parse(model="test-model", input="Who?", text_format=Person)
            assert parsed.output_parsed == Person(name="Ada", age=36)
            return [whole, "".join(pieces), final]

    async with serving() as (gateway, _):
        assert await asyncio.to_thread(ask, f"{gateway.url}/v1") == ["Hello there."] * 3


async def test_images_reach_the_model() -> None:
    url = f"data:image/png;base64,{PIXEL}"
    async with serving() as (gateway, client):
        await client.responses.create(
            model="test-model",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": url, "detail": "low"},
                    ],
                }
            ],
        )
        assert sent(gateway)["messages"][0]["content"] == [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        ]


async def test_structured_output_is_parsed() -> None:
    async with serving() as (gateway, client):
        got = await client.responses.parse(model="test-model", input="Who?", text_format=Person)
        assert got.output_parsed == Person(name="Ada", age=36)
        asked = sent(gateway)["response_format"]["json_schema"]
        assert (asked["name"], asked["strict"]) == ("Person", True)
        assert asked["schema"]["required"] == ["name", "age"]


async def test_tools_are_called_and_their_results_told() -> None:
    async with serving() as (gateway, client):
        question: list[Any] = [{"role": "user", "content": "How warm is it?"}]
        first = await client.responses.create(
            model="test-model",
            input=question,
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=True,
        )
        assert [(one.type, one.name, one.arguments, one.call_id) for one in first.output] == [
            ("function_call", "get_weather", '{"city": "Paris"}', "call_Paris"),
            ("function_call", "get_weather", '{"city": "Rome"}', "call_Rome"),
        ]
        assert sent(gateway)["tool_choice"] == "required"
        results = [
            {"type": "function_call_output", "call_id": one.call_id, "output": f"{n} degrees"}
            for n, one in enumerate(first.output)
        ]
        second = await client.responses.create(
            model="test-model", input=[*question, *first.output, *results], tools=[WEATHER]
        )
        assert second.output_text == "I was told: 0 degrees, 1 degrees"
        roles = [message["role"] for message in sent(gateway)["messages"]]
        assert roles == ["user", "assistant", "tool", "tool"]


THOUGHT = [{"type": "reasoning.text", "text": "Let me see.", "signature": "SIG", "id": "rs_1"}]


async def test_reasoning_comes_sealed_and_is_named_where_it_cannot_go_back() -> None:
    async with serving(lambda _: choice(content="Yes.", reasoning_details=THOUGHT)) as (gateway, client):
        question: Any = {"role": "user", "content": "Is 7 prime?"}
        got = await client.responses.create(
            model="test-model", input=[question], reasoning={"effort": "high"}
        )
        thought, message = got.output
        assert [part.text for part in thought.summary] == ["Let me see."]
        assert (thought.id, thought.encrypted_content) == ("rs_1", "SIG")
        assert message.content[0].text == "Yes."
        assert sent(gateway)["reasoning_effort"] == "high"
        raw = await client.responses.with_raw_response.create(
            model="test-model", input=[question, *got.output, {"role": "user", "content": "And 8?"}]
        )
        assert raw.headers["x-lmg-ignored-fields"] == "input[1]"
        assert [message["content"] for message in sent(gateway)["messages"]] == [
            "Is 7 prime?",
            "Yes.",
            "And 8?",
        ]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_is_incomplete(finish: str, reason: str) -> None:
    async with serving(lambda _: choice(finish, content="It is")) as (_, client):
        got = await client.responses.create(model="test-model", input="Hello")
        assert (got.status, got.incomplete_details.reason) == ("incomplete", reason)
        assert got.output_text == "It is"
        events = [one async for one in await client.responses.create(model="test-model", input="Hello", stream=True)]  # fmt: skip
        assert events[-1].type == "response.incomplete"
        assert events[-1].response.incomplete_details.reason == reason


async def test_a_refusal_is_a_part_of_its_own() -> None:
    async with serving(lambda _: choice(refusal="I will not.")) as (_, client):
        got = await client.responses.create(model="test-model", input="Do harm.")
        assert got.output[0].content[0].refusal == "I will not."
        events = [one async for one in await client.responses.create(model="test-model", input="x", stream=True)]  # fmt: skip
        said = [event.delta for event in events if event.type == "response.refusal.delta"]
        assert "".join(said) == "I will not."


# -- streams --------------------------------------------------------------------------------------


async def test_a_stream_is_text_and_the_whole_answer() -> None:
    async with serving() as (gateway, client):
        async with client.responses.stream(model="test-model", input="Hello") as stream:
            pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert pieces == ["Hello", " ther", "e."]
        assert final.output_text == "Hello there."
        assert final.usage.total_tokens == 16
        assert sent(gateway)["stream_options"] == {"include_usage": True}
        await gateway.ended()
        (receipt,) = gateway.receipts
        assert (receipt.input_tokens, receipt.output_tokens, receipt.estimated) == (11, 5, False)


async def test_arguments_of_parallel_calls_are_streamed() -> None:
    async with serving() as (_, client):
        async with client.responses.stream(model="test-model", input="Weather?", tools=[WEATHER]) as stream:
            snapshots: dict[int, str] = {}
            done = []
            async for event in stream:
                if event.type == "response.function_call_arguments.delta":
                    snapshots[event.output_index] = event.snapshot
                elif event.type == "response.output_item.done":
                    done.append((event.item.call_id, event.item.arguments))
            final = await stream.get_final_response()
        assert snapshots == {0: '{"city": "Paris"}', 1: '{"city": "Rome"}'}
        assert done == [("call_Paris", '{"city": "Paris"}'), ("call_Rome", '{"city": "Rome"}')]
        assert [one.arguments for one in final.output] == list(snapshots.values())


async def test_a_stream_is_parsed() -> None:
    async with (
        serving() as (_, client),
        client.responses.stream(model="test-model", input="Who?", text_format=Person) as stream,
    ):
        assert (await stream.get_final_response()).output_parsed == Person(name="Ada", age=36)


async def test_reasoning_is_streamed() -> None:
    async with serving(lambda _: choice(content="Yes.", reasoning_details=THOUGHT)) as (_, client):
        events = [one async for one in await client.responses.create(model="test-model", input="x", stream=True)]  # fmt: skip
    said = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert said == ["Let me see."]
    thought = next(event.item for event in events if event.type == "response.output_item.done")
    assert (thought.type, thought.encrypted_content) == ("reasoning", "SIG")


async def test_a_stream_that_broke_raises_and_never_looks_finished() -> None:
    async with Harness() as gateway:
        *most, _, _, _ = sse(*chunks(by_rule({"messages": []})), "[DONE]")
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk", max_retries=0) as client:
            for ending in ([], [Cut("rst")], sse({"error": {"message": "Overloaded.", "code": 503}})):
                gateway.upstream.stream(*most, *ending)
                seen: list[str] = []
                with pytest.raises(openai.APIError):
                    async for event in await client.responses.create(
                        model="test-model", input="x", stream=True
                    ):
                        seen.append(event.type)
                assert "response.output_text.delta" in seen
                assert not {"response.completed", "response.incomplete", "response.output_item.done"} & {
                    *seen
                }


async def test_a_stream_that_failed_before_its_first_event_is_a_status() -> None:
    opening = sse(chunks(by_rule({"messages": []}))[0])
    busy = sse({"error": {"message": "Busy.", "code": 503}})
    async with Harness() as gateway:
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk", max_retries=0)
        for pieces, status in (([Cut("rst")], 502), (busy, 503), ([*opening, *busy], 503)):
            gateway.upstream.stream(*pieces)
            with pytest.raises(openai.APIStatusError) as caught:
                await client.responses.create(model="test-model", input="x", stream=True)
            assert caught.value.status_code == status
        await client.close()


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, "BadRequestError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_the_upstream_are_the_sdk_s_own(status: int, raised: str, stream: bool) -> None:
    async with Harness() as gateway:
        error = {"message": "No.", "type": "t", "param": "messages", "code": "c"}
        gateway.upstream.reply({"error": error}, status=status)
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk", max_retries=0) as client:
            with pytest.raises(getattr(openai, raised)) as caught:
                await client.responses.create(model="test-model", input="x", stream=stream)
            assert caught.value.code == "c"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://a/b"}]}]}, "input[0].content[0].file_url"),
    ],
)  # fmt: skip
async def test_what_cannot_be_carried_is_a_bad_request_at_its_place(
    fields: dict[str, Any], param: str
) -> None:
    async with serving() as (gateway, client):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**({"model": "test-model", "input": "x"} | fields))
        assert (caught.value.code, caught.value.param) == ("unsupported_field", param)
        assert gateway.upstream.received == []


async def test_what_is_left_out_is_named() -> None:
    async with serving() as (_, client):
        raw = await client.responses.with_raw_response.create(
            model="test-model", input="x", truncation="auto", max_tool_calls=2, extra_body={"x_new": 1}
        )
        named = raw.headers["x-lmg-ignored-fields"].split(", ")
        assert sorted(named) == ["max_tool_calls", "truncation", "x_new"]


async def test_a_request_that_makes_no_sense_is_a_bad_request() -> None:
    async with serving() as (_, client):
        for fields in ({"input": 1}, {"input": "x", "temperature": "hot"}, {"input": [1]}):
            with pytest.raises(openai.BadRequestError):
                await client.responses.create(**({"model": "test-model"} | fields))
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="another", input="x")


# -- agents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_uses_its_tool(streamed: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agents = pytest.importorskip("agents")
    asked: list[str] = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"{city}: 18"

    async with serving() as (gateway, client):
        made = agents.OpenAIResponsesModel("test-model", client)
        agent = agents.Agent("weather", instructions="Be brief.", tools=[get_weather], model=made)
        config = agents.RunConfig(tracing_disabled=True)
        if streamed:
            run = agents.Runner.run_streamed(agent, "How warm is it?", run_config=config)
            async for _ in run.stream_events():
                pass
        else:
            run = await agents.Runner.run(agent, "How warm is it?", run_config=config)
        assert run.final_output == "I was told: Paris: 18, Rome: 18"
        assert sorted(asked) == ["Paris", "Rome"]
        assert run.context_wrapper.usage.total_tokens == 32
        assert [one.json.get("stream") for one in gateway.upstream.received] == [streamed or None] * 2
