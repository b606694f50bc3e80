"""The redactor as a filter on the events of an answer, and over the segments of what is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..dialects import Delta, StreamEvent
from ..exchange import Request, Response
from ..segments import Segment
from ..streams import StreamFilter
from ..verdicts import Deny
from .json_stream import JsonStream
from .stream import Redactor, TextStream

__all__ = ["RedactingFilter", "redact_segments"]

Signed = Callable[[str], Deny | None]


class RedactingFilter(StreamFilter):
    """Replaces values in every text of a streamed answer: one stream for each text, JSON where it is JSON.

    Text that a signature covers cannot be changed: ``signed`` is given it when it is complete, and may deny.
    """

    def __init__(self, redactor: Redactor, signed: Signed | None = None) -> None:
        self._redactor = redactor
        self._signed = signed
        self._open: dict[str, tuple[TextStream | JsonStream, Delta, StreamEvent]] = {}
        self._sealed: dict[str, list[str]] = {}

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        """The event with what may leave of its texts; before one that ends a text, what was held of it."""
        ends = event.ends
        changed = event
        said: Deny | None = None
        inside: set[str] = set()
        for delta in event.deltas:
            if delta.format == "opaque":
                continue
            if delta.signed:
                said = said or self._seal(delta)
                continue
            there = self._open.get(delta.id)
            stream = there[0] if there is not None else self._stream(delta)
            text = stream.feed(delta.text)
            if ends and delta.id.startswith(ends):
                text += stream.finish()
                self._open.pop(delta.id, None)
                inside.add(delta.id)
            else:
                self._open[delta.id] = (stream, delta, event)
            if text != delta.text:
                changed = changed.replace(delta, text)
        if said is not None:
            return said
        if not ends:
            return (changed,)
        denied = self._judge([one for one in self._sealed if one.startswith(ends)])
        if denied is not None:
            return denied
        return (*self._flush([one for one in self._open if one.startswith(ends)]), changed)

    def finish(self) -> Iterable[StreamEvent] | Deny:
        """What was held of texts that no event has ended."""
        return self._judge(list(self._sealed)) or self._flush(list(self._open))

    def _stream(self, delta: Delta) -> TextStream | JsonStream:
        return self._redactor.json_stream() if delta.format == "json" else self._redactor.stream()

    def _flush(self, ids: Iterable[str]) -> list[StreamEvent]:
        out = []
        for one in ids:
            stream, delta, event = self._open.pop(one)
            text = stream.finish()
            if text:
                out.append(event.only(delta, text))
        return out

    def _seal(self, delta: Delta) -> Deny | None:
        """Keeps a signed text until it is complete: what is in it is judged as a whole, before its end leaves."""
        if self._signed is None:
            return None
        pieces = self._sealed.setdefault(delta.id, [])
        pieces.append(delta.text)
        # Signed text leaves as it comes, so it is looked at as it comes, too.
        return self._signed("".join(pieces)) if self._redactor.find("".join(pieces[-64:])) else None

    def _judge(self, ids: Iterable[str]) -> Deny | None:
        for one in ids:
            text = "".join(self._sealed.pop(one))
            if self._signed is not None and self._redactor.find(text):
                said = self._signed(text)
                if said is not None:
                    return said
        return None


def redact_segments(whole: Request | Response, segments: Iterable[Segment], redactor: Redactor) -> int:
    """Replaces the values in these ``segments`` of ``whole``, in JSON where they are JSON; how many were changed.

    Raises:
        ValueError: one of them is signed and holds a value.
    """
    changed = 0
    for segment in segments:
        if segment.format == "opaque":
            continue
        text = redactor.json(segment.text) if segment.format == "json" else redactor.whole(segment.text)
        if text != segment.text:
            whole.replace(segment, text)
            changed += 1
    return changed
