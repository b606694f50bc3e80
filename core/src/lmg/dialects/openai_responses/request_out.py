"""A request for a response, out of the intermediate form.

Source: OpenAI API reference, "Create a model response".
"""

from __future__ import annotations

import base64
from typing import Any, Final

from ...jsontext import Json
from ..effort import effort_of
from ..form import (
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
from .items import item_id

__all__ = ["encode_request"]

_PLAIN: Final = (
    "max_output_tokens", "temperature", "top_p", "top_logprobs", "parallel_tool_calls", "metadata", "service_tier", "truncation",
    "prompt_cache_key",
)  # fmt: skip


def encode_request(chat: Chat) -> dict[str, Any]:
    """The body of a request. What the provider would keep by default is not kept unless the caller says so."""
    turns = chat.turns
    body: dict[str, Any] = {"model": chat.model}
    if len(turns) > 1 and _is_instructions(turns[0]):
        body["instructions"] = "".join(part.text for part in turns[0].parts if isinstance(part, Text))
        turns = turns[1:]
    body["input"] = [item for turn in turns for item in _items(turn)]
    if chat.tools:
        body["tools"] = [_tool(tool) for tool in chat.tools]
    if chat.tool_choice is not None:
        body["tool_choice"] = _tool_choice(chat, chat.tool_choice)
    text = _text_settings(chat)
    if text:
        body["text"] = text
    if chat.reasoning is not None and (reasoning := _reasoning_settings(chat.reasoning)):
        body["reasoning"] = reasoning
    for name in _PLAIN:
        value = getattr(chat, name)
        if value is not None and value != "":
            body[name] = value
    if chat.user:
        body["safety_identifier"] = chat.user
    include = _include(chat)
    if include:
        body["include"] = include
    body["store"] = chat.store is True
    if chat.stream:
        body["stream"] = True
    return body


def _is_instructions(turn: Turn) -> bool:
    return turn.role == "system" and len(turn.parts) == 1 and isinstance(turn.parts[0], Text)


def _include(chat: Chat) -> list[str]:
    out = ["message.output_text.logprobs"] if chat.logprobs else []
    # Models that do not reason refuse to be asked for what they thought.
    if chat.reasoning is not None and chat.reasoning.enabled:
        out.append("reasoning.encrypted_content")
    return out


def _reasoning_settings(ask: ReasoningAsk) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not ask.enabled:
        out["effort"] = "none"
    elif ask.effort:
        out["effort"] = ask.effort
    elif ask.budget_tokens is not None:
        out["effort"] = effort_of(ask.budget_tokens)
    elif not ask.summary:
        out["effort"] = "medium"
    if ask.summary:
        out["summary"] = ask.summary
    return out


def _text_settings(chat: Chat) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if chat.format is not None:
        out["format"] = _format(chat.format)
    if chat.verbosity:
        out["verbosity"] = chat.verbosity
    return out


def _format(form: Format) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": "json_object"}
    out: dict[str, Any] = {"type": "json_schema", "name": form.name, "schema": form.schema}
    if form.description:
        out["description"] = form.description
    if form.strict is not None:
        out["strict"] = form.strict
    return out


# -- tools ----------------------------------------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "custom" if tool.custom is not None else "function", "name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.custom is not None:
        return out | {"format": _grammar_out(tool.custom)}
    # Tools are strict here unless told otherwise, which the schemas of other APIs need not stand.
    return out | {"parameters": tool.schema, "strict": tool.strict is True}


def _grammar_out(custom: Json) -> Json:
    grammar = custom.get("grammar") if type(custom) is dict else None
    return {"type": "grammar", **grammar} if type(grammar) is dict else custom


def _tool_choice(chat: Chat, choice: ToolChoice) -> Any:
    if choice.mode != "named":
        return choice.mode
    custom = any(tool.name == choice.name and tool.custom is not None for tool in chat.tools)
    return {"type": "custom" if custom else "function", "name": choice.name}


# -- turns ----------------------------------------------------------------------------------------


def _items(turn: Turn) -> list[dict[str, Any]]:
    if turn.role == "tool":
        return [_result(part) for part in turn.parts if isinstance(part, ToolResult)]
    if turn.role == "assistant":
        return _written(turn.parts)
    return [{"type": "message", "role": turn.role, "content": _content(turn.parts)}]


def _content(parts: list[Part]) -> Any:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [encoded for part in parts if (encoded := _part(part))]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        source = {"file_id": part.file_id} if part.file_id else {"image_url": _image_url(part)}
        return {"type": "input_image", "detail": part.detail or "auto", **source}
    if isinstance(part, Document):
        return {"type": "input_file", **_file(part)}
    return {}


def _image_url(part: Image) -> str:
    return part.url or f"data:{part.media_type};base64,{part.data}"


def _file(part: Document) -> dict[str, Any]:
    if part.file_id:
        return {"file_id": part.file_id}
    if part.url:
        return {"file_url": part.url}
    kind, data, name = part.media_type, part.data, part.title or "document"
    if not data:
        text = f"{part.context}\n\n{part.text}" if part.context else part.text
        kind, data = "text/plain", base64.b64encode(text.encode()).decode()
    return {"filename": name, "file_data": f"data:{kind};base64,{data}"}


def _result(part: ToolResult) -> dict[str, Any]:
    kind = "custom_tool_call_output" if part.custom else "function_call_output"
    output = _content(list(part.parts)) if part.parts else ""
    return {"type": kind, "call_id": part.call_id, "output": output}


def _written(parts: list[Part]) -> list[dict[str, Any]]:
    """What a model wrote, item by item; texts and refusals that follow each other are one message."""
    out: list[dict[str, Any]] = []
    texts: list[Text | Refused] = []
    for part in parts:
        if isinstance(part, Text | Refused):
            texts.append(part)
            continue
        out += _message(texts)
        texts = []
        if isinstance(part, ToolCall):
            out.append(_call(part))
        elif isinstance(part, Reasoning) and (part.signature or part.encrypted) and not part.foreign:
            # The API looks up what it has not sealed by its id, and finds nothing of another's.
            out.append(_thought(part))
    return out + _message(texts)


def _message(texts: list[Text | Refused]) -> list[dict[str, Any]]:
    if not texts:
        return []
    if len(texts) == 1 and isinstance(texts[0], Text):
        return [{"type": "message", "role": "assistant", "content": texts[0].text}]
    content: list[dict[str, Any]] = [
        {"type": "output_text", "text": part.text, "annotations": []}
        if isinstance(part, Text)
        else {"type": "refusal", "refusal": part.text}
        for part in texts
    ]
    named = item_id("msg", "\n".join(part.text for part in texts))
    return [{"type": "message", "id": named, "role": "assistant", "status": "completed", "content": content}]


def _call(part: ToolCall) -> dict[str, Any]:
    if part.custom:
        return {"type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
    return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}


def _thought(part: Reasoning) -> dict[str, Any]:
    sealed = part.signature or part.encrypted
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    named = part.id if part.id.startswith("rs_") else item_id("rs", sealed)
    return {"type": "reasoning", "id": named, "summary": summary, "encrypted_content": sealed}
