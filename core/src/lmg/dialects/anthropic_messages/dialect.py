"""Anthropic messages.

Source: Claude API reference, "Create a Message", "Streaming messages", "Errors".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import orjson

from ...errors import Refusal
from ...jsontext import Json, JsonText
from ...records import Usage
from ...segments import Segment
from ...sse import SseEvent, encode_event
from .. import Delta, EventKind, StreamEvent
from ..form import Chat, Completion
from ..wire import Codec, EventDecoder, EventEncoder, Fault, Support
from . import pieces, stream
from .answer import decode_answer, decode_usage, encode_answer
from .decode import decode_request
from .encode import SUPPORT, encode_request
from .errors import error_body, fault
from .events import MessagesDecoder, MessagesEncoder
from .models import traits_of
from .texts import request_texts, response_texts

__all__ = ["AnthropicMessages", "check_messages", "wire_for"]

_KINDS: Final[dict[str, EventKind]] = {
    "message_start": "open",
    "content_block_start": "open",
    "content_block_delta": "delta",
    "content_block_stop": "delta",
    "message_delta": "finish",
    "message_stop": "done",
    "ping": "other",
    "error": "error",
}
_NAMES: Final[dict[bytes, EventKind]] = {name.encode(): kind for name, kind in _KINDS.items()}
_LEAST_BUDGET: Final = 1024


class AnthropicMessages(Codec):
    """``POST /v1/messages``."""

    name = "anthropic.messages"
    id_header = b"request-id"
    operation = "chat"
    support = SUPPORT
    kept_statuses = frozenset({529})

    # -- translation --------------------------------------------------------------------------
    def decode_request(self, value: Json) -> Chat:
        return decode_request(value)

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        return encode_request(chat, self.support, self.name)

    def decode_answer(self, value: Json) -> Completion:
        return decode_answer(value)

    def encode_answer(self, completion: Completion) -> dict[str, Any]:
        return encode_answer(completion)

    def decoder(self) -> EventDecoder:
        return MessagesDecoder()

    def encoder(self) -> EventEncoder:
        return MessagesEncoder()

    def fault(self, status: int, body: bytes) -> Fault:
        return fault(status, body)

    # -- requests ---------------------------------------------------------------------------
    def check(self, value: Json) -> None:
        stated = check_messages(value)
        limit = stated.get("max_tokens")
        if type(limit) is not int or limit < 0:
            raise _bad("'max_tokens' must be a number of tokens.", "max_tokens")
        if type(stated.get("stream")) not in (bool, type(None)):
            raise _bad("'stream' must be a boolean.", "stream")

    def wants_stream(self, value: Json) -> bool:
        return type(value) is dict and value.get("stream") is True

    def request_segments(self, value: Json) -> Iterator[Segment]:
        return request_texts(value) if type(value) is dict else iter(())

    def prepare(self, body: JsonText, *, max_output_tokens: int | None) -> JsonText:
        limit = body.get("max_tokens")
        if max_output_tokens is None or (type(limit) is int and limit <= max_output_tokens):
            return body
        body = body.set(("max_tokens",), max_output_tokens)
        budget = body.get("thinking", "budget_tokens")
        if type(budget) is int and budget >= max_output_tokens:
            # What is thought must be less than what may be written at all, and no budget is below the API's least.
            if max_output_tokens <= _LEAST_BUDGET:
                return body.remove(("thinking",))
            budget = max(max_output_tokens // 2, _LEAST_BUDGET)
            return body.set(("thinking", "budget_tokens"), budget)
        return body

    # -- whole answers ----------------------------------------------------------------------
    def response_segments(self, value: Json) -> Iterator[Segment]:
        return response_texts(value) if type(value) is dict else iter(())

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        if type(value) is not dict:
            return None
        if value.get("type") == "message_start":
            message = value.get("message")
            found = decode_usage(message.get("usage")) if type(message) is dict else None
            # Of the answer nothing is known yet: it is estimated, should the stream break.
            return replace(found, estimated=True) if found is not None else None
        return decode_usage(value.get("usage"), before)

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)

    def error_event(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return encode_event(error_body(status, code, message, type, param, request_id), b"error")

    # -- streams ----------------------------------------------------------------------------
    def kind(self, event: SseEvent, *, opened: bool) -> EventKind:
        data = event.data
        if data is None:
            return "other"
        if opened:
            named = _NAMES.get(event.name)
            if named is not None:
                return named
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return "error" if data.strip() else "other"
        if type(value) is not dict:
            return "error"
        kind = value.get("type")
        if kind is None and value.get("error") is not None:
            return "error"
        # A type that came later may hold text: it is read like a delta, member by member.
        return _KINDS.get(kind, "delta") if type(kind) is str else "delta"

    def deltas(self, value: Json) -> Iterable[Delta]:
        return pieces.deltas(value)

    def ends(self, value: Json) -> Iterable[str]:
        return pieces.ends(value)

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        return pieces.delta_event(like, delta, text)

    def make_event(self, value: Json, kind: EventKind) -> StreamEvent:
        data = orjson.dumps(value)
        name = str(value.get("type", "")).encode() if type(value) is dict else b""
        return StreamEvent(self, SseEvent(encode_event(data, name), data, name), kind, JsonText(data, value))

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        return stream.assemble(event.body.value for event in events if event.body is not None)

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        return stream.replay(value)


def check_messages(value: Json) -> dict[str, Any]:
    """What requests and counts of their tokens have in common; raises ``Refusal`` (400) with the path."""
    if type(value) is not dict:
        raise _bad("The body must be a JSON object.", None)
    model = value.get("model")
    if type(model) is not str or not model:
        raise _bad("'model' must be a non-empty string.", "model")
    if len(model) > 256:
        raise _bad("'model' is longer than 256 characters.", "model")
    messages = value.get("messages")
    if type(messages) is not list or not messages:
        raise _bad("'messages' must be a non-empty array.", "messages")
    for n, message in enumerate(messages):
        if type(message) is not dict:
            raise _bad(f"'messages[{n}]' must be an object.", f"messages[{n}]")
        if type(message.get("role")) is not str:
            raise _bad(f"'messages[{n}].role' must be a string.", f"messages[{n}].role")
        if type(message.get("content")) not in (str, list):
            raise _bad(f"'messages[{n}].content' must be a string or an array.", f"messages[{n}].content")
    return value


def wire_for(model: str, *, sampling: bool = True) -> AnthropicMessages:
    """The wire to the model that the upstream knows as ``model``: it promises no more than that model takes.

    ``sampling`` is False where the API's version has no temperature, top_p and top_k.
    """
    traits = traits_of(model)
    return _variant(sampling and traits.samples, traits.prefills, traits.forces)


@lru_cache(maxsize=8)
def _variant(samples: bool, prefills: bool, forces: bool) -> AnthropicMessages:
    table: dict[str, Support] = dict(SUPPORT)
    if not samples:
        table |= {"temperature": "ignored", "top_p": "ignored", "top_k": "ignored"}
    if not prefills:
        table["prefill"] = "refused"
    if not forces:
        table |= {"tool_choice.required": "refused", "tool_choice.named": "refused"}
    supported: Mapping[str, Support] = table
    made: AnthropicMessages = type("AnthropicMessages", (AnthropicMessages,), {"support": supported})()
    return made


def _bad(message: str, param: str | None) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)
