"""The Converse API as a wire.

Source: Amazon Bedrock API reference, "Converse" and "ConverseStream", and the service model that botocore ships.
"""

from __future__ import annotations

from typing import Any

from lmg.dialects.form import Chat, Completion
from lmg.dialects.wire import EventDecoder, Fault, Wire
from lmg.jsontext import Json

from .answer import decode_answer
from .events import ConverseDecoder
from .families import ANY, Family
from .faults import fault
from .request import encode_request

__all__ = ["ConverseWire"]


class ConverseWire(Wire):
    """``POST /model/{modelId}/converse`` and ``…/converse-stream``, as the models of one family take it."""

    name = "bedrock.converse"
    support = ANY.support

    def __init__(self, family: Family = ANY) -> None:
        self.family = family
        # The API is one and the models behind it are not: what a request can say depends on whom it is for.
        self.support = family.support  # type: ignore[misc]

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        return encode_request(chat, self.family, self.name)

    def decode_answer(self, value: Json) -> Completion:
        return decode_answer(value)

    def decoder(self) -> EventDecoder:
        return ConverseDecoder(inclusive=self.family.inclusive_streams)

    def fault(self, status: int, body: bytes) -> Fault:
        return fault(status, body)
