"""A finished stream as a message, and a message as a stream, with all that the intermediate form has no words for.

Whoever reviews whole answers sees every block, those of the provider's own tools too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from ...jsontext import Json
from .answer import message_of
from .blocks import input_of
from .events import event

__all__ = ["assemble", "replay"]

_GROWING: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
_TEXTS: Final = (("text", "text_delta"), ("thinking", "thinking_delta"), ("signature", "signature_delta"))
_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class _Block:
    """A block that grows; ``pieces`` are joined once, at its end."""

    def __init__(self, shell: dict[str, Any]) -> None:
        self.shell = dict(shell)
        self.pieces: dict[str, list[str]] = {}
        self.citations: list[Any] = list(shell.get("citations") or ())

    def add(self, delta: dict[str, Any]) -> None:
        kind = delta.get("type")
        key = _GROWING.get(kind) if type(kind) is str else None
        if key is not None:
            self.pieces.setdefault(key, []).append(str(delta.get(key) or ""))
        elif kind == "citations_delta":
            self.citations.append(delta.get("citation"))
        else:
            for name, item in delta.items():
                if name != "type" and type(item) is str:
                    self.pieces.setdefault(name, []).append(item)
                elif name != "type":
                    self.shell[name] = item

    def whole(self) -> dict[str, Any]:
        out = self.shell
        if self.citations:
            out["citations"] = self.citations
        for key, pieces in self.pieces.items():
            text = "".join(pieces)
            if key == "partial_json":
                out["input"] = input_of(text) if text else out.get("input", {})
            else:
                before = out.get(key)
                out[key] = (before if type(before) is str else "") + text
        return out


def assemble(values: Iterable[Json]) -> dict[str, Any]:
    """The whole message that the events of a stream amount to."""
    message = message_of("", "", {})
    blocks: dict[int, _Block] = {}
    others: dict[str, Any] = {}
    for value in values:
        if type(value) is not dict:
            continue
        stated: Any = value
        kind = stated.get("type")
        if kind == "message_start":
            message |= stated["message"]
        elif kind == "content_block_start":
            blocks[stated["index"]] = _Block(stated["content_block"])
        elif kind == "content_block_delta":
            block = blocks.setdefault(stated["index"], _Block({}))
            block.add(stated["delta"])
        elif kind == "message_delta":
            message |= stated.get("delta") or {}
            message["usage"] = {**(message.get("usage") or {}), **(stated.get("usage") or {})}
        elif kind not in ("content_block_stop", "message_stop", "ping"):
            others.setdefault("events", []).append(stated)
    message["content"] = [*(message.get("content") or ()), *(blocks[n].whole() for n in sorted(blocks))]
    return message | others


def replay(message: Any) -> list[bytes]:
    """A whole message as the events of a stream, the terminal one included."""
    usage = message.get("usage") or {}
    shell = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    shell["usage"] = {**usage, "output_tokens": 0}
    shell.pop("events", None)
    details = shell.pop("stop_details", None)
    out = [event({"type": "message_start", "message": shell})]
    for index, block in enumerate(message.get("content") or ()):
        out += _block_events(index, block)
    delta = {"stop_reason": message.get("stop_reason"), "stop_sequence": message.get("stop_sequence")}
    if details is not None:
        delta["stop_details"] = details
    out.append(event({"type": "message_delta", "delta": delta, "usage": usage}))
    return [*out, event({"type": "message_stop"})]


def _block_events(index: int, block: dict[str, Any]) -> list[bytes]:
    shell = dict(block)
    pieces: list[dict[str, Any]] = []
    if block.get("type") in _CALLS:
        given = shell.get("input")
        shell["input"] = {}
        if given:
            pieces.append({"type": "input_json_delta", "partial_json": orjson.dumps(given).decode()})
    elif block.get("type") in ("text", "thinking"):
        for key, kind in _TEXTS:
            if type(block.get(key)) is str:
                shell[key] = ""
                if block[key]:
                    pieces.append({"type": kind, key: block[key]})
        citations = shell.pop("citations", None) or ()
        pieces += [{"type": "citations_delta", "citation": citation} for citation in citations]
    out = [event({"type": "content_block_start", "index": index, "content_block": shell})]
    out += [event({"type": "content_block_delta", "index": index, "delta": piece}) for piece in pieces]
    return [*out, event({"type": "content_block_stop", "index": index})]
