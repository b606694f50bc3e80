"""The events of a streamed chat completion, into and out of the intermediate form."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from ...errors import UpstreamError
from ...records import Usage
from ...sse import SseEvent, encode_event
from ..form import (
    Counted,
    End,
    Finish,
    FormEvent,
    PartBegin,
    PartDelta,
    PartEnd,
    Reasoning,
    Start,
)
from ..wire import EventDecoder, EventEncoder, StreamFault
from .answer import decode_reasoning, decode_usage, encode_usage, fault, finish_of, finish_reason
from .encode import reasoning_detail

__all__ = ["ChatDecoder", "ChatEncoder"]


class ChatDecoder(EventDecoder):
    """Chunks have no parts: a part begins with its first delta and ends with the first of another."""

    def __init__(self) -> None:
        self._started = False
        self._open: dict[int, tuple[str, int]] = {}  # choice: which part is open, and its number
        self._next: dict[int, int] = {}
        self._tools: dict[tuple[int, int], int] = {}  # choice and index of a call: the number of its part

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        data = event.data
        if data is None:
            return ()
        if data == b"[DONE]":
            return (End(),)
        try:
            value: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise UpstreamError("stream", "protocol", "an event that is not JSON") from None
        if type(value) is dict and value.get("error") is not None:
            stated = value["error"]
            code = (stated.get("status") or stated.get("code")) if type(stated) is dict else None
            raise StreamFault(code if type(code) is int and 400 <= code < 600 else 502, fault(502, data))
        if type(value) is not dict or type(value.get("choices")) is not list:
            raise UpstreamError("stream", "protocol", "an event without choices")
        out: list[FormEvent] = []
        if not self._started:
            self._started = True
            created = value.get("created")
            number = created if type(created) is int else 0
            out.append(Start(str(value.get("id") or ""), str(value.get("model") or ""), number))
        for n, choice in enumerate(value["choices"]):
            self._choice(out, choice, int(choice.get("index", n)))
        usage = decode_usage(value.get("usage"))
        if usage is not None:
            out.append(Counted(usage))
        return out

    def _choice(self, out: list[FormEvent], choice: dict[str, Any], n: int) -> None:
        delta: dict[str, Any] = choice.get("delta") or {}
        for at, part in decode_reasoning(delta):
            m = self._part(out, n, f"reasoning:{at}", PartBegin(n, 0, "reasoning", part.id))
            out.append(PartDelta(n, m, part.text, part.signature, part.encrypted))
        if delta.get("content"):
            stated = choice.get("logprobs")
            logprobs = stated.get("content") if type(stated) is dict else None
            m = self._part(out, n, "text", PartBegin(n, 0, "text"))
            out.append(PartDelta(n, m, delta["content"], logprobs=logprobs))
        if delta.get("refusal"):
            m = self._part(out, n, "refusal", PartBegin(n, 0, "refusal"))
            out.append(PartDelta(n, m, delta["refusal"]))
        for at, call in enumerate(delta.get("tool_calls") or ()):
            self._call(out, n, call, int(call.get("index", at)))
        if choice.get("finish_reason"):
            self._close(out, n)
            out.append(Finish(n, finish_reason(choice["finish_reason"])))

    def _call(self, out: list[FormEvent], n: int, call: dict[str, Any], at: int) -> None:
        custom = call.get("type") == "custom"
        stated = call.get("custom" if custom else "function") or {}
        m = self._tools.get((n, at))
        if m is None:
            begin = PartBegin(
                n, 0, "tool_call", str(call.get("id") or ""), str(stated.get("name") or ""), custom
            )
            m = self._tools[n, at] = self._part(out, n, f"tool:{at}", begin)
        text = stated.get("arguments") or stated.get("input")
        if text and self._open.get(n) != (f"tool:{at}", m):
            # Other dialects write one call after the other; what belongs to an ended one has no place any more.
            raise UpstreamError("stream", "protocol", "calls of tools that take turns")
        if text:
            out.append(PartDelta(n, m, text))

    def _part(self, out: list[FormEvent], n: int, key: str, begin: PartBegin) -> int:
        there = self._open.get(n)
        if there is not None and there[0] == key:
            return there[1]
        self._close(out, n)
        m = self._next.get(n, 0)
        self._next[n] = m + 1
        self._open[n] = (key, m)
        out.append(PartBegin(n, m, begin.kind, begin.id, begin.name, begin.custom))
        return m

    def _close(self, out: list[FormEvent], n: int) -> None:
        there = self._open.pop(n, None)
        if there is not None:
            out.append(PartEnd(n, there[1]))


class ChatEncoder(EventEncoder):
    """Usage is kept to the end, where this dialect states it."""

    def __init__(self) -> None:
        self._base: dict[str, Any] = {}
        self._seen: set[int] = set()
        self._parts: dict[tuple[int, int], tuple[PartBegin, int]] = {}
        self._tools: dict[int, int] = {}
        self._thoughts: dict[int, int] = {}
        self._usage: Usage | None = None

    def feed(self, event: FormEvent) -> Iterable[bytes]:
        if isinstance(event, PartDelta):
            return self._delta(event)
        if isinstance(event, Start):
            self._usage = event.usage
            self._base = {
                "id": event.id,
                "object": "chat.completion.chunk",
                "created": event.created or int(time.time()),
                "model": event.model,
            }
            return [self._opened(0)]
        if isinstance(event, PartBegin):
            return self._begin(event)
        if isinstance(event, Finish):
            return [*self._first(event.choice), self._chunk(event.choice, {}, self._finish(event))]
        if isinstance(event, Counted):
            self._usage = event.usage
        elif isinstance(event, End):
            return self._end()
        return ()

    def _finish(self, event: Finish) -> str:
        refused = any(
            n == event.choice and begun.kind == "refusal" for (n, _), (begun, _) in self._parts.items()
        )
        return finish_of(event.reason, refused)

    def _end(self) -> list[bytes]:
        out = []
        if self._usage is not None:
            out.append(self._event({**self._base, "choices": [], "usage": encode_usage(self._usage)}))
        return [*out, encode_event(b"[DONE]")]

    def _begin(self, event: PartBegin) -> list[bytes]:
        n = event.choice
        number = 0
        out = self._first(n)
        if event.kind == "tool_call":
            number = self._tools[n] = self._tools.get(n, -1) + 1
            kind, text = ("custom", "input") if event.custom else ("function", "arguments")
            call = {"index": number, "id": event.id, "type": kind, kind: {"name": event.name, text: ""}}
            out.append(self._chunk(n, {"tool_calls": [call]}))
        elif event.kind == "reasoning":
            number = self._thoughts[n] = self._thoughts.get(n, -1) + 1
        self._parts[n, event.part] = (event, number)
        return out

    def _delta(self, event: PartDelta) -> list[bytes]:
        n = event.choice
        begin, number = self._parts[n, event.part]
        if begin.kind == "text":
            if event.citation is not None:
                return [self._chunk(n, {"citations": [event.citation]})]
            return [self._chunk(n, {"content": event.text}, logprobs=event.logprobs)]
        if begin.kind == "tool_call":
            stated = {"input" if begin.custom else "arguments": event.text}
            call = {"index": number, "custom" if begin.custom else "function": stated}
            return [self._chunk(n, {"tool_calls": [call]})]
        if begin.kind == "refusal":
            return [self._chunk(n, {"refusal": event.text})]
        thought = Reasoning(event.text, event.signature, event.encrypted, begin.id)
        delta: dict[str, Any] = {"reasoning_content": event.text} if event.text else {}
        return [self._chunk(n, delta | {"reasoning_details": [reasoning_detail(thought, number)]})]

    def _first(self, n: int) -> list[bytes]:
        return [] if n in self._seen else [self._opened(n)]

    def _opened(self, n: int) -> bytes:
        self._seen.add(n)
        return self._chunk(n, {"role": "assistant", "content": ""})

    def _chunk(self, n: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice: dict[str, Any] = {"index": n, "delta": delta, "finish_reason": finish}
        if logprobs is not None:
            choice["logprobs"] = {"content": logprobs, "refusal": None}
        return self._event({**self._base, "choices": [choice]})

    @staticmethod
    def _event(value: dict[str, Any]) -> bytes:
        return encode_event(orjson.dumps(value))
