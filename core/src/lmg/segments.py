"""Every text that a model will read or wrote, addressed so that it can be replaced in place.

A guard written against segments guards every dialect and operation. The walk is inclusive: a string is
a segment unless it stands at a place known to hold no text (identifiers, enumerations).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from .jsontext import Json, JsonPath

__all__ = ["Format", "Role", "Segment", "walk_text"]

Role = Literal[
    "system",
    "user",
    "assistant",
    "tool",
    "tool_definition",
    "tool_arguments",
    "reasoning",
    "refusal",
    "error",
    "unknown",
]
Format = Literal["text", "json", "opaque"]

_NOT_TEXT: Final = frozenset(
    {"type", "id", "object", "role", "model", "finish_reason", "tool_call_id", "service_tier", "call_id"}
)
_OPAQUE: Final = frozenset(
    {"image_url", "input_audio", "file", "audio", "input_image", "image", "encrypted_content", "b64_json"}
)
_JSON: Final = frozenset({"arguments", "input_schema", "parameters"})


@dataclass(frozen=True, slots=True)
class Segment:
    """One text. ``id`` is stable within an answer and names choice, item and kind.

    ``format`` is ``json`` for texts that must stay valid JSON (tool arguments) and ``opaque`` for what
    cannot be read (images, audio, token ids); an opaque segment's ``text`` is empty. ``signed`` texts
    must not be replaced.
    """

    id: str
    role: Role
    path: JsonPath
    text: str
    format: Format = "text"
    signed: bool = False


def walk_text(value: Json, path: JsonPath, role: Role, *, prefix: str = "") -> Iterator[Segment]:
    """All segments below ``value``, in document order; ``path`` is where ``value`` stands.

    ``prefix`` opens each id and defaults to the path itself.
    """
    if type(value) is str:
        key = path[-1] if path else ""
        segment_id = prefix or ".".join(map(str, path))
        yield Segment(segment_id, _role_at(path, role), path, value, "json" if key in _JSON else "text")
    elif type(value) is list:
        if value and all(type(item) is int for item in value):
            yield Segment(".".join(map(str, path)), role, path, "", "opaque")
            return
        for n, item in enumerate(value):
            yield from walk_text(item, (*path, n), role)
    elif type(value) is dict:
        signed = "signature" in value
        for key, item in value.items():
            if key in _OPAQUE and item is not None:
                yield Segment(".".join(map(str, (*path, key))), role, (*path, key), "", "opaque")
                said = item.get("transcript") if type(item) is dict else None
                if type(said) is str:  # what a sound says, beside the sound itself
                    yield from walk_text(said, (*path, key, "transcript"), role)
            elif key not in _NOT_TEXT or type(item) in (dict, list):
                for segment in walk_text(item, (*path, key), role):
                    yield replace(segment, signed=True) if signed else segment


def _role_at(path: JsonPath, role: Role) -> Role:
    for key in reversed(path):
        if key in ("arguments", "partial_json"):
            return "tool_arguments"
        if key in ("reasoning", "reasoning_content", "thinking"):
            return "reasoning"
        if key == "refusal":
            return "refusal"
    return role
