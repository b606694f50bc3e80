"""The Gemini API as an upstream: what goes over the wire, and what can never move it elsewhere."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest

from lmg import Component, ConfigError, Failure, Host, Refusal
from lmg.config import MeshConfig, validate
from lmg.exchange import Attempt, Target
from lmg.jsontext import JsonText
from lmg.pipeline import draft
from lmg.testing import Cut, Harness, ScriptedUpstream, sse
from lmg.upstream import TransportOptions, UpstreamRequest, Url
from lmg.upstream.h1 import H1Transport
from lmg.upstream.through_httpx import HttpxTransport
from lmg_gemini import Gemini

KEY = "AIzaSy0123456789abcdefghijklmnopqrstuvw"
MODEL = "gemini-3.1-pro-preview"
HELLO = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 15},
    "modelVersion": MODEL, "responseId": "resp-1",
}  # fmt: skip


def blueprint_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"gemini": settings}}, (), None)
    return draft(config, installed={}, classes={"gemini": Gemini})


# The request on the wire


@pytest.mark.parametrize("suffix", ["", "/", "/v1beta", "/v1beta/"])
async def test_requests_go_to_the_paths_of_the_api(harness: Any, suffix: str) -> None:
    async with harness(suffix=suffix) as gateway:
        gateway.upstream.reply(HELLO)
        assert (await gateway.chat()).text == "Hello!"
        gateway.upstream.stream(*sse(HELLO))
        assert (await gateway.chat(stream=True)).text == "Hello!"
        whole, streamed = gateway.upstream.received
    assert whole.path == f"/v1beta/models/{MODEL}:generateContent"
    assert streamed.path == f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    assert whole.json == streamed.json == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


async def test_a_base_path_and_the_version_may_be_others(harness: Any) -> None:
    settings = {"api_version": "v1alpha", "models": ["tuned"], "model_map": {"tuned": "tunedModels/mine-1"}}
    async with harness(settings, suffix="/proxy/v1alpha", strict=False) as gateway:
        gateway.upstream.stream(*sse(HELLO))
        assert (await gateway.chat(stream=True)).text == "Hello!"
        gateway.upstream.reply(HELLO)
        assert (await gateway.chat()).text == "Hello!"
        paths = [received.path for received in gateway.upstream.received]
    assert paths == [
        "/proxy/v1alpha/tunedModels/mine-1:streamGenerateContent?alt=sse",
        "/proxy/v1alpha/tunedModels/mine-1:generateContent",
    ]


async def test_the_query_of_a_stream_is_part_of_no_path_over_either_transport() -> None:
    for transport_of in (H1Transport, HttpxTransport):
        async with ScriptedUpstream() as upstream:
            upstream.stream(*sse(HELLO))
            transport = transport_of(Url.parse(upstream.url), TransportOptions())
            answer = await transport.send(
                UpstreamRequest("POST", f"/v1beta/models/{MODEL}:x?alt=sse", [], b"{}")
            )
            assert answer.is_event_stream
            await answer.read()
            await transport.aclose()
            assert upstream.received[0].path == f"/v1beta/models/{MODEL}:x?alt=sse"


async def test_the_account_s_key_goes_along_and_nothing_of_the_caller_s(harness: Any) -> None:
    caller = {
        "authorization": "Bearer sk-callers-own-0123456789",
        "x-api-key": "sk-callers-own-0123456789",
        "x-goog-api-key": "sk-callers-own-0123456789",
        "x-goog-user-project": "callers",
        "x-goog-api-client": "callers",
        "cookie": "session=callers",
        "x-forwarded-for": "10.1.2.3",
        "x-unknown": "callers",
    }
    async with harness() as gateway:
        gateway.upstream.reply(HELLO)
        assert (await gateway.chat(headers=caller)).status == 200
        (received,) = gateway.upstream.received
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == ["accept-encoding", "content-length", "content-type", "host", "x-goog-api-key"]
    assert received.header("x-goog-api-key") == KEY
    assert "callers" not in repr(received.headers)


async def test_embeddings_go_to_the_api_s_own_translation_with_the_key_in_one_header(harness: Any) -> None:
    async with harness({"models": ["gemini-embedding-001"]}, strict=False) as gateway:
        body = {"model": "gemini-embedding-001", "input": ["a", "b"], "dimensions": 256, "x_new": 1}
        answer = await gateway.request(body, path="/v1/embeddings")
        (received,) = gateway.upstream.received
    assert answer.json["data"][0]["embedding"] == [0.1, 0.2]
    assert received.path == "/v1beta/openai/embeddings"
    assert received.json == body
    assert received.header("authorization") == f"Bearer {KEY}"
    assert received.header("x-goog-api-key") is None


async def test_safety_thresholds_are_the_operator_s(harness: Any) -> None:
    safety = {"harassment": "BLOCK_ONLY_HIGH", "dangerous_content": "OFF"}
    async with harness({"safety": safety}) as gateway:
        gateway.upstream.reply(HELLO)
        await gateway.chat(safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}])
        (received,) = gateway.upstream.received
    assert received.json["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"},
        {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "OFF"},
    ]


async def test_what_is_ignored_is_named(harness: Any) -> None:
    async with harness() as gateway:
        gateway.upstream.reply(HELLO)
        answer = await gateway.chat(user="u-1", verbosity="low", x_new=1)
    assert answer.headers["x-lmg-ignored-fields"] == "user, verbosity, x_new"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "run"}}]}, "tools[0]"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "messages[1]",
        ),
    ],
)
async def test_what_cannot_be_carried_is_refused_by_its_name_and_not_sent(
    harness: Any, more: dict[str, Any], param: str
) -> None:
    async with harness() as gateway:
        answer = await gateway.request(gateway.body() | more)
        assert (answer.status, answer.error["code"]) == (400, "unsupported_field")
        assert answer.error["param"] == param
        assert gateway.upstream.received == []


async def test_usage_of_a_stream_is_the_last_that_was_stated(harness: Any) -> None:
    first = HELLO | {"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}}
    first["candidates"] = [{"content": {"parts": [{"text": "Hello"}]}}]
    async with harness() as gateway:
        gateway.upstream.stream(*sse(first, HELLO))
        await gateway.chat(stream=True)
        await gateway.ended()
        (receipt,) = gateway.receipts
    assert (receipt.input_tokens, receipt.output_tokens, receipt.reasoning_tokens) == (9, 6, 2)
    assert not receipt.estimated


# Streams that break


@pytest.mark.parametrize("how", ["fin", "rst", "close", "early"])
async def test_a_stream_that_broke_never_looks_finished(harness: Any, how: str) -> None:
    opened = HELLO | {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
    async with harness() as gateway:
        if how == "early":
            gateway.upstream.stream(*sse(opened))  # ends as a whole answer would, but for the reason
        elif how == "close":
            gateway.upstream.stream(*sse(opened, HELLO), Cut("rst"), framing="close")
        else:
            gateway.upstream.stream(*sse(opened), Cut(how))  # type: ignore[arg-type]
        answer = await gateway.chat(stream=True)
        if how == "close" and not answer.error:
            return  # the reset came after all had been read
    assert answer.error is not None
    assert b"[DONE]" not in answer.raw
    assert b'"finish_reason":"' not in answer.raw.replace(b" ", b"")


async def test_a_stream_that_fails_before_its_first_text_is_a_real_status(harness: Any) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9},
    }
    overloaded = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
    malformed = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}
    async with harness() as gateway:
        for value, status, code in (
            (blocked, 400, "content_filter"),
            (overloaded, 503, "unavailable"),
            (malformed, 502, "malformed_function_call"),
            ({}, 502, "upstream_error"),
        ):
            gateway.upstream.stream(*sse(value))
            answer = await gateway.chat(stream=True)
            assert (answer.status, answer.error["code"]) == (status, code)
            gateway.upstream.reply(value)
            answer = await gateway.chat()
            assert (answer.status, answer.error["code"]) == (status, code)


async def test_an_error_within_a_stream_is_its_last_event(harness: Any) -> None:
    opened = HELLO | {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
    async with harness() as gateway:
        gateway.upstream.stream(
            *sse(opened, {"error": {"code": 500, "message": "Internal", "status": "INTERNAL"}})
        )
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hel"
    assert answer.error["code"] == "internal"
    assert b"[DONE]" not in answer.raw


# Errors


def error_of(code: int, message: str, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


class Watcher(Component):
    """Notes what it is told of a failure."""

    told: ClassVar[list[tuple[str, float | None]]] = []

    def on_failure(self, exchange: Any, failure: Failure) -> None:
        self.told.append((failure.kind, failure.retry_after_s))


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
INVALID_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("body", "seen", "code", "retry_after"),
    [
        (error_of(400, "Bad temperature", "INVALID_ARGUMENT"), 400, "invalid_argument", None),
        (error_of(400, f"API key not valid: {KEY}", "INVALID_ARGUMENT", INVALID_KEY), 502, "upstream_credential", None),
        (error_of(401, "Who?", "UNAUTHENTICATED"), 502, "upstream_credential", None),
        (error_of(403, "No.", "PERMISSION_DENIED"), 502, "upstream_credential", None),
        (error_of(404, "No model", "NOT_FOUND"), 404, "not_found", None),
        (error_of(400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", "INVALID_ARGUMENT"), 400, "context_length_exceeded", None),
        (error_of(429, "Quota", "RESOURCE_EXHAUSTED", RETRY), 429, "resource_exhausted", "35"),
        (error_of(429, "Quota", "RESOURCE_EXHAUSTED"), 429, "resource_exhausted", None),
        (error_of(429, "Quota", "RESOURCE_EXHAUSTED", {"retryDelay": "soon"}, {"retryDelay": "0s"}), 429, "resource_exhausted", "0"),
        (error_of(500, "Internal", "INTERNAL"), 502, "internal", None),
        (error_of(503, "Overloaded", "UNAVAILABLE", RETRY), 503, "unavailable", "35"),
        (error_of(504, "Too slow", "DEADLINE_EXCEEDED"), 504, "deadline_exceeded", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_caller_s_only_where_the_caller_caused_them(
    harness: Any, body: dict[str, Any], seen: int, code: str, retry_after: str | None, stream: bool
) -> None:
    async with harness() as gateway:
        gateway.upstream.reply(body, status=body["error"]["code"])
        answer = await gateway.chat(stream=stream)
    assert (answer.status, answer.error["code"]) == (seen, code)
    assert answer.headers.get("retry-after") == retry_after
    assert KEY not in answer.raw.decode()


async def test_a_header_that_asks_for_a_pause_is_believed_before_the_body(harness: Any) -> None:
    async with harness() as gateway:
        body = error_of(429, "Quota", "RESOURCE_EXHAUSTED", RETRY)
        gateway.upstream.reply(body, status=429, headers=[("retry-after", "7")])
        assert (await gateway.chat()).headers["retry-after"] == "7"


async def test_a_fallback_is_told_how_long_the_api_asks_to_wait() -> None:
    Watcher.told.clear()
    async with Harness(
        {"pipeline": ["watcher"]},
        classes={"watcher": Watcher, "scripted": Gemini},
        models=[MODEL],
        provider={"api_key": KEY},
    ) as gateway:
        gateway.upstream.reply(error_of(429, "Quota", "RESOURCE_EXHAUSTED", RETRY), status=429)
        await gateway.chat()
        gateway.upstream.reply(error_of(400, "API key expired.", "INVALID_ARGUMENT"), status=400)
        await gateway.chat()
    assert Watcher.told == [("rate_limited", 35.0), ("credential", None)]


# Nothing of a request moves the call


@pytest.mark.parametrize(
    "model",
    [
        "../../admin", "gemini-2.5-flash?x=1", "gemini-2.5-flash#x", "gemini-2.5-flash\r\nx: y", "http://127.0.0.1/", "models/x",
        "tunedModels/../x", "tunedModels/a/b", "a:generateContent", "%2e%2e", "..", ".", "-x", "a b", "ä", "",
    ],
)  # fmt: skip
async def test_no_model_name_moves_the_call(harness: Any, model: str) -> None:
    provider = Gemini(
        blueprint_of({"api_key": KEY, "models": [MODEL]}).providers[0].settings, Host(), "gemini"
    )
    body = JsonText.of({"model": model, "stream": True})
    # Whatever a provider that is open to any name would let through.
    attempt = Attempt(Target("gemini", model, model), 1, body, 0.0, 1.0)
    with pytest.raises(Refusal) as caught:
        provider.path("chat", attempt)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    async with harness() as gateway:
        answer = await gateway.request(gateway.body() | {"model": model})
        assert answer.status in (400, 404)
        assert gateway.upstream.received == []


@pytest.mark.parametrize("field", ["models", "model_map"])
@pytest.mark.parametrize("name", ["../x", "a?b", "a/b", "", "a\n", "models/gemini-2.5-pro"])
def test_a_configured_name_that_would_change_the_path_is_an_error(field: str, name: str) -> None:
    settings: dict[str, Any] = {"api_key": KEY, "models": [MODEL]}
    settings[field] = [name] if field == "models" else {MODEL: name}
    with pytest.raises(ConfigError) as caught:
        blueprint_of(settings)
    assert caught.value.path.startswith(f"providers.gemini.{field}")


@pytest.mark.parametrize(
    "field",
    [
        "api_base",
        "base_url",
        "endpoint",
        "api_key",
        "key",
        "api_version",
        "extra_headers",
        "extra_body",
        "cachedContent",
    ],
)
async def test_no_field_of_the_body_moves_the_call(harness: Any, field: str) -> None:
    async with ScriptedUpstream() as elsewhere, harness() as gateway:
        gateway.upstream.reply(HELLO)
        assert (await gateway.chat(**{field: elsewhere.url})).status == 200
        (received,) = gateway.upstream.received
        assert received.path == f"/v1beta/models/{MODEL}:generateContent"
        assert elsewhere.url not in received.body.decode()
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "name", ["host", "x-forwarded-host", "x-goog-api-key", "x-host", "x-original-url", "x-api-base"]
)
async def test_no_header_moves_the_call(harness: Any, name: str) -> None:
    async with ScriptedUpstream() as elsewhere, harness() as gateway:
        gateway.upstream.reply(HELLO)
        value = elsewhere.url.removeprefix("http://")
        assert (await gateway.chat(headers={name: value})).status == 200
        (received,) = gateway.upstream.received
        assert received.header("host") == gateway.upstream.url.removeprefix("http://")
        assert str(elsewhere.port) not in repr(received.headers)
        assert elsewhere.connections == 0


async def test_no_request_target_moves_the_call(harness: Any) -> None:
    async with harness() as gateway:
        gateway.upstream.reply(HELLO)
        answer = await gateway.request(gateway.body(), path="/v1/chat/completions?key=x&alt=media")
        assert answer.status in (200, 404)
        assert all(one.path == f"/v1beta/models/{MODEL}:generateContent" for one in gateway.upstream.received)


async def test_a_redirect_is_not_followed(harness: Any) -> None:
    async with ScriptedUpstream() as elsewhere, harness() as gateway:
        gateway.upstream.reply(b"{}", status=307, headers=[("location", elsewhere.url)])
        assert (await gateway.chat()).status == 502
        assert elsewhere.connections == 0


# Configuration


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"models": [MODEL]}, "providers.gemini.api_key"),
        ({"api_key": KEY}, "providers.gemini.models"),
        ({"api_key": KEY, "models": []}, "providers.gemini.models"),
        ({"api_key": f"{KEY}\n", "models": [MODEL]}, "providers.gemini.api_key"),
        ({"api_key": KEY, "models": [MODEL], "api_version": "v1/../x"}, "providers.gemini.api_version"),
        ({"api_key": KEY, "models": [MODEL], "api_version": "v1beta\n"}, "providers.gemini.api_version"),
        (
            {"api_key": KEY, "models": [MODEL], "safety": {"harassment": "NEVER"}},
            "providers.gemini.safety",
        ),
        ({"api_key": KEY, "models": [MODEL], "api_base": "http://x"}, "providers.gemini.api_base"),
    ],
)
def test_a_setting_that_is_wrong_is_an_error_at_its_place(settings: dict[str, Any], at: str) -> None:
    with pytest.raises(ConfigError) as caught:
        blueprint_of(settings)
    assert caught.value.path.startswith(at)
    assert KEY not in str(caught.value)


async def test_the_key_is_never_shown(harness: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with harness() as gateway:
        gateway.upstream.reply(HELLO)
        await gateway.chat()
        gateway.upstream.reply(error_of(400, f"bad key {KEY}", "INVALID_ARGUMENT"), status=400)
        answer = await gateway.chat()
        await gateway.ended(2)
        (part,) = gateway.process.blueprint.providers
        shown = repr(part) + str(part.settings) + part.settings.model_dump_json()
        attempts = [attempt for exchange in gateway.exchanges for attempt in exchange.attempts]
        assert len(attempts) == 2
        assert KEY not in shown + repr([attempt.headers for attempt in attempts])
    assert answer.status == 400
    assert KEY not in answer.raw.decode() + repr(answer.headers) + caplog.text


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
def test_it_is_part_of_the_embedded_default_only_with_a_key_in_the_environment(name: str) -> None:
    assert Gemini.embedded({}) is None
    assert Gemini.embedded({name: ""}) is None
    settings = Gemini.embedded({name: KEY})
    assert settings is not None
    (part,) = blueprint_of(dict(settings)).providers
    assert part.settings.endpoint == "https://generativelanguage.googleapis.com"
    assert part.settings.models


async def test_the_default_endpoint_is_reached_only_when_it_is_called() -> None:
    mesh = {"providers": {"gemini": {"api_key": KEY, "models": [MODEL]}}}
    async with Harness(mesh, classes={"gemini": Gemini}) as gateway:
        assert (await gateway.get("/v1/models")).json["data"][0]["id"] == MODEL
