"""A connection against a server that says what it is told to: order, pieces, deadlines, the end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg.server.process import new_loop
from lmg_redis.config import Address
from lmg_redis.connection import Connection, connected, pack
from lmg_redis.errors import StoreError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Lost = list[StoreError]


@asynccontextmanager
async def connection_to(serve: Serve, **settings: float) -> AsyncIterator[tuple[Connection, Lost]]:
    """A connection to a server that ``serve`` plays, and what it says when it is lost."""
    lost: Lost = []

    async def played(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(played, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def make() -> Connection:
        return Connection(
            timeout_s=settings.get("timeout_s", 5.0),
            max_in_flight=int(settings.get("max_in_flight", 100)),
            on_lost=lambda _, why: lost.append(why),
        )

    connection = await connected(Address("127.0.0.1", port, "", 0, False), None, make)
    try:
        yield connection, lost
    finally:
        connection.close(StoreError("down", "the test is over"))
        server.close()
        await server.wait_closed()


def answers(reply: bytes, pieces: list[int] | None = None) -> Serve:
    """A server that says ``reply``, in pieces, once it has read something, and then waits."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        at = 0
        for piece in pieces or []:
            writer.write(reply[at : at + piece])
            at += piece
            await asyncio.sleep(0)
        writer.write(reply[at:])
        await reader.read()

    return serve


@given(st.lists(st.integers(1, 9), max_size=20))
def test_replies_come_in_order_however_they_are_cut(pieces: list[int]) -> None:
    async def run() -> list[object]:
        reply = b"+OK\r\n:42\r\n$-1\r\n*2\r\n$3\r\na\r\n\r\n:1\r\n-ERR no\r\n$5\r\nhello\r\n"
        async with connection_to(answers(reply, pieces)) as (connection, _):
            return list(await asyncio.gather(*(connection.call(pack(("PING", n))) for n in range(6))))

    got = asyncio.run(run())
    assert got[:4] == [b"OK", 42, None, [b"a\r\n", 1]] and got[5] == b"hello"
    assert str(got[4]) == "ERR no"


async def test_what_is_sent_in_one_turn_leaves_in_one_write() -> None:
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(65536))
        writer.write(b":1\r\n" * 20)
        read.append(await reader.read(65536))
        writer.write(b":1\r\n")
        await reader.read()

    async with connection_to(serve) as (connection, _):
        await asyncio.gather(*(connection.call(pack(("PING", n))) for n in range(20)))
        await connection.call(pack(("PING", 20)))
    assert [data.count(b"PING") for data in read] == [20, 1]


async def test_an_answer_that_is_late_ends_the_connection_and_all_that_wait() -> None:
    async with connection_to(answers(b""), timeout_s=0.05) as (connection, lost):
        began = time.monotonic()
        calls = [connection.call(pack(("PING",))) for _ in range(3)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert 0.045 < time.monotonic() - began < 0.5
        assert {str(one) for one in done} == {"redis: no answer within 50 ms"}
        assert [why.kind for why in lost] == ["timeout"]
        with pytest.raises(StoreError, match="no answer"):
            connection.call(pack(("PING",)))


async def test_a_shorter_deadline_holds_at_once() -> None:
    """A log-in may take longer than what comes after it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"+OK\r\n")
        await reader.read(65536)
        await reader.read()

    async with connection_to(serve, timeout_s=30) as (connection, _):
        assert await connection.call(pack(("AUTH", "x"))) == b"OK"
        connection.wait_at_most(0.05)
        with pytest.raises(StoreError, match="within 50 ms"):
            await asyncio.wait_for(connection.call(pack(("PING",))), 5)


@pytest.mark.parametrize("new", [asyncio.new_event_loop, new_loop], ids=["asyncio", "the gateway's"])
def test_a_loop_that_was_busy_reads_first_and_judges_then(
    new: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """What arrived in time is not late because this process was."""

    def serve(listening: socket.socket) -> None:
        there, _ = listening.accept()
        with there:
            while data := there.recv(65536):
                there.sendall(b"+PONG\r\n" * data.count(b"PING"))

    async def run(port: int) -> None:
        lost: Lost = []
        connection = await connected(
            Address("127.0.0.1", port, "", 0, False),
            None,
            lambda: Connection(timeout_s=0.05, max_in_flight=9, on_lost=lambda _, why: lost.append(why)),
        )
        for turns in range(5):
            call = connection.call(pack(("PING",)))
            for _ in range(turns):  # it has not left yet, it is on its way, it is answered
                await asyncio.sleep(0)
            time.sleep(0.1)
            assert await call == b"PONG"
        assert lost == []
        connection.close(StoreError("down", "the test is over"))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        with asyncio.Runner(loop_factory=new) as runner:
            runner.run(run(listening.getsockname()[1]))
        server.join(10)


@pytest.mark.parametrize("garbage", [b"hello\r\n", b":1\r\n:2\r\n", b"$x\r\n"])
async def test_what_is_no_answer_ends_the_connection(garbage: bytes) -> None:
    async with connection_to(answers(garbage)) as (connection, lost):
        call = connection.call(pack(("PING",)))
        await asyncio.wait({call})
        while not lost:
            await asyncio.sleep(0)
        assert lost[0].kind == "lost" and "protocol" in lost[0].reason


async def test_a_server_that_hangs_up_fails_what_waits_and_is_told_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)

    async with connection_to(serve) as (connection, lost):
        done = await asyncio.gather(
            *(connection.call(pack(("PING",))) for _ in range(3)), return_exceptions=True
        )
        assert {str(one) for one in done} == {"redis: the connection was lost"}
        assert len(lost) == 1


async def test_one_call_too_many_is_refused_and_not_sent() -> None:
    async with connection_to(answers(b"+OK\r\n+OK\r\n"), max_in_flight=2) as (connection, lost):
        calls = [connection.call(pack(("PING",))) for _ in range(2)]
        assert connection.full
        with pytest.raises(StoreError, match="2 calls wait") as refused:
            connection.call(pack(("PING",)))
        assert refused.value.kind == "full"
        assert await asyncio.gather(*calls) == [b"OK", b"OK"]
        assert not connection.full and lost == []


async def test_a_caller_who_left_takes_no_answer_from_the_next() -> None:
    async with connection_to(answers(b"+first\r\n+second\r\n")) as (connection, _):
        first, second = connection.call(pack(("PING",))), connection.call(pack(("PING",)))
        first.cancel()
        assert await second == b"second"
