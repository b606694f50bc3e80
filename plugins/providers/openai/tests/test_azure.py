"""Azure as an upstream: where each call goes, who it says it is, and what its content filter says."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness, chat_body, chat_events, sse
from lmg_openai import Azure

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.first.c2lnbmF0dXJl"
BOUNDARY = "----azure-0123456789"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\np\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--{BOUNDARY}--\r\n'
).encode()
BODIES: dict[str, Any] = {
    "/chat/completions": {"model": "gpt", "messages": [{"role": "user", "content": "x"}]},
    "/embeddings": {"model": "gpt", "input": "x"},
    "/images/generations": {"model": "gpt", "prompt": "x"},
    "/images/edits": FORM,
    "/audio/speech": {"model": "gpt", "input": "x", "voice": "v"},
    "/audio/transcriptions": FORM,
    "/audio/translations": FORM,
}


class AzureHarness(Harness):
    """A gateway whose one provider is `azure`, before the harness's own upstream."""

    def __init__(self, settings: dict[str, Any] | None = None, suffix: str = "") -> None:
        super().__init__(classes={"azure": Azure}, models=["gpt"])
        self._settings = {"models": ["gpt"], "model_map": {"gpt": "gpt-4o_eu.1"}, **(settings or {})}
        if "token_file" not in self._settings:
            self._settings["api_key"] = KEY
        self._suffix = suffix

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url + self._suffix, **self._settings}
        return super().read({**mesh, "providers": {"azure": settings}})

    async def ask(self, path: str) -> Any:
        """One request at ``path`` below ``/v1``."""
        body = BODIES[path]
        if path == "/audio/speech":
            self.upstream.reply(b"x", headers=[("content-type", "audio/mpeg")])
        elif path == "/chat/completions":
            self.upstream.reply(chat_body())
        else:
            self.upstream.reply({"text": "x", "data": []})
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} if body is FORM else None
        return await self.request(body, path=f"/v1{path}", headers=headers)


def part_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"azure": settings}}, (), None)
    return draft(config, installed={}, classes={"azure": Azure}).providers[0]


# -- where a call goes ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
async def test_the_v1_api_is_called_with_the_deployment_in_the_body(suffix: str) -> None:
    async with AzureHarness(suffix=suffix) as gateway:
        for path in BODIES:
            assert (await gateway.ask(path)).status == 200
        received = gateway.upstream.received
    assert [request.path for request in received] == [f"/openai/v1{path}" for path in BODIES]
    assert all(b"gpt-4o_eu.1" in request.body for request in received)


async def test_a_dated_api_is_called_at_its_deployment() -> None:
    async with AzureHarness({"api_version": "2025-04-01-preview"}) as gateway:
        for path in BODIES:
            assert (await gateway.ask(path)).status == 200
        paths = [request.path for request in gateway.upstream.received]
    version = "?api-version=2025-04-01-preview"
    assert paths == [f"/openai/deployments/gpt-4o_eu.1{path}{version}" for path in BODIES]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/openai/v1/responses"),
        ({"api_version": "2025-03-01"}, "/openai/responses?api-version=2025-03-01"),
    ],
)
async def test_responses_name_their_deployment_in_the_body_in_either_api(
    settings: dict[str, Any], path: str
) -> None:
    async with AzureHarness(settings) as gateway:
        gateway.upstream.reply(
            {"id": "resp_1", "object": "response", "status": "completed", "output": [], "model": "gpt"}
        )
        assert (await gateway.request({"model": "gpt", "input": "x"}, path="/v1/responses")).status == 200
        (request,) = gateway.upstream.received
    assert (request.path, request.json["model"]) == (path, "gpt-4o_eu.1")


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "..",
        ".",
        "a?b",
        "a#b",
        "a%2fb",
        "a b",
        "a\\b",
        "",
        "-a",
        "a" * 65,
        "a\n",
        "ä",
        "../../x",
        "a;b",
    ],
)
def test_a_name_that_would_move_the_path_is_no_deployment(name: str) -> None:
    for settings in ({"models": [name]}, {"models": ["gpt"], "model_map": {"gpt": name}}):
        with pytest.raises(ConfigError) as caught:
            part_of({"endpoint": "https://x.openai.azure.com", "api_key": KEY, **settings})
        assert caught.value.path == "providers.azure"


@given(st.text(max_size=70))
def test_every_name_is_one_part_of_the_path_or_refused(name: str) -> None:
    try:
        part = part_of(
            {"endpoint": "https://x.test", "api_key": KEY, "models": [name], "api_version": "2024-10-21"}
        )
    except ConfigError:
        return
    provider = Azure(part.settings, Host(), "azure")
    (target,) = provider.targets()

    class Attempt:
        wire = "openai.chat"

    Attempt.target = target  # type: ignore[attr-defined]
    path = provider.path("chat", Attempt)  # type: ignore[arg-type]
    assert path == f"/openai/deployments/{name}/chat/completions?api-version=2024-10-21"


async def test_no_model_of_a_request_reaches_the_path() -> None:
    async with AzureHarness({"api_version": "2024-10-21"}) as gateway:
        for model in ("../../admin", "gpt/../x", "gpt?x", "gpt-4o_eu.1"):
            assert (await gateway.chat(model=model)).status == 404
        assert gateway.upstream.received == []


# -- who it says it is ------------------------------------------------------------------------------


async def test_a_key_is_sent_in_azure_s_own_header() -> None:
    async with AzureHarness() as gateway:
        caller = {"authorization": "Bearer callers-own", "api-key": "callers-own"}
        assert (await gateway.chat(headers=caller)).status == 200
        (request,) = gateway.upstream.received
    assert (request.header("api-key"), request.header("authorization")) == (KEY, None)
    assert "callers" not in repr(request.headers)


async def test_a_token_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    async with AzureHarness({"token_file": str(file)}) as gateway:
        for token in (TOKEN, TOKEN.replace("first", "second"), TOKEN.replace("first", "third")):
            fresh = tmp_path / "fresh"
            fresh.write_text(token)
            os.replace(fresh, file)  # as whoever renews tokens does
            assert (await gateway.chat()).status == 200
            request = gateway.upstream.received[-1]
            assert (request.header("authorization"), request.header("api-key")) == (f"Bearer {token}", None)
            said = {"error": {"message": f"bad token {token} given", "code": "x"}}
            gateway.upstream.reply(said, status=400)
            refused = await gateway.chat()
            assert token not in refused.raw.decode()
            gateway.upstream.reply(chat_body())


@pytest.mark.parametrize("content", ["", "\n", "two lines\nof text", "a" * 20_000, "tök€n-with-more"])
async def test_a_token_that_cannot_be_used_leaves_the_last_one_in_use(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError) as caught:
        file.write_text(content)
        async with AzureHarness({"token_file": str(file)}):
            pass
    assert caught.value.path == "providers.azure.token_file"
    file.write_text(TOKEN)
    async with AzureHarness({"token_file": str(file)}) as gateway:
        file.write_text(content)
        assert (await gateway.chat()).status == 200
        file.unlink()
        assert (await gateway.chat()).status == 200
        assert {r.header("authorization") for r in gateway.upstream.received} == {f"Bearer {TOKEN}"}
    assert "azure_token_unreadable" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key": KEY}, "models"),
        ({"models": ["m"]}, "api_key, or token_file"),
        ({"models": ["m"], "api_key": KEY, "token_file": "/x"}, "not both"),
        ({"models": ["m"], "api_key": KEY, "api_version": "latest"}, "api_version"),
        ({"models": ["m"], "api_key": KEY, "api_version": "2024-10-21&x=y"}, "api_version"),
        ({"models": ["m"], "api_key": KEY + "\n"}, "api_key"),
    ],
)
def test_a_configuration_that_is_wrong_is_an_error(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        part_of({"endpoint": "https://x.openai.azure.com", **settings})
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


def test_it_is_part_of_the_embedded_default_where_resource_key_and_deployment_are_known() -> None:
    environ = {
        "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/",
        "AZURE_OPENAI_API_KEY": KEY,
        "AZURE_OPENAI_DEPLOYMENT": "gpt",
    }
    settings = Azure.embedded(environ)
    assert settings is not None
    part = part_of(dict(settings))
    assert (part.settings.endpoint, part.settings.models) == ("https://x.openai.azure.com", ["gpt"])
    assert KEY not in repr(part.settings)
    for name in environ:
        assert Azure.embedded({**environ, name: ""}) is None


# -- the content filter -----------------------------------------------------------------------------

FILTERED = {
    "error": {
        "message": "The response was filtered.", "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": True, "severity": "high"}, "jailbreak": {"filtered": True, "detected": True},
                "violence": {"filtered": False, "severity": "safe"},
            },
        },
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FILTERED["error"], "The response was filtered. (filtered: hate, jailbreak)"),
        (
            {**FILTERED["error"], "code": "BadRequest"},
            "The response was filtered. (filtered: hate, jailbreak)",
        ),
        ({"message": "No.", "code": "content_filter"}, "No."),
        ({"message": "No.", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "No."),
    ],
)
async def test_what_the_content_filter_refused_is_told_with_its_categories(error: Any, message: str) -> None:
    async with AzureHarness() as gateway:
        gateway.upstream.reply({"error": error}, status=400)
        answer = await gateway.chat()
        exchange = await gateway.ended()
    assert (answer.status, answer.error["message"]) == (400, message)
    assert answer.error["code"] == (error["code"] or "content_filter")
    outcome = exchange.attempts[0].outcome
    assert outcome is not None and outcome.error is not None
    assert outcome.error.kind == "content_filter"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"error": 1}', b'{"error": {"innererror": 1, "message": "x"}}', b"\xff"]
)
async def test_an_error_of_any_other_shape_is_an_error_still(body: bytes) -> None:
    async with AzureHarness() as gateway:
        gateway.upstream.reply(body, status=400)
        assert (await gateway.chat()).status == 400


ANNOTATED = {
    "choices": [], "created": 0, "id": "", "model": "", "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}],
}  # fmt: skip


async def test_annotations_pass_to_clients_of_the_same_api() -> None:
    events = [*sse(ANNOTATED), *chat_events("Hello", "!")]
    async with AzureHarness() as gateway:
        gateway.upstream.stream(*events)
        answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.raw == b"".join(events)


async def test_annotations_are_no_part_of_a_translated_answer() -> None:
    async with AzureHarness() as gateway:
        gateway.upstream.stream(*sse(ANNOTATED), *chat_events("Hello", "!", model="gpt-4o-2024"))
        body = {
            "model": "gpt",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "x"}],
        }
        answer = await gateway.request(body, path="/v1/messages")
    start = answer.events[0]["message"]
    assert (start["id"] != "", start["model"]) == (True, "gpt-4o-2024")
    assert (
        "".join(e["delta"].get("text", "") for e in answer.events if e["type"] == "content_block_delta")
        == "Hello!"
    )


def test_nothing_of_a_token_is_logged_by_a_provider_that_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.write_text(json.dumps({"access_token": TOKEN}))  # the answer of a token endpoint is no token
    part = part_of({"endpoint": "https://x.test", "token_file": str(file), "models": ["m"]})
    assert not Azure(part.settings, Host(), "azure")._read_token()
    assert TOKEN not in caplog.text
