"""One request's turn on a connection: its answer's bytes, written with as few system calls as can be."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

__all__ = ["Turn", "make_turn"]

RawHeaders = list[tuple[bytes, bytes]]


class Turn(RequestResponseCycle):
    """uvicorn's cycle with a way past ASGI messages for the hot routes.

    The head of a stream waits for its first bytes, so that both leave in one write; a whole answer is one write.
    Names and values come from the kernel and from a parser; a line break that got into one is refused here.
    """

    _head: bytes = b""

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


def make_turn(protocol: Any, keep_alive: bool) -> Turn:
    """The turn of the request whose head ``protocol`` has just read."""
    return Turn(
        scope=protocol.scope,
        transport=protocol.transport,
        flow=protocol.flow,
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=False,
        default_headers=protocol.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=protocol.expect_100_continue,
        keep_alive=keep_alive,
        on_response=protocol.on_response_complete,
    )
