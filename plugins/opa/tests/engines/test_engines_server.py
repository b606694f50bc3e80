"""An OPA server as the policy: what it says counts, and anything else is no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmg import ConfigError
from lmg_opa.engine import Ruling, Undecided
from lmg_opa.engines.server import MAX_ANSWER_BYTES, OpaServerPolicy

POLICY = "package lmg.authz\n\ndefault allow := false\n\nallow if input.n == 1\n\nreasons contains `small` if input.n < 1\n"
DEADLINE_S = 30.0


@pytest.fixture
def server(opa_tool: ModuleType, tmp_path: Path) -> Iterator[Any]:
    with opa_tool.OpaServer(tmp_path, {"policy.rego": POLICY}) as running:
        yield running


@contextlib.asynccontextmanager
async def policy(url: str, **options: Any) -> AsyncIterator[OpaServerPolicy]:
    asked = OpaServerPolicy(url, **options)
    try:
        yield asked
    finally:
        await asked.close()


async def test_server_decides_over_tcp_and_over_its_socket(server: Any) -> None:
    for url in (server.url, f"{server.url}/", f"unix://{server.socket.resolve()}"):
        async with policy(url) as asked:
            assert (await asked.decide(b'{"n": 1}', DEADLINE_S)).allow is True
            denied = await asked.decide(b'{"n": 0}', DEADLINE_S)
            assert (denied.allow, denied.reasons) == (False, ("small",))


async def test_unknown_package_is_undefined(server: Any) -> None:
    async with policy(server.url, package="lmg.nobody") as asked:
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b"{}", DEADLINE_S)
    assert undecided.value.code == "undefined"


async def test_frozen_server_costs_the_deadline_and_a_killed_one_nothing(server: Any) -> None:
    async with policy(server.url) as asked:
        assert (await asked.decide(b'{"n": 1}', DEADLINE_S)).allow is True
        server.freeze()
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b'{"n": 1}', 0.05)
        assert undecided.value.code == "timeout"
        server.thaw()
        assert (await asked.decide(b'{"n": 1}', DEADLINE_S)).allow is True
        server.kill()
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b'{"n": 1}', DEADLINE_S)
        assert undecided.value.code == "unreachable"
        server.start()
        assert (await asked.decide(b'{"n": 1}', DEADLINE_S)).allow is True


async def test_token_is_sent_and_its_refusal_is_no_answer(opa_tool: ModuleType, tmp_path: Path) -> None:
    guard = "package system.authz\n\ndefault allow := false\n\nallow if input.identity == `secret`\n\nallow if input.path == [`health`]\n"
    modules = {"policy.rego": POLICY, "guard.rego": guard}
    with opa_tool.OpaServer(
        tmp_path, modules, {}, "--authentication", "token", "--authorization", "basic"
    ) as running:
        async with policy(running.url, token="secret") as asked:
            assert (await asked.decide(b'{"n": 1}', DEADLINE_S)).allow is True
        async with policy(running.url, token="wrong") as asked:
            with pytest.raises(Undecided) as undecided:
                await asked.decide(b'{"n": 1}', DEADLINE_S)
        assert undecided.value.code == "error"
        assert "wrong" not in str(undecided.value)


@contextlib.asynccontextmanager
async def scripted(
    answer: bytes, status: bytes = b"200 OK", seen: list[bytes] | None = None
) -> AsyncIterator[str]:
    """A server that answers every request with ``answer``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = await reader.readexactly(length)
        if seen is not None:
            seen.extend([head, body])
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(answer)) + answer
        )
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"{}", "undefined"),
        (b'{"result": {}}', "undefined"),
        (b'{"result": {"allow": null}}', "undefined"),
        (b'{"result": true}', "malformed"),
        (b'{"result": {"allow": "true"}}', "malformed"),
        (b'{"result": {"allow": 1}}', "malformed"),
        (b'{"result": {"allow": false, "reasons": "x"}}', "malformed"),
        (b'{"result": {"allow": false, "reasons": [1]}}', "malformed"),
        (b'{"result": {"allow": true, "obligations": []}}', "malformed"),
        (b'{"result": {"allow": false, "allow": true}}', "malformed"),
        (b'{"result": {"allow": false}, "result": {"allow": true}}', "malformed"),
        (b'{"result": {"allow": true, "x": ' + b"[" * 500 + b"]" * 500 + b"}}", "malformed"),
        (b'[{"result": {"allow": true}}]', "malformed"),
        (b"true", "malformed"),
        (b"", "malformed"),
        (b"<html>", "malformed"),
        (b'{"result": {"allow": true, "x": NaN}}', "malformed"),
        (b'{"result": {"allow": true, "x": "' + b"x" * MAX_ANSWER_BYTES + b'"}}', "too_large"),
    ],
)
async def test_answer_that_is_no_ruling_is_no_answer(answer: bytes, code: str) -> None:
    async with scripted(answer) as url, policy(url) as asked:
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b"{}", DEADLINE_S)
    assert undecided.value.code == code


@pytest.mark.parametrize(
    "status", [b"500 Oops", b"204 None", b"302 Found\r\nLocation: http://127.0.0.1:1/", b"401 No"]
)
async def test_only_200_is_an_answer(status: bytes) -> None:
    async with scripted(b'{"result": {"allow": true}}', status) as url, policy(url) as asked:
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b"{}", DEADLINE_S)
    assert undecided.value.code == "error"


HEAD = b"HTTP/1.1 200 OK\r\n"
ALLOWED = b'{"result": {"allow": true}}'


@contextlib.asynccontextmanager
async def bytes_of(answer: bytes) -> AsyncIterator[str]:
    """A server that answers with these bytes, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "unreachable"),
        (b"HTTP/1.1 200", "unreachable"),
        (HEAD + b"Content-Length: 100\r\n\r\n" + ALLOWED, "unreachable"),
        (HEAD + b"\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Content-Length: 27\r\nContent-Length: 26\r\n\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Content-Length: 27\r\nTransfer-Encoding: chunked\r\n\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Content-Length: +27\r\n\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + ALLOWED, "malformed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + ALLOWED + b"\r\n0\r\n\r\n", "malformed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1b\r\n" + ALLOWED + b"\r\n", "unreachable"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", "too_large"),
        (HEAD + b"Content-Length: 999999999\r\n\r\n", "too_large"),
        (HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n", "malformed"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 27\r\n\r\n" + ALLOWED, "malformed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 27\r\n\r\n" + ALLOWED, "malformed"),
        (b"SSH-2.0\r\n\r\n", "malformed"),
    ],
)
async def test_answer_that_is_not_plain_http_is_no_answer(answer: bytes, code: str) -> None:
    async with bytes_of(answer) as url, policy(url) as asked:
        with pytest.raises(Undecided) as undecided:
            await asked.decide(b"{}", DEADLINE_S)
    assert undecided.value.code == code


async def test_chunked_answer_is_read() -> None:
    chunks = (
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
        + ALLOWED[:5]
        + b"\r\n16;x=y\r\n"
        + ALLOWED[5:]
        + b"\r\n0\r\n\r\n"
    )
    async with bytes_of(HEAD + chunks) as url, policy(url) as asked:
        assert (await asked.decide(b"{}", DEADLINE_S)).allow is True


@pytest.mark.parametrize(
    "url", ["opa:8181", "ftp://opa", "http://", "http://user:secret@opa", "http://opa/?x=1"]
)
def test_url_that_is_not_one_is_an_error_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError):
        OpaServerPolicy(url)


async def test_decision_id_is_kept_and_the_question_is_strict() -> None:
    seen: list[bytes] = []
    answer = (
        b'{"decision_id": "d-1", "result": {"allow": true, "reasons": ["b", "a"], "obligations": {"a": 1}}}'
    )
    async with scripted(answer, seen=seen) as url, policy(url, token="t") as asked:
        assert await asked.decide(b'{"n":1}', DEADLINE_S) == Ruling(True, (), {"a": 1}, "d-1")
    assert seen[0].startswith(b"POST /v1/data/lmg/authz?strict-builtin-errors=true HTTP/1.1\r\n")
    assert b"authorization: bearer t\r\n" in seen[0].lower()
    assert json.loads(seen[1]) == {"input": {"n": 1}}


async def test_input_cannot_close_the_question(server: Any) -> None:
    async with policy(server.url) as asked:
        with pytest.raises(Undecided):
            await asked.decide(b'{"n": 0}, "input": {"n": 1}', DEADLINE_S)
