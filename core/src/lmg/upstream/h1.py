"""HTTP/1.1 on asyncio protocols and llhttp: the data plane's transport.

A third of the CPU of the next best client that was measured, and one place where cancellation, resets and
half-closed connections are decided. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import httptools

from ..errors import UpstreamError
from . import TransportOptions, UpstreamRequest, Url

__all__ = ["H1Transport"]

HIGH_WATER: Final = 256 * 1024
LOW_WATER: Final = 64 * 1024
MAX_HEAD: Final = 64 * 1024
_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"trailer", b"proxy-connection"}
)


class H1Response:
    """An answer on one connection; see ``UpstreamResponse``."""

    __slots__ = (
        "_chunks", "_connection", "_done", "_error", "_queued", "_waiter", "headers", "is_event_stream", "status", "tap",
    )  # fmt: skip

    def __init__(
        self, connection: _Connection, status: int, headers: list[tuple[bytes, bytes]], events: bool
    ) -> None:
        self.status = status
        self.headers = headers
        self.is_event_stream = events
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._done = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.tap: Callable[[bytes], bool] | None = None

    def __aiter__(self) -> H1Response:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._done:
                raise StopAsyncIteration
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._queued -= len(chunk)
        if self._connection.paused and self._queued < LOW_WATER and not self._done:
            self._connection.resume()
        return chunk

    async def read(self) -> bytes:
        if self._done and len(self._chunks) == 1 and self._error is None:
            return self._chunks.popleft()
        parts = []
        size = 0
        limit = self._connection.pool.options.max_body
        try:
            async for chunk in self:
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise UpstreamError("answer", "answer_too_large", f"over {limit} bytes")
        except BaseException:
            await self.aclose()
            raise
        return b"".join(parts)

    async def aclose(self) -> None:
        if not self._done and self._error is None:
            self._error = UpstreamError("answer", "closed", "closed by the gateway")
            self._connection.abort()

    # -- the connection's side ----------------------------------------------------------------
    def push(self, chunk: bytes) -> None:
        waiter = self._waiter
        # While the reader waits nothing is queued, so a chunk that the tap takes overtakes none.
        if self.tap is not None and waiter is not None and not waiter.done() and self.tap(chunk):
            return
        self._chunks.append(chunk)
        self._queued += len(chunk)
        if self._queued > HIGH_WATER:
            self._connection.pause()
        self._wake()

    def end(self, error: UpstreamError | None = None) -> None:
        if error is None:
            self._done = True
        elif self._error is None and not self._done:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one exchange at a time."""

    __slots__ = (
        "_head",
        "_head_size",
        "_until_close",
        "_waiting",
        "_wire",
        "closed",
        "idle_since",
        "keep_s",
        "loop",
        "parser",
        "paused",
        "poll",
        "pool",
        "received",
        "response",
        "reused",
        "transport",
    )  # fmt: skip

    def __init__(self, pool: H1Transport) -> None:
        self.pool = pool
        self.loop = pool.loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser = httptools.HttpResponseParser(self)
        self.response: H1Response | None = None
        self._waiting: asyncio.Future[H1Response] | None = None
        self._head: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._wire = 0
        self._until_close = False
        self.closed = False
        self.paused = False
        self.reused = False
        self.received = False
        self.idle_since = 0.0
        self.keep_s = pool.options.idle_s
        self.poll: select.poll | None = None

    # -- the pool's side ----------------------------------------------------------------------
    def start(self, data: bytes) -> asyncio.Future[H1Response]:
        self._head = []
        self._head_size = 0
        self._wire = 0
        self.received = False
        self._waiting = self.loop.create_future()
        self.transport.write(data)
        return self._waiting

    def stale(self, now: float) -> bool:
        """Whether an idle connection must not be used again: too old, or its peer has already spoken or left."""
        if self.closed or self.transport.is_closing():
            return True
        idle = now - self.idle_since
        if idle > self.keep_s:
            return True
        if idle < 0.05:
            return False
        if self.poll is None:
            self.poll = select.poll()
            self.poll.register(
                self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP
            )
        return bool(self.poll.poll(0))

    def pause(self) -> None:
        if not self.paused and not self.closed:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            self.transport.resume_reading()

    def abort(self) -> None:
        if not self.closed:
            self.transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self.response is None:
            self.transport.abort()  # nothing was asked: whatever this is, it belongs to no request
            return
        self.received = True
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            failure = (
                cause
                if isinstance(cause, UpstreamError)
                else UpstreamError("answer", "protocol", type(error).__name__)
            )
            self._fail(failure)
            self.transport.abort()
            return
        if self._waiting is not None:
            # The parser hands a header over when it is complete: one that never is must not fill memory.
            self._wire += len(data)
            if self._wire > 2 * MAX_HEAD:
                self._fail(UpstreamError("answer", "protocol", f"the answer's head is over {MAX_HEAD} bytes"))
                self.transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.pool.connections.discard(self)
        if self.response is not None and self._until_close and exc is None:
            response, self.response = self.response, None
            response.end()
            return
        why = type(exc).__name__ if exc else "closed by the peer"
        if self._waiting is None or self.received:
            self._fail(UpstreamError("answer", "closed", why))
        else:
            self._fail(UpstreamError("send", "stale_connection" if self.reused else "closed", why))

    def _fail(self, error: UpstreamError) -> None:
        waiting, self._waiting = self._waiting, None
        response, self.response = self.response, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        if response is not None:
            response.end(error)

    # -- httptools callbacks ------------------------------------------------------------------
    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            raise UpstreamError("answer", "protocol", f"the answer's head is over {MAX_HEAD} bytes")
        if self._waiting is not None:  # else a trailer
            self._head.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            self._head = []
            if status == 101:
                raise UpstreamError("answer", "protocol", "101 to a request without Upgrade")
            return
        events = False
        self._until_close = status not in (204, 304)
        kept = []
        for name, value in self._head:
            if name == b"content-type":
                events = value[:17].lower() == b"text/event-stream"
            elif name in (b"content-length", b"transfer-encoding"):
                self._until_close = False
                if name == b"content-length":
                    continue
            elif name == b"keep-alive":
                self.keep_s = _keep_alive(value, self.pool.options.idle_s)
            elif name == b"content-encoding" and value.lower() not in (b"identity", b""):
                raise UpstreamError("answer", "protocol", "a content encoding that was not asked for")
            if name not in _HOP:
                kept.append((name, value))
        response = self.response = H1Response(self, status, kept, events)
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        if not waiting.done():
            waiting.set_result(response)

    def on_body(self, body: bytes) -> None:
        if self.response is not None:
            self.response.push(body)

    def on_message_complete(self) -> None:
        response, self.response = self.response, None
        if response is None:
            return  # an interim answer
        keep = self.parser.should_keep_alive() and not self.transport.get_write_buffer_size()
        if self.paused:
            self.resume()
        response.end()
        if keep and not self.closed:
            self.reused = True
            self.idle_since = time.monotonic()
            self.pool.idle.append(self)
        else:
            self.transport.close()


class H1Transport:
    """A pool of HTTP/1.1 connections to one address; see ``Transport``."""

    def __init__(self, url: Url, options: TransportOptions) -> None:
        self.url = url
        self.options = options
        self.idle: deque[_Connection] = deque()
        self.connections: set[_Connection] = set()
        self.loop = asyncio.get_running_loop()
        self._connecting = 0
        self._host = (
            b" HTTP/1.1\r\nhost: "
            + url.authority.encode("idna" if not url.authority.isascii() else "ascii")
            + b"\r\n"
        )
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._tls = ssl.create_default_context(cafile=options.ca_file)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.set_alpn_protocols(["http/1.1"])

    async def send(self, request: UpstreamRequest) -> H1Response:
        parts = [request.method.encode(), b" ", request.path.encode(), self._host]
        for name, value in request.headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"accept-encoding: identity\r\ncontent-length: %d\r\n\r\n" % len(request.body))
        parts.append(request.body)
        connection = self._checkout() or await self._connect()
        waiting = connection.start(b"".join(parts))
        try:
            return await waiting
        except asyncio.CancelledError:
            connection.abort()
            raise

    def _checkout(self) -> _Connection | None:
        now = time.monotonic()
        while self.idle:
            # The one used last: the others age and are closed.
            connection = self.idle.pop()
            if not connection.stale(now):
                self._trim(now)
                return connection
            connection.abort()
        return None

    def _trim(self, now: float) -> None:
        if self.idle and now - self.idle[0].idle_since > self.idle[0].keep_s:
            self.idle.popleft().abort()

    async def _connect(self) -> _Connection:
        if len(self.connections) + self._connecting >= self.options.max_connections:
            raise UpstreamError(
                "connect", "pool_exhausted", f"{self.options.max_connections} connections are open"
            )
        self._connecting += 1
        try:
            async with asyncio.timeout(self.options.connect_timeout_s):
                _, connection = await self.loop.create_connection(
                    lambda: _Connection(self), self.url.host, self.url.port, ssl=self._tls,
                    server_hostname=self.url.host if self._tls else None,
                )  # fmt: skip
        except TimeoutError:
            raise UpstreamError(
                "connect", "timeout", f"no connection within {self.options.connect_timeout_s} s"
            ) from None
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise UpstreamError("connect", "connect_error", type(error).__name__) from None
        finally:
            self._connecting -= 1
        self.connections.add(connection)
        return connection

    async def aclose(self) -> None:
        for connection in list(self.connections):
            connection.abort()
        self.idle.clear()


def _keep_alive(value: bytes, limit: float) -> float:
    """Seconds that the peer says it keeps an idle connection, less one for the way (RFC 9112 appendix C.2.2)."""
    for part in value.split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.lower() == b"timeout" and number.isdigit():
            return max(0.0, min(limit, int(number[:6]) - 1.0))
    return limit
