"""`rescue: continue`: which answers can be gone on with, whose models can do it, and how they are told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from lmg import Exchange, Host, StreamEvent, StreamFilter, Target
from lmg.dialects.wire import Wire
from lmg.jsontext import JsonText

from .config import StreamRescueConfig, Style

__all__ = ["Continuation", "Progress"]

STYLES: Final[Mapping[str, Style]] = {
    "deepseek": "prefix",
    "mistral": "prefix",
    "vllm": "continue_final_message",
}
"""How types of providers want to be told.

Source: Mistral API, "Chat completion" (``prefix``); DeepSeek API docs, "Chat Prefix Completion"; vLLM docs,
"OpenAI-compatible server" (``continue_final_message``). What is not here goes on from a last message of the
assistant's by itself, as Anthropic's API, llama.cpp's server and Ollama do.
"""
_CAPS: Final = ("max_completion_tokens", "max_tokens")
_CALL: Final = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{')
_JSON: Final = frozenset({"json_object", "json_schema"})


class Progress(StreamFilter):
    """Passes every event on and knows whether the answer can still be gone on with."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False

    def feed(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        # What follows a `finish_reason` would be a second answer, and half a tool call is no text.
        if event.kind == "finish" or (b"_call" in event.sse.raw and _CALL.search(event.sse.raw)):
            self.over = True
        return (event,)


class Continuation:
    """What the configuration says of going on, ready to be asked."""

    __slots__ = ("_allow_json", "_host", "_max_bytes", "_prefill", "_styles")

    def __init__(self, config: StreamRescueConfig, host: Host) -> None:
        self._prefill = tuple(config.prefill)
        self._styles = tuple(config.prefill_style.items())
        self._max_bytes = config.max_prefill_bytes
        self._allow_json = config.allow_json
        self._host = host

    # -- the answer ---------------------------------------------------------------------------
    def obstacle(self, exchange: Exchange) -> str:
        """Why the broken answer cannot be gone on with; empty where it can."""
        written, body = exchange.written, exchange.request.body
        if not exchange.dialect.resumable or not written or (body.get("n") or 1) != 1:
            return "unsupported"
        if body.get("messages", -1, "role") == "assistant":
            return "unsupported"  # begun by the client itself: the two would be told as two messages
        wanted = body.get("response_format")
        if not self._allow_json and isinstance(wanted, dict) and wanted.get("type") in _JSON:
            return "unsupported"
        if len(written.encode("utf-8", "replace")) > self._max_bytes:
            return "too_large"
        # An answer as long as it may be has no rest.
        if any(left < 1 for _, left in self._caps(body, written, exchange.request.model)):
            return "no_tokens_left"
        return ""

    def _caps(self, body: JsonText, written: str, model: str) -> list[tuple[str, int]]:
        """The client's caps on the answer's tokens, less those that are written."""
        asked = [(name, cap) for name in _CAPS if type(cap := body.get(name)) is int]
        spent = self._host.tokenizer.estimate(written, model) if asked else 0
        return [(name, cap - spent) for name, cap in asked]

    # -- the targets ---------------------------------------------------------------------------
    def takes(self, exchange: Exchange, target: Target, prefill: str) -> bool:
        """Whether ``target`` can be asked to go on from ``prefill``."""
        if not _named(self._prefill, target):
            return False
        wire = exchange.provider(target).wire(
            exchange.operation, exchange.dialect.name, target.upstream_model
        )
        if wire is None or (isinstance(wire, Wire) and wire.support.get("prefill") == "refused"):
            return False
        # Claude's API refuses a last message that ends in white space, and without it the text would have it twice.
        return wire.name == exchange.dialect.name or not prefill[-1:].isspace()

    def written_for(self, exchange: Exchange, target: Target, body: JsonText, prefill: str) -> JsonText:
        """``body``, whose last message is the begun answer, as ``target`` wants it, its cap less what is written."""
        for name, left in self._caps(body, prefill, exchange.request.model):
            body = body.set((name,), max(left, 1))
        wire = exchange.provider(target).wire(
            exchange.operation, exchange.dialect.name, target.upstream_model
        )
        if wire is None or wire.name != exchange.dialect.name:
            return body  # translated: the wire marks it itself
        style = self.style(target)
        if style == "continue_final_message":
            return body.set(("continue_final_message",), True).set(("add_generation_prompt",), False)
        messages = body.get("messages")
        if style == "prefix" and isinstance(messages, list):
            return body.set(("messages", len(messages) - 1, "prefix"), True)
        return body

    def style(self, target: Target) -> Style:
        """How ``target`` is told that its last message is a beginning."""
        for pattern, style in self._styles:
            if _named((pattern,), target):
                return style
        return STYLES.get(target.provider.partition("/")[0], "message")


def _named(patterns: Sequence[str], target: Target) -> bool:
    names = (target.provider, target.provider.partition("/")[0], target.name)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
