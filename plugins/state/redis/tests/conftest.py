"""A real server of one's own, a wire that can be cut, and started stores.

``LMG_REDIS_SERVER`` names another server to test with (a valkey-server, an older redis-server).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest

from lmg import Host
from lmg.testing import servers as testing
from lmg_redis import RedisCounters

START_S = 20.0
Counters = Callable[..., Awaitable[RedisCounters]]


class RedisServer(testing.RedisServer):
    """A server of one's own, with a look into it."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.tls_port = 0
        self.password = ""

    def do(self, *command: str | int | bytes, check: bool = True) -> Any:
        """Runs a command over the Unix socket."""
        reader = hiredis.Reader()
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(START_S)
            wire.connect(str(self.socket))
            for one in [("AUTH", self.password), command] if self.password else [command]:
                wire.sendall(hiredis.pack_command(one))
                while (reply := reader.gets()) is False:
                    data = wire.recv(65536)
                    if not data:
                        raise ConnectionError("the server hung up")
                    reader.feed(data)
        if check and isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def calls(self, command: str) -> int:
        """How often ``command`` ran, by INFO commandstats."""
        for line in self.do("INFO", "commandstats").decode().splitlines():
            if line.startswith(f"cmdstat_{command}:"):
                return int(line.partition("calls=")[2].partition(",")[0])
        return 0

    def stored(self, pattern: str = "*") -> set[bytes]:
        return set(self.do("KEYS", pattern))


class Wire:
    """A relay in front of a server; what it is told to keep back arrives late, or never."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking, self._answering = _open_gate(), _open_gate()
        self._held: list[asyncio.Event] = []
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self.close()
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hold(self, *, answers_only: bool = False) -> None:
        """From now on nothing passes, or no answer; connections stay open."""
        self._answering = asyncio.Event()
        self._held.append(self._answering)
        if not answers_only:
            self._asking = asyncio.Event()
            self._held.append(self._asking)

    def let_new_pass(self) -> None:
        """What comes from now on flows; what is held stays so until ``release``."""
        self._asking, self._answering = _open_gate(), _open_gate()

    def release(self) -> None:
        """What was kept back arrives, also of connections that were closed meanwhile."""
        for gate in self._held:
            gate.set()

    def close(self) -> None:
        """Resets every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(
                self._pump(reader, back, lambda: self._asking),
                self._pump(there, writer, lambda: self._answering),
            )
        finally:
            for one in (writer, back):
                self._open.discard(one)
                one.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: Callable[[], asyncio.Event]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await gate().wait()
                sink.write(data)
                await sink.drain()
            await gate().wait()
            if sink.can_write_eof():
                sink.write_eof()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


async def until(claim: Callable[[], object], seconds: float = 10.0) -> None:
    """Returns when ``claim`` is true."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.002)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """``make_server(*options)`` starts one more server; all end with the test."""
    started: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        folder = tmp_path / f"redis{len(started)}"
        folder.mkdir()
        server = RedisServer(folder, *options)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def redis_server(make_server: Callable[..., RedisServer]) -> RedisServer:
    """A running server."""
    return make_server()


@pytest.fixture
async def wire(redis_server: RedisServer) -> AsyncIterator[Wire]:
    """A wire to ``redis_server``."""
    async with Wire(redis_server.port) as wire:
        yield wire


@pytest.fixture
async def counters() -> AsyncIterator[Counters]:
    """``await counters(url, **settings)`` gives a started store, in the place of one process each."""
    begun: list[RedisCounters] = []

    async def start(url: str, **settings: Any) -> RedisCounters:
        # The machine that tests run on may be busy; what is about deadlines sets its own.
        whole = {"url": url, "timeout_ms": 2000, **settings}
        host = Host()
        host.metrics.enabled = True
        store = RedisCounters(RedisCounters.Config.model_validate(whole), host, "redis")
        begun.append(store)
        await store.start()
        return store

    yield start
    for store in begun:
        await store.stop()
        await store.host.aclose()
