"""Anthropic's API as an upstream: what goes over the wire, and what can never move it elsewhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness, ScriptedUpstream
from lmg.yamltext import load
from lmg_anthropic import Anthropic

KEY = "sk-ant-api03-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
MODELS = ["claude-opus-5-5", "claude-sonnet-4-5"]


class AnthropicHarness(Harness):
    """A gateway whose one provider is `anthropic`, before the harness's own upstream."""

    def __init__(self, settings: dict[str, Any] | None = None, suffix: str = "", **more: Any) -> None:
        super().__init__(classes={"anthropic": Anthropic}, models=MODELS, **more)
        self._settings = {"api_key": KEY, "models": MODELS, **(settings or {})}
        self._suffix = suffix

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url + self._suffix, **self._settings}
        return super().read({**mesh, "providers": {"anthropic": settings}})

    async def message(self, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """One message in the dialect of the provider."""
        body = {"model": MODELS[0], "max_tokens": 9, "messages": HELLO, **fields}
        return await self.request(body, path="/v1/messages", headers=headers)


def blueprint_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"anthropic": settings}}, (), None)
    return draft(config, installed={}, classes={"anthropic": Anthropic})


# The request on the wire


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_requests_go_to_the_paths_of_the_api(suffix: str) -> None:
    async with AnthropicHarness(suffix=suffix) as gateway:
        gateway.upstream.reply(ANSWER)
        assert (await gateway.message()).status == 200
        assert (await gateway.chat()).text == "Hi."
        gateway.upstream.reply({"input_tokens": 7})
        counted = {"model": MODELS[0], "messages": HELLO}
        assert (await gateway.request(counted, path="/v1/messages/count_tokens")).json == {"input_tokens": 7}
        paths = [(request.method, request.path) for request in gateway.upstream.received]
    messages = ("POST", "/v1/messages")
    assert paths == [messages, messages, ("POST", "/v1/messages/count_tokens")]


async def test_the_account_s_key_goes_along_and_nothing_of_the_caller_s() -> None:
    caller = {
        "authorization": "Bearer sk-callers-own-0123456789",
        "x-api-key": "sk-callers-own-0123456789",
        "cookie": "session=callers",
        "anthropic-workspace-id": "wrkspc_callers",
        "anthropic-dangerous-direct-browser-access": "callers",
        "x-forwarded-for": "10.1.2.3",
        "x-stainless-lang": "callers",
        "x-unknown": "callers",
    }
    async with AnthropicHarness() as gateway:
        gateway.upstream.reply(ANSWER)
        assert (await gateway.message(headers=caller)).status == 200
        assert (await gateway.chat(headers=caller)).status == 200
        received = gateway.upstream.received
    expected = ["accept-encoding", "anthropic-version", "content-length", "content-type", "host", "x-api-key"]
    for request in received:
        assert sorted(name.lower() for name, _ in request.headers) == expected
        assert request.header("x-api-key") == KEY
        assert "callers" not in repr(request.headers)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "2023-06-01"),
        ("2026-10-21", "2026-10-21"),
        ("2023-06-01 ", "2023-06-01"),
        ("latest", "2023-06-01"),
        ("2026-10-21, 2023-06-01", "2023-06-01"),
        ("", "2023-06-01"),
    ],
)
async def test_a_caller_s_version_goes_along_where_it_is_a_plain_date(asked: str | None, sent: str) -> None:
    headers = {} if asked is None else {"anthropic-version": asked}
    async with AnthropicHarness() as gateway:
        gateway.upstream.reply(ANSWER)
        await gateway.message(headers=headers)
        await gateway.chat(headers={"anthropic-version": "2026-10-21"})
        first, translated = gateway.upstream.received
    assert [value for name, value in first.headers if name == "anthropic-version"] == [sent]
    assert translated.header("anthropic-version") == "2023-06-01"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "a-1"),
        ("b-2,c.3 , a-1", "a-1,b-2,c.3"),
        ("b 2,c\u00fc,,d:1", "a-1"),
        (",".join(f"b-{n}" for n in range(50)), ",".join(["a-1", *(f"b-{n}" for n in range(32))])),
    ],
)
async def test_betas_of_the_operator_s_and_the_caller_s_go_along(asked: str | None, sent: str) -> None:
    headers = {} if asked is None else {"anthropic-beta": asked}
    async with AnthropicHarness({"beta": ["a-1"]}) as gateway:
        gateway.upstream.reply(ANSWER)
        await gateway.message(headers=headers)
        await gateway.chat(headers={"anthropic-beta": "b-2"})
        first, translated = gateway.upstream.received
    assert first.header("anthropic-beta") == sent
    assert translated.header("anthropic-beta") == "a-1"


async def test_the_same_dialect_passes_byte_for_byte() -> None:
    body = (
        b'{"model":"claude-opus-5-5", "max_tokens":9, "temperature":0.10, "x_new":12345678901234567890123,\n'
        b' "messages":[{"role":"user","content":"caf\\u00e9"}]}'
    )
    async with AnthropicHarness() as gateway:
        gateway.upstream.reply(ANSWER)
        answer = await gateway.request(body, path="/v1/messages")
        assert gateway.upstream.received[0].body == body
    assert answer.json == ANSWER


async def test_model_map_is_the_upstream_s_name_of_a_model() -> None:
    names = {"models": ["claude"], "model_map": {"claude": "claude-sonnet-4-5-20250929"}}
    async with AnthropicHarness(names) as gateway:
        gateway.upstream.reply(ANSWER)
        await gateway.chat(model="claude", temperature=0.5)
        sent = gateway.upstream.received[0].json
    assert (sent["model"], sent["temperature"]) == ("claude-sonnet-4-5-20250929", 0.5)


@pytest.mark.parametrize(
    ("settings", "model", "sent", "ignored"),
    [
        ({}, "claude-sonnet-4-5", 0.5, None),
        ({}, "claude-opus-5-5", None, "temperature"),
        ({"version": "2026-10-21"}, "claude-sonnet-4-5", None, "temperature"),
    ],
)
async def test_sampling_is_left_out_by_name_where_model_or_version_have_none(
    settings: dict[str, Any], model: str, sent: float | None, ignored: str | None
) -> None:
    async with AnthropicHarness(settings) as gateway:
        gateway.upstream.reply(ANSWER)
        answer = await gateway.chat(model=model, temperature=0.5)
        body = gateway.upstream.received[0].json
    assert body.get("temperature") == sent
    assert answer.headers.get("x-lmg-ignored-fields") == ignored


@pytest.mark.parametrize(
    ("status", "seen", "kind"),
    [(400, 400, "bad"), (401, 502, "upstream_credential"), (429, 429, "bad"), (529, 503, "bad")],
)
async def test_the_account_s_errors_are_the_caller_s_only_where_the_caller_caused_them(
    status: int, seen: int, kind: str
) -> None:
    said = f"Invalid x-api-key: {KEY}. See https://console.anthropic.com at 10.0.0.1"
    async with AnthropicHarness() as gateway:
        error = {"type": "invalid_request_error", "message": said, "details": {"error_code": "bad"}}
        gateway.upstream.reply({"type": "error", "error": error}, status=status)
        answer = await gateway.chat()
    assert (answer.status, answer.error["code"]) == (seen, kind)
    assert KEY not in answer.raw.decode()
    assert b"console.anthropic.com" not in answer.raw


# Nothing of a request moves the call


@pytest.mark.parametrize(
    "field",
    ["api_base", "base_url", "endpoint", "url", "host", "api_key", "proxy", "extra_headers", "mcp_servers"],
)
async def test_no_field_of_the_body_moves_the_call(field: str) -> None:
    async with ScriptedUpstream() as elsewhere, AnthropicHarness() as gateway:
        gateway.upstream.reply(ANSWER)
        value: Any = [{"url": elsewhere.url}] if field == "mcp_servers" else elsewhere.url
        assert (await gateway.message(**{field: value})).status == 200
        (received,) = gateway.upstream.received
        assert received.path == "/v1/messages"
        assert received.header("x-api-key") == KEY
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "name", ["host", "x-forwarded-host", "custom-host", "x-original-url", "anthropic-base-url"]
)
async def test_no_header_moves_the_call(name: str) -> None:
    async with ScriptedUpstream() as elsewhere, AnthropicHarness() as gateway:
        gateway.upstream.reply(ANSWER)
        value = elsewhere.url if name != "host" else elsewhere.url.removeprefix("http://")
        assert (await gateway.message(headers={name: value})).status == 200
        (received,) = gateway.upstream.received
        assert received.header("host") == gateway.upstream.url.removeprefix("http://")
        assert elsewhere.connections == 0


# Configuration


def test_the_block_of_the_product_page_works(tmp_path: Any) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text(
        """
providers:
  anthropic:
    api_key: ${ANTHROPIC_API_KEY}
    models: ["claude-3-opus", "claude-3-sonnet"]
    priority: 2
    fallback: true
"""
    )
    config = validate(MeshConfig, load(file, {"ANTHROPIC_API_KEY": KEY}).value, (), None)
    (part,) = draft(config, installed={}, classes={"anthropic": Anthropic}).providers
    settings = part.settings
    assert (settings.models, settings.priority, settings.fallback) == (
        ["claude-3-opus", "claude-3-sonnet"],
        2,
        True,
    )
    assert settings.api_key.get_secret_value() == KEY
    assert settings.endpoint == "https://api.anthropic.com"


def test_a_version_may_be_written_with_or_without_quotes(tmp_path: Any) -> None:
    for written in ("2026-10-21", "'2026-10-21'"):
        file = tmp_path / "mesh.yaml"
        file.write_text(f"anthropic: {{api_key: {KEY}, models: [m], version: {written}}}\n")
        (part,) = blueprint_of(load(file, None).value["anthropic"]).providers
        assert part.settings.version == "2026-10-21"


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"models": ["m"]}, "providers.anthropic.api_key"),
        ({"api_key": KEY}, "providers.anthropic.models"),
        ({"api_key": KEY, "models": []}, "providers.anthropic.models"),
        ({"api_key": f"{KEY}\n", "models": ["m"]}, "providers.anthropic.api_key"),
        ({"api_key": KEY, "models": ["m"], "version": "latest"}, "providers.anthropic.version"),
        ({"api_key": KEY, "models": ["m"], "beta": ["a,b"]}, "providers.anthropic.beta"),
        (
            {"api_key": KEY, "models": ["m"], "headers": {"Anthropic-Version": "x"}},
            "providers.anthropic.headers",
        ),
        ({"api_key": KEY, "models": ["m"], "headers": {"host": "x"}}, "providers.anthropic.headers"),
    ],
)
def test_a_setting_that_is_wrong_is_an_error_at_its_place(settings: dict[str, Any], at: str) -> None:
    with pytest.raises(ConfigError) as caught:
        blueprint_of(settings)
    assert caught.value.path == at
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["api.anthropic.com", "ftp://x", "https://u:p@x", "https://x/?a=b"])
async def test_an_endpoint_that_is_no_base_url_stops_the_start(endpoint: str) -> None:
    (part,) = blueprint_of({"api_key": KEY, "models": ["m"], "endpoint": endpoint}).providers
    with pytest.raises(ConfigError) as caught:
        await Anthropic(part.settings, Host(), "anthropic").start()
    assert caught.value.path == "providers.anthropic.endpoint"


async def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with AnthropicHarness() as gateway:
        gateway.upstream.reply({"type": "error", "error": {"message": f"bad key {KEY}"}}, status=400)
        answer = await gateway.message()
        (part,) = gateway.process.blueprint.providers
        assert KEY not in repr(part) + str(part.settings) + part.settings.model_dump_json()
    assert KEY not in json.dumps(answer.json) + repr(answer.headers) + caplog.text


def test_it_is_part_of_the_embedded_default_only_with_a_key_in_the_environment() -> None:
    assert Anthropic.embedded({}) is None
    assert Anthropic.embedded({"ANTHROPIC_API_KEY": ""}) is None
    settings = Anthropic.embedded({"ANTHROPIC_API_KEY": KEY})
    assert settings is not None
    (part,) = blueprint_of(dict(settings)).providers
    assert part.settings.endpoint == "https://api.anthropic.com"
    assert "claude-opus-5-5" in part.settings.models


async def test_the_default_endpoint_is_reached_only_when_it_is_called() -> None:
    mesh = {"providers": {"anthropic": {"api_key": KEY, "models": ["claude-opus-5-5"]}}}
    async with Harness(mesh, classes={"anthropic": Anthropic}) as gateway:
        assert (await gateway.get("/v1/models")).json["data"][0]["id"] == "claude-opus-5-5"
