"""The binary frames of a stream as server-sent events.

Source: Smithy specification, "Amazon Event Stream" (``application/vnd.amazon.eventstream``): a prelude of two lengths
and a checksum, headers, a payload, and a checksum of all.
"""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from botocore.eventstream import EventStreamBuffer, ParserError  # type: ignore[import-untyped]

from lmg.dialects.wire import json_of
from lmg.errors import UpstreamError
from lmg.sse import MAX_EVENT_BYTES, encode_event
from lmg.upstream import UpstreamResponse

__all__ = ["EventFrames", "FrameReader"]

_PRELUDE: Final = 12
_LEAST: Final = 16  # a prelude and a checksum around nothing
_NAME: Final = re.compile(r"[A-Za-z-]{1,64}")


class FrameReader:
    """``feed`` bytes cut anywhere, get the whole events that they complete; each byte is moved a bounded number of
    times, however small the pieces are.
    """

    def __init__(self) -> None:
        self._buffer: Any = EventStreamBuffer()
        self._held = bytearray()
        self._need = 0  # the size of the frame, once its prelude is read

    @property
    def unfinished(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def feed(self, chunk: bytes) -> tuple[list[bytes], UpstreamError | None]:
        """The events that ``chunk`` completes, up to the first fault, and that fault; nothing may follow one."""
        out: list[bytes] = []
        at = 0
        try:
            while at < len(chunk):
                end = at + (self._need or _PRELUDE) - len(self._held)
                self._held += chunk[at:end]
                at = min(end, len(chunk))
                if len(self._held) == _PRELUDE and not self._need:
                    self._need = self._read_prelude(bytes(self._held))
                elif self._need and len(self._held) == self._need:
                    self._buffer.add_data(bytes(self._held[_PRELUDE:]))
                    out.append(_event(next(self._buffer)))
                    self._held.clear()
                    self._need = 0
        except UpstreamError as error:
            return out, error
        except (ParserError, struct.error, KeyError, IndexError, ValueError, StopIteration):
            # A checksum that does not fit, or headers that are none: whatever this says, it is not what was sent.
            return out, UpstreamError("stream", "protocol", "a frame that is damaged")
        return out, None

    def _read_prelude(self, prelude: bytes) -> int:
        self._buffer.add_data(prelude)
        next(self._buffer, None)  # checks the prelude's own checksum, and waits for the rest
        size = int.from_bytes(prelude[:4], "big")
        if size < _LEAST + int.from_bytes(prelude[4:8], "big"):
            raise UpstreamError("stream", "protocol", "a frame shorter than its headers")
        if size > MAX_EVENT_BYTES:
            raise UpstreamError("stream", "event_too_large", f"over {MAX_EVENT_BYTES} bytes")
        return size


def _event(message: Any) -> bytes:
    """A frame as a server-sent event of its type; an error's type goes into its JSON."""
    headers = message.headers
    kind = headers.get(":message-type")
    if kind == "event":
        name, payload = headers[":event-type"], message.payload
        if type(name) is not str or not _NAME.fullmatch(name):
            raise UpstreamError("stream", "protocol", "an event without a type")
        if b"\n" in payload or b"\r" in payload:
            payload = orjson.dumps(orjson.loads(payload))
        return encode_event(payload, name.encode())
    if kind == "exception":
        value = json_of(message.payload)
        said = value.get("message") if type(value) is dict else None
        return _exception(headers.get(":exception-type"), said)
    if kind == "error":
        return _exception(headers.get(":error-code"), headers.get(":error-message"))
    raise UpstreamError("stream", "protocol", "a frame of no known kind")


def _exception(name: Any, message: Any) -> bytes:
    stated = {"__type": str(name or ""), "message": message if type(message) is str else ""}
    return encode_event(orjson.dumps(stated), b"exception")


class EventFrames:
    """A response's frames as bytes of server-sent events: a chunk out for each one in that completes a frame.

    ``opening`` is an event of the provider's own that precedes them. Raises ``UpstreamError`` where a frame is
    damaged, or the response ends within one.
    """

    def __init__(self, response: UpstreamResponse, opening: bytes = b"") -> None:
        self._response = response
        self._chunks: AsyncIterator[bytes] = aiter(response)
        self._opening = opening
        self._reader = FrameReader()
        self._fault: UpstreamError | None = None

    def __aiter__(self) -> EventFrames:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._fault is not None:
                raise self._fault
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                if self._reader.unfinished:
                    left = self._reader.unfinished
                    raise UpstreamError("stream", "closed", f"ended {left} bytes into a frame") from None
                raise
            events, self._fault = self._reader.feed(chunk)
            if events:
                out = self._opening + b"".join(events)
                self._opening = b""
                return out

    async def aclose(self) -> None:
        """Ends the upstream call."""
        await self._response.aclose()
