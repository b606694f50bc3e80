"""The intermediate form's events as the events of a streamed response.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ...errors import UpstreamError
from ...records import Usage
from ...sse import encode_event
from ..form import (
    Counted,
    End,
    Finish,
    FinishReason,
    FormEvent,
    PartBegin,
    PartDelta,
    PartEnd,
    Start,
)
from ..wire import EventEncoder
from .frames import CALLS, opened
from .items import annotation_of, encode_usage, item_id, response_id, response_object

__all__ = ["ResponsesEncoder"]

Event = dict[str, Any]

_INCOMPLETE: Final[dict[FinishReason, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}


@dataclass(slots=True)
class _Item:
    """An item of the output; it is announced as done when the next one begins or the answer is complete."""

    index: int
    value: dict[str, Any]
    open: int = 0
    done: bool = False


@dataclass(slots=True)
class _Part:
    """A part of the form while it is written."""

    kind: str
    item: _Item
    at: Event
    pieces: list[str] = field(default_factory=list)
    sealed: str = ""
    logprobs: list[Any] = field(default_factory=list)
    annotations: list[Event] = field(default_factory=list)
    length: int = 0
    ended: bool = False


class ResponsesEncoder(EventEncoder):
    """``response.in_progress`` waits for the first output, so that the event before it can still be held back.

    ``response`` is the whole response, once its ``End`` was fed.
    """

    def __init__(self) -> None:
        self.response: dict[str, Any] = {}
        self._number = 0
        self._begun = False
        self._items: list[_Item] = []
        self._parts: dict[int, _Part] = {}
        self._usage: Usage | None = None
        self._reason: FinishReason = "stop"
        self._steps: dict[type[Any], Callable[[Any], Iterator[Event]]] = {
            Start: self._start,
            PartBegin: self._begin,
            PartDelta: self._delta,
            PartEnd: self._end,
            Finish: self._finish,
            Counted: self._count,
            End: self._complete,
        }

    def feed(self, event: FormEvent) -> Iterable[bytes]:
        return [encode_event(orjson.dumps(one), one["type"].encode()) for one in self.step(event)]

    def step(self, event: FormEvent) -> list[Event]:
        """The values of the events that ``event`` becomes."""
        if getattr(event, "choice", 0) != 0:
            return []  # a response is one answer
        out = list(self._steps[type(event)](event))
        for one in out:
            one["sequence_number"] = self._number
            self._number += 1
        return out

    # -- the response -------------------------------------------------------------------------
    def _start(self, event: Start) -> Iterator[Event]:
        self._usage = event.usage
        id_ = response_id(event.id or secrets.token_hex(24))
        self.response = response_object(id_, event.model, event.created or int(time.time()))
        yield {"type": "response.created", "response": self.response}

    def _opened(self) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            if not self.response:
                yield from self._start(Start("", ""))
            yield {"type": "response.in_progress", "response": self.response}

    def _count(self, event: Counted) -> Iterator[Event]:
        self._usage = event.usage
        yield from ()

    def _finish(self, event: Finish) -> Iterator[Event]:
        yield from self._opened()
        self._reason = event.reason
        for part in self._parts.values():
            yield from self._ended(part)
        yield from self._closed("incomplete" if event.reason in _INCOMPLETE else "completed")

    def _complete(self, event: End) -> Iterator[Event]:
        yield from self._finish(Finish(0, self._reason))
        reason = _INCOMPLETE.get(self._reason)
        if self._reason == "refusal" and any(part.kind == "refusal" for part in self._parts.values()):
            reason = None  # the refusal is the answer, and it is whole
        self.response = self.response | {
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [item.value for item in self._items],
            "usage": encode_usage(self._usage) if self._usage is not None else None,
        }
        yield {"type": f"response.{self.response['status']}", "response": self.response}

    # -- items --------------------------------------------------------------------------------
    def _item(self, kind: str, **more: Any) -> Iterator[Event]:
        yield from self._closed("completed")
        index = len(self._items)
        id_ = more.pop("id", "") or item_id(_PREFIXES[kind], self.response["id"], index)
        value = {"type": kind, "id": id_, **more}
        self._items.append(_Item(index, value))
        yield {"type": "response.output_item.added", "output_index": index, "item": opened(value)}

    def _closed(self, last: str) -> Iterator[Event]:
        """Announces what is complete as done; the item written last with the status ``last``."""
        for item in self._items:
            if item.done or item.open:
                continue
            item.done = True
            if item.index == len(self._items) - 1 and "status" in item.value:
                item.value["status"] = last
            yield {"type": "response.output_item.done", "output_index": item.index, "item": item.value}

    def _begin(self, event: PartBegin) -> Iterator[Event]:
        yield from self._opened()
        if event.kind in ("text", "refusal"):
            if not self._items or self._items[-1].done or self._items[-1].value["type"] != "message":
                yield from self._item("message", status="completed", role="assistant", content=[])
            item = self._items[-1]
            part = _Part(event.kind, item, _at(item) | {"content_index": len(item.value["content"])})
            empty = _content(part)
            item.value["content"].append(empty)
            yield {"type": "response.content_part.added", **part.at, "part": empty}
        elif event.kind == "reasoning":
            named = event.id if event.id.startswith("rs_") else ""
            yield from self._item("reasoning", id=named, summary=[])
            part = _Part(event.kind, self._items[-1], _at(self._items[-1]) | {"summary_index": 0})
        else:
            kind = "custom_tool_call" if event.custom else "function_call"
            call_id = event.id or item_id("call", self.response["id"], len(self._items))
            stated = {"call_id": call_id, "name": event.name, CALLS[kind][1]: ""}
            status = {} if event.custom else {"status": "completed"}
            yield from self._item(kind, **status, **stated)
            part = _Part(kind, self._items[-1], _at(self._items[-1]))
        part.item.open += 1
        self._parts[event.part] = part

    # -- parts --------------------------------------------------------------------------------
    def _delta(self, event: PartDelta) -> Iterator[Event]:
        part = self._parts.get(event.part)
        if part is None or part.ended:
            raise UpstreamError("stream", "protocol", "a part of the answer goes on after its end")
        part.sealed += event.signature or event.encrypted
        if event.citation is not None:
            annotation = annotation_of(event.citation, part.length)
            if annotation is not None and part.kind == "text":
                number = len(part.annotations)
                part.annotations.append(annotation)
                kind = "response.output_text.annotation.added"
                yield {"type": kind, **part.at, "annotation_index": number, "annotation": annotation}
        if not event.text:
            return
        if part.kind == "reasoning" and not part.pieces:
            empty = {"type": "summary_text", "text": ""}
            yield {"type": "response.reasoning_summary_part.added", **part.at, "part": empty}
        part.pieces.append(event.text)
        part.length += len(event.text)
        delta: Event = {"type": f"{_NAMES[part.kind]}.delta", **part.at, "delta": event.text}
        if part.kind == "text":
            tokens = event.logprobs if type(event.logprobs) is list else []
            part.logprobs += tokens
            delta["logprobs"] = tokens
        yield delta

    def _end(self, event: PartEnd) -> Iterator[Event]:
        part = self._parts.get(event.part)
        if part is not None:
            yield from self._ended(part)

    def _ended(self, part: _Part) -> Iterator[Event]:
        if part.ended:
            return
        part.ended = True
        part.item.open -= 1
        text = "".join(part.pieces)
        part.pieces = [text]
        value, name = part.item.value, _NAMES[part.kind]
        if part.kind in CALLS:
            leaf = CALLS[part.kind][1]
            value[leaf] = text
            named = {"name": value["name"]} if part.kind == "function_call" else {}
            yield {"type": f"{name}.done", **part.at, leaf: text, **named}
        elif part.kind == "reasoning":
            if part.sealed:
                value["encrypted_content"] = part.sealed
            if text:
                summary = {"type": "summary_text", "text": text}
                value["summary"] = [summary]
                yield {"type": f"{name}.done", **part.at, "text": text}
                yield {"type": "response.reasoning_summary_part.done", **part.at, "part": summary}
        else:
            content = value["content"][part.at["content_index"]] = _content(part)
            done: Event = {"type": f"{name}.done", **part.at}
            done |= {"refusal": text} if part.kind == "refusal" else {"text": text, "logprobs": part.logprobs}
            yield done
            yield {"type": "response.content_part.done", **part.at, "part": content}


_NAMES: Final = {
    "text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning": "response.reasoning_summary_text",
    **{kind: name for kind, (name, _) in CALLS.items()},
}


def _at(item: _Item) -> Event:
    return {"item_id": item.value["id"], "output_index": item.index}


def _content(part: _Part) -> Event:
    text = "".join(part.pieces)
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    stated = {"annotations": part.annotations, "logprobs": part.logprobs}
    return {"type": "output_text", "text": text, **{key: list(one) for key, one in stated.items()}}
