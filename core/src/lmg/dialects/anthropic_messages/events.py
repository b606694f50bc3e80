"""The events of a streamed message, into and out of the intermediate form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ...errors import UpstreamError
from ...records import Usage
from ...sse import SseEvent, encode_event
from ..form import Counted, End, Finish, FinishReason, FormEvent, PartBegin, PartDelta, PartEnd, Start
from ..wire import EventDecoder, EventEncoder, StreamFault
from .answer import citations_out, decode_usage, encode_usage, finish_reason, message_of, stop_reason
from .blocks import arguments_of
from .errors import fault, status_of_type

__all__ = ["MessagesDecoder", "MessagesEncoder", "event"]


def event(value: dict[str, Any]) -> bytes:
    """One event under its name, which clients of this API go by."""
    return encode_event(orjson.dumps(value), str(value["type"]).encode())


# -- in -------------------------------------------------------------------------------------------


class MessagesDecoder(EventDecoder):
    """Blocks become parts; those of tools that the provider itself runs are left out."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}  # the index of a block: the number of its part
        self._next = 0
        self._inputs: dict[int, str] = {}  # calls whose input has not been sent in pieces (yet)
        self._usage: Usage | None = None

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        data = event.data
        if data is None:
            return ()
        try:
            value: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise UpstreamError("stream", "protocol", "an event that is not JSON") from None
        if type(value) is not dict:
            raise UpstreamError("stream", "protocol", "an event that is no object")
        kind = value.get("type")
        if kind == "error" or (kind is None and value.get("error") is not None):
            stated = value.get("error")
            status = status_of_type(stated.get("type") if type(stated) is dict else None)
            raise StreamFault(status, fault(status, data))
        handle = _HANDLERS.get(kind) if type(kind) is str else None
        return handle(self, value) if handle is not None else ()

    def _start(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        message = value["message"]
        self._usage = decode_usage(message.get("usage"))
        return (Start(str(message.get("id") or ""), str(message.get("model") or ""), usage=self._usage),)

    def _begin(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        index, block = int(value["index"]), value["content_block"]
        begun = _begun(block)
        if begun is None:
            return ()
        n = self._parts[index] = self._next
        self._next += 1
        out: list[FormEvent] = [
            PartBegin(0, n, begun, str(block.get("id") or ""), str(block.get("name") or ""))
        ]
        if begun == "tool_call":
            self._inputs[index] = arguments_of(block.get("input"))
            return out
        text = block.get("text") or block.get("thinking") or ""
        signature, encrypted = block.get("signature") or "", block.get("data") or ""
        if text or signature or encrypted:
            out.append(PartDelta(0, n, text, signature, encrypted))
        for citation in block.get("citations") or ():
            out.append(PartDelta(0, n, citation=citation))
        return out

    def _delta(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        index, delta = int(value["index"]), value["delta"]
        n = self._parts.get(index)
        if n is None:
            return ()
        kind = delta.get("type")
        if kind == "text_delta":
            return (PartDelta(0, n, delta["text"]),)
        if kind == "thinking_delta":
            return (PartDelta(0, n, delta["thinking"]),)
        if kind == "input_json_delta":
            piece = delta["partial_json"]
            if piece:
                self._inputs.pop(index, None)
            return (PartDelta(0, n, piece),) if piece else ()
        if kind == "signature_delta":
            return (PartDelta(0, n, signature=delta["signature"]),)
        if kind == "citations_delta":
            return (PartDelta(0, n, citation=delta["citation"]),)
        return ()

    def _stop(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        index = int(value["index"])
        n = self._parts.pop(index, None)
        if n is None:
            return ()
        whole = self._inputs.pop(index, None)
        return (PartEnd(0, n),) if whole is None else (PartDelta(0, n, whole), PartEnd(0, n))

    def _finish(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        delta = value["delta"]
        out: list[FormEvent] = []
        if delta.get("stop_reason"):
            stop = delta.get("stop_sequence")
            out.append(Finish(0, finish_reason(delta["stop_reason"]), stop if type(stop) is str else ""))
        self._usage = decode_usage(value.get("usage"), self._usage) or self._usage
        if self._usage is not None:
            out.append(Counted(self._usage))
        return out

    def _end(self, value: dict[str, Any]) -> Sequence[FormEvent]:
        return (End(),)


def _begun(block: dict[str, Any]) -> Any:
    """The kind of part that a block begins, or None."""
    return _KINDS.get(str(block.get("type")))


_KINDS: Final = {
    "text": "text",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "tool_call",
}
_HANDLERS: Final[dict[str, Callable[[MessagesDecoder, dict[str, Any]], Sequence[FormEvent]]]] = {
    "message_start": MessagesDecoder._start,
    "content_block_start": MessagesDecoder._begin,
    "content_block_delta": MessagesDecoder._delta,
    "content_block_stop": MessagesDecoder._stop,
    "message_delta": MessagesDecoder._finish,
    "message_stop": MessagesDecoder._end,
}


# -- out ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A block on its way: ``index`` is set when its start has left."""

    begin: PartBegin
    index: int | None = None
    held: list[str] = field(default_factory=list)


class MessagesEncoder(EventEncoder):
    """One block at a time, in the order in which their parts began; what ends the message is kept to its end,
    where this dialect states reason and usage together.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._next = 0
        self._calls = self._refused = False
        self._reason: FinishReason = "stop"
        self._stop_sequence = ""
        self._usage: Usage | None = None

    def feed(self, event: FormEvent) -> Iterable[bytes]:
        if isinstance(event, PartBegin | PartDelta | PartEnd | Finish) and event.choice != 0:
            return ()  # this API knows one answer
        if isinstance(event, PartDelta):
            return self._delta(event)
        if isinstance(event, PartBegin):
            return self._begin(event)
        if isinstance(event, PartEnd):
            return self._stop(event.part)
        if isinstance(event, Start):
            return self._start(event)
        if isinstance(event, Finish):
            self._reason, self._stop_sequence = event.reason, event.stop_sequence
        elif isinstance(event, Counted):
            self._usage = event.usage
        elif isinstance(event, End):
            return self._end()
        return ()

    def _start(self, start: Start) -> list[bytes]:
        self._usage = start.usage
        usage = encode_usage(start.usage)
        return [event({"type": "message_start", "message": message_of(start.id, start.model, usage)})]

    def _begin(self, begin: PartBegin) -> list[bytes]:
        out: list[bytes] = []
        for part in list(self._open):
            out += self._stop(part)  # who began another has ended the one before
        block = self._open[begin.part] = _Open(begin)
        if begin.kind == "reasoning":
            return out  # which of two kinds of block it is, its first delta says
        if begin.kind == "tool_call":
            self._calls = True
            shell = {"type": "tool_use", "id": begin.id, "name": begin.name, "input": {}}
        else:
            self._refused = self._refused or begin.kind == "refusal"
            shell = {"type": "text", "text": ""}
        return [*out, self._opened(block, shell)]

    def _opened(self, block: _Open, shell: dict[str, Any]) -> bytes:
        block.index = self._next
        self._next += 1
        return event({"type": "content_block_start", "index": block.index, "content_block": shell})

    def _delta(self, delta: PartDelta) -> list[bytes]:
        block = self._open.get(delta.part)
        if block is None:
            # Clients take a block that has stopped for complete, and may have acted on it.
            raise UpstreamError("stream", "protocol", "more of a part that has ended")
        if block.begin.kind == "reasoning":
            return self._thought(block, delta)
        if block.begin.kind == "tool_call":
            if block.begin.custom:
                block.held.append(delta.text)
                return []
            return [self._piece(block, "input_json_delta", "partial_json", delta.text)] if delta.text else []
        out = [self._piece(block, "text_delta", "text", delta.text)] if delta.text else []
        if delta.citation is not None:
            out += [
                self._piece(block, "citations_delta", "citation", one)
                for one in citations_out([delta.citation])
            ]
        return out

    def _thought(self, block: _Open, delta: PartDelta) -> list[bytes]:
        out: list[bytes] = []
        if delta.encrypted:
            if block.index is not None:
                out.append(event({"type": "content_block_stop", "index": block.index}))
            return [*out, self._opened(block, {"type": "redacted_thinking", "data": delta.encrypted})]
        if block.index is None:
            out.append(self._opened(block, {"type": "thinking", "thinking": "", "signature": ""}))
        if delta.text:
            out.append(self._piece(block, "thinking_delta", "thinking", delta.text))
        if delta.signature:
            out.append(self._piece(block, "signature_delta", "signature", delta.signature))
        return out

    @staticmethod
    def _piece(block: _Open, kind: str, key: str, value: Any) -> bytes:
        delta = {"type": kind, key: value}
        return event({"type": "content_block_delta", "index": block.index, "delta": delta})

    def _stop(self, part: int) -> list[bytes]:
        block = self._open.pop(part, None)
        if block is None or block.index is None:
            return []
        out: list[bytes] = []
        if block.held:
            text = arguments_of({"input": "".join(block.held)})
            out.append(self._piece(block, "input_json_delta", "partial_json", text))
        return [*out, event({"type": "content_block_stop", "index": block.index})]

    def _end(self) -> list[bytes]:
        out = [raw for part in list(self._open) for raw in self._stop(part)]
        reason = stop_reason(self._reason, calls=self._calls, refused=self._refused)
        delta = {"stop_reason": reason, "stop_sequence": self._stop_sequence or None}
        usage = encode_usage(self._usage)
        out.append(event({"type": "message_delta", "delta": delta, "usage": usage}))
        return [*out, event({"type": "message_stop"})]
