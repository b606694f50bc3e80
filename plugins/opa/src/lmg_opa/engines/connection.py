"""One kind of request to one server, over connections that stay open: a twentieth of a general client's time.

HTTP/1.1 as far as a JSON API needs it (RFC 9112): an answer has a length or is chunked, and anything else is refused.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final

__all__ = ["AnswerTooLarge", "JsonPost"]

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_IDLE: Final = 64

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AnswerTooLarge(ValueError):
    """The answer is longer than asked for."""


class JsonPost:
    """``POST``s JSON to one path of one server. ``open`` makes a connection; ``headers`` are sent with every request."""

    def __init__(
        self, open: Callable[[], Coroutine[None, None, Pair]], path: str, headers: list[tuple[str, str]]
    ) -> None:
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if any(letter in "\r\n" for line in lines for letter in line):
            raise ValueError("a line break in a header")
        self._head = "\r\n".join([*lines, "Content-Type: application/json", "Content-Length: "]).encode(
            "latin-1"
        )
        self._open = open
        self._idle: deque[Pair] = deque()
        self._closed = False

    @classmethod
    def over_tcp(cls, host: str, port: int, tls: bool, path: str, headers: list[tuple[str, str]]) -> JsonPost:
        """To ``host``, its certificate verified where ``tls``."""
        context = ssl.create_default_context() if tls else None

        async def connect() -> Pair:
            return await asyncio.open_connection(host, port, ssl=context, limit=MAX_HEAD_BYTES)

        return cls(connect, path, headers)

    @classmethod
    def over_socket(cls, file: str, path: str, headers: list[tuple[str, str]]) -> JsonPost:
        """To the Unix socket ``file``."""

        async def connect() -> Pair:
            return await asyncio.open_unix_connection(file, limit=MAX_HEAD_BYTES)

        return cls(connect, path, headers)

    async def send(self, body: bytes, max_bytes: int) -> tuple[int, bytes]:
        """The status and the body of the answer.

        Raises:
            OSError, EOFError: the server cannot be reached, or went away.
            ValueError: the answer is not HTTP/1.1, or has more than ``max_bytes``.
        """
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        while self._idle:
            pair = self._idle.pop()
            try:
                return await self._exchange(pair, request, max_bytes)
            except (OSError, EOFError):
                # The server may close an idle connection at any time. To ask again is safe: a question changes nothing.
                continue
        return await self._exchange(await self._open(), request, max_bytes)

    async def _exchange(self, pair: Pair, request: bytes, max_bytes: int) -> tuple[int, bytes]:
        reader, writer = pair
        whole = False
        try:
            writer.write(request)
            await writer.drain()
            status, answer, whole = await _read(reader, max_bytes)
        except asyncio.LimitOverrunError as error:
            raise ValueError("the answer's head is too long") from error
        finally:
            # Also when the deadline cut it: what comes later on this connection would answer somebody else.
            if whole and not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(pair)
            else:
                writer.close()
        return status, answer

    def close(self) -> None:
        """Closes the connections that nobody uses; the others follow when their answer is there."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()


async def _read(reader: asyncio.StreamReader, max_bytes: int) -> tuple[int, bytes, bool]:
    """The status, the body, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest.partition(" ")[0]
    if version != "HTTP/1.1" or len(code) != 3 or not code.isascii() or not code.isdigit() or int(code) < 200:
        raise ValueError("the answer is not HTTP/1.1")
    lengths, codings, again = set(), [], True
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header without a colon")
        name, value = name.lower(), value.strip(" \t")
        if name == "content-length":
            lengths.add(value)
        elif name == "transfer-encoding":
            codings.append(value.lower())
        elif name == "connection" and value.lower() == "close":
            again = False
    if code in ("204", "304"):
        return int(code), b"", False
    if codings == ["chunked"] and not lengths:
        return int(code), await _chunks(reader, max_bytes), again
    length = lengths.pop() if len(lengths) == 1 and not codings else ""
    if not length.isascii() or not length.isdigit() or len(length) > 12:
        raise ValueError("the answer has no single length")
    if int(length) > max_bytes:
        raise AnswerTooLarge(f"more than {max_bytes} bytes")
    return int(code), await reader.readexactly(int(length)), again


async def _chunks(reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        digits = line[:-2].partition(b";")[0]
        if not 0 < len(digits) <= 8 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            raise ValueError("a chunk without a size")
        size = int(digits, 16)
        if len(body) + size > max_bytes:
            raise AnswerTooLarge(f"more than {max_bytes} bytes")
        if size == 0:
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("a trailer")
            return bytes(body)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk that is longer than its size")
