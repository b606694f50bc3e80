"""A message as an answer, into and out of the intermediate form."""

from __future__ import annotations

from typing import Any, Final

from ...jsontext import Json
from ...records import Usage
from ..form import Choice, Completion, FinishReason, Part, Reasoning, Refused, Text, ToolCall
from ..wire import broken
from .blocks import arguments_of, input_of, own_citations

__all__ = [
    "citations_out",
    "decode_answer",
    "decode_usage",
    "encode_answer",
    "encode_usage",
    "finish_reason",
    "message_of",
    "stop_reason",
]

_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
}
_STOPS: Final[dict[FinishReason, str]] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
}
_TIERS_IN: Final = {"standard": "default"}
_TIERS_OUT: Final = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}


def finish_reason(stated: Json) -> FinishReason:
    """Why an answer ended; what is not known counts as an ordinary end."""
    return _REASONS.get(stated, "stop") if type(stated) is str else "stop"


def stop_reason(finish: FinishReason, *, calls: bool, refused: bool) -> str:
    """The reason as clients of this dialect read it: they act on ``tool_use`` and on ``refusal``, where others look
    into the answer.
    """
    if finish == "stop" and (refused or calls):
        return "refusal" if refused else "tool_use"
    return _STOPS[finish]


# -- usage ----------------------------------------------------------------------------------------


def decode_usage(stated: Json, before: Usage | None = None) -> Usage | None:
    """The tokens that a message or an event states; what an event does not repeat is as it was ``before``."""
    if type(stated) is not dict:
        return None
    old = before if before is not None else Usage()
    read = _count(stated, "cache_read_input_tokens")
    written = _count(stated, "cache_creation_input_tokens")
    fresh = _count(stated, "input_tokens")
    output = _count(stated, "output_tokens")
    thought = _count(stated.get("output_tokens_details"), "thinking_tokens")
    cached = old.cached_tokens if read is None else read
    cache_write = old.cache_write_tokens if written is None else written
    # The API counts what a cache gave or took apart from the rest.
    rest = old.input_tokens - old.cached_tokens - old.cache_write_tokens if fresh is None else fresh
    return Usage(
        max(rest, 0) + cached + cache_write,
        old.output_tokens if output is None else output,
        cached,
        old.reasoning_tokens if thought is None else thought,
        False,
        cache_write,
    )


def _count(stated: Any, key: str) -> int | None:
    count = stated.get(key) if type(stated) is dict else None
    return count if type(count) is int and count >= 0 else None


def encode_usage(usage: Usage | None, service_tier: str = "") -> dict[str, Any]:
    """The tokens as a client of this dialect reads them."""
    counted = usage if usage is not None else Usage()
    out: dict[str, Any] = {
        "input_tokens": max(counted.input_tokens - counted.cached_tokens - counted.cache_write_tokens, 0),
        "cache_creation_input_tokens": counted.cache_write_tokens,
        "cache_read_input_tokens": counted.cached_tokens,
        "output_tokens": counted.output_tokens,
    }
    if counted.reasoning_tokens:
        out["output_tokens_details"] = {"thinking_tokens": counted.reasoning_tokens}
    if service_tier in _TIERS_OUT:
        out["service_tier"] = _TIERS_OUT[service_tier]
    return out


# -- in -------------------------------------------------------------------------------------------


def decode_answer(value: Json) -> Completion:
    """A whole message."""
    if type(value) is not dict or type(value.get("content")) is not list:
        raise broken("no content")
    parts: list[Part] = []
    content: Any = value["content"]
    for block in content:
        part = _decode_block(block) if type(block) is dict else None
        if part is not None:
            parts.append(part)
    stop = value.get("stop_sequence")
    choice = Choice(parts, finish_reason(value.get("stop_reason")), stop if type(stop) is str else "")
    usage: Any = value.get("usage")
    tier = str(usage.get("service_tier") or "") if type(usage) is dict else ""
    return Completion(
        str(value.get("id") or ""),
        str(value.get("model") or ""),
        [choice],
        decode_usage(usage),
        service_tier=_TIERS_IN.get(tier, tier),
    )


def _decode_block(block: dict[str, Any]) -> Part | None:
    """The part that a block is; what only this provider's own tools write is none."""
    kind = block.get("type")
    if kind == "text":
        citations = block.get("citations")
        return Text(str(block.get("text") or ""), citations=[*citations] if type(citations) is list else [])
    if kind == "thinking":
        return Reasoning(str(block.get("thinking") or ""), str(block.get("signature") or ""))
    if kind == "redacted_thinking":
        return Reasoning(encrypted=str(block.get("data") or ""))
    if kind == "tool_use":
        return ToolCall(
            str(block.get("id") or ""), str(block.get("name") or ""), arguments_of(block.get("input"))
        )
    return None


# -- out ------------------------------------------------------------------------------------------


def message_of(id: str, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """A message without content."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def encode_answer(completion: Completion) -> dict[str, Any]:
    """A whole message: this API knows one answer."""
    usage = encode_usage(completion.usage, completion.service_tier)
    message = message_of(completion.id, completion.model, usage)
    if not completion.choices:
        return message | {"stop_reason": "end_turn"}
    choice = completion.choices[0]
    message["content"] = [block for part in choice.parts if (block := _encode_part(part))]
    calls = any(isinstance(part, ToolCall) for part in choice.parts)
    refused = any(isinstance(part, Refused) for part in choice.parts)
    message["stop_reason"] = stop_reason(choice.finish, calls=calls, refused=refused)
    message["stop_sequence"] = choice.stop_sequence or None
    return message


def _encode_part(part: Part) -> dict[str, Any] | None:
    if isinstance(part, Text):
        cited = citations_out(part.citations)
        return {"type": "text", "text": part.text, "citations": cited or None}
    if isinstance(part, Refused):
        return {"type": "text", "text": part.text, "citations": None}
    if isinstance(part, ToolCall):
        given: Json = {"input": part.arguments} if part.custom else input_of(part.arguments)
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": given}
    if isinstance(part, Reasoning):
        if part.encrypted:
            return {"type": "redacted_thinking", "data": part.encrypted}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return None


def citations_out(citations: list[Json]) -> list[Json]:
    """Citations as clients of this dialect read them: its own as they are, pages of the web in its words."""
    out = own_citations(citations)
    for one in citations:
        stated: Any = {"url": one} if type(one) is str else one
        if type(stated) is not dict or stated.get("type") not in (None, "url_citation", "url"):
            continue
        inner = stated.get("url_citation")
        stated = inner if type(inner) is dict else stated
        if type(stated.get("url")) is str:
            out.append(
                {
                    "type": "web_search_result_location",
                    "url": stated["url"],
                    "title": stated.get("title") if type(stated.get("title")) is str else None,
                    "cited_text": "",
                    "encrypted_index": "",
                }
            )
    return out
