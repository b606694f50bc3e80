"""How a model's name is matched: the table's clauses, and the spellings under which a model is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["MAX_NAME", "matches", "spellings", "with_dashed_date"]

MAX_NAME: Final = 256
"""A longer name is no model's: clients may ask for any, and patterns must stay cheap."""

_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_DATE: Final = re.compile(r"-20\d{2}-?\d{2}-?\d{2}$")
_REGION: Final = re.compile(r"^(us|eu|apac|au|ca|jp|sa|us-gov|global)\.")
_BEDROCK_VERSION: Final = re.compile(r"-v\d+(:\d+)*$")


def matches(clause: Mapping[str, Any], name: str) -> bool:
    """Whether ``name`` (lower case) fits a clause of the table of prices."""
    ((kind, what),) = clause.items()
    match kind:
        case "or":
            return any(matches(inner, name) for inner in what)
        case "and":
            return all(matches(inner, name) for inner in what)
        case "=":
            return bool(name == what)
        case "^":
            return name.startswith(what)
        case "$":
            return name.endswith(what)
        case "~":
            return what in name
        case "re":
            return re.search(what, name) is not None
    raise ValueError(f"a clause of an unknown kind: {kind}")


def with_dashed_date(name: str) -> str:
    """``gpt-5.2-20251211`` as ``gpt-5.2-2025-12-11``."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)


def spellings(name: str) -> Iterator[str]:
    """Names under which a table may know the model, the most exact first.

    Taken off one after the other: a price marker (``:free``), a folder (``models/``), Bedrock's region,
    maker and version, a date, ``-latest``.
    """
    name = name.lower()
    seen = set()
    for change in (_as_it_is, _base_of_a_fine_tune, _without_folder, _without_bedrock, _without_date):
        name = change(name)
        if name and name not in seen:
            seen.add(name)
            yield name


def _as_it_is(name: str) -> str:
    return name


def _base_of_a_fine_tune(name: str) -> str:
    return ":".join(name.split(":")[:2]) if name.startswith("ft:") else name


def _without_folder(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(":free").removesuffix(":nitro")


def _without_bedrock(name: str) -> str:
    bare = _REGION.sub("", name)
    maker, dot, model = bare.partition(".")
    return _BEDROCK_VERSION.sub("", model) if dot and maker.isalnum() and maker.isalpha() else bare


def _without_date(name: str) -> str:
    return _DATE.sub("", name).removesuffix("-latest")
