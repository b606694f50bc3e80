"""What an upstream speaks for chat: pure functions between the intermediate form and one API's JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import orjson

from ..errors import UpstreamError
from ..jsontext import Json, JsonText
from ..sse import SseEvent
from . import Dialect, StreamEvent
from .form import FEATURES, Chat, Completion, FormEvent, completion_of, events_of

__all__ = [
    "Codec",
    "EventDecoder",
    "EventEncoder",
    "Fault",
    "StreamFault",
    "Support",
    "Unsupported",
    "Wire",
    "admit",
    "broken",
    "classify",
    "json_of",
    "support",
    "unknown",
]

Support = Literal["carried", "refused", "ignored"]

FaultKind = Literal["", "context_length", "content_filter", "credential"]


@dataclass(frozen=True, slots=True)
class Fault:
    """An upstream's error in nobody's words. ``kind`` names the classes that a fallback treats apart, where the
    status alone does not tell them.
    """

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    kind: FaultKind = ""


class Unsupported(UpstreamError):
    """The request uses what this wire cannot express; another target may. ``param`` is the caller's place."""

    def __init__(self, wire: str, feature: str, param: str) -> None:
        super().__init__("admission", "unsupported", f"{feature} ({param}) over {wire}")
        self.feature, self.param = feature, param


class StreamFault(Exception):
    """Raised by a decoder: the stream holds an error; ``status`` is what it would have been before the stream."""

    def __init__(self, status: int, fault: Fault) -> None:
        super().__init__(f"an error in the stream, like status {status}")
        self.status, self.fault = status, fault


def unknown(where: str) -> Unsupported:
    """For decoders: a part of the request at ``where`` that the intermediate form has no words for."""
    return Unsupported("any other wire", "extra", where)


def support(*, carried: str = "", ignored: str = "", refused: str = "") -> Mapping[str, Support]:
    """The table of a wire: every feature is named once, in one of three lists separated by blanks.

    Raises:
        ValueError: a feature is missing, unknown, or named twice: a new one must be decided everywhere.
    """
    table: dict[str, Support] = {}
    named: list[str] = []
    lists: tuple[tuple[str, Support], ...] = (
        (carried, "carried"),
        (ignored, "ignored"),
        (refused, "refused"),
    )
    for text, how in lists:
        for feature in text.split():
            table[feature] = how
            named.append(feature)
    if sorted(named) != sorted(FEATURES):
        odd = {*named} ^ {*FEATURES} or {name for name in named if named.count(name) > 1}
        raise ValueError(f"features not decided, or twice: {', '.join(sorted(odd))}")
    return table


def admit(wire: Wire, chat: Chat) -> tuple[str, ...]:
    """The caller's places of what ``wire`` ignores of ``chat``.

    Raises:
        Unsupported: the request uses something that must not be lost and cannot be expressed.
    """
    ignored = []
    for feature, where in chat.uses.items():
        how = wire.support[feature]
        if how == "refused":
            raise Unsupported(wire.name, feature, where)
        if how == "ignored":
            ignored += sorted(chat.extra) if feature == "extra" else [where]
    return tuple(ignored)


class EventDecoder(ABC):
    """One answer's events on their way into the intermediate form; holds what must be known of those before."""

    @abstractmethod
    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        """What ``event`` says. Raises ``StreamFault`` where it is an error, ``UpstreamError`` where it is nothing
        that the API sends.
        """

    def finish(self) -> Sequence[FormEvent]:
        """What the end of the stream says, for wires without a terminal event. An ``End`` that never came is a broken stream."""
        return ()


class EventEncoder(ABC):
    """One answer's events on their way to the client, in its dialect."""

    @abstractmethod
    def feed(self, event: FormEvent) -> Iterable[bytes]:
        """The server-sent events that ``event`` becomes, each whole."""


class Wire(ABC):
    """An upstream's API for chat. Pure: holds no state, knows no network."""

    name: ClassVar[str]
    support: ClassVar[Mapping[str, Support]]

    @abstractmethod
    def encode_request(self, chat: Chat) -> dict[str, Any]:
        """The request's body. Everything in ``chat.uses`` has been admitted."""

    @abstractmethod
    def decode_answer(self, value: Json) -> Completion:
        """A whole answer. Raises ``UpstreamError`` (stage ``answer``, kind ``protocol``) where it is none."""

    @abstractmethod
    def decoder(self) -> EventDecoder:
        """A decoder for one stream."""

    @abstractmethod
    def fault(self, status: int, body: bytes) -> Fault:
        """What an error body says; never raises."""


class Codec(Dialect, Wire):
    """A dialect that clients speak to us and that we speak to upstreams: both halves."""

    @abstractmethod
    def decode_request(self, value: Json) -> Chat:
        """What a request says; raises ``Refusal`` (400, with the path) where it makes no sense, and
        ``Unsupported`` where it says what the intermediate form has no words for.
        """

    @abstractmethod
    def encode_answer(self, completion: Completion) -> dict[str, Any]:
        """A whole answer for the client."""

    @abstractmethod
    def encoder(self) -> EventEncoder:
        """An encoder for one stream."""

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        decoder = self.decoder()
        found: list[FormEvent] = []
        for event in events:
            found += decoder.feed(SseEvent(event.raw, _data(event), event.sse.name))
        return self.encode_answer(completion_of(found))

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        encoder = self.encoder()
        return [raw for event in events_of(self.decode_answer(value)) for raw in encoder.feed(event)]


def _data(event: StreamEvent) -> bytes | None:
    body = event.body if event.kind != "other" else None
    return body.render() if isinstance(body, JsonText) else event.sse.data


_CONTEXT: Final = (
    b"context_length", b"context length", b"maximum context", b"exceed_context", b"context window", b"prompt is too long",
    b"input is too long", b"too many tokens", b"exceeds the maximum number of tokens", b"input token count", b"maximum allowed number of input tokens",
)  # fmt: skip
_FILTER: Final = (
    b"content_filter", b"content_policy", b"content management policy", b"responsibleaipolicy", b"content filtering policy",
    b"safety system", b"blocked by", b"prohibited_content", b"usage policy",
)  # fmt: skip


def classify(status: int, body: bytes) -> FaultKind:
    """The class of an error, by what the providers are known to write in its text."""
    lowered = body[:8192].lower()
    if status in (400, 413, 422) and any(mark in lowered for mark in _CONTEXT):
        return "context_length"
    if status in (400, 403) and any(mark in lowered for mark in _FILTER):
        return "content_filter"
    return ""


def json_of(body: bytes) -> Any:
    """The JSON of an error body, or None."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def broken(what: str) -> UpstreamError:
    """An answer that is not what its API sends; ``what`` quotes nothing of it."""
    return UpstreamError("answer", "protocol", what)
