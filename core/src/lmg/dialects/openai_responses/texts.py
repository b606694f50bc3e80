"""Every text of a request and of a whole response, addressed so that it can be replaced in place.

What a response repeats of its request (instructions, tools, settings) was reviewed as part of the request: it is not
text of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...jsontext import Json, JsonPath
from ...segments import Format, Role, Segment, walk_text

__all__ = ["ECHOED", "item_segments", "request_segments", "response_segments", "walk"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
# Identifiers and enumerations, wherever they stand in an item.
_NOT_TEXT: Final = _words(
    """type id object role status phase call_id item_id file_id container_id caller approval_request_id created_by detail
    execution fingerprint prompt_cache_breakpoint logprobs sequence_number obfuscation"""
)
_OPAQUE: Final = _words(
    """image_url file_url file_data input_audio audio encrypted_content partial_image_b64 b64_json screenshot"""
)
_JSON: Final = frozenset(
    {"function_call", "mcp_call", "mcp_approval_request", "response.function_call_arguments.done"}
)
# Fields of a request whose strings are enumerations or identifiers, not text for a model.
_SETTINGS: Final = _words(
    """model include reasoning service_tier store truncation stream stream_options prompt_cache_key prompt_cache_options
    prompt_cache_retention safety_identifier previous_response_id conversation context_management moderation"""
)
ECHOED: Final = _words(
    """id object model status created_at completed_at usage service_tier instructions tools tool_choice text metadata user
    safety_identifier prompt prompt_cache_key prompt_cache_options prompt_cache_retention previous_response_id conversation
    reasoning truncation incomplete_details billing moderation context_management store background"""
)
"""Members of a response that hold no text of the answer."""


def walk(value: Json, path: JsonPath, role: Role, json: bool = False) -> Iterator[Segment]:
    """All segments of a part of an item, in document order; ``json`` tells that its arguments are JSON."""
    if type(value) is str:
        key = path[-1]
        if key == "arguments":
            yield _segment(path, "tool_arguments", value, "json" if json else "text")
        else:
            yield _segment(path, "refusal" if key == "refusal" else role, value)
    elif type(value) is list:
        for n, item in enumerate(value):
            yield from walk(item, (*path, n), role, json)
    elif type(value) is dict:
        for key, item in value.items():
            if key in _OPAQUE:
                if item is not None:
                    yield _segment((*path, key), role, "", "opaque", key == "encrypted_content")
            elif key not in _NOT_TEXT:
                yield from walk(item, (*path, key), role, json)


def _segment(path: JsonPath, role: Role, text: str, form: Format = "text", signed: bool = False) -> Segment:
    return Segment(".".join(map(str, path)), role, path, text, form, signed)


def item_segments(item: Json, path: JsonPath) -> Iterator[Segment]:
    """All segments of an item of input or output."""
    if type(item) is not dict:
        yield from walk(item, path, "unknown")
        return
    kind = str(item.get("type") or "message")
    role = _role_of(item, kind)
    for key, part in item.items():
        at: JsonPath = (*path, key)
        if kind == "image_generation_call" and key == "result":
            if part is not None:
                yield _segment(at, role, "", "opaque")
        elif key in _OPAQUE or key not in _NOT_TEXT:
            yield from walk({key: part}, path, "tool_arguments" if key == "input" else role, kind in _JSON)


def _role_of(item: dict[str, Any], kind: str) -> Role:
    if kind == "message":
        return _ROLES.get(str(item.get("role")), "unknown")
    if kind == "reasoning":
        return "reasoning"
    if kind.endswith("_output"):
        return "tool"
    if kind in ("additional_tools", "mcp_list_tools", "tool_search_output"):
        return "tool_definition"
    return "assistant"


def request_segments(value: Json) -> Iterator[Segment]:
    """Every text of a request that a model will read."""
    for key, item in value.items() if type(value) is dict else ():
        if key == "input" and type(item) is list:
            for n, stated in enumerate(item):
                yield from item_segments(stated, ("input", n))
        elif key in ("input", "instructions"):
            yield from walk(item, (key,), "user" if key == "input" else "system")
        elif key in ("tools", "text") or (key == "tool_choice" and type(item) is dict):
            yield from _defined(item, key)
        elif key == "prompt":
            variables = item.get("variables") if type(item) is dict else None
            yield from walk(variables, (key, "variables"), "user")
        elif key != "tool_choice" and key not in _SETTINGS:
            yield from walk_text(item, (key,), "unknown")


def _defined(item: Json, key: str) -> Iterator[Segment]:
    for segment in walk_text(item, (key,), "tool_definition"):
        if segment.path != ("text", "verbosity"):
            yield segment


def response_segments(value: Json) -> Iterator[Segment]:
    """Every text of a whole response, or of an error body, that a client will read."""
    for key, item in value.items() if type(value) is dict else ():
        if key == "output" and type(item) is list:
            for n, stated in enumerate(item):
                yield from item_segments(stated, ("output", n))
        elif key == "error":
            yield from walk_text(item, (key,), "error")
        elif key not in ECHOED:
            yield from walk(item, (key,), "unknown")
