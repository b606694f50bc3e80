"""What is wrong with a request, in words that are all our own: the path of the fault, and what is expected there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import jsonschema_rs

__all__ = ["Fault", "fault_of", "path_text"]

_MANY: Final = 20
_NAME: Final = 64
_KINDS: Final = {
    "string": "a string", "integer": "an integer", "number": "a number", "boolean": "a boolean", "array": "an array",
    "object": "an object", "null": "null",
}  # fmt: skip
_BOUNDS: Final = {
    "minimum": "must be at least {}", "maximum": "must be at most {}", "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}", "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters", "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items", "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} fields", "maxProperties": "must have at most {} fields",
}  # fmt: skip
_OTHERS: Final = {
    "anyOf": "has none of the forms that it may have", "oneOf": "has not exactly one of the forms that it may have",
    "not": "has a form that it may not have", "pattern": "does not have the form that is expected",
    "format": "does not have the format that is expected", "uniqueItems": "must not have the same item twice",
    "contains": "lacks an item that it must have", "dependentRequired": "lacks a field that another one asks for",
    "propertyNames": "has a field whose name is not allowed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """``param`` is the path (None for the body itself), ``rule`` of a closed set: what metrics count by."""

    param: str | None
    message: str
    rule: str


def path_text(path: Iterable[str | int]) -> str:
    """A path as clients know it: ``messages[2].content[0].type``."""
    out = ""
    for key in path:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else key
    return out


def fault_of(error: jsonschema_rs.ValidationError, known: Collection[str]) -> Fault:
    """The fault that a validator has found. ``known`` are the field names of the schemas.

    A path ends before the first name that is the caller's own (a key of ``metadata``, say): nothing that the caller wrote
    is in the answer, nor in a log.
    """
    path: list[str | int] = []
    for key in error.instance_path:
        if isinstance(key, str) and key not in known:
            break
        path.append(key)
    rule, details = error.kind.name, error.kind.as_dict()
    if rule == "required" and details["property"] in known:
        path.append(details["property"])
        return Fault(path_text(path), f"'{path_text(path)}' is missing.", rule)
    where = path_text(path)
    subject = f"'{where}'" if where else "The body"
    whole = len(path) == len(error.instance_path)
    said = _said(rule, details, known) if whole else "holds a value that is not valid"
    return Fault(where or None, f"{subject} {said}.", _rule(rule))


def _rule(rule: str) -> str:
    closed = rule in _BOUNDS or rule in _OTHERS or rule in ("type", "enum", "const", "additionalProperties")
    return rule if closed else "other"


def _said(rule: str, details: dict[str, Any], known: Collection[str]) -> str:
    if rule == "type":
        types = details["types"]
        kinds = [
            words for kind, words in _KINDS.items() if kind in types and (kind != "null" or len(types) == 1)
        ]
        return f"must be {' or '.join(kinds)}"
    if rule == "enum":
        return f"must be {_listed([option for option in details['options'] if option is not None])}"
    if rule == "const":
        return f"must be {_listed([details['expected_value']])}"
    if rule in ("additionalProperties", "unevaluatedProperties"):
        return f"has a field that is not known here{_near(details['unexpected'], known)}"
    if rule in _BOUNDS:
        [limit] = details.values()
        return _BOUNDS[rule].format(limit)
    return _OTHERS.get(rule, "is not valid")


def _listed(options: Sequence[Any]) -> str:
    shown = [f"'{option}'" if isinstance(option, str) else str(option) for option in options[:_MANY]]
    if len(options) > _MANY:
        return f"one of {', '.join(shown)} and {len(options) - _MANY} more"
    return f"one of {', '.join(shown)}" if len(shown) > 1 else shown[0]


def _near(unexpected: Sequence[str], known: Collection[str]) -> str:
    for name in unexpected[:_MANY]:
        found = get_close_matches(name[:_NAME], known, 1, 0.85)
        if found and found[0] != name:
            return f" (did you mean '{found[0]}'?)"
    return ""
