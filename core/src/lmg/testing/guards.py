"""What tests of guards need: texts cut at chosen places, and the same request and answer in each chat dialect."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from .upstream import sse

__all__ = ["CHATS", "asked", "pieces", "put_together", "said", "tool", "tool_events"]

CHATS: Final = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
"""The paths of the chat dialects."""


class Stream(Protocol):
    """A text on its way, as ``lmg.redaction`` has them."""

    def feed(self, piece: str) -> str: ...
    def finish(self) -> str: ...


def put_together(stream: Stream, text: str, cuts: Iterable[int]) -> str:
    """What leaves ``stream`` for ``text``, cut at these places (beyond the end is at the end)."""
    at, out = 0, []
    for cut in [*sorted(min(cut, len(text)) for cut in cuts), len(text)]:
        out.append(stream.feed(text[at:cut]))
        at = max(at, cut)
    return "".join([*out, stream.finish()])


def pieces(text: str, seed: int) -> list[str]:
    """``text`` in about seven pieces, the same for the same ``seed``; for 0, one character at a time."""
    if seed == 0:
        return list(text)
    at = sorted(random.Random(seed).sample(range(len(text)), min(6, len(text) - 1)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def asked(path: str, text: str, **more: Any) -> dict[str, Any]:
    """A request in the dialect of ``path``."""
    body: dict[str, Any] = {"model": "test-model", **more}
    if path == "/v1/responses":
        return {"input": text, **body}
    if path == "/v1/messages":
        body.setdefault("max_tokens", 100)
    return {"messages": [{"role": "user", "content": text}], **body}


def tool(path: str, name: str = "mail") -> dict[str, Any]:
    """The definition of a tool in the dialect of ``path``."""
    schema = {"type": "object"}
    if path == "/v1/messages":
        return {"name": name, "input_schema": schema}
    if path == "/v1/responses":
        return {"type": "function", "name": name, "parameters": schema}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def tool_events(arguments: Sequence[str], name: str = "mail") -> list[bytes]:
    """The events of an upstream that speaks OpenAI's API: a tool call whose arguments come in these pieces."""

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "test-model",
            "choices": [choice],
        }

    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    return sse(
        chunk({"role": "assistant", "content": None, "tool_calls": [call]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": one}}]}) for one in arguments),
        chunk({}, "tool_calls"),
        "[DONE]",
    )


def said(path: str, events: Iterable[Any]) -> tuple[str, str]:
    """The text and the tool arguments that a client puts together from a stream in the dialect of ``path``."""
    text, arguments = "", ""
    for event in events:
        if not isinstance(event, dict):
            continue
        if path == "/v1/chat/completions":
            for choice in event.get("choices", []):
                text += choice["delta"].get("content") or ""
                for call in choice["delta"].get("tool_calls") or []:
                    arguments += call["function"].get("arguments") or ""
        elif path == "/v1/messages":
            delta = event.get("delta") or {}
            text += delta.get("text") or ""
            arguments += delta.get("partial_json") or ""
        elif event["type"] == "response.output_text.delta":
            text += event["delta"]
        elif event["type"] == "response.function_call_arguments.delta":
            arguments += event["delta"]
    return text, arguments
