"""Server-sent events, cut out of a byte stream however it arrives.

Source: WHATWG HTML, "Server-sent events", the event stream grammar.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import UpstreamError

__all__ = ["MAX_EVENT_BYTES", "EventSplitter", "SseEvent", "encode_event"]

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
_LINES: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


class SseEvent:
    """One event: ``raw`` is every byte of it as it came, with the blank line that ends it.

    ``data`` is None where the block holds no data (a comment, a lone ``retry:``); such a block has
    no meaning for a reader and is passed on as it is.
    """

    __slots__ = ("data", "name", "raw")

    def __init__(self, raw: bytes, data: bytes | None, name: bytes = b"") -> None:
        self.raw, self.data, self.name = raw, data, name

    def __repr__(self) -> str:
        size = "no data" if self.data is None else f"{len(self.data)} bytes"
        return f"SseEvent({self.name.decode('ascii', 'replace') or 'message'}, {size})"


class EventSplitter:
    """``feed`` bytes cut anywhere, get whole events; ``rest`` is what has not ended yet.

    The concatenated ``raw`` of all events plus ``rest`` is the stream, byte for byte.

    Raises:
        UpstreamError: an event is larger than ``max_event_bytes``.
    """

    __slots__ = ("_buffer", "_first", "_max", "_pieces", "_size")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._first = True
        self._max = max_event_bytes

    @property
    def rest(self) -> bytes:
        """The bytes after the last complete event."""
        return self._buffer + b"".join(self._pieces)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that ``chunk`` completes, in order."""
        if self._pieces or (b"\n" not in chunk and b"\r" not in chunk and not self._buffer.endswith(b"\r")):
            # No line ends here: joining only where one does keeps a giant event in tiny reads linear.
            self._pieces.append(chunk)
            self._size += len(chunk)
            if self._size + len(self._buffer) > self._max:
                raise UpstreamError("stream", "event_too_large", f"over {self._max} bytes")
            if b"\n" not in chunk and b"\r" not in chunk:
                return []
            chunk = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
        buffer = self._buffer + chunk if self._buffer else chunk
        if b"\r" not in buffer:
            # The common case: one event a chunk, ended by two line feeds.
            if buffer.endswith(b"\n\n") and buffer.find(b"\n\n") == len(buffer) - 2:
                self._buffer = b""
                return [self._event(buffer)]
            blocks = buffer.split(b"\n\n")
            self._buffer = blocks.pop()
            events = [self._event(block + b"\n\n") for block in blocks]
        else:
            events = self._feed_mixed(buffer)
        if len(self._buffer) > self._max:
            raise UpstreamError("stream", "event_too_large", f"over {self._max} bytes")
        return events

    def _feed_mixed(self, buffer: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        start = line = at = 0
        size = len(buffer)
        while True:
            match = _LINES.search(buffer, at)
            if match is None:
                break
            end = match.end()
            if end == size and match.group() == b"\r":
                break  # a line feed may follow and belongs to it
            if match.start() == line:
                events.append(self._event(buffer[start:end]))
                start = end
            line = at = end
        self._buffer = buffer[start:]
        return events

    def finish(self) -> list[SseEvent]:
        """Called at the end of the stream: the event that a lone final CR was still holding."""
        buffer = self._buffer = self.rest
        self._pieces.clear()
        if not buffer.endswith(b"\r"):
            return []
        body = buffer[:-1]
        if body and not body.endswith((b"\r", b"\n")):
            return []
        self._buffer = b""
        return [self._event(buffer)]

    def _event(self, raw: bytes) -> SseEvent:
        if self._first:
            self._first = False
            text = raw[3:] if raw.startswith(_BOM) else raw
        else:
            text = raw
        # The common case: a single line 'data: …'.
        if text.startswith(b"data: ") and b"\r" not in text and text.find(b"\n") == len(text) - 2:
            return SseEvent(raw, text[6:-2])
        data: bytes | None = None
        name = b""
        for line in _LINES.split(text):
            field, _, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                data = value if data is None else data + b"\n" + value
            elif field == b"event":
                name = value
        return SseEvent(raw, data, name)


def encode_event(data: bytes, name: bytes = b"") -> bytes:
    """One event in its plainest form; ``data`` must hold no line breaks (JSON text does not)."""
    if name:
        return b"event: " + name + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
