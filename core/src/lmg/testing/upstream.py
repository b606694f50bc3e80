"""An upstream that does exactly what it is told: any status, any bytes, any delay, any way of breaking off."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Cut", "Received", "Script", "ScriptedUpstream", "Wait", "chat_body", "chat_events", "sse"]


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause in an answer: ``seconds``, or until ``event`` is set."""

    seconds: float = 0.0
    event: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks here: closed (``fin``) or reset (``rst``)."""

    how: Literal["fin", "rst"] = "fin"


Piece = bytes | Wait | Cut


@dataclass(slots=True)
class Received:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of ``name``."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(slots=True)
class Script:
    """One answer: a status, headers, and pieces that are written one by one."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Sequence[Piece]
    framing: Literal["length", "chunked", "close", "raw"] = "length"


class ScriptedUpstream:
    """``async with ScriptedUpstream() as upstream:`` — then queue answers with ``reply``; the last one repeats.

    ``received`` holds the requests; ``Received.gone`` is set when the gateway has closed that connection.
    Without a queued answer ``answer`` is asked for one; by default it answers chat and embeddings like a small,
    polite model. What ``answer`` raises is a 500 with its text, and kept in ``faults``.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, answer: Callable[[Received], Script] | None = None
    ) -> None:
        self._default = answer or default_answer
        self.faults: list[Exception] = []
        self.received: list[Received] = []
        self.connections = 0
        self.open = 0
        self._scripts: deque[Script] = deque()
        self._last: Script | None = None
        self._server: asyncio.Server | None = None
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL, without ``/v1``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls, limit=2**26)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the script -----------------------------------------------------------------------------
    def reply(
        self,
        body: object = b"",
        *pieces: Piece,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (),
        framing: Literal["length", "chunked", "close"] = "length",
    ) -> None:
        """Queues an answer: ``body`` (bytes, or JSON), or further ``pieces`` sent one write each."""
        first: bytes = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = list(headers)
        if not any(name.lower() == "content-type" for name, _ in given):
            given.append(("content-type", "application/json"))
        self._scripts.append(Script(status, given, [first, *pieces], framing))

    def stream(
        self,
        *pieces: Piece,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (),
        framing: Literal["chunked", "close"] = "chunked",
    ) -> None:
        """Queues a server-sent-events answer whose ``pieces`` are written one by one."""
        self._scripts.append(
            Script(status, [("content-type", "text/event-stream"), *headers], pieces, framing)
        )

    def raw(self, *pieces: Piece) -> None:
        """Queues bytes that are sent as they are, head and all."""
        self._scripts.append(Script(0, [], pieces, "raw"))

    async def arrival(self, count: int = 1, seconds: float = 10.0) -> Received:
        """Waits until ``count`` requests have come; returns that one."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received[count - 1]

    # -- the wire -------------------------------------------------------------------------------
    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        current: Received | None = None
        try:
            while (request := await _read_request(reader)) is not None:
                current = request
                async with self._arrived:
                    self.received.append(request)
                    self._arrived.notify_all()
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer has left, or the test is over
        finally:
            self.open -= 1
            if current is not None:
                current.gone.set()
            writer.close()
            self._tasks.discard(task)

    def _answer_of(self, request: Received) -> Script:
        try:
            return self._default(request)
        except Exception as error:  # noqa: BLE001 - the test sees it, and so does whoever asked
            self.faults.append(error)
            body = json.dumps(
                {"error": {"message": f"{type(error).__name__}: {error}", "type": "server_error"}}
            )
            return Script(500, [("content-type", "application/json")], [body.encode()])

    async def _answer(
        self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if self._scripts:
            self._last = self._scripts.popleft()
        script = self._last or self._answer_of(request)
        watch = asyncio.ensure_future(_until_gone(reader, request))
        try:
            chunked = script.framing == "chunked"
            if script.framing != "raw":
                head = [f"HTTP/1.1 {script.status} X"] + [
                    f"{name}: {value}" for name, value in script.headers
                ]
                if chunked:
                    head.append("transfer-encoding: chunked")
                elif script.framing == "length":
                    head.append(
                        f"content-length: {sum(len(p) for p in script.pieces if isinstance(p, bytes))}"
                    )
                else:
                    head.append("connection: close")
                writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
            for piece in script.pieces:
                if isinstance(piece, Cut):
                    if piece.how == "rst":
                        reset(writer.transport)
                    else:
                        await writer.drain()
                    return False
                if isinstance(piece, Wait):
                    await _pause(piece, watch)
                    if watch.done():
                        return False
                elif piece:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    await writer.drain()
            if chunked:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
            return script.framing in ("length", "chunked") and not watch.done()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


def reset(transport: asyncio.WriteTransport) -> None:
    """Ends a connection with a reset: closing alone would send an orderly end."""
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    transport.abort()


async def _pause(wait: Wait, watch: asyncio.Future[None]) -> None:
    waiting: asyncio.Future[Any] = asyncio.ensure_future(
        wait.event.wait() if wait.event is not None else asyncio.sleep(wait.seconds)
    )
    await asyncio.wait([waiting, watch], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def _until_gone(reader: asyncio.StreamReader, request: Received) -> None:
    # A StreamReader cannot be peeked at; its end shows as soon as the peer has closed.
    while not reader.at_eof():
        if reader.exception() is not None or reader._buffer:  # type: ignore[attr-defined]
            return
        waiter = asyncio.get_running_loop().create_future()
        reader._waiter = waiter  # type: ignore[attr-defined]
        try:
            await waiter
        finally:
            reader._waiter = None  # type: ignore[attr-defined]
    request.gone.set()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = line.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (item.partition(":") for item in lines)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(method, path, headers, await reader.readexactly(length))


# -- what a polite model says ---------------------------------------------------------------------


def sse(*values: object) -> list[bytes]:
    """Each value as one event; a str stays as it is (``"[DONE]"``), anything else becomes JSON."""
    return [
        b"data: " + (v.encode() if isinstance(v, str) else json.dumps(v).encode()) + b"\n\n" for v in values
    ]


def chat_body(
    text: str = "Hello!", *, model: str = "test-model", usage: tuple[int, int] | None = (5, 2), **extra: Any
) -> dict[str, Any]:
    """A whole chat completion."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }  # fmt: skip
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body | extra


def chat_events(
    *texts: str, model: str = "test-model", usage: tuple[int, int] | None = (5, 2), done: bool = True
) -> list[bytes]:
    """The events of a streamed chat completion: the opening one, one for each text, the end, usage, ``[DONE]``."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }

    values: list[Any] = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, "stop"),
    ]
    if usage is not None:
        stated = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        values.append({**chunk({}), "choices": [], "usage": stated})
    return sse(*values, *(["[DONE]"] if done else []))


def default_answer(request: Received) -> Script:
    """What comes where nothing was queued."""
    body = json.loads(request.body or b"{}")
    if request.path.endswith("/embeddings"):
        answer = {
            "object": "list", "model": body.get("model"), "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }  # fmt: skip
        return Script(200, [("content-type", "application/json")], [json.dumps(answer).encode()], "length")
    if body.get("stream"):
        return Script(200, [("content-type", "text/event-stream")], chat_events("Hello", "!"), "chunked")
    return Script(200, [("content-type", "application/json")], [json.dumps(chat_body()).encode()], "length")
