"""The official Node client against the gateway: the same essentials as the Python SDK's, by another parser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmg.testing import Cut, ScriptedUpstream, Wait, chat_body, chat_events, sse

Run = Callable[..., Any]


@pytest.fixture
def run(node: Run, key: str) -> Run:
    """``run(gateway, scenario)`` is what the scenario saw."""

    def call(gateway: Any, scenario: str) -> Any:
        return node("client.mjs", scenario, OPENAI_BASE_URL=gateway.v1, OPENAI_API_KEY=key)

    return call


def test_chat(run: Run, sdk_gateway: Any, upstream: ScriptedUpstream) -> None:
    seen = run(sdk_gateway, "chat")
    assert (seen["text"], seen["usage"]) == ("Hello!", 7)
    assert seen["requestId"] == seen["header"]
    assert seen["requestId"].startswith("req_")
    messages = [{"role": "user", "content": "hello"}]
    assert upstream.received[0].json == {"model": "gpt-4", "messages": messages, "seed": 7}


@pytest.mark.parametrize(("scenario", "usage"), [("stream", None), ("streamWithUsage", 7)])
def test_stream(
    run: Run, sdk_gateway: Any, upstream: ScriptedUpstream, scenario: str, usage: int | None
) -> None:
    upstream.stream(*chat_events("Hel", "lo"))
    assert run(sdk_gateway, scenario) == {"text": "Hello", "finish": "stop", "usage": usage, "error": None}


@pytest.mark.parametrize("how", ["fin", "rst", "error"])
def test_a_stream_that_breaks_raises(
    run: Run, sdk_gateway: Any, upstream: ScriptedUpstream, how: str
) -> None:
    endings: dict[str, list[Any]] = {
        "fin": [Cut("fin")],
        "rst": [Wait(0.05), Cut("rst")],
        "error": sse({"error": {"message": "overloaded"}}),
    }
    upstream.stream(*chat_events("one", "two")[:3], *endings[how])
    seen = run(sdk_gateway, "brokenStream")
    assert (seen["text"], seen["finish"]) == ("onetwo", None)
    assert seen["error"]["isAPIError"]
    assert seen["error"]["code"] == "upstream_error"


def test_tools_go_there_and_calls_come_back(run: Run, sdk_gateway: Any, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    upstream.reply(chat_body() | {"choices": [choice]})
    assert run(sdk_gateway, "tools") == [call]
    sent = upstream.received[0].json
    assert sent["tool_choice"] == "auto"
    assert sent["tools"][0]["function"]["parameters"]["properties"] == {"a": {"type": "integer"}}


def test_streamed_tool_calls_come_back(run: Run, sdk_gateway: Any, upstream: ScriptedUpstream) -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-4",
            "choices": [choice],
        }

    opening = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"a"', ": 1}")]
    upstream.stream(
        *sse(
            chunk({"role": "assistant", "content": None, "tool_calls": [opening]}),
            *(chunk({"tool_calls": [part]}) for part in parts),
            chunk({}, "tool_calls"),
            "[DONE]",
        )
    )
    (call,) = run(sdk_gateway, "streamedTools")
    assert (call["id"], call["function"]["name"], call["function"]["arguments"]) == (
        "call_1",
        "f",
        '{"a": 1}',
    )


def test_embeddings(run: Run, sdk_gateway: Any, upstream: ScriptedUpstream) -> None:
    seen = run(sdk_gateway, "embeddings")
    assert len(seen["plain"]) > 1
    assert seen["packed"] == pytest.approx(seen["plain"], abs=1e-6)


def test_models_are_listed_and_retrieved(run: Run, sdk_gateway: Any, upstream: ScriptedUpstream) -> None:
    seen = run(sdk_gateway, "models")
    assert set(seen["ids"]) == {"gpt-4", "gpt-4o-mini", "text-embedding-3-small", "slow", "echo"}
    assert seen["one"] == "gpt-4"
    assert seen["none"]["raised"] == "NotFoundError"


@pytest.mark.parametrize(
    ("scenario", "raised", "status", "code"),
    [
        ("wrongKey", "AuthenticationError", 401, "invalid_api_key"),
        ("unknownModel", "NotFoundError", 404, "model_not_found"),
        ("badRequest", "BadRequestError", 400, "invalid_request"),
        ("tooLarge", "APIError", 413, "body_too_large"),
    ],
)
def test_the_gateway_s_refusals_are_the_client_s_own_classes(
    run: Run, sdk_gateway: Any, upstream: ScriptedUpstream, scenario: str, raised: str, status: int, code: str
) -> None:
    seen = run(sdk_gateway, scenario)
    assert (seen["raised"], seen["status"], seen["code"]) == (raised, status, code)
    assert upstream.received == []


@pytest.mark.parametrize("scenario", ["upstreamError", "upstreamErrorStreamed"])
@pytest.mark.parametrize(
    ("status", "raised", "seen_status"),
    [
        (422, "UnprocessableEntityError", 422),
        (429, "RateLimitError", 429),
        (500, "InternalServerError", 502),
    ],
)
def test_errors_of_the_upstream_are_the_client_s_own_classes(
    run: Run,
    sdk_gateway: Any,
    upstream: ScriptedUpstream,
    scenario: str,
    status: int,
    raised: str,
    seen_status: int,
) -> None:
    upstream.reply({"error": {"message": "no", "code": "c"}}, status=status, headers=[("retry-after", "7")])
    seen = run(sdk_gateway, scenario)
    assert (seen["raised"], seen["status"]) == (raised, seen_status)
    assert seen["requestID"].startswith("req_")
    assert seen["retryAfter"] == "7"


def test_an_upstream_that_is_too_slow_is_a_504(
    run: Run, sdk_gateway: Any, upstream: ScriptedUpstream
) -> None:
    upstream.raw(Wait(2), b"")
    seen = run(sdk_gateway, "tooSlow")
    assert (seen["raised"], seen["status"]) == ("InternalServerError", 504)


def test_a_real_model_answers(run: Run, llama_gateway: Any) -> None:
    seen = run(llama_gateway, "realModel")
    assert "Paris" in seen["whole"]
    assert "Paris" in seen["streamed"]
