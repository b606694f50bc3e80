"""Which dialect a path speaks."""

from __future__ import annotations

from typing import Final

from . import Dialect
from .openai_chat import OpenAIChat
from .openai_embeddings import OpenAIEmbeddings

__all__ = ["DIALECTS", "PLAIN", "dialect_for_errors"]

PLAIN: Final = OpenAIChat()
"""Whose errors a caller gets that speaks to no route of a model."""

DIALECTS: Final[dict[bytes, Dialect]] = {
    b"/v1/chat/completions": PLAIN,
    b"/v1/embeddings": OpenAIEmbeddings(),
}
"""Every route that reaches a model. Authentication belongs to the route's exchange, never to a path string."""


def dialect_for_errors(path: bytes) -> Dialect:
    """Whose error shape fits a request for ``path``, also where no route is there."""
    found = DIALECTS.get(path)
    return found if found is not None else PLAIN
