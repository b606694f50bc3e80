"""JSON schemas as this API takes them for structured outputs and strict tools.

It wants every object closed and knows a part of JSON schema only; what it does not know is told to the model in
the description, as the provider's own clients do, so that the caller's validation finds what it asks for.
Source: Claude API documentation, "Structured outputs", JSON schema limitations.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from ...jsontext import Json

__all__ = ["strict_schema"]

_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_KEPT: Final = frozenset({"$ref", "type", "enum", "const", "default", "description", "title", "required"})
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_HARD_PATTERN: Final = re.compile(r"\(\?|\\[1-9bB]")
_SILENT: Final = frozenset({"$schema", "$id", "$comment", "examples", "additionalProperties"})


def strict_schema(schema: Json) -> Json:
    """``schema`` within the limits; what is none stays as it is, for the provider to judge."""
    if type(schema) is not dict:
        return schema
    out: dict[str, Any] = {}
    told: dict[str, Json] = {}
    for key, item in schema.items():
        if key in _MAPS and type(item) is dict:
            out[key] = {name: strict_schema(one) for name, one in item.items()}
        elif key in _LISTS and type(item) is list:
            out[_LISTS[key]] = [strict_schema(one) for one in item]
        elif key == "items":
            out[key] = strict_schema(item)
        elif key in _KEPT or _is_supported(key, item):
            out[key] = item
        elif key not in _SILENT:
            told[key] = item
    if "properties" in out or out.get("type") == "object":
        out["additionalProperties"] = False
    if told:
        limits = ", ".join(f"{key}: {orjson.dumps(item).decode()}" for key, item in told.items())
        before = out.get("description")
        out["description"] = (
            f"{before}\n\n{{{limits}}}" if type(before) is str and before else f"{{{limits}}}"
        )
    return out


def _is_supported(key: str, item: Json) -> bool:
    if key == "format":
        return type(item) is str and item in _FORMATS
    if key == "pattern":
        return type(item) is str and _HARD_PATTERN.search(item) is None
    return key == "minItems" and item in (0, 1)
