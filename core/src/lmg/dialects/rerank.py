"""Rerank: which of some documents answer a query.

Sources: Cohere API reference, "Rerank"; Jina API reference, "Reranker"; vLLM, "Re-rank API"; llama.cpp server, "/v1/rerank".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..jsontext import Json
from ..records import Usage
from ..segments import Role, Segment, walk_text
from .passed_through import PassedThrough, refuse_text, stated_usage

__all__ = ["Rerank"]


class Rerank(PassedThrough):
    """``POST /v1/rerank``."""

    name = "rerank"
    operation = "rerank"
    streams = False
    settings = frozenset({"model", "truncation", "truncate", "priority", "rank_fields"})
    facts = frozenset({"id", "model", "object", "usage", "meta", "created"})

    def check_fields(self, value: dict[str, Json]) -> None:
        if self.wants_stream(value):
            raise refuse_text("'stream' is not taken here.", "stream")
        if type(value.get("query")) not in (str, dict) or not value["query"]:
            raise refuse_text("'query' must be a non-empty string or object.", "query")
        if type(value.get("documents")) is not list or not value["documents"]:
            raise refuse_text("'documents' must be a non-empty array.", "documents")

    def role(self, key: str) -> Role:
        # Documents are found, not written by whoever asks.
        return "user" if key == "query" else "tool" if key == "documents" else "unknown"

    def answer_segments(self, key: str, item: Json) -> Iterator[Segment]:
        if key not in self.facts:
            yield from walk_text(item, (key,), "tool" if key == "results" else "unknown")

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        if type(value) is not dict:
            return None
        meta = value.get("meta")
        return stated_usage(value.get("usage")) or stated_usage(
            meta.get("tokens") if type(meta) is dict else None
        )
