"""The presets: each row of the table is a provider that calls where it should, with what its service takes."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.dialects.registry import DIALECTS
from lmg.pipeline import draft
from lmg.testing import Harness, chat_body, sse
from lmg_local.presets import PRESETS, PROVIDERS, Preset, provider_of
from lmg_local.wires import ServerChat

KEY = "key-0123456789abcdef"
SERVICES = [name for name, row in PRESETS.items() if row.key]
SERVERS = [name for name, row in PRESETS.items() if not row.key]
BOUNDARY = "----presets-0123456789"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\np\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--{BOUNDARY}--\r\n'
).encode()
BODIES: dict[str, Any] = {
    "/v1/embeddings": {"model": "m", "input": "x"},
    "/v1/rerank": {"model": "m", "query": "q", "documents": ["d"]},
    "/v1/images/generations": {"model": "m", "prompt": "p"},
    "/v1/images/edits": FORM,
    "/v1/audio/speech": {"model": "m", "input": "x", "voice": "v"},
    "/v1/audio/transcriptions": FORM,
    "/v1/audio/translations": FORM,
}


class PresetHarness(Harness):
    """A gateway whose one provider is a preset, its endpoint moved to the harness's own upstream."""

    def __init__(self, name: str, component: Any = None, **settings: Any) -> None:
        self._component = component or getattr(PROVIDERS, name)
        super().__init__(classes={name: self._component}, models=["m"])
        key = {"api_key": KEY} if self._component.preset.key else {}
        self._name, self._settings = name, {"models": ["m"], **key, **settings}

    def read(self, mesh: Any) -> Any:
        endpoint = self.upstream.url + urlsplit(self._component.preset.endpoint).path
        return super().read({**mesh, "providers": {self._name: {"endpoint": endpoint, **self._settings}}})


def part_of(name: str, settings: dict[str, Any], component: Any = None) -> Any:
    config = validate(MeshConfig, {"providers": {name: settings}}, (), None)
    (part,) = draft(config, installed={}, classes={name: component or getattr(PROVIDERS, name)}).providers
    return part


# -- the table --------------------------------------------------------------------------------------


def test_every_row_has_an_entry_point_that_names_it() -> None:
    offered = distribution("lmg-local").entry_points.select(group="lmg.plugins")
    assert {entry.name for entry in offered} == {"local", *PRESETS}
    for name in PRESETS:
        found: Any = offered[name].load()
        assert found is getattr(PROVIDERS, name)
        assert (found.__name__, found.preset) == (name, PRESETS[name])


def test_the_readme_shows_the_table() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for name, row in PRESETS.items():
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"`{row.endpoint}`" in line
        assert not row.key or f"`{row.key}`" in line
        for operation in row.besides:
            assert operation in line, f"{name}: {operation} is not in the README"


async def test_an_openai_compatible_provider_takes_one_row() -> None:
    row = Preset(
        "Example",
        "https://api.example.com/inference",
        ServerChat(),
        "EXAMPLE_API_KEY",
        ("m",),
        {"embeddings": (OpenAIEmbeddings(),)},
    )
    component = provider_of("example", row)
    async with PresetHarness("example", component) as gateway:
        assert (await gateway.chat(stream=True)).text == "Hello!"
        assert (await gateway.request(BODIES["/v1/embeddings"], path="/v1/embeddings")).status == 200
        chat, embeddings = gateway.upstream.received
    assert (chat.path, embeddings.path) == ("/inference/v1/chat/completions", "/inference/v1/embeddings")
    assert chat.header("authorization") == f"Bearer {KEY}"
    settings = component.embedded({"EXAMPLE_API_KEY": KEY})
    assert settings is not None
    part = part_of("example", dict(settings), component)
    assert (part.settings.endpoint, part.settings.models) == (row.endpoint, ["m"])


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_is_called_at_its_path_with_its_account_s_key(name: str) -> None:
    async with PresetHarness(name) as gateway:
        assert (await gateway.chat(headers={"authorization": "Bearer callers-own"})).status == 200
        (request,) = gateway.upstream.received
    assert request.path == urlsplit(PRESETS[name].endpoint).path + "/v1/chat/completions"
    assert request.header("authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_needs_no_key_and_is_on_the_premises(name: str) -> None:
    async with PresetHarness(name) as gateway:
        assert (await gateway.chat(stream=True)).text == "Hello!"
        assert gateway.upstream.received[0].header("authorization") is None
        provider = gateway.process.gateway.pipeline.providers[name]
        assert [target.on_prem for target in provider.targets()] == [True]


@pytest.mark.parametrize("name", PRESETS)
async def test_a_preset_serves_its_operations_and_no_others(name: str) -> None:
    spoken = {dialect.name for dialects in PRESETS[name].besides.values() for dialect in dialects}
    async with PresetHarness(name) as gateway:
        for path, body in BODIES.items():
            before = len(gateway.upstream.received)
            served = DIALECTS[path.encode()].name in spoken
            if served and path == "/v1/audio/speech":
                gateway.upstream.reply(b"x", headers=[("content-type", "audio/mpeg")])
            elif served:
                gateway.upstream.reply({})
            headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} if body is FORM else None
            answer = await gateway.request(body, path=path, headers=headers)
            assert (answer.status, len(gateway.upstream.received) - before) == (
                (200, 1) if served else (404, 0)
            ), path
            if served:
                assert gateway.upstream.received[-1].path.endswith(path)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_models_of_its_own_and_wants_a_key(name: str) -> None:
    row = PRESETS[name]
    settings = part_of(name, {"api_key": KEY}).settings
    assert (settings.endpoint, settings.models, settings.on_prem) == (row.endpoint, list(row.models), False)
    assert part_of(
        name, {"api_key": KEY, "endpoint": "https://x.example", "models": ["m"]}
    ).settings.models == ["m"]
    for wrong, at in (
        ({}, "api_key"),
        ({"api_key": KEY, "models": []}, "models"),
        ({"api_key": KEY, "native": []}, "native"),
    ):
        with pytest.raises(ConfigError) as caught:
            part_of(name, wrong)
        assert caught.value.path == f"providers.{name}.{at}"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_s_models_are_named_by_the_operator(name: str) -> None:
    part = part_of(name, {"models": ["m"]})
    assert part.settings.endpoint == PRESETS[name].endpoint
    assert [t.on_prem for t in part.component(part.settings, Host(), name).targets()] == [True]
    for wrong, at in (
        ({}, "models"),
        ({"models": []}, "models"),
        ({"models": ["m"], "native": ["x"]}, "native[0]"),
    ):
        with pytest.raises(ConfigError) as caught:
            part_of(name, wrong)
        assert caught.value.path == f"providers.{name}.{at}"


@pytest.mark.parametrize("name", PRESETS)
def test_it_is_part_of_the_embedded_default_only_with_a_key_in_the_environment(name: str) -> None:
    row, component = PRESETS[name], getattr(PROVIDERS, name)
    assert component.embedded({}) is None
    assert component.embedded({row.key: ""}) is None
    settings = component.embedded({row.key: KEY} if row.key else {"": KEY})
    assert (settings is not None) == bool(row.key)
    if settings is not None:
        assert part_of(name, dict(settings)).settings.models == list(row.models)


# -- deviations on the wire -------------------------------------------------------------------------


async def test_a_body_of_its_own_dialect_passes_byte_for_byte() -> None:
    body = b'{"model":"m", "seed":12345678901234567890123, "messages":[{"role":"user","content":"x"}], "stream":true}'
    async with PresetHarness("mistral") as gateway:
        assert (await gateway.request(body)).status == 200
        # Mistral would refuse what the gateway asks others for, and states usage without it.
        assert gateway.upstream.received[0].body == body
    async with PresetHarness("groq") as gateway:
        assert (await gateway.request(body)).status == 200
        assert gateway.upstream.received[0].json["stream_options"] == {"include_usage": True}


MESSAGES = {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("name", SERVERS)
async def test_an_api_that_the_server_is_said_to_speak_is_not_translated(name: str) -> None:
    async with PresetHarness(name, native=["messages"]) as gateway:
        gateway.upstream.reply(
            {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "Hi"}],
                "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )  # fmt: skip
        answer = await gateway.request(MESSAGES, path="/v1/messages")
        assert (answer.status, answer.json["content"][0]["text"]) == (200, "Hi")
        (request,) = gateway.upstream.received
    assert (request.path, request.json) == ("/v1/messages", MESSAGES)


@pytest.mark.parametrize("name", PRESETS)
async def test_a_client_of_another_api_is_served_over_chat_completions(name: str) -> None:
    async with PresetHarness(name) as gateway:
        gateway.upstream.reply(chat_body("Hi"))
        answer = await gateway.request(MESSAGES, path="/v1/messages")
        assert (answer.status, answer.json["content"][0]["text"]) == (200, "Hi")
        (request,) = gateway.upstream.received
    cap = "max_completion_tokens" if name in ("groq", "xai") else "max_tokens"
    assert request.path.endswith("/v1/chat/completions")
    assert request.json == {"model": "m", "messages": [{"role": "user", "content": "Hello"}], cap: 64}


async def test_mistral_s_reasoning_reaches_clients_of_other_apis_streamed_or_not() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    content = [thought, {"type": "text", "text": "Hi"}]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    said = {"id": "1", "model": "m", "created": 1}
    async with PresetHarness("mistral") as gateway:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        gateway.upstream.reply({**said, "choices": [choice], "usage": usage})
        whole = await gateway.request(MESSAGES, path="/v1/messages")
        deltas: list[Any] = [
            {"role": "assistant", "content": ""},
            {"content": [thought]},
            {"content": "H"},
            {"content": [content[1]]},
        ]
        chunks = [
            {**said, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        last = {
            **said,
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
            "usage": usage,
        }
        gateway.upstream.stream(*sse(*chunks, last, "[DONE]"))
        streamed = await gateway.request({**MESSAGES, "stream": True}, path="/v1/messages")
        await gateway.ended(2)
    assert [(part["type"], part.get("thinking") or part.get("text")) for part in whole.json["content"]] == [
        ("thinking", "Hm."), ("text", "Hi"),
    ]  # fmt: skip
    said_in = json.dumps([event.get("delta") for event in streamed.events])
    assert "Hm." in said_in
    assert [
        e["delta"]["text"] for e in streamed.events if e.get("delta", {}).get("type") == "text_delta"
    ] == ["H", "Hi"]
    assert [(r.input_tokens, r.output_tokens) for r in gateway.receipts] == [(3, 4), (3, 4)]
