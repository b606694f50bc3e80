"""Schemas compiled once, at start: what a value is asked in microseconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs

from .faults import Fault, fault_of, path_text

__all__ = ["BadSchema", "Compiled", "compile_schema"]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
# The engine of Rust's regex crate: linear in the text, so no look-around and no back-references.
_LINEAR: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20)


class BadSchema(ValueError):
    """A schema of the operator's cannot be used; the message says where in it."""


class Compiled:
    """One compiled schema."""

    __slots__ = ("_known", "_validator")

    def __init__(self, validator: jsonschema_rs.Draft202012Validator, known: frozenset[str]) -> None:
        self._validator, self._known = validator, known

    def fault(self, value: Any) -> Fault | None:
        """What is wrong with ``value``, the first that is found; None where it fits."""
        if self._validator.is_valid(value):
            return None
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return fault_of(error, self._known)
        return None


def compile_schema(schema: dict[str, Any], *, known: frozenset[str] = frozenset()) -> Compiled:
    """Compiles JSON Schema 2020-12; nothing is fetched, and every pattern is linear.

    Raises:
        BadSchema: it is no such schema, refers to another document, or has a pattern with look-around.
    """
    if schema.get("$schema", DRAFT) != DRAFT:
        raise BadSchema(f"$schema: must be {DRAFT}, or absent")
    for path, reference in _references(schema, ()):
        if not reference.startswith("#"):
            raise BadSchema(f"{path}: a reference to another document is not followed; put it under $defs")
    try:
        validator = jsonschema_rs.Draft202012Validator(
            schema, offline=True, pattern_options=_LINEAR, mask="…"
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        place: list[str | int] = getattr(error, "instance_path", [])
        kind = getattr(getattr(error, "kind", None), "name", "")
        what = {
            "pattern": "the pattern is none of the linear engine's (no look-around, no back-references)",
            "format": "the pattern is none of the linear engine's (no look-around, no back-references)",
            "$ref": "the reference leads nowhere",
            "referencing": "the reference leads nowhere",
        }.get(kind, f"not valid in JSON Schema 2020-12{f' ({kind})' if kind else ''}")
        raise BadSchema(f"{path_text(place) or 'the schema'}: {what}") from None
    return Compiled(validator, known | frozenset(_names(schema)))


def _references(schema: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    """Every ``$ref`` and its place; ``$id`` and its like would give references another meaning, and count as one."""
    if isinstance(schema, dict):
        for key, item in schema.items():
            if key in ("$ref", "$dynamicRef", "$id") and isinstance(item, str):
                yield path_text((*path, key)), item
            elif key not in ("enum", "const", "default", "examples"):
                yield from _references(item, (*path, key))
    elif isinstance(schema, list):
        for n, item in enumerate(schema):
            yield from _references(item, (*path, n))


def _names(schema: Any) -> Iterator[str]:
    """The names of all fields that a schema speaks of: what may stand in a path that is shown."""
    if isinstance(schema, dict):
        for key, item in schema.items():
            if key == "properties" and isinstance(item, dict):
                yield from item
                for inner in item.values():
                    yield from _names(inner)
            elif key == "required" and isinstance(item, list):
                yield from (name for name in item if isinstance(name, str))
            else:
                yield from _names(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from _names(item)
