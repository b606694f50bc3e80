"""A chat completion's request, out of the intermediate form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from ..effort import effort_of
from ..form import (
    Audio,
    Chat,
    Document,
    Format,
    Image,
    Part,
    Reasoning,
    ReasoningAsk,
    Refused,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..wire import Support

__all__ = ["encode_assistant", "encode_request", "reasoning_detail"]

MAX_CALL_ID: Final = 40
_OUT: Final = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty", "logit_bias": "logit_bias", "seed": "seed", "n": "n", "user": "user", "metadata": "metadata",
    "service_tier": "service_tier", "store": "store", "verbosity": "verbosity", "prompt_cache_key": "prompt_cache_key",
    "parallel_tool_calls": "parallel_tool_calls", "top_logprobs": "logprobs",
}  # fmt: skip


def encode_request(chat: Chat, output_cap: str, table: Mapping[str, Support]) -> dict[str, Any]:
    """The body of a request; ``output_cap`` is the field that caps the answer, ``table`` what the server knows."""
    known = frozenset(feature for feature, how in table.items() if how == "carried")
    messages = [message for turn in chat.turns for message in _encode_turn(turn, known)]
    body: dict[str, Any] = {"model": chat.model, "messages": messages}
    if chat.tools:
        body["tools"] = [_encode_tool(tool, known) for tool in chat.tools]
    if chat.tool_choice is not None:
        body["tool_choice"] = _encode_tool_choice(chat, chat.tool_choice)
    if chat.format is not None:
        body["response_format"] = _encode_format(chat.format)
    if chat.reasoning is not None and "reasoning" in known and (effort := _effort(chat.reasoning)):
        body["reasoning_effort"] = effort
    if chat.max_output_tokens is not None:
        body[output_cap] = chat.max_output_tokens
    for name, feature in _OUT.items():
        value = getattr(chat, name)
        if value is not None and value != "" and feature in known:
            body[name] = value
    if chat.logprobs:
        body["logprobs"] = True
    if chat.stop:
        body["stop"] = chat.stop
    body.update({key: chat.extra[key] for key in ("prediction", "audio", "modalities") if key in chat.extra})
    if chat.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _effort(ask: ReasoningAsk) -> str:
    """An effort in words; a budget of tokens becomes the nearest of them. Empty where none was asked for."""
    if not ask.enabled:
        return "none"
    budget = ask.budget_tokens
    if ask.effort or budget is None:
        effort = "xhigh" if ask.effort == "max" else ask.effort
        return effort or ("" if ask.summary else "medium")
    return effort_of(budget)


def _encode_turn(turn: Turn, known: frozenset[str]) -> list[dict[str, Any]]:
    if turn.role == "tool":
        return [
            {
                "role": "tool",
                "tool_call_id": call_id(part.call_id),
                "content": _encode_content(list(part.parts), known),
            }
            for part in turn.parts
            if isinstance(part, ToolResult)
        ]
    message: dict[str, Any] = {"role": turn.role}
    if turn.name:
        message["name"] = turn.name
    if turn.role != "assistant":
        message["content"] = _encode_content(turn.parts, known)
        return [message]
    texts: list[Part] = [part for part in turn.parts if isinstance(part, Text)]
    message["content"] = _encode_content(texts, known) if texts else None
    kept = [part for part in turn.parts if not isinstance(part, Reasoning) or "reasoning.history" in known]
    calls = [replace(part, id=call_id(part.id)) if isinstance(part, ToolCall) else part for part in kept]
    message |= encode_assistant(calls)
    return [message]


def call_id(given: str) -> str:
    """A call's id within the length that this API takes; the same for the call and its result."""
    if len(given) <= MAX_CALL_ID:
        return given
    return f"call_{sha256(given.encode()).hexdigest()[: MAX_CALL_ID - 5]}"


def encode_assistant(parts: list[Part]) -> dict[str, Any]:
    """What of an assistant's message is not its content."""
    out: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ToolCall):
            stated = {"name": part.name, "input" if part.custom else "arguments": part.arguments}
            kind = "custom" if part.custom else "function"
            calls.append({"id": part.id, "type": kind, kind: stated})
        elif isinstance(part, Reasoning):
            details.append(reasoning_detail(part, len(details)))
        elif isinstance(part, Refused):
            out["refusal"] = out.get("refusal", "") + part.text
    if details:
        text = "".join(part.text for part in parts if isinstance(part, Reasoning))
        out |= ({"reasoning_content": text} if text else {}) | {"reasoning_details": details}
    if calls:
        out["tool_calls"] = calls
    return out


def reasoning_detail(part: Reasoning, index: int) -> dict[str, Any]:
    """One block of reasoning as the routers of this dialect write it."""
    detail: dict[str, Any] = {"type": "reasoning.text", "text": part.text, "index": index}
    if part.encrypted:
        detail = {"type": "reasoning.encrypted", "data": part.encrypted, "index": index}
    if part.signature:
        detail["signature"] = part.signature
    return detail | ({"id": part.id} if part.id else {})


def _encode_content(parts: list[Part], known: frozenset[str]) -> Any:
    marked = "cache_control" in known and any(_cache(part) for part in parts)
    if not marked and len(parts) < 2 and all(isinstance(part, Text) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [encoded | (_cache(part) if marked else {}) for part in parts if (encoded := _encode_part(part))]


def _cache(part: Part) -> dict[str, Any]:
    cache = getattr(part, "cache", None)
    return {"cache_control": cache} if cache is not None else {}


def _encode_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        url = part.url or f"data:{part.media_type};base64,{part.data}"
        return {
            "type": "image_url",
            "image_url": {"url": url} | ({"detail": part.detail} if part.detail else {}),
        }
    if isinstance(part, Audio):
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
    if isinstance(part, Document):
        stated = (
            {"file_id": part.file_id}
            if part.file_id
            else {"file_data": f"data:{part.media_type};base64,{part.data}"}
        )
        if not part.file_id or part.title:
            stated["filename"] = part.title or "document"
        return {"type": "file", "file": stated}
    if isinstance(part, Refused):
        return {"type": "refusal", "refusal": part.text}
    return {}


def _encode_tool(tool: Tool, known: frozenset[str]) -> dict[str, Any]:
    stated: dict[str, Any] = {"name": tool.name}
    if tool.description:
        stated["description"] = tool.description
    if tool.custom is not None:
        return {"type": "custom", "custom": {**stated, "format": tool.custom}}
    if tool.schema is not None:
        stated["parameters"] = tool.schema
    if tool.strict is not None:
        stated["strict"] = tool.strict
    return {"type": "function", "function": stated} | (
        {"cache_control": tool.cache} if tool.cache is not None else {}
    )


def _encode_tool_choice(chat: Chat, choice: ToolChoice) -> Any:
    if choice.mode != "named":
        return choice.mode
    kind = "custom" if any(t.name == choice.name and t.custom is not None for t in chat.tools) else "function"
    return {"type": kind, kind: {"name": choice.name}}


def _encode_format(form: Format) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": "json_object"}
    inner: dict[str, Any] = {"name": form.name, "schema": form.schema}
    if form.description:
        inner["description"] = form.description
    if form.strict is not None:
        inner["strict"] = form.strict
    return {"type": "json_schema", "json_schema": inner}
