"""Every text of a request or an answer, addressed where it stands.

A call's input is JSON and no text of it: each string inside is a segment of its own, so that whatever replaces it
leaves valid JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from ...jsontext import Json, JsonPath
from ...segments import Role, Segment

__all__ = ["block_texts", "leaves", "request_texts", "response_texts"]

# Settings whose strings are identifiers or enumerations.
_SETTINGS: Final = frozenset(
    {
        "model",
        "max_tokens",
        "stream",
        "service_tier",
        "cache_control",
        "thinking",
        "tool_choice",
        "speed",
        "inference_geo",
        "container",
        "betas",
        "anthropic_version",
    }
)
# Members of a block that hold no text, wherever they stand.
_NO_TEXT: Final = frozenset(
    {
        "type",
        "id",
        "role",
        "tool_use_id",
        "cache_control",
        "media_type",
        "signature",
        "encrypted_index",
        "caller",
    }
)
_OPAQUE: Final = frozenset({"data", "encrypted_content", "encrypted_stdout", "file_id"})
_OF_MESSAGE: Final = frozenset(
    {"id", "type", "role", "model", "stop_reason", "stop_sequence", "usage", "container", "request_id"}
)
_ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}
_JSON_TYPES: Final = frozenset({"string", "number", "integer", "object", "array", "boolean", "null"})


def leaves(value: Json, path: JsonPath, role: Role) -> Iterator[Segment]:
    """Every string below ``value``, in document order."""
    if type(value) is str:
        yield _segment(value, path, role)
    elif type(value) is list:
        for n, item in enumerate(value):
            yield from leaves(item, (*path, n), role)
    elif type(value) is dict:
        for key, item in value.items():
            yield from leaves(item, (*path, key), role)


def _segment(text: str, path: JsonPath, role: Role) -> Segment:
    return Segment(".".join(map(str, path)), role, path, text)


def _unread(path: JsonPath, role: Role) -> Segment:
    return Segment(".".join(map(str, path)), role, path, "", "opaque")


# -- blocks ---------------------------------------------------------------------------------------


def block_texts(value: Json, path: JsonPath, role: Role) -> Iterator[Segment]:
    """The texts of content: of a string, a block, or an array of them."""
    if type(value) is str:
        yield _segment(value, path, role)
    elif type(value) is list:
        for n, item in enumerate(value):
            yield from block_texts(item, (*path, n), role)
    elif type(value) is dict:
        kind = value.get("type")
        name = kind if type(kind) is str else ""
        walk = _BLOCKS.get(name)
        if walk is not None:
            yield from walk(value, path, role)
        else:
            # What a tool brought is the tool's text, whoever ran it.
            yield from _members(value, path, "tool" if name.endswith("tool_result") else role)


def _members(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    for key, item in value.items():
        if key in _NO_TEXT or item is None:
            continue
        if key in _OPAQUE and type(item) is str:
            yield _unread((*path, key), role)
        else:
            yield from block_texts(item, (*path, key), role)


def _thinking(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    signed = bool(value.get("signature"))
    for segment in _members(value, path, "reasoning"):
        yield replace(segment, signed=True) if signed else segment


def _redacted(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    yield _unread((*path, "data"), "reasoning")


def _call(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    for key, item in value.items():
        if key == "input":
            yield from leaves(item, (*path, key), "tool_arguments")
        elif key not in _NO_TEXT and item is not None:
            yield from block_texts(item, (*path, key), role)


def _image(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    yield _unread((*path, "source"), role)


def _document(value: dict[str, Any], path: JsonPath, role: Role) -> Iterator[Segment]:
    for key, item in value.items():
        if key != "source" or type(item) is not dict:
            if key not in _NO_TEXT and item is not None:
                yield from block_texts(item, (*path, key), role)
        elif item.get("type") == "text" and type(item.get("data")) is str:
            yield _segment(str(item["data"]), (*path, key, "data"), role)
        elif item.get("type") == "content":
            yield from block_texts(item.get("content"), (*path, key, "content"), role)
        else:
            yield _unread((*path, key), role)


_BLOCKS: Final[dict[str, Callable[[dict[str, Any], JsonPath, Role], Iterator[Segment]]]] = {
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _call,
    "server_tool_use": _call,
    "mcp_tool_use": _call,
    "image": _image,
    "document": _document,
}


# -- requests and answers -------------------------------------------------------------------------


def request_texts(value: dict[str, Any]) -> Iterator[Segment]:
    """Every text of a request that a model will read."""
    for key, item in value.items():
        if key in _SETTINGS or item is None:
            continue
        if key == "messages" and type(item) is list:
            for n, message in enumerate(item):
                yield from _message(message, (key, n))
        elif key == "system":
            yield from block_texts(item, (key,), "system")
        elif key == "tools" and type(item) is list:
            for n, tool in enumerate(item):
                yield from _tool(tool, (key, n))
        elif key in ("output_config", "output_format"):
            yield from _schema(item, (key,))
        else:
            yield from leaves(item, (key,), "unknown")


def _message(message: Json, path: JsonPath) -> Iterator[Segment]:
    if type(message) is not dict:
        yield from leaves(message, path, "unknown")
        return
    role = _ROLES.get(str(message.get("role")), "unknown")
    for key, item in message.items():
        if key == "content":
            yield from block_texts(item, (*path, key), role)
        elif key != "role":
            yield from leaves(item, (*path, key), role)


def _tool(tool: Json, path: JsonPath) -> Iterator[Segment]:
    if type(tool) is not dict:
        yield from leaves(tool, path, "tool_definition")
        return
    for key, item in tool.items():
        if key == "input_schema":
            yield from _schema(item, (*path, key))
        elif key not in ("type", "cache_control", "allowed_callers"):
            yield from leaves(item, (*path, key), "tool_definition")


def _schema(value: Json, path: JsonPath) -> Iterator[Segment]:
    """The texts of a JSON schema: all but the names of its types and what points elsewhere within it."""
    for segment in leaves(value, path, "tool_definition"):
        keys = [key for key in segment.path if type(key) is str]
        if keys[-1] == "type" and segment.text in (*_JSON_TYPES, "json_schema"):
            continue
        if keys[-1] == "$ref" and segment.text.startswith("#"):
            continue
        if segment.path == ("output_config", "effort"):
            continue
        yield segment


def response_texts(value: dict[str, Any], path: JsonPath = ()) -> Iterator[Segment]:
    """Every text of a whole answer, or of an error, that a client will read."""
    for key, item in value.items():
        if key == "content":
            yield from block_texts(item, (*path, key), "assistant")
        elif key == "error":
            yield from _error(item, (*path, key))
        elif key == "stop_details":
            yield from _members(item, (*path, key), "refusal") if type(item) is dict else ()
        elif key not in _OF_MESSAGE:
            yield from leaves(item, (*path, key), "unknown")


def _error(item: Json, path: JsonPath) -> Iterator[Segment]:
    for segment in leaves(item, path, "error"):
        if segment.path[-1] not in ("type", "error_code", "param"):
            yield segment
