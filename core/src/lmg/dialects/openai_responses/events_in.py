"""The events of a streamed response as events of the intermediate form.

What the events that close a text, a part, an item or the response say is taken where no event before has said it, so
a stream without deltas is read as well as one of nothing else.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from ...errors import UpstreamError
from ...jsontext import Json
from ...sse import SseEvent
from ..form import Counted, End, Finish, FinishReason, FormEvent, PartBegin, PartDelta, PartEnd, Start
from ..wire import EventDecoder
from .errors import FAILED, stream_fault
from .items import decode_usage

__all__ = ["ResponsesDecoder"]

Value = dict[str, Any]
Kind = Literal["text", "reasoning", "tool_call", "refusal"]

_REASONS: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_PARTS: Final[dict[str, tuple[Kind, str]]] = {
    "output_text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
}


@dataclass(slots=True)
class _Part:
    """A part of the form: how much of it was told, and whether it was all."""

    number: int
    kind: Kind
    said: int = 0
    citations: int = 0
    sealed: bool = False
    piece: object = None  # of reasoning, which of its pieces was told last
    ended: bool = False


@dataclass(slots=True)
class _Item:
    parts: dict[object, _Part] = field(default_factory=dict)  # by content index; a call and reasoning are one
    done: bool = False


class ResponsesDecoder(EventDecoder):
    """A message's contents, reasoning items and calls are the parts of the one choice."""

    def __init__(self) -> None:
        self._started = False
        self._items: dict[Any, _Item] = {}
        self._numbers = 0
        self._called = False
        self._refused = False

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        data = event.data
        if data is None or not data.strip() or data == b"[DONE]":
            return ()
        try:
            value: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise UpstreamError("stream", "protocol", "an event that is not JSON") from None
        if type(value) is not dict:
            raise UpstreamError("stream", "protocol", "an event that is no object")
        return self.step(value)

    def step(self, value: Value) -> list[FormEvent]:
        """What the event with this value says."""
        kind = value.get("type")
        if kind in FAILED or (type(kind) is not str and value.get("error")):
            raise stream_fault(value)
        if type(kind) is not str:
            raise UpstreamError("stream", "protocol", "an event without a type")
        out: list[FormEvent] = []
        handle = _HANDLERS.get(kind)
        if handle is None:
            return out
        if not self._started:
            self._started = True
            out.append(_start(value.get("response")))
        handle(self, out, value)
        return out

    # -- events -------------------------------------------------------------------------------
    def state(self, out: list[FormEvent], value: Value) -> None:
        """The response has begun, which is already said."""

    def added(self, out: list[FormEvent], value: Value) -> None:
        item = value.get("item")
        if type(item) is dict and item.get("type") != "message":
            self._take(out, value.get("output_index"), item, ended=False)

    def part_added(self, out: list[FormEvent], value: Value) -> None:
        part = value.get("part")
        if type(part) is dict and part.get("type") in _PARTS:
            self._content(out, value, part)

    def part_done(self, out: list[FormEvent], value: Value) -> None:
        part = value.get("part")
        if type(part) is dict and part.get("type") in _PARTS:
            self._close(out, self._content(out, value, part))

    def text_delta(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, value.get("content_index", 0), "text")
        logprobs = value.get("logprobs") or None
        self._say(out, part, _string(value.get("delta")), logprobs)

    def text_done(self, out: list[FormEvent], value: Value) -> None:
        self._rest(out, self._part(out, value, value.get("content_index", 0), "text"), value.get("text"))

    def refusal_delta(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, value.get("content_index", 0), "refusal")
        self._say(out, part, _string(value.get("delta")))

    def refusal_done(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, value.get("content_index", 0), "refusal")
        self._rest(out, part, value.get("refusal"))

    def annotation(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, value.get("content_index", 0), "text")
        self._cite(out, part, value.get("annotation"))

    def call_delta(self, out: list[FormEvent], value: Value) -> None:
        self._say(out, self._part(out, value, "call", "tool_call"), _string(value.get("delta")))

    def call_done(self, out: list[FormEvent], value: Value) -> None:
        text = value.get("arguments", value.get("input"))
        self._rest(out, self._part(out, value, "call", "tool_call"), text)

    def thought_delta(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, "reasoning", "reasoning")
        self._think(out, part, _string(value.get("delta")), value)

    def thought_done(self, out: list[FormEvent], value: Value) -> None:
        part = self._part(out, value, "reasoning", "reasoning")
        if part.piece != _piece(value):
            self._think(out, part, _string(value.get("text")), value)

    def item_done(self, out: list[FormEvent], value: Value) -> None:
        item = value.get("item")
        if type(item) is dict:
            self._take(out, value.get("output_index"), item, ended=True)

    def terminal(self, out: list[FormEvent], value: Value) -> None:
        stated = value.get("response")
        response: Value = stated if type(stated) is dict else {}
        output = response.get("output")
        for n, item in enumerate(output if type(output) is list else ()):
            if type(item) is dict:
                self._take(out, n, item, ended=True)
        for one in self._items.values():
            for part in one.parts.values():
                self._close(out, part)
        out.append(Finish(0, self._reason(value["type"], response)))
        usage = decode_usage(response.get("usage"))
        if usage is not None:
            out.append(Counted(usage))
        out.append(End())

    def _reason(self, kind: str, response: Value) -> FinishReason:
        if kind == "response.incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if type(details) is dict else None
            return _REASONS.get(reason, "length") if type(reason) is str else "length"
        return "tool_calls" if self._called else "refusal" if self._refused else "stop"

    # -- items --------------------------------------------------------------------------------
    def _take(self, out: list[FormEvent], index: Any, item: Value, *, ended: bool) -> None:
        """What ``item`` says that was not said before."""
        there = self._items.setdefault(index, _Item())
        if there.done:
            return
        there.done = ended
        at = {"output_index": index}
        kind = item.get("type")
        if kind == "message":
            content = item.get("content")
            for n, part in enumerate(content if type(content) is list else ()):
                if type(part) is dict and part.get("type") in _PARTS:
                    self._close(out, self._content(out, {**at, "content_index": n}, part))
        elif kind in _CALLS:
            begin = PartBegin(
                0, 0, "tool_call", _string(item.get("call_id")), _string(item.get("name")), kind == "custom_tool_call"
            )  # fmt: skip
            part = self._part(out, at, "call", "tool_call", begin)
            self._rest(out, part, item.get(_CALLS[kind]))
            if ended:
                self._close(out, part)
        elif kind == "reasoning":
            self._reasoning(out, at, item, ended=ended)

    def _reasoning(self, out: list[FormEvent], at: Value, item: Value, *, ended: bool) -> None:
        begin = PartBegin(0, 0, "reasoning", _string(item.get("id")))
        part = self._part(out, at, "reasoning", "reasoning", begin)
        if not ended:
            return  # what it has sealed so far may be incomplete
        if not part.said:
            for list_, index in (("content", "content_index"), ("summary", "summary_index")):
                pieces = item.get(list_)
                for n, piece in enumerate(pieces if type(pieces) is list else ()):
                    if type(piece) is dict:
                        self._think(out, part, _string(piece.get("text")), {index: n})
                if part.said:
                    break
        sealed = _string(item.get("encrypted_content"))
        if sealed and not part.sealed and not part.ended:
            part.sealed = True
            out.append(
                PartDelta(0, part.number, signature=sealed)
                if part.said
                else PartDelta(0, part.number, encrypted=sealed)
            )
        self._close(out, part)

    # -- parts --------------------------------------------------------------------------------
    def _part(
        self, out: list[FormEvent], value: Value, key: object, kind: Kind, begin: PartBegin | None = None
    ) -> _Part:
        """The part at ``key`` of an item; it begins where it is not there yet."""
        item = self._items.setdefault(value.get("output_index"), _Item())
        part = item.parts.get(key)
        if part is None:
            if kind == "tool_call" and begin is None:
                raise UpstreamError("stream", "protocol", "arguments of a call that has not begun")
            part = item.parts[key] = _Part(self._numbers, kind)
            self._numbers += 1
            self._called = self._called or kind == "tool_call"
            self._refused = self._refused or kind == "refusal"
            stated = begin or PartBegin(0, 0, kind)
            out.append(PartBegin(0, part.number, kind, stated.id, stated.name, stated.custom))
        return part

    def _content(self, out: list[FormEvent], value: Value, stated: Value) -> _Part:
        kind, leaf = _PARTS[stated["type"]]
        part = self._part(out, value, value.get("content_index", 0), kind)
        self._rest(out, part, stated.get(leaf), stated.get("logprobs") or None)
        annotations = stated.get("annotations")
        for annotation in (annotations if type(annotations) is list else [])[part.citations :]:
            self._cite(out, part, annotation)
        return part

    def _say(self, out: list[FormEvent], part: _Part, text: str, logprobs: Json = None) -> None:
        if part.ended and text:
            raise UpstreamError("stream", "protocol", "a text goes on after its end")
        if text:
            part.said += len(text)
            out.append(PartDelta(0, part.number, text, logprobs=logprobs))

    def _rest(self, out: list[FormEvent], part: _Part, text: Json, logprobs: Json = None) -> None:
        """The whole text, where nothing of it was said."""
        if not part.said and not part.ended:
            self._say(out, part, _string(text), logprobs)

    def _cite(self, out: list[FormEvent], part: _Part, annotation: Json) -> None:
        part.citations += 1
        if annotation is not None and not part.ended:
            out.append(PartDelta(0, part.number, citation=annotation))

    def _think(self, out: list[FormEvent], part: _Part, text: str, value: Value) -> None:
        piece = _piece(value)
        if text and part.said and part.piece != piece:
            self._say(out, part, "\n\n")
        if text:
            part.piece = piece
        self._say(out, part, text)

    def _close(self, out: list[FormEvent], part: _Part) -> None:
        if not part.ended:
            part.ended = True
            out.append(PartEnd(0, part.number))


def _start(stated: Json) -> Start:
    response: Value = stated if type(stated) is dict else {}
    created = response.get("created_at")
    return Start(
        _string(response.get("id")),
        _string(response.get("model")),
        int(created) if isinstance(created, int | float) else 0,
    )


def _piece(value: Value) -> tuple[str, object]:
    """Which piece of reasoning an event belongs to: of the thoughts, or of the summary of them."""
    name = "summary_index" if "summary_index" in value else "content_index"
    return name, value.get(name, 0)


def _string(item: Json) -> str:
    return item if type(item) is str else ""


_HANDLERS: Final[dict[str, Callable[[ResponsesDecoder, list[FormEvent], Value], None]]] = {
    "response.created": ResponsesDecoder.state,
    "response.queued": ResponsesDecoder.state,
    "response.in_progress": ResponsesDecoder.state,
    "response.output_item.added": ResponsesDecoder.added,
    "response.output_item.done": ResponsesDecoder.item_done,
    "response.content_part.added": ResponsesDecoder.part_added,
    "response.content_part.done": ResponsesDecoder.part_done,
    "response.output_text.delta": ResponsesDecoder.text_delta,
    "response.output_text.done": ResponsesDecoder.text_done,
    "response.output_text.annotation.added": ResponsesDecoder.annotation,
    "response.refusal.delta": ResponsesDecoder.refusal_delta,
    "response.refusal.done": ResponsesDecoder.refusal_done,
    "response.function_call_arguments.delta": ResponsesDecoder.call_delta,
    "response.function_call_arguments.done": ResponsesDecoder.call_done,
    "response.custom_tool_call_input.delta": ResponsesDecoder.call_delta,
    "response.custom_tool_call_input.done": ResponsesDecoder.call_done,
    "response.reasoning_text.delta": ResponsesDecoder.thought_delta,
    "response.reasoning_text.done": ResponsesDecoder.thought_done,
    "response.reasoning_summary_text.delta": ResponsesDecoder.thought_delta,
    "response.reasoning_summary_text.done": ResponsesDecoder.thought_done,
    "response.completed": ResponsesDecoder.terminal,
    "response.incomplete": ResponsesDecoder.terminal,
}
