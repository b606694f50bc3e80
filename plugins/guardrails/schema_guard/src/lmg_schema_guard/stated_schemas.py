"""The JSON Schemas that a request itself states, for tools and answers: whether they are any, and how large."""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs
import orjson

from .faults import Fault

__all__ = ["StatedSchemas"]

# What clients write by hand is often of an older draft, which upstreams take as well.
_DRAFTS: Final = (
    (jsonschema_rs.Draft202012Validator, "https://json-schema.org/draft/2020-12/schema"),
    (jsonschema_rs.Draft7Validator, "http://json-schema.org/draft-07/schema#"),
    (jsonschema_rs.Draft4Validator, "http://json-schema.org/draft-04/schema#"),
)
REMEMBERED: Final = 1024
REMEMBERED_BYTES: Final = 4096
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "example"})


class StatedSchemas:
    """Checks one stated schema at a time; the metaschemas are compiled once.

    Whoever calls tools states them again with every turn of a conversation: the schemas that were found good are
    remembered by their whole text (4 MiB at most), which costs a tenth of a check.
    """

    def __init__(self, *, max_depth: int, max_nodes: int) -> None:
        self._max_depth, self._max_nodes = max_depth, max_nodes
        self._good: dict[bytes, None] = {}
        self._metas = tuple(draft({"$ref": uri}, offline=True) for draft, uri in _DRAFTS)

    def fault(self, path: str, schema: Any) -> Fault | None:
        """What is wrong with the schema at ``path``; None where it is one, within its bounds, or not there."""
        if schema is None:
            return None
        try:
            written = orjson.dumps(schema)
        except TypeError:  # deeper, or with larger numbers, than it writes
            written = b""
        if written in self._good:
            return None
        fault = self._bound(path, schema)
        if fault is None and not any(meta.is_valid(schema) for meta in self._metas):
            fault = Fault(path, f"'{path}' must be a valid JSON Schema.", "stated_schema")
        if fault is None and 0 < len(written) <= REMEMBERED_BYTES:
            if len(self._good) >= REMEMBERED:
                del self._good[next(iter(self._good))]
            self._good[written] = None
        return fault

    def _bound(self, path: str, schema: Any) -> Fault | None:
        level, depth, nodes = [schema], 0, 0
        while level:
            depth += 1
            if depth > self._max_depth:
                return Fault(
                    path, f"'{path}' is nested more than {self._max_depth} levels deep.", "schema_depth"
                )
            nodes += len(level)
            below: list[Any] = []
            for item in level:
                if type(item) is dict:
                    reference = item.get("$ref")
                    if type(reference) is str and not reference.startswith("#"):
                        return Fault(
                            path, f"'{path}' refers to another document, which is not followed.", "schema_ref"
                        )
                    below += [inner for key, inner in item.items() if key not in _VALUES]
                elif type(item) is list:
                    below += item
            if nodes + len(below) > self._max_nodes:
                return Fault(path, f"'{path}' has more than {self._max_nodes} values.", "schema_size")
            level = [item for item in below if type(item) is dict or type(item) is list]
            nodes += len(below) - len(level)
        return None
