"""A whole answer of the Converse API, into the intermediate form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from lmg.dialects.form import Choice, Completion, FinishReason, Part, Reasoning, Text, ToolCall
from lmg.dialects.wire import broken
from lmg.jsontext import Json
from lmg.records import Usage

from .citations import citation_of

__all__ = ["decode_answer", "decode_usage", "finish_reason", "stop_sequence", "tier_of"]

_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "pause_turn": "pause",
}
_MALFORMED: Final = ("malformed_model_output", "malformed_tool_use")


def finish_reason(stated: Json) -> FinishReason:
    """Why an answer ended; what is not known counts as an ordinary end.

    Raises:
        UpstreamError: the model wrote what the API could not read: that is no answer.
    """
    if stated in _MALFORMED:
        raise broken("the model's output was malformed")
    return _REASONS.get(stated, "stop") if type(stated) is str else "stop"


def decode_answer(value: Json) -> Completion:
    """A whole answer; ``requestId``, ``modelId`` and ``created`` are the provider's, which the API leaves to others."""
    if type(value) is not dict:
        raise broken("no object")
    output: Any = value.get("output")
    message = output.get("message") if type(output) is dict else None
    if type(message) is not dict or type(message.get("content")) is not list:
        raise broken("no message")
    reason = finish_reason(value.get("stopReason"))
    parts = [part for block in message["content"] for part in _decode_block(block)]
    stopped = stop_sequence(value) if reason == "stop_sequence" else ""
    return Completion(
        str(value.get("requestId") or ""),
        str(value.get("modelId") or ""),
        [Choice(parts, reason, stopped)],
        decode_usage(value.get("usage")),
        _count(value, "created"),
        service_tier=tier_of(value),
    )


def stop_sequence(value: dict[str, Any]) -> str:
    """The stop sequence that ended the answer, where the model says it."""
    more = value.get("additionalModelResponseFields")
    stated = more.get("stop_sequence") if type(more) is dict else None
    return stated if type(stated) is str else ""


def tier_of(value: dict[str, Any]) -> str:
    """The service tier that served the request."""
    tier = value.get("serviceTier")
    stated = tier.get("type") if type(tier) is dict else None
    return stated if type(stated) is str else ""


def decode_usage(stated: Json, *, inclusive: bool = False) -> Usage | None:
    """The tokens of an answer.

    By the user guide ("Prompt caching") ``inputTokens`` are those that were neither read from a cache nor written to
    one; ``inclusive`` is for streams that count all of them there.
    """
    if type(stated) is not dict:
        return None
    fresh, read, written = (
        _count(stated, key) for key in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    )
    cached = read + written
    total = fresh if inclusive and fresh >= cached else fresh + cached
    return Usage(total, _count(stated, "outputTokens"), read, 0, False, written)


def _count(stated: dict[str, Any], key: str) -> int:
    count = stated.get(key)
    return count if type(count) is int and count >= 0 else 0


# -- blocks -----------------------------------------------------------------------------------------


def _decode_block(block: Any) -> list[Part]:
    if type(block) is not dict:
        raise broken("a block that is no object")
    for key, decode in _BLOCKS.items():
        if key in block:
            return decode(block[key])
    return []  # of a kind that no client's dialect has words for


def _text(value: Any) -> list[Part]:
    if type(value) is not str:
        raise broken("a text that is no string")
    return [Text(value)] if value else []


def _call(value: Any) -> list[Part]:
    name, id_ = value["name"], value["toolUseId"]
    if type(name) is not str or type(id_) is not str:
        raise broken("a call without a name")
    if value.get("type") == "server_tool_use":
        return []  # the model's own, which it has run itself
    return [ToolCall(id_, name, orjson.dumps(value.get("input") or {}).decode())]


def _reasoning(value: Any) -> list[Part]:
    if "redactedContent" in value:
        return [Reasoning(encrypted=str(value["redactedContent"]))]
    stated = value.get("reasoningText")
    if type(stated) is not dict:
        return []
    return [Reasoning(str(stated.get("text") or ""), str(stated.get("signature") or ""))]


def _cited(value: Any) -> list[Part]:
    pieces = value.get("content") or ()
    text = "".join(str(piece.get("text") or "") for piece in pieces if type(piece) is dict)
    citations = [citation_of(one) for one in value.get("citations") or ()]
    return [Text(text, citations=citations)] if text else []


_BLOCKS: Final[dict[str, Callable[[Any], list[Part]]]] = {
    "text": _text,
    "toolUse": _call,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
}
