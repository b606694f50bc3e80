"""The transports against peers that do exactly what they are told."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from lmg.errors import ConfigError, UpstreamError
from lmg.testing import Harness
from lmg.testing.upstream import reset
from lmg.upstream import Transport, TransportOptions, UpstreamRequest, Url
from lmg.upstream.h1 import HIGH_WATER, H1Transport
from lmg.upstream.through_httpx import HttpxTransport

FIN, RST = object(), object()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
ASK = UpstreamRequest("POST", "/v1/chat/completions", [(b"content-type", b"application/json")], b'{"a":1}')
BOTH = pytest.mark.parametrize("transport", [H1Transport, HttpxTransport])


class Peer:
    """Answers the n-th request with the n-th script: bytes, events to wait for, ``FIN`` or ``RST``."""

    def __init__(self, scripts: Sequence[Sequence[Any]], tls: ssl.SSLContext | None = None) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.connections = 0
        self.lost = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._tls = tls

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for piece in self.scripts.pop(0):
                    if piece is RST:
                        reset(writer.transport)
                        return
                    if piece is FIN:
                        writer.close()
                        return
                    if isinstance(piece, asyncio.Event):
                        await piece.wait()
                    else:
                        writer.write(piece)
                        await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost.set()


@asynccontextmanager
async def pair(
    *scripts: Sequence[Any],
    transport: Callable[[Url, TransportOptions], Transport] = H1Transport,
    **options: Any,
) -> AsyncIterator[tuple[Peer, Any]]:
    """A peer and a transport to it."""
    async with Peer(scripts) as peer:
        opened = transport(Url.parse(peer.url), TransportOptions(**options))
        try:
            yield peer, opened
        finally:
            await opened.aclose()
            await asyncio.sleep(0)


async def whole(transport: Transport) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        response = await transport.send(ASK)
        return response.status, await response.read()


async def settled(condition: Callable[[], bool]) -> None:
    """Returns once the loop has made ``condition`` true."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# -- what both transports do --------------------------------------------------------------------------

BODIES: dict[str, tuple[list[Any], tuple[int, bytes]]] = {
    "a length": ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"], (200, b"hello")),
    "no bytes": ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], (200, b"")),
    "chunks": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n"], (200, b"hello")),
    "until the end of the connection": ([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", FIN], (200, b"hello")),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\nhello", FIN], (200, b"hello")),
    "an interim answer before": ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK], (200, b"{}")),
    "no content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b"")),
    "not modified with a length": ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], (304, b"")),
    "a redirect, which is not followed": ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"], (302, b"")),
    "an error status": ([b"HTTP/1.1 500 \r\ncontent-length: 2\r\n\r\n{}"], (500, b"{}")),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("split", [False, True])
async def test_an_answer_is_read_whole_however_it_is_framed(transport: Any, what: str, split: bool) -> None:
    script, expected = BODIES[what]
    if split:
        script = [
            piece[n : n + 1] for piece in script if isinstance(piece, bytes) for n in range(len(piece))
        ] + script[-1:] * (script[-1] is FIN)
    async with pair(script, transport=transport) as (_, opened):
        assert await whole(opened) == expected


@BOTH
async def test_a_request_goes_out_once_with_one_host_one_length_and_no_coding(transport: Any) -> None:
    async with pair([OK], transport=transport) as (peer, opened):
        await whole(opened)
        [request] = peer.requests
        lines = request.lower().split(b"\r\n")
        assert lines[0] == b"post /v1/chat/completions http/1.1"
        for name, value in (
            (b"host", b"127.0.0.1:%d" % peer.port),
            (b"content-length", b"7"),
            (b"accept-encoding", b"identity"),
        ):
            assert [line for line in lines if line.startswith(name + b":")] == [name + b": " + value]
        assert request.endswith(b'\r\n\r\n{"a":1}')


@BOTH
async def test_header_names_are_small_and_those_of_the_hop_stay_behind(transport: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: B\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with pair([head], transport=transport) as (_, opened):
        response = await opened.send(ASK)
        assert dict(response.headers)[b"x-a"] == b"B"
        assert response.is_event_stream
        assert not {b"connection", b"transfer-encoding", b"content-length", b"keep-alive"} & {
            name for name, _ in response.headers
        }
        assert await response.read() == b""


@BOTH
async def test_a_connection_is_reused_and_cookies_are_not_kept(transport: Any) -> None:
    with_cookie = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b\r\n\r\n")
    async with pair([with_cookie], [with_cookie], [OK], transport=transport) as (peer, opened):
        for _ in range(3):
            assert await whole(opened) == (200, b"{}")
        assert peer.connections == 1
        assert not any(b"cookie" in request.lower() for request in peer.requests)


FAULTS: dict[str, list[Any]] = {
    "FIN before the head": [FIN],
    "RST before the head": [RST],
    "FIN inside the head": [b"HTTP/1.1 200 OK\r\nconte", FIN],
    "garbage": [b"\x00\x01garbage\r\n\r\n", FIN],
    "another protocol": [b"220 smtp.example ESMTP\r\n", FIN],
    "a body shorter than its length": [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", FIN],
    "a body shorter than its length, RST": [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", RST],
    "chunks without an end": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", FIN],
    "a chunk cut": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello", FIN],
    "a chunk size that is none": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n"],
    "a chunk longer than its size": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"],
    "two different lengths": [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x"],
    "a negative length": [b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}", FIN],
    "a content encoding": [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"],
    "a reset while reading until the end": [b"HTTP/1.1 200 OK\r\n\r\nhel", asyncio.Event(), RST],
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("what", FAULTS)
async def test_an_answer_that_broke_is_an_error_and_its_connection_is_not_used_again(
    transport: Any, what: str
) -> None:
    gate = asyncio.Event()
    script = [gate if isinstance(piece, asyncio.Event) else piece for piece in FAULTS[what]]
    async with pair(script, [OK], transport=transport) as (peer, opened):
        with pytest.raises(UpstreamError) as caught:
            async with asyncio.timeout(5):
                response = await opened.send(ASK)
                gate.set()
                await response.read()
        assert caught.value.stage in ("send", "answer", "protocol")
        assert "127.0.0.1" not in str(caught.value)
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


@BOTH
async def test_a_reset_is_not_the_end_of_a_body_that_is_read_until_the_end(transport: Any) -> None:
    gate = asyncio.Event()
    async with pair([b"HTTP/1.1 200 OK\r\n\r\nhel", gate, RST], transport=transport) as (_, opened):
        response = await opened.send(ASK)
        assert await response.__anext__() == b"hel"
        gate.set()
        with pytest.raises(UpstreamError):
            await response.__anext__()


@BOTH
async def test_bytes_are_given_as_they_arrive(transport: Any) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    script: list[Any] = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    for n, gate in enumerate(gates):
        script += [b"1\r\n%d\r\n" % n, gate]
    async with pair([*script, b"0\r\n\r\n"], transport=transport) as (_, opened), asyncio.timeout(5):
        response = await opened.send(ASK)
        for n, gate in enumerate(gates):
            assert await response.__anext__() == b"%d" % n
            gate.set()
        with pytest.raises(StopAsyncIteration):
            await response.__anext__()


@BOTH
@pytest.mark.parametrize("when", ["before the head", "in the body"])
async def test_cancelling_closes_the_connection(transport: Any, when: str) -> None:
    script: list[Any] = (
        [asyncio.Event()]
        if when == "before the head"
        else [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"]
    )
    async with pair(script, transport=transport) as (peer, opened):
        if when == "before the head":
            task = asyncio.ensure_future(opened.send(ASK))
            await settled(lambda: bool(peer.requests))
            peer.scripts.append([])
            script[0].set()  # the peer goes back to reading, and sees the end
        else:
            response = await opened.send(ASK)
            task = asyncio.ensure_future(response.read())
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(peer.lost.wait(), 1)


@BOTH
async def test_closing_an_answer_early_closes_its_connection(transport: Any) -> None:
    async with pair([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"], [OK], transport=transport) as (
        peer,
        opened,
    ):
        response = await opened.send(ASK)
        await response.aclose()
        await asyncio.wait_for(peer.lost.wait(), 1)
        assert await whole(opened) == (200, b"{}")


@BOTH
async def test_an_answer_over_the_bound_is_an_error_and_closes_the_connection(transport: Any) -> None:
    body = b"x" * 300_000
    async with pair(
        [b"HTTP/1.1 200 OK\r\n\r\n" + body, asyncio.Event()], transport=transport, max_body=100_000
    ) as (_, opened):
        with pytest.raises(UpstreamError, match="answer_too_large"):
            await whole(opened)


@BOTH
async def test_a_connection_that_is_refused_is_a_connect_error(transport: Any) -> None:
    async with Peer([]) as peer:
        url = Url.parse(peer.url)
    opened = transport(url, TransportOptions())
    with pytest.raises(UpstreamError) as caught:
        await opened.send(ASK)
    assert (caught.value.stage, caught.value.kind) == ("connect", "connect_error")
    await opened.aclose()


@BOTH
async def test_a_peer_that_does_not_finish_tls_runs_into_the_connect_timeout(transport: Any) -> None:
    async with Peer([]) as peer:  # speaks no TLS: waits for a request's head
        opened = transport(
            Url.parse(peer.url.replace("http", "https")), TransportOptions(connect_timeout_s=0.2)
        )
        with pytest.raises(UpstreamError) as caught:
            await opened.send(ASK)
        assert (caught.value.stage, caught.value.kind) == ("connect", "timeout")
        await opened.aclose()


# -- TLS ----------------------------------------------------------------------------------------------


def authority(tmp_path: Path, name: str) -> tuple[str, ssl.SSLContext]:
    """A certificate authority's file, and a server's context with its certificate for ``name``."""
    ca = trustme.CA()
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return str(file), context


@BOTH
async def test_tls_is_spoken_with_the_configured_authority(transport: Any, tmp_path: Path) -> None:
    file, context = authority(tmp_path, "127.0.0.1")
    async with Peer([[OK], [OK]], context) as peer:
        opened = transport(Url.parse(peer.url), TransportOptions(ca_file=file))
        assert await whole(opened) == (200, b"{}")
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 1
        await opened.aclose()


@BOTH
@pytest.mark.parametrize("name", ["other.example", "127.0.0.2", None])
async def test_a_certificate_for_another_host_or_of_another_authority_is_refused(
    transport: Any, tmp_path: Path, name: str | None
) -> None:
    file, context = authority(tmp_path, name or "127.0.0.1")
    async with Peer([[OK]], context) as peer:
        opened = transport(Url.parse(peer.url), TransportOptions(ca_file=file if name else None))
        with pytest.raises(UpstreamError) as caught:
            await opened.send(ASK)
        assert (caught.value.stage, caught.value.kind) == ("connect", "connect_error")
        assert peer.requests == []
        await opened.aclose()


# -- what only our own does ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [FIN, RST, b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", b"garbage"]
)
async def test_an_idle_connection_whose_peer_left_or_spoke_is_not_used(how: Any) -> None:
    gate = asyncio.Event()
    async with pair([OK, gate, how], [OK]) as (peer, opened):
        await whole(opened)
        gate.set()
        await settled(lambda: not opened.connections)
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


@pytest.mark.parametrize("how", [FIN, b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned"])
async def test_an_idle_connection_is_looked_at_before_it_is_used_even_if_the_loop_was_busy(how: Any) -> None:
    async with pair([OK], [OK]) as (peer, opened):
        await whole(opened)
        [idle] = opened.idle
        [writer] = peer.writers
        # The peer acts beneath the loop, which learns of it only after the connection was asked for.
        with socket.socket(fileno=os.dup(writer.transport.get_extra_info("socket").fileno())) as beneath:
            if isinstance(how, bytes):
                beneath.send(how)
            else:
                beneath.shutdown(socket.SHUT_RDWR)
        idle.idle_since -= 0.1
        assert opened._checkout() is None
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


@pytest.mark.parametrize(
    "more",
    [
        b"garbage",
        b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned",
        b"HTTP/1.1 200 OK\r\n\r\npoisoned",
        b"\x00",
    ],
)
async def test_bytes_behind_an_answer_are_nobodys_answer(more: bytes) -> None:
    async with pair([OK + more], [OK]) as (peer, opened):
        assert await whole(opened) == (200, b"{}")
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


@pytest.mark.parametrize("header", [b"Connection: close", b"connection: Close", b"Keep-Alive: timeout=1"])
async def test_a_connection_that_its_peer_will_close_is_not_reused(header: bytes) -> None:
    async with pair([OK.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")], [OK]) as (peer, opened):
        await whole(opened)
        await asyncio.sleep(0)
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


async def test_a_connection_that_was_idle_for_too_long_is_not_reused() -> None:
    async with pair([OK], [OK], idle_s=10) as (peer, opened):
        await whole(opened)
        opened.idle[0].idle_since -= 11
        await whole(opened)
        assert peer.connections == 2
        await settled(lambda: len(opened.connections) == 1)


async def test_a_reused_connection_that_dies_under_the_request_says_so() -> None:
    async with pair([OK], [FIN]) as (_, opened):
        await whole(opened)
        with pytest.raises(UpstreamError) as caught:
            await whole(opened)
        assert (caught.value.stage, caught.value.kind) == ("send", "stale_connection")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"a" * 200_000,
        b"HTTP/1.1 200 " + b"a" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: aaaaaaaaaaaa\r\n" * 10_000,
        b"HTTP/1.1 103 X\r\nx: aaaaaaaaaaaa\r\n\r\n" * 10_000,
    ],
)
async def test_a_head_beyond_its_bound_is_refused_before_it_ends(head: bytes) -> None:
    async with pair([head, asyncio.Event()]) as (_, opened):
        with pytest.raises(UpstreamError, match="head"):
            await whole(opened)


async def test_a_reader_that_waits_stops_the_peer() -> None:
    total, sent = 64 << 20, 0
    piece = b"x" * 65_536
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        try:
            while sent < total:
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    opened = H1Transport(
        Url.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), TransportOptions()
    )
    response = await opened.send(ASK)
    await settled(lambda: response._connection.paused)
    before = -1
    while before != sent:  # until the peer has filled what lies between
        before = sent
        await asyncio.sleep(0.05)
    assert response._queued < HIGH_WATER + (256 << 10)
    assert sent < 16 << 20
    got = 0
    async with asyncio.timeout(20):
        async for chunk in response:
            got += len(chunk)
            assert response._queued < HIGH_WATER + (256 << 10)
    assert got == total
    await asyncio.wait_for(gone.wait(), 1)
    await opened.aclose()
    server.close()
    await asyncio.sleep(0)


async def test_more_connections_than_the_cap_are_refused_and_come_back() -> None:
    gate = asyncio.Event()
    async with pair([gate, OK], [gate, OK], [OK], max_connections=2) as (peer, opened):
        calls = [asyncio.ensure_future(whole(opened)) for _ in range(2)]
        await settled(lambda: len(peer.requests) == 2)
        with pytest.raises(UpstreamError) as caught:
            await opened.send(ASK)
        assert (caught.value.stage, caught.value.kind) == ("connect", "pool_exhausted")
        gate.set()
        assert await asyncio.gather(*calls) == [(200, b"{}")] * 2
        assert await whole(opened) == (200, b"{}")
        assert peer.connections == 2


async def test_failed_connections_do_not_use_up_the_cap() -> None:
    async with Peer([]) as peer:
        url = Url.parse(peer.url)
    opened = H1Transport(url, TransportOptions(max_connections=1))
    for _ in range(3):
        with pytest.raises(UpstreamError, match="connect_error"):
            await opened.send(ASK)


async def test_closing_the_pool_fails_what_is_under_way() -> None:
    async with pair([asyncio.Event()]) as (peer, opened):
        call = asyncio.ensure_future(opened.send(ASK))
        await settled(lambda: bool(peer.requests))
        await opened.aclose()
        with pytest.raises(UpstreamError):
            await asyncio.wait_for(call, 1)
        assert not opened.connections


async def test_random_answers_are_an_answer_or_an_error_and_never_hang_or_crash() -> None:
    rng = random.Random(3)
    whole_answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    scripts = []
    for _ in range(150):
        data = bytearray(whole_answer)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(b"\r\n\x00 :;\xff09a")
        scripts.append([bytes(data), FIN])
    async with pair(*scripts, [OK]) as (_, opened):
        for _ in scripts[:]:
            try:
                async with asyncio.timeout(2):
                    await (await opened.send(ASK)).read()
            except UpstreamError:
                pass
        await settled(lambda: not opened.connections)


async def test_http2_without_its_package_stops_the_start_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ConfigError, match=r"pip install 'httpx\[http2\]'"):
        async with Harness(provider={"http2": True}):
            pass
