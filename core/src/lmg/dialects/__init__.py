"""Client-facing wire formats: how a request is read, and how answers, events and errors are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from ..jsontext import Json, JsonPath, JsonText
from ..segments import Role, Segment
from ..sse import MAX_EVENT_BYTES, SseEvent, encode_event

if TYPE_CHECKING:
    from ..exchange import Operation, Usage

__all__ = ["DONE", "Delta", "Dialect", "EventKind", "Rebuilder", "StreamEvent"]

DONE: Final = b"[DONE]"
"""The data of the terminal event of OpenAI's older streams: the one event that is no JSON."""

EventKind = Literal["open", "delta", "finish", "usage", "done", "error", "other"]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one text of the answer; ``id`` names choice, item and kind, and is stable in a stream.

    A ``signed`` one belongs to what a signature will follow, and cannot be replaced. An ``opaque`` one stands for what cannot be read (an image, sound): its text is empty, and it cannot be replaced.
    """

    id: str
    role: Role
    text: str
    path: JsonPath
    format: Literal["text", "json", "opaque"] = "text"
    signed: bool = False


class StreamEvent:
    """One event of an answer. An event that no filter changed leaves as the bytes it came in."""

    __slots__ = ("_body", "_deltas", "_dialect", "kind", "sse")

    def __init__(
        self, dialect: Dialect, sse: SseEvent, kind: EventKind, body: JsonText | None = None
    ) -> None:
        self._dialect = dialect
        self.sse = sse
        self.kind: EventKind = kind
        self._body = body
        self._deltas: tuple[Delta, ...] | None = None

    def __repr__(self) -> str:
        return f"StreamEvent({self.kind})"

    @property
    def body(self) -> JsonText | None:
        """The event's JSON, or None where it holds none."""
        if self._body is None and self.sse.data and self.kind != "other" and self.sse.data != DONE:
            self._body = JsonText(self.sse.data, self._dialect.read_json(self.sse.data))
        return self._body

    @property
    def deltas(self) -> tuple[Delta, ...]:
        """The pieces of text in this event, in order."""
        if self._deltas is None:
            body = self.body
            self._deltas = tuple(self._dialect.deltas(body.value)) if body is not None else ()
        return self._deltas

    @property
    def ends(self) -> tuple[str, ...]:
        """What ids of deltas begin with that get no more text after this event: text held for them leaves before it."""
        body = self.body
        return tuple(self._dialect.ends(body.value)) if body is not None else ()

    def replace(self, delta: Delta, text: str) -> StreamEvent:
        """This event with ``text`` in the place of ``delta``; log probabilities of that choice are dropped.

        Raises:
            ValueError: the delta is opaque or signed.
        """
        if delta.signed or delta.format == "opaque":
            raise ValueError(f"{delta.id} is {'signed' if delta.signed else 'opaque'} and cannot be replaced")
        return self.put(delta, text)

    def put(self, delta: Delta, text: str) -> StreamEvent:
        """What ``replace`` does, for the kernel: it may also take a signed text out, to send it again as it was."""
        body = self.body
        assert body is not None
        body = self._dialect.after_edit(body.set(delta.path, text), delta.path)
        return StreamEvent(self._dialect, self.sse, self.kind, body)

    def only(self, delta: Delta, text: str) -> StreamEvent:
        """A new event that carries ``text`` for ``delta``'s id and nothing else, shaped like this one.

        What a filter that held text back uses to emit it later.
        """
        body = self.body
        assert body is not None
        value = self._dialect.delta_event(body.value, delta, text)
        return self._dialect.make_event(value, "delta")

    @property
    def raw(self) -> bytes:
        """The bytes that leave for the client."""
        if self._body is None or not self._body.edited:
            return self.sse.raw
        return encode_event(self._body.render(), self.sse.name)


class Rebuilder:
    """Stands on both sides of the filters of a stream and sees every event."""

    def into(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """``event``, after events for the text that it alone holds: what filters must have seen."""
        return (event,)

    def out(self, event: StreamEvent) -> StreamEvent:
        """``event``, or one in its place that repeats what has really left."""
        return event


class Dialect(ABC):
    """A wire format. Pure: holds no state, knows no provider and no network."""

    name: ClassVar[str]
    operation: ClassVar[Operation]
    own_fields: ClassVar[tuple[str, ...]] = ("routing_hint",)
    streams: ClassVar[bool] = True
    resumable: ClassVar[bool] = False
    """Whether another target's events can go on where a broken stream's have ended (``continued``)."""
    kept_statuses: ClassVar[frozenset[int]] = frozenset()
    """Error statuses of an upstream that this dialect's clients know and others would not."""
    id_header: ClassVar[bytes] = b""
    """A further header of the answer in which this dialect's clients look for the request's id."""
    content_types: ClassVar[frozenset[bytes]] = frozenset({b"application/json"})
    """What a request may be sent as; anything else is a 415."""
    max_event_bytes: ClassVar[int] = MAX_EVENT_BYTES
    """The largest event that a stream may hold."""

    def read_request(self, raw: bytes, content_type: bytes, *, max_depth: int) -> JsonText:
        """The request's body as a document; ``content_type`` is one of ``content_types`` with its parameters, or empty.

        Raises:
            JsonTextError: it is not JSON that the gateway forwards.
            Refusal: 400, it is not what it says it is.
        """
        return JsonText.parse(raw, max_depth=max_depth)

    def read_answer(self, raw: bytes, content_type: bytes, *, strict: bool) -> JsonText:
        """A whole answer as a document, its value an object; read ``strict``ly where somebody will look into it.

        Raises:
            JsonTextError, JSONDecodeError, UpstreamError: it is nothing that the API sends.
        """
        import orjson

        return JsonText.parse(raw) if strict else JsonText(raw, orjson.loads(raw))

    @abstractmethod
    def check(self, value: Json) -> None:
        """Refuses what cannot be a request of this dialect.

        Raises:
            Refusal: 400 with the path of the fault in ``param``.
        """

    @abstractmethod
    def wants_stream(self, value: Json) -> bool:
        """Whether the client asked for events."""

    @abstractmethod
    def request_segments(self, value: Json) -> Iterator[Segment]:
        """Every text of the request that a model will read."""

    @abstractmethod
    def response_segments(self, value: Json) -> Iterator[Segment]:
        """Every text of a whole answer (or of an error body) that a client will read."""

    @abstractmethod
    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        """The usage that a whole answer or an event states, or None. ``before`` is what earlier events of the
        same stream have stated, for dialects that spread it.
        """

    @abstractmethod
    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        """An error in the shape that this dialect's clients parse."""

    def error_event(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        """The last event of a stream that broke. Nothing that looks like an ending follows it."""
        return encode_event(self.error_body(status, code, message, type, param, request_id))

    def prepare(self, body: JsonText, *, max_output_tokens: int | None) -> JsonText:
        """The body as it goes upstream: usage asked for on streams, output capped."""
        return body

    def model_name(self, body: JsonText, upstream_model: str) -> JsonText:
        """The body with the upstream's own name of the model."""
        return body if body.get("model") == upstream_model else body.set(("model",), upstream_model)

    def asked_for_usage(self, value: Json) -> bool:
        """Whether the client itself asked for the usage event."""
        return True

    def after_edit(self, body: JsonText, path: JsonPath) -> JsonText:
        """Drops what no longer fits the text at ``path``."""
        return body

    def continued(self, body: JsonText, prefill: str) -> JsonText:
        """The request for an answer that goes on behind ``prefill``; only where ``resumable``."""
        raise NotImplementedError

    # -- streams ----------------------------------------------------------------------------
    def read_json(self, data: bytes) -> Json:
        """An event's JSON; raises ``JsonTextError`` where it is none."""
        from ..jsontext import strict_loads

        return strict_loads(data)

    def kind(self, event: SseEvent, *, opened: bool) -> EventKind:
        """What an event is. Before ``opened`` it is read fully, afterwards by the cheapest sure sign."""
        raise NotImplementedError

    def deltas(self, value: Json) -> Iterable[Delta]:
        """The pieces of text in an event."""
        return ()

    def ends(self, value: Json) -> Iterable[str]:
        """What ids of deltas begin with that get no more text after this event."""
        return ()

    def rebuilder(self) -> Rebuilder | None:
        """What keeps events that repeat the text of earlier ones true to what has left, where a dialect has such."""
        return None

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        """An event's value that carries only ``text``, shaped like ``like``."""
        raise NotImplementedError

    def make_event(self, value: Json, kind: EventKind) -> StreamEvent:
        """An event of our own making."""
        import orjson

        data = orjson.dumps(value)
        return StreamEvent(self, SseEvent(encode_event(data), data), kind, JsonText(data, value))

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        """The whole answer that a finished stream amounts to."""
        raise NotImplementedError

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        """A whole answer as the events of a stream, the terminal one included."""
        raise NotImplementedError
