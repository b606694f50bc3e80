"""The words that the schemas are written in, and how they become JSON Schema: lenient or strict.

A shape is JSON Schema 2020-12 with three words more: `closed` (an object whose fields are all known), `choice` (a text of
a known set) and `cases` (an object whose field `tag` says which shape it has). Lenient they leave what they do not know
alone, strict they refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ANY", "BOOL", "OBJECT", "STR", "Shape", "arr", "choice", "integer", "map_of", "number", "obj", "schema_of", "tagged", "text", "text_or"]  # fmt: skip

Shape = dict[str, Any]

ANY: Final[Shape] = {}
STR: Final[Shape] = {"type": "string"}
BOOL: Final[Shape] = {"type": "boolean"}
OBJECT: Final[Shape] = {"type": "object"}


def text(least: int = 0, most: int | None = None) -> Shape:
    """A text of ``least`` to ``most`` characters."""
    return {**STR, **({"minLength": least} if least else {}), **({"maxLength": most} if most else {})}


def number(least: float | None = None, most: float | None = None, *, kind: str = "number") -> Shape:
    """A number within bounds that are both allowed."""
    bounds = {"minimum": least, "maximum": most}
    return {"type": kind, **{key: bound for key, bound in bounds.items() if bound is not None}}


def integer(least: int | None = None, most: int | None = None) -> Shape:
    """A whole number within bounds that are both allowed."""
    return number(least, most, kind="integer")


def choice(*values: str) -> Shape:
    """A text; strict, one of ``values``."""
    return {"type": "string", "choice": list(values)}


def arr(items: Shape, least: int = 0) -> Shape:
    """An array of at least ``least`` items."""
    return {"type": "array", "items": items, **({"minItems": least} if least else {})}


def text_or(items: Shape) -> Shape:
    """A text, or an array of ``items``."""
    return {"type": ["string", "array"], "items": items}


def map_of(values: Shape) -> Shape:
    """An object with any names for ``values``."""
    return {"type": "object", "additionalProperties": values}


def obj(required: str = "", /, **fields: Shape) -> Shape:
    """An object with these fields; those not ``required`` (names with spaces between) may also be null."""
    needed = required.split()
    return {
        "type": "object",
        "properties": {name: field if name in needed else _or_null(field) for name, field in fields.items()},
        "required": needed,
        "closed": True,
    }


def tagged(tag: str, cases: Mapping[str, Shape], *, default: str = "") -> Shape:
    """An object that the field ``tag`` says the shape of; ``default`` is the one of an object without it."""
    return {"type": "object", "tag": tag, "cases": dict(cases), "default": default}


def _or_null(shape: Shape) -> Shape:
    kind = shape.get("type")
    if kind is None:
        return shape
    return {**shape, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}


def schema_of(shape: Shape, *, strict: bool) -> Shape:
    """The JSON Schema of a shape."""
    out: Shape = {}
    for key, value in shape.items():
        if key == "properties":
            out[key] = {name: schema_of(item, strict=strict) for name, item in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            out[key] = schema_of(value, strict=strict)
        elif key == "closed":
            if strict:
                out["additionalProperties"] = False
        elif key == "choice":
            if strict:
                out["enum"] = [*value, None] if "null" in shape["type"] else value
        elif key not in ("tag", "cases", "default"):
            out[key] = value
    return out | _cases(shape, strict=strict) if "cases" in shape else out


def _cases(shape: Shape, *, strict: bool) -> Shape:
    tag, default = shape["tag"], shape["default"]
    every: list[Shape] = []
    for name, case in shape["cases"].items():
        # The keywords of objects say nothing about a null or a text, which the type beside the cases may allow.
        asked: Shape = {"type": "object", "properties": {tag: {"const": name}}}
        if name != default:
            asked["required"] = [tag]
        closed = schema_of(case, strict=strict)
        closed["properties"] = {tag: {}, **closed.get("properties", {})}
        every.append({"if": asked, "then": closed})
    kind: Shape = {"type": "string"} | ({"enum": list(shape["cases"])} if strict else {})
    required = {} if default else {"required": [tag]}
    return {"properties": {tag: kind}, **required, "allOf": every}
