"""The front door against hostile bytes: one request on the wire is one request upstream, or one clean refusal."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmg import Component, Exchange, Principal
from lmg.credentials import credential_of
from lmg.testing import ChatAnswer, Harness, RawClient, Wait, chat_body, chat_events

KEY = "sk-test-key-0123456789"
CHAT = b"/v1/chat/completions"
HOST = b"Host: 127.0.0.1\r\n"
BODY = b'{"model":"test-model","messages":[{"role":"user","content":"first"}]}'
SECOND = b'{"model":"test-model","messages":[{"role":"user","content":"second"}]}'


class Keys(Component):
    """Knows one key."""

    provides = {"on_request": ("principal",)}
    requires = {"on_request": ("head",)}

    def on_request(self, exchange: Exchange) -> None:
        if credential_of(exchange.head) == KEY:
            exchange.set_fact("principal", Principal("tester"))


def guarded(**limits: Any) -> Harness:
    """A gateway that answers only who has the key."""
    return Harness({"pipeline": ["keys"], "server": {"limits": limits}}, classes={"keys": Keys})


def limited(**limits: Any) -> Harness:
    """A gateway without authentication and with these limits."""
    return Harness({"server": {"limits": limits}})


def post(
    *headers: bytes, body: bytes = BODY, target: bytes = CHAT, length: bool = True, host: bytes = HOST
) -> bytes:
    """A chat request with further header lines."""
    lines = [b"Content-Type: application/json", *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return (
        b"POST "
        + target
        + b" HTTP/1.1\r\n"
        + host
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
        + body
    )


def chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


LAST = b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


async def said(gateway: Harness, data: bytes) -> list[ChatAnswer]:
    """Every answer that the gateway gives to ``data``."""
    client = await gateway.connect()
    await client.send(data)
    return await answers(client)


async def answers(client: RawClient) -> list[ChatAnswer]:
    """Every answer until the gateway closes; what keeps the connection is asked to, once it has answered."""
    found = [await client.answer()]
    closing = "connection" in found[0].headers
    if not closing:
        await client.send(LAST)
    try:
        while True:
            found.append(await client.answer())
    except (asyncio.IncompleteReadError, ConnectionError) as end:
        assert not getattr(end, "partial", b""), "bytes that are no answer"
    if not closing and b"alive" in found[-1].raw:
        found.pop()
    return found


def clean(answer: ChatAnswer, *statuses: int) -> None:
    """A refusal in the callers' dialect that tells nothing of our insides."""
    assert answer.status in (statuses or range(400, 500))
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.error) >= {"message", "type", "code", "param"}
    for leak in (b"Traceback", b".py", b"Error(", b"lmg", b"httptools", b"uvicorn", b"<class"):
        assert leak not in answer.raw


# -- smuggling ----------------------------------------------------------------------------------------

HIDDEN = (
    b"POST "
    + CHAT
    + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(SECOND), SECOND)
)
CONFLICTS: dict[str, bytes] = {
    "CL and TE": post(b"Transfer-Encoding: chunked", body=chunks(BODY)),
    "CL and TE in capitals": post(b"TRANSFER-ENCODING: CHUNKED", body=chunks(BODY)),
    "CL and TE with a tab": post(b"Transfer-Encoding:\tchunked", body=chunks(BODY)),
    "CL and TE with a space before the colon": post(b"Transfer-Encoding : chunked", body=chunks(BODY)),
    "CL and TE that is no coding": post(b"Transfer-Encoding: xchunked", body=chunks(BODY)),
    "CL and TE identity": post(b"Transfer-Encoding: identity"),
    "CL and TE twice": post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=chunks(BODY)),
    "CL and TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=chunks(BODY)),
    "CL and TE with a folded value": post(b"Transfer-Encoding:\r\n chunked", body=chunks(BODY)),
    "CL and an empty TE": post(b"Transfer-Encoding:"),
    "CL.TE": post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
    "TE.CL": post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=chunks(HIDDEN), length=False),
    "chunked is not last": post(b"Transfer-Encoding: chunked, gzip", body=chunks(BODY), length=False),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=chunks(BODY), length=False),
    "chunked in two lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunks(BODY), length=False),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=chunks(BODY), length=False),
    "TE identity alone": post(b"Transfer-Encoding: identity", length=False),
    "two lengths": post(b"Content-Length: 5"),
    "two equal lengths": post(b"Content-Length: %d" % len(BODY)),
    "a list of lengths": post(b"Content-Length: %d, %d" % (len(BODY), len(BODY)), length=False),
    "a length with a plus": post(b"Content-Length: +%d" % len(BODY), length=False),
    "a negative length": post(b"Content-Length: -1", length=False),
    "a hexadecimal length": post(b"Content-Length: 0x45", length=False),
    "a length with a space inside": post(b"Content-Length: 6 9", length=False),
    "a length with an underscore": post(b"Content-Length: 6_9", length=False),
    "an empty length": post(b"Content-Length:", length=False),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999999", length=False),
    "a folded header": post(b"X-A: b\r\n c"),
    "a folded header with a tab": post(b"X-A: b\r\n\tc"),
    "a header line that begins with a space": post(b" X-A: b"),
    "the first header line begins with a space": post(host=b" X-A: b\r\n" + HOST),
    "a bare LF in the head": post(b"X-A: b\nX-B: c"),
    "bare LFs for all ends": post().replace(b"\r\n", b"\n"),
    "a bare CR in a value": post(b"X-A: b\rX-B: c"),
    "a NUL in a value": post(b"X-A: b\x00c"),
    "a line without a colon": post(b"X-A"),
    "a space in a name": post(b"X A: b"),
    "a name that is no token": post(b"X(A): b"),
    "an empty name": post(b": b"),
    "a control character in the target": post(target=CHAT + b"\x01"),
    "a space in the target": post(target=CHAT + b" x"),
    "a fault in the version": post().replace(b"HTTP/1.1", b"HTTP/1.1x"),
    "a version that is not served": post().replace(b"HTTP/1.1", b"HTTP/3.0"),
    "no version": b"POST " + CHAT + b"\r\n\r\n",
    "a method in small letters": post().replace(b"POST", b"post"),
    "an unknown method": post().replace(b"POST", b"FETCH"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SOCKS": b"\x05\x01\x00",
    "no Host": post(host=b""),
    "two Hosts": post(b"Host: 127.0.0.1"),
    "two different Hosts": post(b"Host: evil.example"),
    "an empty Host": post(host=b"Host:\r\n"),
    "a Host with a path": post(host=b"Host: a/b\r\n"),
    "a Host with a query": post(host=b"Host: a?b\r\n"),
    "a Host with a fragment": post(host=b"Host: a#b\r\n"),
    "a Host with a user": post(host=b"Host: u@a\r\n"),
    "a Host with a space": post(host=b"Host: a b\r\n"),
    "a Host with a comma": post(host=b"Host: a,b\r\n"),
    "a Host with a bad port": post(host=b"Host: a:b\r\n"),
    "a Host with letters beyond ASCII": post(host="Host: ä\r\n".encode()),
    "an unclosed address": post(host=b"Host: [::1\r\n"),
}  # fmt: skip
CHUNK_FAULTS: dict[str, bytes] = {
    "no number": b"zz\r\n" + BODY,
    "a minus": b"-5\r\nabcde\r\n0\r\n\r\n",
    "a plus": b"+45\r\n" + BODY + b"\r\n0\r\n\r\n",
    "0x": b"0x45\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a space before": b" 45\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an underscore": b"4_5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "empty": b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "beyond 64 bits": b"1" + b"0" * 16 + b"\r\n" + BODY,
    "data that is longer": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "data without CRLF": b"45\r\n" + BODY + b"0\r\n\r\n",
    "a bare LF after the size": b"45\n" + BODY + b"\r\n0\r\n\r\n",
    "a bare LF after the data": b"45\r\n" + BODY + b"\n0\r\n\r\n",
    "a bare CR after the size": b"45\r" + BODY + b"\r\n0\r\n\r\n",
    "a control character in an extension": b"45;a=\x00b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a bare LF in an extension": b"45;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a folded trailer": chunks(BODY, end=b"0\r\nX-A: b\r\n c\r\n\r\n"),
    "a trailer that is no header": chunks(BODY, end=b"0\r\nwhat is this\r\n\r\n"),
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("what", CONFLICTS)
async def test_a_request_that_could_be_read_in_two_ways_is_one_400(what: str, split: bool) -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        data = CONFLICTS[what]
        if split:  # the parser must not depend on where the network cuts
            for byte in data[:-1]:
                client.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            data = data[-1:]
        await client.send(data)
        [answer] = await answers(client)
        clean(answer, 400, 413 if "64 bits" in what else 400)
        assert answer.headers["connection"] == "close"
        assert gateway.upstream.received == []


@pytest.mark.parametrize("what", CHUNK_FAULTS)
async def test_a_fault_in_the_chunks_is_one_400(what: str) -> None:
    async with Harness() as gateway:
        found = await said(
            gateway, post(b"Transfer-Encoding: chunked", body=CHUNK_FAULTS[what], length=False)
        )
        assert len(found) == 1
        clean(found[0], 400)
        assert gateway.upstream.received == []


@pytest.mark.parametrize("what", [*CONFLICTS, *CHUNK_FAULTS])
async def test_what_follows_a_refused_request_is_not_a_request(what: str) -> None:
    async with Harness() as gateway:
        data = CONFLICTS.get(what) or post(
            b"Transfer-Encoding: chunked", body=CHUNK_FAULTS[what], length=False
        )
        found = await said(gateway, data + HIDDEN)
        assert len(found) <= 1
        assert gateway.upstream.received == []


async def test_what_follows_the_size_of_a_giant_chunk_is_body_and_never_a_request() -> None:
    async with limited(body_timeout_s=0.3) as gateway:
        [answer] = await said(
            gateway, post(b"Transfer-Encoding: chunked", body=b"f" * 16 + b"\r\n" + HIDDEN, length=False)
        )
        clean(answer, 400, 408, 413)
        assert gateway.upstream.received == []


@pytest.mark.parametrize(
    "body",
    [
        chunks(BODY),
        chunks(*(BODY[n : n + 1] for n in range(len(BODY)))),
        b"045\r\n" + BODY + b"\r\n000\r\n\r\n",
        b"45;name=value;other=\"quoted\"\r\n" + BODY + b"\r\n0;last\r\n\r\n",
        chunks(BODY, end=b"0\r\nX-Trailer: a\r\n\r\n"),
    ],
)  # fmt: skip
async def test_chunked_bodies_that_follow_the_grammar_are_served(body: bytes) -> None:
    async with Harness() as gateway:
        [answer] = await said(gateway, post(b"Transfer-Encoding: chunked", body=body, length=False))
        assert answer.status == 200
        assert gateway.upstream.received[0].body == BODY


@pytest.mark.parametrize(
    "where", ["extension", "extensions of many chunks", "trailer", "trailers", "a trailer's name"]
)
async def test_framing_that_outweighs_its_data_is_refused_and_fills_no_memory(where: str) -> None:
    flood = b"x" * 60_000
    async with Harness() as gateway:
        client = await gateway.connect()
        await client.send(post(b"Transfer-Encoding: chunked", body=b"", length=False))
        start = {
            "extension": b"45;", "extensions of many chunks": b"", "trailer": chunks(BODY, end=b"0\r\nX-A: "), "trailers": chunks(BODY, end=b"0\r\n"),
            "a trailer's name": chunks(BODY, end=b"0\r\n"),
        }[where]  # fmt: skip
        piece = {
            "extensions of many chunks": b"1;" + flood + b"\r\n \r\n",
            "trailers": b"X-A: " + flood[:1000] + b"\r\n",
        }.get(where, flood)
        before = resident_kib()
        try:
            await client.send(start)
            for _ in range(400):
                await client.send(piece)
        except ConnectionError:
            pass
        answer = await client.answer()
        clean(answer, 400, 431)
        assert resident_kib() - before < 20 << 10
        assert gateway.upstream.received == []


async def test_a_credential_in_a_trailer_authenticates_nobody() -> None:
    async with guarded() as gateway:
        for name in (b"Authorization: Bearer ", b"authorization: bearer ", b"X-Api-Key: "):
            trailer = b"0\r\n" + name + KEY.encode() + b"\r\n\r\n"
            [answer] = await said(
                gateway,
                post(
                    b"Transfer-Encoding: chunked",
                    b"Trailer: Authorization",
                    body=chunks(BODY, end=trailer),
                    length=False,
                ),
            )
            clean(answer, 401)
        assert gateway.upstream.received == []


async def test_a_host_in_a_trailer_and_a_length_in_a_trailer_change_nothing() -> None:
    async with guarded() as gateway:
        end = b"0\r\nHost: evil\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\n"
        auth = b"Authorization: Bearer " + KEY.encode()
        found = await said(
            gateway, post(b"Transfer-Encoding: chunked", auth, body=chunks(BODY, end=end), length=False)
        )
        assert [answer.status for answer in found] in ([200], [400])
        assert len(gateway.upstream.received) <= 1


# -- pipelining and keep-alive ------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    async with Harness() as gateway:
        gate = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=gate), json.dumps(chat_body("one")).encode())
        for text in ("two", "three"):
            gateway.upstream.reply(chat_body(text))
        client = await gateway.connect()
        await client.send(post() + post(body=SECOND) + post())
        await gateway.upstream.arrival()
        assert len(gateway.upstream.received) == 1
        gate.set()
        assert [(await client.answer()).text for _ in range(3)] == ["one", "two", "three"]
        assert [r.body for r in gateway.upstream.received] == [BODY, SECOND, BODY]


@pytest.mark.parametrize("at", [1, 30, 150, -20])
async def test_a_request_that_began_while_another_was_answered_is_served(at: int) -> None:
    async with Harness() as gateway:
        gate = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=gate), json.dumps(chat_body("one")).encode())
        gateway.upstream.reply(chat_body("two"))
        client = await gateway.connect()
        second = post(body=SECOND)
        await client.send(post() + second[:at])
        await gateway.upstream.arrival()
        gate.set()
        assert (await client.answer()).text == "one"
        await client.send(second[at:])
        assert (await client.answer()).text == "two"


async def test_a_request_that_began_behind_another_and_never_ends_is_a_408() -> None:
    async with limited(head_timeout_s=0.3, body_timeout_s=0.3) as gateway:
        for at in (10, -20):
            client = await gateway.connect()
            await client.send(post() + post(body=SECOND)[:at])
            assert (await client.answer()).status == 200
            clean(await client.answer(), 408)
            assert await client.closed() == b""


async def test_garbage_behind_a_running_stream_never_becomes_part_of_it() -> None:
    async with Harness() as gateway:
        gate = asyncio.Event()
        events = chat_events("a", "b")
        gateway.upstream.stream(*events[:2], Wait(event=gate), *events[2:])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await client.head()
        await client.send(post(body=SECOND) + b"GARBAGE\r\n\r\n")
        gate.set()
        rest = await client.closed()
        assert b"HTTP/1.1" not in rest
        assert len(gateway.upstream.received) == 1


async def test_a_client_that_leaves_behind_a_pipelined_request_still_ends_the_first() -> None:
    async with Harness() as gateway:
        events = chat_events("a", "b")
        gateway.upstream.stream(*events[:2], Wait(30), *events[2:])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await client.head()
        await client.send(post(body=SECOND))
        received = await gateway.upstream.arrival()
        await client.close(reset=True)
        # Reading is paused while a request waits behind another, so that the end may show on a write only.
        await asyncio.wait_for(received.gone.wait(), 3)
        assert len(gateway.upstream.received) == 1


async def test_data_after_connection_close_is_not_a_request() -> None:
    async with Harness() as gateway:
        found = await said(gateway, post(b"Connection: close") + HIDDEN)
        assert [answer.status for answer in found] in ([200], [400])
        assert len(gateway.upstream.received) <= 1


async def test_a_connection_is_reused_for_many_requests() -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        for n in range(20):
            await client.send(gateway.encode(gateway.body(stream=bool(n % 2))))
            answer = await client.answer()
            assert (answer.status, answer.text) == (200, "Hello!")
        assert gateway.upstream.connections == 1


async def test_refusals_of_the_application_keep_the_connection() -> None:
    async with guarded() as gateway:
        client = await gateway.connect()
        for data, status in (
            (post(), 401),
            (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
            (post(b"Authorization: Bearer " + KEY.encode()), 200),
        ):
            await client.send(data)
            assert (await client.answer()).status == status


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_client_that_asks_for_the_end_of_the_connection_gets_it(version: bytes) -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        await client.send(post(b"Connection: close").replace(b"HTTP/1.1", version))
        assert (await client.answer()).text == "Hello!"
        assert await client.closed() == b""


async def test_empty_lines_before_a_request_are_skipped() -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        for _ in range(3):
            await client.send(b"\r\n\r\n" + post())
            assert (await client.answer()).status == 200


# -- upgrade, connect, expect -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.3", b"h2c, websocket"])
@pytest.mark.parametrize("cut", [None, 40, 200])
async def test_an_upgrade_is_ignored_and_the_request_served_with_its_body(
    protocol: bytes, cut: int | None
) -> None:
    async with guarded() as gateway:
        data = post(
            b"Authorization: Bearer " + KEY.encode(),
            b"Upgrade: " + protocol,
            b"Connection: Upgrade, HTTP2-Settings",
            b"HTTP2-Settings: AAMAAABk",
        )
        client = await gateway.connect()
        if cut is not None:
            await client.send(data[:cut])
            await asyncio.sleep(0)
        await client.send(data[cut or 0 :])
        assert (await client.answer()).status == 200
        assert gateway.upstream.received[0].body == BODY
        await client.send(post())
        assert (await client.answer()).status == 401


async def test_an_upgrade_authenticates_nobody_and_hides_no_second_request() -> None:
    async with guarded() as gateway:
        found = await said(gateway, post(b"Upgrade: h2c", b"Connection: Upgrade") + HIDDEN)
        assert {answer.status for answer in found} == {401}
        assert gateway.upstream.received == []


@pytest.mark.parametrize("target", [b"127.0.0.1:80", b"evil.example:443", CHAT])
async def test_connect_is_refused(target: bytes) -> None:
    async with Harness() as gateway:
        [answer] = await said(gateway, b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN)
        clean(answer, 400, 405)
        assert gateway.upstream.received == []


async def test_a_client_that_expects_100_continue_is_told_to_and_served() -> None:
    async with guarded() as gateway:
        client = await gateway.connect()
        head = post(b"Expect: 100-continue", b"Authorization: Bearer " + KEY.encode())[: -len(BODY)]
        await client.send(head)
        assert (await client.head())[0] == 100
        await client.send(BODY)
        assert (await client.answer()).status == 200


async def test_a_client_that_expects_100_continue_is_refused_before_it_sends() -> None:
    async with guarded(max_body_bytes=1000) as gateway:
        for head, status in (
            (post(b"Expect: 100-continue")[: -len(BODY)], 401),
            (post(b"Expect: 100-continue", b"Content-Length: 99999", length=False, body=b""), 413),
        ):
            client = await gateway.connect()
            await client.send(head)
            clean(await client.answer(), status)


# -- bounds -------------------------------------------------------------------------------------------


def resident_kib() -> int:
    """The memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


HEADS: dict[str, tuple[bytes, int]] = {
    "too many headers": (post(*[b"X-%d: a" % n for n in range(150)]), 431),
    "a giant header": (post(b"X-A: " + b"a" * 100_000), 431),
    "a giant name": (post(b"X" * 100_000 + b": a"), 431),
    "many large headers": (post(*[b"X-%d: " % n + b"a" * 3000 for n in range(50)]), 431),
    "a giant target": (post(target=CHAT + b"?" + b"a" * 100_000), 414),
    "a giant Host": (post(host=b"Host: " + b"a" * 2000 + b"\r\n"), 400),
}


@pytest.mark.parametrize("what", HEADS)
async def test_a_head_beyond_its_bounds_is_refused(what: str) -> None:
    data, status = HEADS[what]
    async with Harness() as gateway:
        found = await said(gateway, data + HIDDEN)
        assert len(found) == 1
        clean(found[0], status)
        assert gateway.upstream.received == []


@pytest.mark.parametrize(("start", "status"), [(b"X-A: ", 431), (b"", 431), (None, 414)])
async def test_a_head_that_never_ends_is_refused_while_it_is_sent(start: bytes | None, status: int) -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        await client.send(b"POST " + CHAT + (b" HTTP/1.1\r\n" + HOST + start if start is not None else b"?"))
        before = resident_kib()
        try:
            for _ in range(500):
                await client.send(b"a" * 60_000)
        except ConnectionError:
            pass
        clean(await client.answer(), status)
        assert resident_kib() - before < 20 << 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"POST",
        b"POST /v1/chat",
        post()[:60],
        b"\r\n",
        post(b"Transfer-Encoding: chunked", body=b"", length=False)[:-1],
    ],
)
@pytest.mark.parametrize("again", [False, True])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(data: bytes, again: bool) -> None:
    async with limited(head_timeout_s=0.3, idle_timeout_s=0.6) as gateway:
        client = await gateway.connect()
        if again:
            await client.send(post())
            assert (await client.answer()).status == 200
        if data:
            await client.send(data)
        started = time.monotonic()
        rest = await client.closed(3)
        assert time.monotonic() - started < 2
        if data.strip():
            assert rest.startswith(b"HTTP/1.1 408 ")
        else:
            assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


async def test_a_head_byte_by_byte_is_cut_off_at_its_deadline() -> None:
    async with limited(head_timeout_s=0.4) as gateway:
        client = await gateway.connect()
        started = time.monotonic()
        sent = asyncio.ensure_future(drip(client, post()))
        clean(await client.answer(3), 408)
        assert 0.3 < time.monotonic() - started < 1.5
        sent.cancel()


async def drip(client: RawClient, data: bytes) -> None:
    for byte in data:
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


BODIES: dict[str, bytes] = {
    "no byte of a length": post()[: -len(BODY)],
    "some bytes of a length": post()[:-5],
    "no chunk": post(b"Transfer-Encoding: chunked", body=b"", length=False),
    "half a chunk": post(b"Transfer-Encoding: chunked", body=b"45\r\n{", length=False),
    "no last chunk": post(b"Transfer-Encoding: chunked", body=chunks(BODY, end=b""), length=False),
    "half a trailer": post(
        b"Transfer-Encoding: chunked", body=chunks(BODY, end=b"0\r\nX-A: b\r\n"), length=False
    ),
}


@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_does_not_come_in_time_is_a_408(what: str) -> None:
    async with limited(body_timeout_s=0.3) as gateway:
        client = await gateway.connect()
        await client.send(BODIES[what])
        clean(await client.answer(4), 408)
        assert await client.closed() == b""
        assert gateway.upstream.received == []
        await gateway.ended()


async def test_a_slow_answer_is_not_a_slow_body() -> None:
    async with limited(body_timeout_s=0.3, head_timeout_s=0.3, idle_timeout_s=0.3) as gateway:
        gateway.upstream.reply(b"", Wait(1.5), json.dumps(chat_body("late")).encode())
        assert (await gateway.chat()).text == "late"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_a_413_that_a_sending_client_can_read(chunked: bool) -> None:
    async with limited(max_body_bytes=1 << 20) as gateway:
        client = await gateway.connect()
        piece = b"x" * (1 << 20)
        count = 64
        if chunked:
            await client.send(post(b"Transfer-Encoding: chunked", body=b"", length=False))
            piece = chunks(piece, end=b"")
        else:
            await client.send(post(b"Content-Length: %d" % (count << 20), body=b"", length=False))
        for _ in range(count):  # reads nothing before it has sent all, like most clients
            await client.send(piece)
        clean(await client.answer(), 413)
        assert gateway.upstream.received == []


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async with limited(max_body_bytes=1000) as gateway:
        client = await gateway.connect()
        await client.send(post(b"Content-Length: 1001", body=b"", length=False))
        clean(await client.answer(1), 413)
        body = BODY[:-1] + b" " * (1000 - len(BODY)) + b"}"
        assert (await gateway.request(body)).status == 200
        assert (await gateway.request(body + b" ")).status == 413


async def test_a_refused_client_that_goes_on_sending_slowly_is_cut_off() -> None:
    async with limited(max_body_bytes=1000) as gateway:
        client = await gateway.connect()
        await client.send(post(b"Content-Length: 100000", body=b"", length=False))
        clean(await client.answer(), 413)
        assert await client.closed(5) == b""
        async with asyncio.timeout(5):
            while gateway.process._state.connections:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"gzip, identity", b"x"])
async def test_a_compressed_body_is_refused_unread(encoding: bytes) -> None:
    async with Harness() as gateway:
        [answer] = await said(gateway, post(b"Content-Encoding: " + encoding, body=gzip.compress(BODY)))
        clean(answer, 415)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
    ],
)
async def test_a_body_of_another_type_is_refused(kind: str) -> None:
    async with Harness() as gateway:
        answer = await gateway.request(BODY, headers={"content-type": kind})
        clean(answer, 415)
        assert gateway.upstream.received == []


async def test_five_hundred_idle_connections_cost_others_nothing_and_end() -> None:
    async with limited(head_timeout_s=2.0) as gateway:
        idle = []
        for _ in range(10):
            idle += await asyncio.gather(*(gateway.connect() for _ in range(50)))
        for client in idle[::2]:
            await client.send(b"POST /v1/chat")
        started = time.monotonic()
        for _ in range(10):
            assert (await gateway.chat()).status == 200
        assert time.monotonic() - started < 10
        await asyncio.gather(*(client.closed(8) for client in idle))


async def test_connections_over_the_limit_get_a_503() -> None:
    async with limited(max_connections=3) as gateway:
        held = [await gateway.connect() for _ in range(3)]
        for client in held:
            await client.send(post())
            assert (await client.answer()).status == 200
        [answer] = await said(gateway, post())
        clean(answer, 503)
        await held.pop().close()
        await held[0].send(post())
        assert (await held[0].answer()).status == 200


WIDE = {
    "empty objects": b"{},",
    "small objects": b'{"a":1},',
    "empty arrays": b"[],",
    "short strings": b'"ab",',
    "letters beyond Latin-1": '"ā",'.encode(),
    "decimals": b"1.5,",
    "integers": b"999,",
}


@pytest.mark.parametrize("what", WIDE)
async def test_a_body_costs_at_most_twenty_times_its_size(what: str) -> None:
    size = 8 << 20
    item = WIDE[what]
    body = (
        b'{"model":"test-model","messages":[{"role":"user","content":"x"}],"x":['
        + item * (size // len(item))
        + b"0]}"
    )
    peak = 0

    class Watch(Component):
        requires = {"on_request": ("body",)}

        def on_request(self, exchange: Exchange) -> None:
            nonlocal peak
            peak = resident_kib()

    async with Harness({"pipeline": ["watch"]}, classes={"watch": Watch}) as gateway:
        gateway.upstream.reply(chat_body())
        before = resident_kib()
        answer = await gateway.request(body, seconds=20)
        assert answer.status in (200, 400)
        # The client and the upstream of this test live in the same process and hold a copy each.
        assert max(peak, resident_kib()) - before < (20 + 3) * len(body) // 1024


async def test_memory_is_given_back_after_refused_bodies() -> None:
    async with Harness() as gateway:
        for n in range(12):
            if n == 4:
                before = resident_kib()
            client = await gateway.connect()
            await client.send(post(b"Content-Length: 30000000", body=b"[" * 10_000_000, length=False))
            await client.close(reset=True)
            await gateway.ended(n + 1)
        assert resident_kib() - before < 40 << 10


# -- bodies that parsers read differently -------------------------------------------------------------

HOSTILE: dict[str, bytes] = {
    "two million levels": b"[" * 2_000_000,
    "two million levels in a field": BODY[:-1] + b',"x":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}",
    "two million objects": BODY[:-1] + b',"x":' + b'{"a":' * 2_000_000 + b"1" + b"}" * 2_000_000 + b"}",
    "NaN": BODY[:-1] + b',"x":NaN}',
    "1e999": BODY[:-1] + b',"x":1e999}',
    "100,000 digits": BODY[:-1] + b',"x":' + b"9" * 100_000 + b"}",
    "the model twice": BODY[:-1] + b',"model":"other"}',
    "the model twice, once escaped": BODY[:-1] + b',"\\u006dodel":"other"}',
    "a lone surrogate": BODY[:-1] + b',"x":"\\ud800"}',
    "a lone surrogate in a message": BODY.replace(b"first", b"\\udfff"),
    "invalid UTF-8": BODY.replace(b"first", b"\xc3\x28"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "a zero byte": BODY + b"\x00",
    "two documents": BODY + BODY,
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "no model": b'{"messages":[{"role":"user","content":"x"}]}',
    "a model that is a number": BODY.replace(b'"test-model"', b"1"),
    "an empty model": BODY.replace(b"test-model", b""),
    "a giant model": BODY.replace(b"test-model", b"m" * 100_000),
    "messages that are an object": b'{"model":"test-model","messages":{}}',
    "a message that is a string": b'{"model":"test-model","messages":["x"]}',
    "a role that is a list": b'{"model":"test-model","messages":[{"role":[]}]}',
    "a stream that is a number": BODY[:-1] + b',"stream":1}',
    "a stream that is a string": BODY[:-1] + b',"stream":"true"}',
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_body_is_a_400_in_time_and_goes_nowhere(what: str) -> None:
    async with Harness() as gateway:
        started = time.monotonic()
        answer = await gateway.request(HOSTILE[what], seconds=5)
        assert time.monotonic() - started < 5
        clean(answer, 400)
        assert gateway.upstream.received == []
        assert (await gateway.chat()).status == 200


async def test_an_escaped_model_name_cannot_smuggle_another_model_past_the_gateway() -> None:
    async with Harness({}, provider={"model_map": {"test-model": "real-name"}}) as gateway:
        answer = await gateway.request(BODY.replace(b'"model"', b'"\\u006dodel"'))
        assert answer.status == 200
        sent = gateway.upstream.received[0].body
        assert json.loads(sent, object_pairs_hook=list)[0] == ("model", "real-name")
        assert sent.count(b"odel") == 1


# -- no way round authentication ----------------------------------------------------------------------

PATHS = [
    b"/v1/chat/completions", b"/v1/chat%2Fcompletions", b"/v1%2fchat%2fcompletions", b"//v1/chat/completions", b"/v1//chat/completions",
    b"/./v1/chat/completions", b"/v1/./chat/completions", b"/x/../v1/chat/completions", b"/v1/chat/completions/", b"/v1/chat/completions//",
    b"/V1/chat/completions", b"/v1/Chat/Completions", b"/v1/chat/completions;a=b", b"/v1;x/chat/completions", b"/v1/chat/completions?a=b",
    b"/v1/chat/completions%00", b"/v1/chat/completions%20", b"/v1/chat/completions%3f", b"/v1/chat/completions#x", b"/%76%31/chat/completions",
    b"/v1/%2e/chat/completions", b"/x/%2e%2e/v1/chat/completions", b"/livez/../v1/chat/completions", b"/livez%2f..%2fv1/chat/completions",
    b"/v1\\chat\\completions", b"/v1/chat/completions\xc0\xaf", "/v1/chat/complétions".encode(), b"http://127.0.0.1/v1/chat/completions",
    b"http://evil.example/v1/chat/completions", b"HTTP://x/v1/chat/completions", b"http:/v1/chat/completions", b"v1/chat/completions", b"*", b"?x",
    b"/v1/embeddings", b"/v1/embeddings/", b"/v1/models", b"/v1/models/", b"/v1/models/test-model", b"/v1//models", b"/v1/models%2Ftest-model",
    b"/admin/v1/pipeline", b"/admin/v1/receipts", b"//admin/v1/pipeline", b"/admin//v1/pipeline", b"/admin/v1/../v1/pipeline", b"/admin/v1/", b"/admin",
    b"/livez/", b"/readyz/x", b"/docs", b"/openapi.json", b"/metrics", b"/",
]  # fmt: skip


@pytest.mark.parametrize("method", [b"POST", b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
async def test_no_spelling_of_a_path_is_served_without_a_key(method: bytes) -> None:
    async with guarded() as gateway:
        for path in PATHS:
            data = post(
                b"X-Original-URL: /livez",
                b"X-Rewrite-URL: /livez",
                b"X-HTTP-Method-Override: GET",
                b"X-Forwarded-User: admin",
                target=path,
            )
            found = await said(gateway, data.replace(b"POST", method, 1))
            assert [answer.status for answer in found] in ([400], [401], [404], [405]), path
            clean(found[0])
        assert gateway.upstream.received == []


async def test_paths_that_are_not_the_route_are_a_404_with_a_key_too() -> None:
    async with guarded() as gateway:
        auth = b"Authorization: Bearer " + KEY.encode()
        served = [
            path
            for path in PATHS
            if b"chat" in path and (await said(gateway, post(auth, target=path)))[0].status == 200
        ]
        assert set(served) <= {
            b"/v1/chat/completions", b"/v1/chat/completions?a=b", b"/v1/chat/completions#x", b"http://127.0.0.1/v1/chat/completions",
            b"http://evil.example/v1/chat/completions", b"HTTP://x/v1/chat/completions",
        }  # fmt: skip


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Basic {KEY}",
        f"bearer{KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \x80",
    ],
)
async def test_a_wrong_credential_is_a_401_and_calls_nobody(credential: str) -> None:
    async with guarded() as gateway:
        for stream in (False, True):
            answer = await gateway.request(gateway.body(stream=stream), headers={"authorization": credential})
            clean(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert gateway.upstream.received == []


async def test_two_different_credentials_are_refused() -> None:
    async with guarded() as gateway:
        [answer] = await said(
            gateway, post(b"Authorization: Bearer wrong", b"Authorization: Bearer " + KEY.encode())
        )
        clean(answer, 400, 401)


async def test_a_401_comes_before_the_body_is_read() -> None:
    async with guarded() as gateway:
        client = await gateway.connect()
        await client.send(post(b"Content-Length: 1000000", body=b"", length=False))
        clean(await client.answer(1), 401)


@pytest.mark.parametrize("path", [CHAT, b"/v1/embeddings"])
@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE"])
async def test_another_method_is_a_405_that_names_the_right_one(path: bytes, method: bytes) -> None:
    async with Harness() as gateway:
        [answer] = await said(gateway, post(target=path).replace(b"POST", method, 1))
        clean(answer, 405)
        assert answer.headers["allow"] == "POST"
        [answer] = await said(gateway, post(target=b"/v1/models").replace(b"POST", b"PUT", 1))
        clean(answer, 405)
        assert "GET" in answer.headers["allow"]


async def test_head_gets_no_body() -> None:
    async with Harness() as gateway:
        client = await gateway.connect()
        await client.send(
            b"HEAD " + CHAT + b" HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
        )
        assert (await client.head())[0] == 405
        assert (await client.answer()).json == {"status": "alive"}


@pytest.fixture
def refused() -> Iterator[list[bytes]]:
    """Requests for every kind of refusal there is before a model is called."""
    return iter([[
        post(), post(body=b"{"), b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", b"GET " + CHAT + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        post(host=b""), post(b"Content-Length: 999999999", length=False), post(b"X: " + b"a" * 99_999), b"GET /admin/v1/pipeline HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x00\x01\x02", post(target=b"/v1/chat/" + b"\xff" * 10),
    ]])  # fmt: skip


async def test_every_refusal_has_the_shape_of_the_callers_dialect(refused: Iterator[list[bytes]]) -> None:
    async with guarded() as gateway:
        for data in next(refused):
            [answer] = await said(gateway, data)
            clean(answer)
            assert answer.error["message"].endswith((".", "'"))


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing() -> None:
    async with Harness() as gateway:
        for n, reset in enumerate((False, True)):
            client = await gateway.connect()
            await client.send(post()[:-10])
            await client.close(reset=reset)
            exchange = await gateway.ended(n + 1)
            assert exchange.ended == "cancelled"
        assert gateway.upstream.received == []
        assert not gateway.process._state.connections


async def test_bytes_that_are_random_never_make_the_gateway_fail() -> None:
    import random

    rng = random.Random(7)
    async with guarded() as gateway:
        whole = post(
            b"Authorization: Bearer nope", b"Transfer-Encoding: chunked", body=chunks(BODY), length=False
        )
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(len(data))] = rng.choice(b"\r\n\x00 :;,\t\x7f\xffa0")
            for answer in await said(gateway, bytes(data)):
                clean(answer)
        assert gateway.upstream.received == []
        assert (await gateway.get("/livez")).status == 200
