"""The provider `local`: before a server of the operator's own, and with the embedded model."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness, ScriptedUpstream, VirtualClock
from lmg_local import Local, plugin
from lmg_local.embedded import EmbeddedServerError, find_model, missing_reason

QUESTION = "What is the capital of France?"
MODEL = "smollm2-135m-instruct"


def needs_model() -> None:
    if find_model() is None:
        reason = f"no embedded model: {missing_reason()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class EndpointHarness(Harness):
    """A gateway whose one provider is `local`, before the harness's own upstream."""

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        super().__init__(classes={"local": Local}, models=["llama-3-70b"])
        self._settings = {"models": ["llama-3-70b"], **(settings or {})}

    def read(self, mesh: Any) -> Any:
        return super().read(
            {**mesh, "providers": {"local": {"endpoint": self.upstream.url, **self._settings}}}
        )


def embedded(settings: dict[str, Any] | None = None, **more: Any) -> Harness:
    mesh = {
        "providers": {"local": {"embedded": True, "threads": 1, "context_tokens": 512, **(settings or {})}}
    }
    return Harness(mesh, classes={"local": Local}, models=[MODEL], **more)


def provider_of(gateway: Harness) -> Local:
    provider = gateway.process.gateway.pipeline.providers["local"]
    assert isinstance(provider, Local)
    return provider


def blueprint_of(settings: dict[str, Any]) -> Any:
    config = validate(MeshConfig, {"providers": {"local": settings}}, (), None)
    return draft(config, installed={}, classes={"local": Local})


# A server of the operator's own


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_goes_to_the_endpoint_without_a_key(stream: bool) -> None:
    async with EndpointHarness() as gateway:
        caller = {"authorization": "Bearer callers-own-key-0123", "cookie": "a=b"}
        answer = await gateway.chat(stream=stream, headers=caller)
        assert answer.text == "Hello!"
        (received,) = gateway.upstream.received
    assert received.path == "/v1/chat/completions"
    assert received.header("authorization") is None
    assert received.header("cookie") is None
    assert "max_tokens" not in received.json


async def test_a_key_is_sent_where_the_server_has_one() -> None:
    async with EndpointHarness({"api_key": "token-of-the-server"}) as gateway:
        await gateway.chat()
        assert gateway.upstream.received[0].header("authorization") == "Bearer token-of-the-server"


async def test_embeddings_go_to_the_endpoint_too() -> None:
    async with EndpointHarness() as gateway:
        answer = await gateway.request({"model": "llama-3-70b", "input": "text"}, path="/v1/embeddings")
        assert answer.status == 200
        assert gateway.upstream.received[0].path == "/v1/embeddings"


async def test_model_map_names_the_model_as_the_server_knows_it() -> None:
    async with EndpointHarness({"model_map": {"llama-3-70b": "meta-llama/Llama-3-70B"}}) as gateway:
        await gateway.chat()
        assert gateway.upstream.received[0].json["model"] == "meta-llama/Llama-3-70B"


async def test_an_endpoint_is_on_the_premises_unless_told_otherwise() -> None:
    for settings, on_prem in (({}, True), ({"on_prem": False}, False)):
        (part,) = blueprint_of({"endpoint": "http://127.0.0.1:1", "models": ["m"], **settings}).providers
        provider = Local(part.settings, Host(), "local")
        assert [target.on_prem for target in provider.targets()] == [on_prem]
        assert provider.health() is None


async def test_a_server_that_is_down_is_a_502_and_nothing_is_started() -> None:
    async with ScriptedUpstream() as upstream:
        gone = upstream.url
    async with EndpointHarness({"endpoint": gone}) as gateway:
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        assert gone.removeprefix("http://") not in answer.raw.decode()
        assert provider_of(gateway)._server is None


async def test_no_field_or_header_moves_the_call() -> None:
    async with ScriptedUpstream() as elsewhere, EndpointHarness() as gateway:
        fields = {
            "api_base": elsewhere.url,
            "base_url": elsewhere.url,
            "endpoint": elsewhere.url,
            "embedded": True,
        }
        headers = {"x-forwarded-host": f"127.0.0.1:{elsewhere.port}", "custom-host": elsewhere.url}
        assert (await gateway.chat(headers=headers, **fields)).status == 200
        assert len(gateway.upstream.received) == 1
        assert elsewhere.connections == 0


# Configuration


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give endpoint, or embedded: true"),
        ({"endpoint": "http://x", "models": ["m"], "embedded": True}, "not both"),
        ({"endpoint": ""}, "give endpoint"),
        ({"embedded": False}, "give endpoint"),
        ({"endpoint": "http://x"}, "name at least one model"),
        ({"endpoint": "http://x", "models": []}, "name at least one model"),
        ({"embedded": True, "threads": 0}, "threads"),
        ({"embedded": True, "context_tokens": 10}, "context_tokens"),
        ({"embedded": True, "modle": "x"}, "modle"),
    ],
)
def test_a_configuration_that_is_wrong_is_an_error(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        blueprint_of(settings)
    assert caught.value.path.startswith("providers.local")


async def test_an_absent_model_stops_the_start_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "find_model", lambda: None)
    monkeypatch.setattr(plugin, "missing_reason", lambda: "it is not here")
    (part,) = blueprint_of({"embedded": True}).providers
    with pytest.raises(ConfigError, match="it is not here") as caught:
        await Local(part.settings, Host(), "local").start()
    assert "pip install" in caught.value.hint
    assert Local.embedded({}) is None
    assert Local.default_models() == []


def test_it_is_part_of_the_embedded_default_where_the_model_is_installed() -> None:
    needs_model()
    settings = Local.embedded({})
    assert settings is not None
    assert blueprint_of(dict(settings))
    assert Local.default_models() == [MODEL]


# The embedded model


async def test_the_embedded_model_answers() -> None:
    needs_model()
    async with embedded() as gateway:
        # The gateway is ready before its model is.
        assert provider_of(gateway).health() is not None
        ready = await gateway.get("/readyz")
        assert (ready.status, ready.json["degraded"]) == (200, {"local": "degraded"})
        whole = await gateway.request(gateway.body(QUESTION, temperature=0), seconds=60)
        assert (whole.status, "Paris" in whole.text) == (200, True)
        assert provider_of(gateway).health() is None
        assert (await gateway.get("/readyz")).json["degraded"] == {}
        streamed = await gateway.request(gateway.body(QUESTION, stream=True, temperature=0), seconds=60)
        assert "Paris" in streamed.text
        assert streamed.events[-1] == "[DONE]"
        await gateway.ended(2)
        assert all(r.input_tokens > 0 and r.output_tokens > 0 for r in gateway.receipts)
        refused = await gateway.request({"model": MODEL, "input": "text"}, path="/v1/embeddings")
        assert refused.status == 404


@pytest.mark.skipif(sys.platform != "linux", reason="follows processes through pidfd, which Linux has")
async def test_a_dead_model_is_started_again_on_a_later_call() -> None:
    needs_model()
    async with embedded() as gateway:
        asked = gateway.body(QUESTION, temperature=0, max_tokens=20)
        assert (await gateway.request(asked, seconds=60)).status == 200
        provider = provider_of(gateway)
        assert provider._folder is not None
        state = Path(provider._folder.name) / "embedded.json"
        pid = json.loads(state.read_bytes())["pid"]
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        # Readable when the process has ended, whoever collects it.
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert await asyncio.to_thread(poll.poll, 10_000)
        os.close(pidfd)
        first = await gateway.request(asked, seconds=60)
        assert first.status in (200, 502)
        answer = await gateway.request(asked, seconds=60)
        assert (answer.status, "Paris" in answer.text) == (200, True)
        assert json.loads(state.read_bytes())["pid"] != pid


class FakeServer:
    """In the place of llama.cpp's server: an address, or a failure."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self.outcomes = list(outcomes)
        self.starts = 0
        self.stopped = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self) -> str:
        self.starts += 1
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces the server of the next gateway, and pretends that the model is installed."""

    def use(*outcomes: str | Exception) -> FakeServer:
        server = FakeServer(*outcomes)
        model = type("Model", (), {"name": MODEL, "path": Path("model.gguf")})()
        monkeypatch.setattr(plugin, "find_model", lambda: model)
        monkeypatch.setattr(plugin, "EmbeddedServer", lambda **settings: server)
        return server

    return use


async def started(gateway: Harness) -> None:
    starting = provider_of(gateway)._starting
    assert starting is not None
    await asyncio.wait((starting,))


async def test_an_answer_is_limited_where_the_request_sets_no_limit(fake: Any) -> None:
    async with ScriptedUpstream() as model:
        fake(model.url)
        async with embedded({"max_output_tokens": 77}) as gateway:
            for limits in ({}, {"max_tokens": None}, {"max_tokens": 5}, {"max_completion_tokens": 6}):
                assert (await gateway.chat(**limits)).status == 200
        sent = [(r.json.get("max_tokens"), r.json.get("max_completion_tokens")) for r in model.received]
    assert sent == [(77, None), (77, None), (5, None), (None, 6)]


async def test_it_is_known_by_the_names_that_are_configured(fake: Any) -> None:
    async with ScriptedUpstream() as model:
        fake(model.url)
        async with embedded({"models": ["tiny", "small"], "on_prem": False}) as gateway:
            assert (await gateway.chat(model="small")).status == 200
            assert (await gateway.chat(model=MODEL)).status == 404
            assert all(target.on_prem for target in provider_of(gateway).targets())
        assert model.received[0].json["model"] == MODEL


async def test_calls_wait_while_it_starts(fake: Any) -> None:
    async with ScriptedUpstream() as model:
        server = fake(model.url)
        server.gate.clear()
        async with embedded() as gateway:
            asked = [asyncio.create_task(gateway.chat()) for _ in range(3)]
            while gateway.process.gateway.pipeline.in_flight < 3:
                await asyncio.sleep(0.001)
            health = provider_of(gateway).health()
            assert health is not None
            assert health.state == "degraded"
            server.gate.set()
            assert [answer.status for answer in await asyncio.gather(*asked)] == [200, 200, 200]
            assert provider_of(gateway).health() is None
        assert (server.starts, server.stopped) == (1, True)


async def test_a_client_that_leaves_does_not_stop_the_start(fake: Any) -> None:
    async with ScriptedUpstream() as model:
        server = fake(model.url)
        server.gate.clear()
        async with embedded() as gateway:
            client = await gateway.connect()
            await client.send(gateway.encode(gateway.body()))
            while not gateway.process.gateway.pipeline.in_flight:
                await asyncio.sleep(0.001)
            await client.close(reset=True)
            assert (await gateway.ended()).ended == "cancelled"
            server.gate.set()
            assert (await gateway.chat()).status == 200
        assert server.starts == 1


@pytest.mark.parametrize("error", [EmbeddedServerError("no such file"), PermissionError("not allowed")])
async def test_a_start_that_fails_is_shown_and_tried_again_after_a_pause(
    fake: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock()
    async with ScriptedUpstream() as model:
        server = fake(error, error, model.url)
        async with embedded(clock=clock) as gateway:
            await started(gateway)
            health = provider_of(gateway).health()
            assert health is not None
            assert (health.state, health.detail) == ("failed", str(error))
            assert str(error) in caplog.text
            for _ in range(3):
                answer = await gateway.chat()
                assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
                assert str(error) not in answer.raw.decode()
            assert server.starts == 1
            await clock.advance(plugin.RESTART_PAUSE_S)
            assert (await gateway.chat()).status == 502
            assert server.starts == 2
            await clock.advance(plugin.RESTART_PAUSE_S)
            assert (await gateway.chat()).status == 200
            assert provider_of(gateway).health() is None


async def test_one_start_for_many_calls_that_found_it_dead(fake: Any) -> None:
    async with ScriptedUpstream() as dead:
        gone = dead.url
    async with ScriptedUpstream() as model:
        server = fake(gone, model.url)
        async with embedded() as gateway:
            await started(gateway)
            answers = await asyncio.gather(*(gateway.chat() for _ in range(5)))
            assert {answer.status for answer in answers} <= {200, 502}
            assert (await gateway.chat()).status == 200
        assert server.starts == 2


async def test_a_fault_of_one_call_does_not_break_the_others(fake: Any) -> None:
    async with ScriptedUpstream() as model:
        server = fake(model.url)
        async with embedded() as gateway:
            await started(gateway)
            before = provider_of(gateway).transport
            model.raw(b"HTTP/1.1 200 OK\r\n\x00nonsense\r\n\r\n")
            assert (await gateway.chat()).status == 502
            await started(gateway)
            # It was asked for its address again, and as that is the same, other answers in flight go on.
            assert server.starts == 2
            assert provider_of(gateway).transport is before


async def test_the_end_of_the_gateway_ends_a_start_under_way(fake: Any) -> None:
    server = fake("http://127.0.0.1:1")
    server.gate.clear()
    async with embedded() as gateway:
        folder = provider_of(gateway)._folder
        assert folder is not None
        assert Path(folder.name).is_dir()
    assert server.stopped
    assert not Path(folder.name).exists()
