"""OpenAI embeddings.

Source: OpenAI API reference, "Create embeddings".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Refusal
from ..exchange import Usage
from ..jsontext import Json
from ..segments import Segment, walk_text
from . import Dialect
from .openai_errors import error_body

__all__ = ["OpenAIEmbeddings"]


class OpenAIEmbeddings(Dialect):
    """``POST /v1/embeddings``."""

    name = "openai.embeddings"
    operation = "embeddings"
    streams = False

    def check(self, value: Json) -> None:
        if type(value) is not dict:
            raise Refusal(400, "invalid_request", "The body must be a JSON object.")
        model = value.get("model")
        if type(model) is not str or not 0 < len(model) <= 256:
            raise Refusal(
                400, "invalid_request", "'model' must be a string of 1 to 256 characters.", param="model"
            )
        if type(value.get("input")) not in (str, list) or not value["input"]:
            raise Refusal(
                400, "invalid_request", "'input' must be a non-empty string or array.", param="input"
            )

    def wants_stream(self, value: Json) -> bool:
        return False

    def request_segments(self, value: Json) -> Iterator[Segment]:
        if type(value) is dict:
            for key, item in value.items():
                if key not in ("model", "encoding_format"):
                    yield from walk_text(item, (key,), "user" if key == "input" else "unknown")

    def response_segments(self, value: Json) -> Iterator[Segment]:
        # Vectors are no text; an error's message is.
        if type(value) is dict and "error" in value:
            yield from walk_text(value["error"], ("error",), "error")

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        stated = value.get("usage") if type(value) is dict else None
        tokens = stated.get("prompt_tokens") if type(stated) is dict else None
        return Usage(tokens, estimated=False) if type(tokens) is int and tokens >= 0 else None

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)
