"""One request's turn on a connection: its answer's bytes, written with as few system calls as can be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from .protocol import FrontDoor

__all__ = ["Turn"]

RawHeaders = list[tuple[bytes, bytes]]


class Bell:
    """What ``asyncio.Event`` is to uvicorn's cycle, for one waiter, and free while nobody waits."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._rung = False

    async def wait(self) -> None:
        if self._rung:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Turn(RequestResponseCycle):
    """uvicorn's cycle with a way past ASGI messages for the hot routes.

    The head of a stream waits for its first bytes, so that both leave in one write; a whole answer is one write.
    Names and values come from the kernel and from a parser; a line break that got into one is refused here.
    """

    def __init__(self, protocol: FrontDoor, scope: dict[str, Any], keep_alive: bool) -> None:
        self.scope: Any = scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_log = False
        self.default_headers = protocol.server_state.default_headers
        self.message_event: Any = Bell()
        self.on_response = protocol.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self._tasks = protocol.tasks
        self._loop = protocol.loop
        self._head = b""

    async def run_asgi(self, app: Any) -> None:
        try:
            await super().run_asgi(app)
        finally:
            self._tasks.discard(asyncio.current_task(self._loop))

    def take_body(self) -> bytes | None:
        """The body, where it is there already and whole."""
        if self.more_body or self.disconnected or self.response_complete:
            return None
        self.flow.resume_reading()
        self.waiting_for_100_continue = False
        body, self.body = bytes(self.body), bytearray()
        return body

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """A whole answer; ``headers`` state its length."""
        if self.disconnected:
            return
        self.response_started = True
        # A HEAD's answer says how long the body would be and does not hold it (RFC 9110 §9.3.2).
        self.transport.write(
            self._line(status, headers, b"") + (b"" if self.scope["method"] == "HEAD" else body)
        )
        self._complete()

    def begin(self, status: int, headers: RawHeaders) -> None:
        """The head of a stream, sent with its first bytes."""
        self.response_started = True
        self._head = self._line(status, headers, b"transfer-encoding: chunked\r\n")

    def push(self, data: bytes) -> None:
        """Bytes of a stream, as one chunk."""
        if self.disconnected or not data:
            return
        head, self._head = self._head, b""
        self.transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))

    def finish(self) -> None:
        """The end of a stream's framing."""
        if self.disconnected:
            return
        head, self._head = self._head, b""
        self.transport.write(head + b"0\r\n\r\n")
        self._complete()

    def _line(self, status: int, headers: RawHeaders, framing: bytes) -> bytes:
        parts = [STATUS_LINE[status]]
        closing = not self.keep_alive
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"connection":
                self.keep_alive = closing = False
        if closing:
            parts.append(b"connection: close\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != 1 + len(self.default_headers) + len(headers) + closing:
            raise ValueError("a header holds a line break")
        return head + framing + b"\r\n"

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
