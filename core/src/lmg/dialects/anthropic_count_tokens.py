"""Counting the tokens of an Anthropic message before it is sent.

Source: Claude API reference, "Count tokens in a Message".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exchange import Usage
from ..jsontext import Json
from ..segments import Segment
from . import Dialect
from .anthropic_messages.dialect import check_messages
from .anthropic_messages.errors import error_body
from .anthropic_messages.texts import request_texts, response_texts

__all__ = ["AnthropicCountTokens"]


class AnthropicCountTokens(Dialect):
    """``POST /v1/messages/count_tokens``."""

    name = "anthropic.count_tokens"
    id_header = b"request-id"
    operation = "count_tokens"
    streams = False
    kept_statuses = frozenset({529})

    def check(self, value: Json) -> None:
        check_messages(value)

    def wants_stream(self, value: Json) -> bool:
        return False

    def request_segments(self, value: Json) -> Iterator[Segment]:
        return request_texts(value) if type(value) is dict else iter(())

    def response_segments(self, value: Json) -> Iterator[Segment]:
        # A number is no text; an error's message is.
        return response_texts(value) if type(value) is dict else iter(())

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        # What would be used is the answer; nothing is.
        return Usage(estimated=False)

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)
