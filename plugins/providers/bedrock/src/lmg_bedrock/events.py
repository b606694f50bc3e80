"""The events of a streamed answer, into the intermediate form."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from lmg.dialects.form import (
    Counted,
    End,
    Finish,
    FormEvent,
    PartBegin,
    PartDelta,
    PartEnd,
    Start,
)
from lmg.dialects.wire import EventDecoder
from lmg.errors import UpstreamError
from lmg.sse import SseEvent

from .answer import decode_usage, finish_reason, stop_sequence
from .citations import citation_of
from .faults import stream_fault

__all__ = ["ConverseDecoder"]

Kind = Literal["text", "reasoning", "tool_call"]


@dataclass(slots=True)
class _Open:
    """A block that has begun: its part, what it is, and what of it is held back."""

    part: int
    kind: Kind
    wrote: bool = False
    redacted: list[bytes] = field(default_factory=list)


class ConverseDecoder(EventDecoder):
    """Blocks begin with their first delta, but for calls; the end is had when ``messageStop`` and ``metadata`` came."""

    def __init__(self, *, inclusive: bool = False) -> None:
        self._inclusive = inclusive
        self._start = Start("", "")
        self._started = self._stopped = self._counted = self._ended = False
        self._blocks: dict[int, _Open] = {}
        self._passed: set[int] = set()  # blocks that no client's dialect has words for
        self._parts = 0

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        if event.data is None:
            return ()
        if event.name == b"exception":
            raise stream_fault(event.data)
        handle = _HANDLERS.get(event.name)
        if handle is None:
            return ()  # an event that the API may learn
        try:
            value: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            raise UpstreamError("stream", "protocol", "an event that is not JSON") from None
        if type(value) is not dict:
            raise UpstreamError("stream", "protocol", "an event that is no object")
        out: list[FormEvent] = []
        handle(self, out, value)
        if self._stopped and self._counted and not self._ended:
            self._ended = True
            out.append(End())
        return out

    # -- one handler an event -------------------------------------------------------------------
    def _response(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        id_, model = str(value.get("requestId") or ""), str(value.get("modelId") or "")
        self._start = Start(id_, model, int(value.get("created") or 0))

    def _message_start(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            out.append(self._start)

    def _block_start(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        call, n = value["start"].get("toolUse"), int(value["contentBlockIndex"])
        if type(call) is not dict or call.get("type") == "server_tool_use":
            self._passed.add(n)
            return
        if n in self._blocks:
            raise UpstreamError("stream", "protocol", "a block that begins twice")
        self._begin(out, n, "tool_call", str(call["toolUseId"]), str(call["name"]))

    def _delta(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        n, delta = int(value["contentBlockIndex"]), value["delta"]
        if n in self._passed:
            return
        if "text" in delta or "citation" in delta:
            text, citation = delta.get("text", ""), delta.get("citation")
            if type(text) is not str:
                raise UpstreamError("stream", "protocol", "a text that is no string")
            if text or citation is not None:
                block = self._block(out, n, "text")
                out.append(PartDelta(0, block.part, text, citation=citation_of(citation)))
        elif "reasoningContent" in delta:
            self._reasoning(out, n, delta["reasoningContent"])
        elif "toolUse" in delta:
            block = self._blocks[n]
            text = delta["toolUse"].get("input")
            if block.kind != "tool_call":
                raise UpstreamError("stream", "protocol", "a block that changes its kind")
            if text:
                block.wrote = True
                out.append(PartDelta(0, block.part, str(text)))

    def _reasoning(self, out: list[FormEvent], n: int, delta: dict[str, Any]) -> None:
        redacted = delta.get("redactedContent")
        if type(redacted) is str:
            # Bytes in base64, whose pieces make one whole only when they are put together as bytes.
            try:
                piece = base64.b64decode(redacted, validate=True)
            except binascii.Error:
                raise UpstreamError("stream", "protocol", "redacted content that is not base64") from None
            self._block(out, n, "reasoning").redacted.append(piece)
        text, signature = str(delta.get("text") or ""), str(delta.get("signature") or "")
        if text or signature:
            out.append(PartDelta(0, self._block(out, n, "reasoning").part, text, signature))

    def _block_stop(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        block = self._blocks.pop(int(value["contentBlockIndex"]), None)
        if block is not None:
            self._close(out, block)

    def _message_stop(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        self._message_start(out, value)
        reason = finish_reason(value.get("stopReason"))
        for block in self._blocks.values():
            self._close(out, block)
        self._blocks.clear()
        self._stopped = True
        out.append(Finish(0, reason, stop_sequence(value) if reason == "stop_sequence" else ""))

    def _metadata(self, out: list[FormEvent], value: dict[str, Any]) -> None:
        usage = decode_usage(value.get("usage"), inclusive=self._inclusive)
        if usage is not None:
            out.append(Counted(usage))
        self._counted = True

    # -- parts ----------------------------------------------------------------------------------
    def _block(self, out: list[FormEvent], n: int, kind: Kind) -> _Open:
        block = self._blocks.get(n)
        if block is None:
            return self._begin(out, n, kind)
        if block.kind != kind:
            raise UpstreamError("stream", "protocol", "a block that changes its kind")
        return block

    def _begin(self, out: list[FormEvent], n: int, kind: Kind, id_: str = "", name: str = "") -> _Open:
        if self._stopped:
            raise UpstreamError("stream", "protocol", "a block after the message")
        self._message_start(out, {})
        block = self._blocks[n] = _Open(self._parts, kind)
        self._parts += 1
        out.append(PartBegin(0, block.part, kind, id_, name))
        return block

    @staticmethod
    def _close(out: list[FormEvent], block: _Open) -> None:
        if block.redacted:
            encrypted = base64.b64encode(b"".join(block.redacted)).decode()
            out.append(PartDelta(0, block.part, encrypted=encrypted))
        if block.kind == "tool_call" and not block.wrote:
            out.append(
                PartDelta(0, block.part, "{}")
            )  # as in a whole answer, where a call always has an input
        out.append(PartEnd(0, block.part))


_HANDLERS: Final[dict[bytes, Callable[[ConverseDecoder, list[FormEvent], dict[str, Any]], None]]] = {
    b"response": ConverseDecoder._response,
    b"messageStart": ConverseDecoder._message_start,
    b"contentBlockStart": ConverseDecoder._block_start,
    b"contentBlockDelta": ConverseDecoder._delta,
    b"contentBlockStop": ConverseDecoder._block_stop,
    b"messageStop": ConverseDecoder._message_stop,
    b"metadata": ConverseDecoder._metadata,
}
