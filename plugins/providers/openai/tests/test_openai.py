"""OpenAI's API as an upstream: what goes over the wire, and what can never move it elsewhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness, ScriptedUpstream, chat_body, chat_events
from lmg_openai import OpenAI

KEY = "sk-proj-0123456789abcdef"


class OpenAIHarness(Harness):
    """A gateway whose one provider is `openai`, before the harness's own upstream."""

    def __init__(self, settings: dict[str, Any] | None = None, suffix: str = "", **more: Any) -> None:
        super().__init__(classes={"openai": OpenAI}, models=["gpt-4"], **more)
        self._settings = {"api_key": KEY, "models": ["gpt-4"], **(settings or {})}
        self._suffix = suffix

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url + self._suffix, **self._settings}
        return super().read({**mesh, "providers": {"openai": settings}})


def blueprint_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"openai": settings}}, (), None)
    return draft(config, installed={}, classes={"openai": OpenAI})


# The request on the wire


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_requests_go_to_the_paths_of_the_api(suffix: str) -> None:
    async with OpenAIHarness(suffix=suffix) as gateway:
        assert (await gateway.chat()).status == 200
        embeddings = {"model": "gpt-4", "input": "text"}
        assert (await gateway.request(embeddings, path="/v1/embeddings")).status == 200
        chat, embedding = gateway.upstream.received
    assert (chat.method, chat.path) == ("POST", "/v1/chat/completions")
    assert (embedding.method, embedding.path) == ("POST", "/v1/embeddings")


async def test_a_base_path_stays_in_front() -> None:
    async with OpenAIHarness(suffix="/openai/deployments/x/v1") as gateway:
        await gateway.chat()
        assert gateway.upstream.received[0].path == "/openai/deployments/x/v1/chat/completions"


async def test_the_account_s_key_goes_along_and_nothing_of_the_caller_s() -> None:
    caller = {
        "authorization": "Bearer sk-callers-own-0123456789",
        "x-api-key": "sk-callers-own-0123456789",
        "api-key": "sk-callers-own-0123456789",
        "cookie": "session=callers",
        "openai-organization": "org-callers",
        "openai-project": "proj-callers",
        "openai-beta": "callers",
        "proxy-authorization": "Basic callers",
        "x-forwarded-for": "10.1.2.3",
        "x-real-ip": "10.1.2.3",
        "forwarded": "for=10.1.2.3",
        "via": "callers",
        "origin": "https://callers.example",
        "referer": "https://callers.example/",
        "te": "trailers",
        "accept-encoding": "gzip, br",
        "x-unknown": "callers",
    }
    async with OpenAIHarness({"organization": "org-ours", "project": "proj_ours"}) as gateway:
        assert (await gateway.chat(headers=caller)).status == 200
        (received,) = gateway.upstream.received
        authority = gateway.upstream.url.removeprefix("http://")
    names = sorted(name.lower() for name, _ in received.headers)
    expected = ["accept-encoding", "authorization", "content-length", "content-type", "host"]
    assert names == [*expected, "openai-organization", "openai-project"]
    assert received.header("authorization") == f"Bearer {KEY}"
    assert received.header("openai-organization") == "org-ours"
    assert received.header("openai-project") == "proj_ours"
    assert received.header("accept-encoding") == "identity"
    assert received.header("host") == authority
    assert "callers" not in repr(received.headers)


async def test_organization_and_project_are_left_out_where_they_are_not_set() -> None:
    async with OpenAIHarness() as gateway:
        await gateway.chat()
        names = {name.lower() for name, _ in gateway.upstream.received[0].headers}
    assert not names & {"openai-organization", "openai-project"}


async def test_idempotency_and_trace_headers_go_along() -> None:
    sent = {
        "idempotency-key": "once-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "user-agent": "an-sdk/1.0",
    }
    async with OpenAIHarness() as gateway:
        await gateway.chat(headers=sent)
        assert {name: gateway.upstream.received[0].header(name) for name in sent} == sent


async def test_unknown_fields_and_digits_arrive_as_they_were_sent() -> None:
    body = (
        b'{"model":"gpt-4", "messages":[{"role":"user","content":"caf\\u00e9 \xe2\x82\xac"}],\n'
        b' "seed":12345678901234567890123, "temperature":0.10, "x_new":{"b":1.0e2,"a":null},'
        b' "tools":[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}]}'
    )
    async with OpenAIHarness() as gateway:
        assert (await gateway.request(body)).status == 200
        assert gateway.upstream.received[0].body == body


async def test_usage_is_asked_for_on_streams_only() -> None:
    async with OpenAIHarness() as gateway:
        streamed = await gateway.chat(stream=True)
        assert streamed.text == "Hello!"
        await gateway.chat(stream=True, stream_options={"include_usage": False, "x": 1})
        await gateway.chat()
        first, second, whole = (request.json for request in gateway.upstream.received)
        await gateway.ended(3)
    assert first["stream_options"] == {"include_usage": True}
    assert second["stream_options"] == {"include_usage": True, "x": 1}
    assert "stream_options" not in whole
    assert all(event == "[DONE]" or "usage" not in event for event in streamed.events)
    assert all((r.input_tokens, r.output_tokens) == (5, 2) for r in gateway.receipts)


async def test_model_map_is_the_upstream_s_name_of_a_model() -> None:
    async with OpenAIHarness({"models": ["gpt-4"], "model_map": {"gpt-4": "gpt-4-0613"}}) as gateway:
        await gateway.chat()
        assert gateway.upstream.received[0].json["model"] == "gpt-4-0613"
        assert (await gateway.chat(model="gpt-4-0613")).status == 404


async def test_tool_calls_come_back_whole_and_streamed() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    async with OpenAIHarness() as gateway:
        gateway.upstream.reply(whole)
        assert (await gateway.chat()).json == whole
        delta = {"tool_calls": [{"index": 0, **call}]}
        event = b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
        events = chat_events("")
        gateway.upstream.stream(events[0], event, *events[-3:])
        answer = await gateway.chat(stream=True)
        assert event in answer.raw


async def test_limits_and_request_ids_of_the_account_are_told_apart_from_ours() -> None:
    async with OpenAIHarness() as gateway:
        told = [
            ("x-ratelimit-remaining-requests", "7"),
            ("openai-processing-ms", "12"),
            ("x-request-id", "req_upstream"),
            ("set-cookie", "__cf=1"),
            ("openai-organization", "org-ours"),
            ("server", "upstream"),
        ]
        gateway.upstream.reply(chat_body(), headers=told)
        answer = await gateway.chat()
    assert answer.headers["x-ratelimit-remaining-requests"] == "7"
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["x-request-id"] != "req_upstream"
    assert not {"set-cookie", "openai-organization", "server"} & set(answer.headers)


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [
        (400, 400, "bad"),
        (401, 502, "upstream_credential"),
        (404, 404, "bad"),
        (422, 422, "bad"),
        (429, 429, "bad"),
        (500, 502, "bad"),
        (503, 503, "bad"),
    ],
)
async def test_the_account_s_errors_are_the_caller_s_only_where_the_caller_caused_them(
    status: int, seen: int, code: str
) -> None:
    said = f"Incorrect API key provided: {KEY}. See https://platform.openai.com at 10.0.0.1"
    async with OpenAIHarness() as gateway:
        gateway.upstream.reply({"error": {"message": said, "type": "t", "code": "bad"}}, status=status)
        answer = await gateway.chat()
    assert (answer.status, answer.error["code"]) == (seen, code)
    assert KEY not in answer.raw.decode()
    assert b"platform.openai.com" not in answer.raw


# Nothing of a request moves the call


@pytest.mark.parametrize(
    "field",
    [
        "api_base",
        "base_url",
        "api_url",
        "endpoint",
        "url",
        "host",
        "custom_llm_provider",
        "api_key",
        "api_version",
        "proxy",
        "extra_headers",
        "extra_body",
        "organization",
        "user_config",
        "model_list",
        "fallbacks",
    ],
)
async def test_no_field_of_the_body_moves_the_call(field: str) -> None:
    async with ScriptedUpstream() as elsewhere, OpenAIHarness() as gateway:
        value: Any = elsewhere.url
        if field in ("extra_headers", "extra_body", "user_config"):
            value = {"host": elsewhere.url, "api_base": elsewhere.url, "authorization": "Bearer other"}
        assert (await gateway.chat(**{field: value})).status == 200
        (received,) = gateway.upstream.received
        assert received.path == "/v1/chat/completions"
        assert received.header("authorization") == f"Bearer {KEY}"
        assert elsewhere.received == []
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "x-forwarded-host",
        "x-forwarded-server",
        "forwarded",
        "x-original-host",
        "x-host",
        "custom-host",
        "x-custom-host",
        "x-portkey-custom-host",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "destination",
        "x-api-base",
        "openai-base-url",
    ],
)
async def test_no_header_moves_the_call(name: str) -> None:
    async with ScriptedUpstream() as elsewhere, OpenAIHarness() as gateway:
        value = elsewhere.url if name != "host" else elsewhere.url.removeprefix("http://")
        assert (await gateway.chat(headers={name: value})).status == 200
        (received,) = gateway.upstream.received
        assert (received.method, received.path) == ("POST", "/v1/chat/completions")
        assert received.header("host") == gateway.upstream.url.removeprefix("http://")
        assert str(elsewhere.port) not in repr(received.headers)
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "model", ["../../admin", "gpt-4?x=1", "gpt-4\r\nx: y", "http://127.0.0.1/", "openai/gpt-4"]
)
async def test_no_model_name_moves_the_call(model: str) -> None:
    async with OpenAIHarness() as gateway:
        assert (await gateway.chat(model=model)).status == 404
        assert gateway.upstream.received == []


@pytest.mark.parametrize(
    "target", ["/v1/chat/completions?api_base=http://127.0.0.1:1", "http://127.0.0.1:1/v1/chat/completions"]
)
async def test_no_request_target_moves_the_call(target: str) -> None:
    async with OpenAIHarness() as gateway:
        answer = await gateway.request(gateway.body(), path=target)
        assert answer.status in (200, 400, 404)
        assert all(request.path == "/v1/chat/completions" for request in gateway.upstream.received)


async def test_a_redirect_is_not_followed() -> None:
    async with ScriptedUpstream() as elsewhere, OpenAIHarness() as gateway:
        for status in (301, 302, 303, 307, 308):
            there = [("location", f"{elsewhere.url}/v1/chat/completions")]
            gateway.upstream.reply(b"{}", status=status, headers=there)
            answer = await gateway.chat()
            assert answer.status == 502
            assert "location" not in answer.headers
        assert elsewhere.connections == 0


async def test_the_upstream_s_cookies_are_not_kept() -> None:
    async with OpenAIHarness() as gateway:
        gateway.upstream.reply(chat_body(), headers=[("set-cookie", "a=b")])
        await gateway.chat()
        await gateway.chat()
        assert gateway.upstream.received[1].header("cookie") is None


# Configuration


@pytest.mark.parametrize(
    "key", [f"{KEY}\n", f"{KEY}\r\n", f" {KEY}", "", " ", f"{KEY}\x00", f"{KEY}\xfc", f"{KEY}\nx: y"]
)
def test_a_key_that_no_header_can_carry_is_an_error_that_does_not_show_it(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        blueprint_of({"api_key": key, "models": ["gpt-4"]})
    assert caught.value.path == "providers.openai.api_key"
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"models": ["gpt-4"]}, "providers.openai.api_key"),
        ({"api_key": KEY}, "providers.openai.models"),
        ({"api_key": KEY, "models": []}, "providers.openai.models"),
        ({"api_key": KEY, "models": ["gpt-4"], "organization": "a\nb"}, "providers.openai.organization"),
        ({"api_key": KEY, "models": ["gpt-4"], "project": "a b"}, "providers.openai.project"),
        ({"api_key": KEY, "models": ["gpt-4"], "api_base": "http://x"}, "providers.openai.api_base"),
        ({"api_key": KEY, "models": ["gpt-4"], "timeout_ms": 0}, "providers.openai.timeout_ms"),
    ],
)
def test_a_setting_that_is_wrong_is_an_error_at_its_place(settings: dict[str, Any], at: str) -> None:
    with pytest.raises(ConfigError) as caught:
        blueprint_of(settings)
    assert caught.value.path == at
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["api.openai.com", "ftp://x", "https://", "https://u:p@x", "https://x/?a=b", "http://x:99999"]
)
async def test_an_endpoint_that_is_no_base_url_stops_the_start(endpoint: str) -> None:
    (part,) = blueprint_of({"api_key": KEY, "models": ["gpt-4"], "endpoint": endpoint}).providers
    with pytest.raises(ConfigError) as caught:
        await OpenAI(part.settings, Host(), "openai").start()
    assert caught.value.path == "providers.openai.endpoint"


async def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with OpenAIHarness() as gateway:
        await gateway.chat()
        gateway.upstream.reply({"error": {"message": f"bad key {KEY}"}}, status=401)
        answer = await gateway.chat()
        (part,) = gateway.process.blueprint.providers
        assert KEY not in repr(part) + str(part.settings) + part.settings.model_dump_json()
    assert KEY not in answer.raw.decode() + repr(answer.headers) + caplog.text


def test_it_is_part_of_the_embedded_default_only_with_a_key_in_the_environment() -> None:
    assert OpenAI.embedded({}) is None
    assert OpenAI.embedded({"OPENAI_API_KEY": ""}) is None
    settings = OpenAI.embedded({"OPENAI_API_KEY": KEY})
    assert settings is not None
    (part,) = blueprint_of(dict(settings)).providers
    assert part.settings.endpoint == "https://api.openai.com"
    assert part.settings.models


async def test_the_default_endpoint_is_reached_only_when_it_is_called() -> None:
    mesh = {"providers": {"openai": {"api_key": KEY, "models": ["gpt-4"]}}}
    async with Harness(mesh, classes={"openai": OpenAI}) as gateway:
        assert (await gateway.get("/v1/models")).json["data"][0]["id"] == "gpt-4"
