"""The serving process: reload, drain, TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from lmg import Component, ComponentConfig, Exchange
from lmg.exchange import TlsPeer
from lmg.testing import Harness, Wait, chat_events


class Stamp(Component):
    """Puts its label on every answer; counts its objects and what was stopped."""

    class Config(ComponentConfig):
        label: str = "a"
        broken: bool = False

    made: list[Stamp] = []
    stopped: list[Stamp] = []

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made.append(self)

    async def start(self) -> None:
        if self.config.broken:
            raise RuntimeError

    async def stop(self) -> None:
        self.stopped.append(self)

    def on_request(self, exchange: Exchange) -> None:
        exchange.reply_header(b"x-stamp", self.config.label.encode())


@pytest.fixture(autouse=True)
def fresh() -> None:
    Stamp.made, Stamp.stopped = [], []


def stamped(label: str, **more: Any) -> dict[str, Any]:
    return {"pipeline": [{"stamp": {"label": label, **more}}]}


CLASSES = {"stamp": Stamp}


async def test_reload_swaps_the_pipeline_and_exchanges_in_flight_finish_where_they_began() -> None:
    async with Harness(stamped("a"), classes=CLASSES) as gateway:
        gate = asyncio.Event()
        gateway.upstream.stream(*chat_events("one")[:2], Wait(event=gate), *chat_events("one")[2:])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        assert (await client.head())[1]["x-stamp"] == "a"
        assert await gateway.reload(stamped("b"))
        gateway.upstream.stream(*chat_events("two"))
        assert (await gateway.chat(stream=True)).headers["x-stamp"] == "b"
        assert Stamp.stopped == []  # the old one still serves
        gate.set()
        await gateway.ended(2)
        await asyncio.sleep(0.01)
        assert [stamp.config.label for stamp in Stamp.stopped] == ["a"]


async def test_an_unchanged_component_is_carried_over_as_the_same_object() -> None:
    async with Harness(stamped("a"), classes=CLASSES) as gateway:
        before = gateway.process.gateway.pipeline
        assert await gateway.reload({**stamped("a"), "server": {"max_attempts": 2}})
        after = gateway.process.gateway.pipeline
        assert after is not before
        assert after.max_attempts == 2
        assert len(Stamp.made) == 1
        assert after.providers["scripted"] is before.providers["scripted"]
        assert (await gateway.chat()).status == 200
    assert len(Stamp.stopped) == 1


@pytest.mark.parametrize(
    "wrong",
    [stamped("b", broken=True), {"pipeline": ["not_installed"]}, {"pipeline": [{"stamp": {"colour": 1}}]}],
    ids=["start", "unknown", "setting"],
)
async def test_a_configuration_that_does_not_load_changes_nothing_and_says_so(wrong: dict[str, Any]) -> None:
    async with Harness(stamped("a"), classes=CLASSES) as gateway:
        before = gateway.process.gateway.pipeline
        assert not await gateway.reload(wrong)
        assert gateway.process.gateway.pipeline is before
        assert (await gateway.chat()).headers["x-stamp"] == "a"
        ready = await gateway.get("/readyz")
        assert (ready.status, ready.json["degraded"]) == (200, {"reload": "failed"})
        assert await gateway.reload(stamped("c"))
        assert (await gateway.get("/readyz")).json["degraded"] == {}


async def test_draining_refuses_new_work_and_lets_streams_finish() -> None:
    async with Harness() as gateway:
        gate = asyncio.Event()
        events = chat_events("one", "two")
        gateway.upstream.stream(*events[:2], Wait(event=gate), *events[2:])
        streaming, waiting = await gateway.connect(), await gateway.connect()
        await streaming.send(gateway.encode(gateway.body(stream=True)))
        await gateway.upstream.arrival()
        gateway.process.drain()
        await waiting.send(gateway.encode(b"", path="/readyz", method="GET"))
        ready = await waiting.answer()
        assert (ready.status, ready.json["status"]) == (503, "draining")
        await waiting.send(gateway.encode(gateway.body()))
        refused = await waiting.answer()
        assert (refused.status, refused.error["code"]) == (503, "draining")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert await waiting.closed() == b""
        gate.set()
        answer = await streaming.answer()
        assert (answer.text, answer.events[-1]) == ("onetwo", "[DONE]")
        await gateway.process.ended()


async def test_a_stream_that_outlives_the_drain_time_ends_in_an_error_event() -> None:
    async with Harness({"server": {"drain_s": 0.2}}) as gateway:
        gateway.upstream.stream(*chat_events("one")[:2], Wait(30))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await gateway.upstream.arrival()
        gateway.process.drain()
        answer = await client.answer()
        assert answer.error["code"] == "shutting_down"
        assert "[DONE]" not in answer.events
        assert not answer.broken
        exchange = await gateway.ended()
        assert exchange.receipt is not None


# -- TLS ----------------------------------------------------------------------------------------------


class WhoIsIt(Component):
    seen: list[TlsPeer | None] = []

    def on_request(self, exchange: Exchange) -> None:
        self.seen.append(exchange.head.tls)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, dict[str, Any]]:
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    cert_file, key_file, ca_file = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    cert_file.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key_file.write_bytes(certificate.private_key_pem.bytes())
    ca.cert_pem.write_to_path(str(ca_file))
    return ca, {"cert_file": str(cert_file), "key_file": str(key_file), "_ca": str(ca_file)}


def client_context(ca: trustme.CA, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def tls(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"server": {"tls": {**{k: v for k, v in settings.items() if k != "_ca"}, **more}}}


async def test_tls_1_3_is_the_default_and_1_2_is_refused(
    authority: tuple[trustme.CA, dict[str, Any]],
) -> None:
    ca, settings = authority
    async with Harness(tls(settings), tls=client_context(ca)) as gateway:
        client = await gateway.connect()
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert (await gateway.chat()).status == 200
    async with Harness(tls(settings), tls=client_context(ca, ssl.TLSVersion.TLSv1_2)) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await gateway.connect()
    async with Harness(
        tls(settings, min_version="1.2"), tls=client_context(ca, ssl.TLSVersion.TLSv1_2)
    ) as gateway:
        assert (await gateway.chat()).status == 200


async def test_mutual_tls_requires_a_certificate_and_components_see_whose(
    authority: tuple[trustme.CA, dict[str, Any]],
) -> None:
    ca, settings = authority
    context = client_context(ca)
    ca.issue_cert("agent-7.acme.example", common_name="agent-7").configure_cert(context)
    mesh = {**tls(settings, client_ca_file=settings["_ca"]), "pipeline": ["who"]}
    WhoIsIt.seen = []
    async with Harness(mesh, classes={"who": WhoIsIt}, tls=context) as gateway:
        assert (await gateway.chat()).status == 200
    [peer] = WhoIsIt.seen
    assert peer is not None
    assert "commonName=agent-7" in peer.subject
    assert peer.sans == ("DNS:agent-7.acme.example",)
    async with Harness(mesh, classes={"who": WhoIsIt}, tls=client_context(ca)) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await gateway.chat()
    assert len(WhoIsIt.seen) == 1
