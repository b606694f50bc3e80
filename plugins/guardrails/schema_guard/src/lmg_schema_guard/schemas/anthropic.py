"""What `POST /v1/messages` and `POST /v1/messages/count_tokens` take.

Source: Claude API reference, "Create a Message" and "Count tokens in a Message".
"""

from __future__ import annotations

from typing import Final

from .openai_chat import EFFORT, TIER
from .shapes import (
    ANY,
    BOOL,
    OBJECT,
    STR,
    Shape,
    arr,
    choice,
    integer,
    number,
    obj,
    tagged,
    text,
    text_or,
)

__all__ = ["COUNT_TOKENS", "MESSAGES"]

_CACHE: Final[dict[str, Shape]] = {
    "cache_control": obj("type", type=choice("ephemeral"), ttl=choice("5m", "1h"))
}
_TEXT: Final = obj("text", text=STR, citations=arr(OBJECT), **_CACHE)
_SOURCES: Final = tagged(
    "type",
    {
        "base64": obj("media_type data", media_type=STR, data=STR),
        "url": obj("url", url=STR),
        "file": obj("file_id", file_id=STR),
        "text": obj("data", media_type=STR, data=STR),
        "content": obj("content", content=text_or(OBJECT)),
    },
)
_IMAGE: Final = obj("source", source=_SOURCES, **_CACHE)
_DOCUMENT: Final = obj(
    "source", source=_SOURCES, title=STR, context=STR, citations=obj("", enabled=BOOL), **_CACHE
)
_SEARCH_RESULT: Final = obj(
    "source title content",
    source=STR,
    title=STR,
    content=arr(OBJECT),
    citations=obj("", enabled=BOOL),
    **_CACHE,
)
_RESULT_PARTS: Final = tagged(
    "type",
    {
        "text": _TEXT, "image": _IMAGE, "document": _DOCUMENT, "search_result": _SEARCH_RESULT, "tool_reference": OBJECT,
    },
)  # fmt: skip

# Blocks of server tools are passed back as they came: their fields are the API's own business.
_SERVER_BLOCKS: Final = (
    "server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result",
    "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result", "mcp_tool_use",
    "mcp_tool_result", "container_upload", "compaction",
)  # fmt: skip
_BLOCKS: Final = tagged(
    "type",
    {
        "text": _TEXT,
        "image": _IMAGE,
        "document": _DOCUMENT,
        "search_result": _SEARCH_RESULT,
        "tool_use": obj("id name input", id=STR, name=STR, input=OBJECT, caller=OBJECT, **_CACHE),
        "tool_result": obj("tool_use_id", tool_use_id=STR, content=text_or(_RESULT_PARTS), is_error=BOOL, **_CACHE),
        "thinking": obj("thinking signature", thinking=STR, signature=STR),
        "redacted_thinking": obj("data", data=STR),
        **dict.fromkeys(_SERVER_BLOCKS, OBJECT),
    },
)  # fmt: skip
_MESSAGES: Final = tagged(
    "role",
    {role: obj("content", content=text_or(_BLOCKS)) for role in ("user", "assistant", "system")},
)

# A tool with another `type` is one of the API's own, whose types carry a date (`web_search_20250305`).
_TOOLS: Final[Shape] = {
    "type": "object",
    "properties": {"type": {"type": ["string", "null"]}},
    "if": {"properties": {"type": {"enum": ["custom", None]}}},
    "then": {
        "properties": {
            "name": text(1, 256), "input_schema": OBJECT, "description": {"type": ["string", "null"]},
            "strict": {"type": ["boolean", "null"]},
        },
        "required": ["name", "input_schema"],
    },
}  # fmt: skip

_TOOL_CHOICE: Final = tagged(
    "type",
    {
        "auto": obj("", disable_parallel_tool_use=BOOL),
        "any": obj("", disable_parallel_tool_use=BOOL),
        "tool": obj("name", name=STR, disable_parallel_tool_use=BOOL),
        "none": obj(),
    },
)
_DISPLAY: Final = choice("summarized", "omitted")
_THINKING: Final = tagged(
    "type",
    {
        "enabled": obj("budget_tokens", budget_tokens=integer(1), display=_DISPLAY),
        "adaptive": obj("", display=_DISPLAY),
        "disabled": obj(),
    },
)
_FORMAT: Final = tagged("type", {"json_schema": obj("schema", schema=OBJECT)})

_BOTH: Final[dict[str, Shape]] = {
    "model": STR,
    "messages": arr(_MESSAGES, 1),
    "cache_control": _CACHE["cache_control"],
    "context_management": OBJECT,
    "mcp_servers": arr(OBJECT),
    "output_config": obj("", effort=EFFORT, format=_FORMAT, task_budget=OBJECT),
    "output_format": _FORMAT,
    "speed": STR,
    "system": text_or(tagged("type", {"text": _TEXT})),
    "thinking": _THINKING,
    "tool_choice": _TOOL_CHOICE,
    "tools": arr(_TOOLS),
    "thread": OBJECT,
    "routing_hint": ANY,
}

COUNT_TOKENS: Final = obj("model messages", **_BOTH)

MESSAGES: Final = obj(
    "model messages max_tokens",
    **_BOTH,
    max_tokens=integer(0),
    container={"type": ["string", "object"]},
    inference_geo=STR,
    metadata=obj("", user_id=STR),
    service_tier=TIER,
    stop_sequences=arr(STR),
    stream=BOOL,
    temperature=number(0, 1),
    top_k=integer(0),
    top_p=number(0, 1),
)
