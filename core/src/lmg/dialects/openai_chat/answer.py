"""A chat completion's answer, into and out of the intermediate form."""

from __future__ import annotations

import time
from typing import Any, Final

from ...jsontext import Json
from ...records import Usage
from ..form import Choice, Completion, FinishReason, Part, Reasoning, Refused, Text, ToolCall
from ..wire import Fault, broken, classify, json_of
from .encode import encode_assistant

__all__ = [
    "FINISH",
    "decode_answer",
    "decode_usage",
    "encode_answer",
    "encode_usage",
    "fault",
    "finish_of",
    "finish_reason",
]

FINISH: Final[dict[FinishReason, str]] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
}
_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def finish_reason(stated: Json) -> FinishReason:
    """Why an answer ended; what is not known counts as an ordinary end."""
    return _REASONS.get(stated, "stop") if type(stated) is str else "stop"


def finish_of(reason: FinishReason, refused: bool) -> str:
    """The reason in this dialect's words: a refusal that is told in words is an ordinary end here."""
    return "stop" if reason == "refusal" and refused else FINISH[reason]


def decode_answer(value: Json) -> Completion:
    """A whole chat completion."""
    if type(value) is not dict or type(value.get("choices")) is not list:
        raise broken("no choices")
    choices: Any = value["choices"]
    created = value.get("created")
    return Completion(
        str(value.get("id") or ""),
        str(value.get("model") or ""),
        [_decode_choice(choice, n) for n, choice in enumerate(choices) if type(choice) is dict],
        decode_usage(value.get("usage")),
        created if type(created) is int else 0,
        str(value.get("service_tier") or ""),
    )


def _decode_choice(choice: dict[str, Any], n: int) -> Choice:
    message = choice.get("message")
    if type(message) is not dict:
        raise broken("a choice without a message")
    parts: list[Part] = [part for _, part in decode_reasoning(message)]
    content = message.get("content")
    probabilities = choice.get("logprobs")
    if type(content) is str and content:
        logprobs = probabilities.get("content") if type(probabilities) is dict else None
        parts.append(Text(content, citations=message.get("citations") or [], logprobs=logprobs))
    if type(message.get("refusal")) is str and message["refusal"]:
        parts.append(Refused(message["refusal"]))
    for call in message.get("tool_calls") or ():
        custom = call.get("type") == "custom"
        stated = call.get("custom" if custom else "function") or {}
        stated_text = stated.get("input" if custom else "arguments")
        arguments = stated_text if type(stated_text) is str else ""
        parts.append(ToolCall(str(call.get("id") or ""), str(stated.get("name") or ""), arguments, custom))
    return Choice(parts, finish_reason(choice.get("finish_reason")), index=int(choice.get("index", n)))


def decode_reasoning(message: dict[str, Any]) -> list[tuple[int, Reasoning]]:
    """The reasoning of a message or a delta with the number of its block, in whichever of its spellings."""
    out: list[tuple[int, Reasoning]] = []
    for n, detail in enumerate(message.get("reasoning_details") or ()):
        at = int(detail.get("index", n))
        id_ = str(detail.get("id") or "")
        if detail.get("type") == "reasoning.encrypted":
            out.append((at, Reasoning(encrypted=str(detail.get("data") or ""), id=id_)))
        else:
            written = str(detail.get("text") or detail.get("summary") or "")
            out.append((at, Reasoning(written, str(detail.get("signature") or ""), id=id_)))
    text = message.get("reasoning_content") or message.get("reasoning")
    if not out and type(text) is str and text:
        out.append((0, Reasoning(text)))
    return out


def decode_usage(stated: Json) -> Usage | None:
    """The tokens that an answer states."""
    if type(stated) is not dict:
        return None
    prompt: Any = stated.get("prompt_tokens_details")
    completion: Any = stated.get("completion_tokens_details")
    return Usage(
        _count(stated, "prompt_tokens"),
        _count(stated, "completion_tokens"),
        _count(prompt, "cached_tokens"),
        _count(completion, "reasoning_tokens"),
        False,
        _count(prompt, "cache_write_tokens"),
    )


def _count(stated: Any, key: str) -> int:
    count = stated.get(key) if type(stated) is dict else None
    return count if type(count) is int and count >= 0 else 0


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The tokens as a client of this dialect reads them."""
    prompt = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def encode_answer(completion: Completion) -> dict[str, Any]:
    """A whole chat completion."""
    body: dict[str, Any] = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created or int(time.time()),
        "model": completion.model,
        "choices": [_encode_choice(choice) for choice in completion.choices],
    }
    if completion.service_tier:
        body["service_tier"] = completion.service_tier
    if completion.usage is not None:
        body["usage"] = encode_usage(completion.usage)
    return body


def _encode_choice(choice: Choice) -> dict[str, Any]:
    texts = [part for part in choice.parts if isinstance(part, Text)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in texts) if texts else None,
        "refusal": None,
        **encode_assistant(choice.parts),
    }
    citations = [citation for part in texts for citation in part.citations]
    if citations:
        message["citations"] = citations
    tokens = [token for part in texts if type(part.logprobs) is list for token in part.logprobs]
    return {
        "index": choice.index,
        "message": message,
        "logprobs": {"content": tokens, "refusal": None} if tokens else None,
        "finish_reason": finish_of(choice.finish, any(isinstance(part, Refused) for part in choice.parts)),
    }


def fault(status: int, body: bytes) -> Fault:
    """What an error of this API says."""
    value = json_of(body)
    found = value.get("error", value) if type(value) is dict else None
    stated: dict[str, Any] = found if type(found) is dict else {"message": found}
    message, code, type_, param = (stated.get(key) for key in ("message", "code", "type", "param"))
    return Fault(
        message if type(message) is str else "",
        str(code) if code is not None else None,
        type_ if type(type_) is str else None,
        param if type(param) is str else None,
        classify(status, body),
    )
