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
_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_NAMED: Final = re.compile(rb"event: ([^\r\n]*)\ndata: ([^\r\n]*)\n\n")
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

    __slots__ = ("_first", "_held", "_max", "_pieces", "_size")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        # An unfinished event is its pieces, then the line ends that it stops with: all that a search has to see again.
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = b""
        self._first = True
        self._max = max_event_bytes

    @property
    def rest(self) -> bytes:
        """The bytes after the last complete event."""
        return b"".join(self._pieces) + self._held

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that ``chunk`` completes, in order; takes time in proportion to ``chunk``."""
        data = self._held + chunk if self._held else chunk
        if b"\r" not in data:
            # The common case: one event a chunk, ended by two line feeds.
            if not self._pieces and data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2:
                self._held = b""
                return [self._event(data)]
            blocks = data.split(b"\n\n")
            rest = blocks.pop()
            ended = [block + b"\n\n" for block in blocks]
        else:
            ended = []
            start = 0
            for match in _END.finditer(data):
                end = match.end()
                if end == len(data) and data.endswith(b"\r"):
                    break  # a line feed may follow and belongs to it
                ended.append(data[start:end])
                start = end
            rest = data[start:]
        if ended and self._pieces:
            ended[0] = b"".join(self._pieces) + ended[0]
            self._pieces.clear()
            self._size = 0
        text = rest.rstrip(b"\r\n")
        self._held = rest[len(text) :]
        if text:
            self._pieces.append(text)
            self._size += len(text)
            if self._size > self._max:
                raise UpstreamError("stream", "event_too_large", f"over {self._max} bytes")
        return [self._event(raw) for raw in ended]

    def single(self, chunk: bytes) -> SseEvent | None:
        """The event that ``chunk`` is, where it is exactly one in its plainest form and nothing unfinished precedes it."""
        if self._pieces or self._held:
            return None
        if not chunk.startswith(b"data: "):
            named = _NAMED.fullmatch(chunk)
            return SseEvent(chunk, named[2], named[1]) if named is not None else None
        if b"\r" in chunk:
            return None
        size = len(chunk)
        if chunk.find(b"\n") != size - 2 or not chunk.endswith(b"\n"):
            return None
        return SseEvent(chunk, chunk[6:-2])

    def finish(self) -> list[SseEvent]:
        """Called at the end of the stream: the event that a lone final CR was still holding."""
        if not _END.fullmatch(self._held):
            return []
        raw = self.rest
        self._pieces.clear()
        self._size = 0
        self._held = b""
        return [self._event(raw)]

    def _event(self, raw: bytes) -> SseEvent:
        if self._first:
            self._first = False
            text = raw[3:] if raw.startswith(_BOM) else raw
        else:
            text = raw
        # The common cases: a single line 'data: …', perhaps after a line 'event: …'.
        if text.startswith(b"data: ") and b"\r" not in text and text.find(b"\n") == len(text) - 2:
            return SseEvent(raw, text[6:-2])
        named = _NAMED.fullmatch(text)
        if named is not None:
            return SseEvent(raw, named[2], named[1])
        values: list[bytes] = []
        name = b""
        for line in _LINES.split(text):
            field, _, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                values.append(value)
            elif field == b"event":
                name = value
        return SseEvent(raw, b"\n".join(values) if values else None, name)


def encode_event(data: bytes, name: bytes = b"") -> bytes:
    """One event in its plainest form; ``data`` must hold no line breaks (JSON text does not)."""
    if name:
        return b"event: " + name + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
