"""OpenAI responses.

Source: OpenAI API reference, "Create a model response" and "Streaming events" of responses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Final

import orjson

from ...errors import Refusal
from ...jsontext import Json, JsonPath, JsonText
from ...records import Usage
from ...segments import Segment
from ...sse import SseEvent, encode_event
from .. import Delta, EventKind, Rebuilder, StreamEvent
from ..form import Chat, Completion
from ..openai_errors import error_body
from ..wire import Codec, EventDecoder, EventEncoder, Fault
from .answer import decode_answer, encode_answer
from .errors import FAILED, error_event, fault
from .events_in import ResponsesDecoder
from .events_out import ResponsesEncoder
from .frames import response_events
from .items import decode_usage
from .rebuild import ResponseRebuilder
from .request import SUPPORT, decode_request
from .request_out import encode_request
from .stream_texts import STATES, TERMINAL, delta_event, deltas, ends
from .texts import request_segments, response_segments

__all__ = ["OpenAIResponses"]

# What goes in the place of input, kept by the provider.
_STATE: Final = ("previous_response_id", "conversation", "prompt")
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([\w.]+)"')


class OpenAIResponses(Codec):
    """``POST /v1/responses``."""

    name = "openai.responses"
    operation = "chat"
    support = SUPPORT

    # -- translation --------------------------------------------------------------------------
    def decode_request(self, value: Json) -> Chat:
        return decode_request(value)

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        return encode_request(chat)

    def decode_answer(self, value: Json) -> Completion:
        return decode_answer(value)

    def encode_answer(self, completion: Completion) -> dict[str, Any]:
        return encode_answer(completion)

    def decoder(self) -> EventDecoder:
        return ResponsesDecoder()

    def encoder(self) -> EventEncoder:
        return ResponsesEncoder()

    def fault(self, status: int, body: bytes) -> Fault:
        return fault(status, body)

    # -- requests -----------------------------------------------------------------------------
    def check(self, value: Json) -> None:
        if type(value) is not dict:
            raise _bad("The body must be a JSON object.", None)
        model = value.get("model")
        if type(model) is not str or not model:
            raise _bad("'model' must be a non-empty string.", "model")
        if len(model) > 256:
            raise _bad("'model' is longer than 256 characters.", "model")
        stated = value.get("input")
        if stated is None and all(value.get(key) is None for key in _STATE):
            raise _bad("'input' is missing.", "input")
        if type(stated) not in (str, list, type(None)):
            raise _bad("'input' must be a string or an array.", "input")
        for n, item in enumerate(stated if type(stated) is list else ()):
            if type(item) is not dict:
                raise _bad(f"'input[{n}]' must be an object.", f"input[{n}]")
        if type(value.get("stream")) not in (bool, type(None)):
            raise _bad("'stream' must be a boolean.", "stream")

    def wants_stream(self, value: Json) -> bool:
        return type(value) is dict and value.get("stream") is True

    def request_segments(self, value: Json) -> Iterator[Segment]:
        return request_segments(value)

    def prepare(self, body: JsonText, *, max_output_tokens: int | None) -> JsonText:
        asked = body.get("max_output_tokens")
        if max_output_tokens is None or (type(asked) is int and asked <= max_output_tokens):
            return body
        return body.set(("max_output_tokens",), max_output_tokens)

    # -- whole answers ------------------------------------------------------------------------
    def response_segments(self, value: Json) -> Iterator[Segment]:
        return response_segments(value)

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        if type(value) is not dict:
            return None
        inside = value.get("response")
        return decode_usage((inside if type(inside) is dict else value).get("usage"))

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)

    def error_event(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_event(code, message, type, param, request_id)

    def after_edit(self, body: JsonText, path: JsonPath) -> JsonText:
        # They spell out the text as it was, token by token.
        return body.set((*path[:-1], "logprobs"), []) if body.get(*path[:-1], "logprobs") else body

    # -- streams ------------------------------------------------------------------------------
    def kind(self, event: SseEvent, *, opened: bool) -> EventKind:
        data = event.data
        if data is None or not data.strip():
            return "other"
        name = _type_of(event, data, opened=opened)
        if name.endswith(".delta"):
            return "delta"
        if name in TERMINAL:
            return "done"
        if name in FAILED or not name:
            return "error"
        return "open" if name in STATES else "finish"

    def deltas(self, value: Json) -> Iterable[Delta]:
        return deltas(value)

    def ends(self, value: Json) -> Iterable[str]:
        return ends(value)

    def rebuilder(self) -> Rebuilder:
        return ResponseRebuilder(self)

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        return delta_event(like, delta, text)

    def make_event(self, value: Json, kind: EventKind) -> StreamEvent:
        data = orjson.dumps(value)
        name = str(value.get("type")).encode() if type(value) is dict else b""
        return StreamEvent(self, SseEvent(encode_event(data, name), data, name), kind, JsonText(data, value))

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        """The whole answer; its texts are those of the deltas, whatever the events that close them say."""
        rebuilder = ResponseRebuilder(self)
        whole: dict[str, Any] = {}
        items: dict[int, Json] = {}
        for event in events:
            body = rebuilder.out(event).body
            value = body.value if body is not None else None
            if type(value) is not dict:
                continue
            inside, index = value.get("response"), value.get("output_index")
            if type(inside) is dict:
                whole = inside
            elif value.get("type") == "response.output_item.done" and type(index) is int:
                items[index] = value.get("item")
        if whole.get("status") in ("completed", "incomplete"):
            return whole
        return whole | {"status": "completed", "output": [items[n] for n in sorted(items)]}

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        assert type(value) is dict
        numbers = count()
        return [
            encode_event(orjson.dumps(one | {"sequence_number": next(numbers)}), one["type"].encode())
            for one in response_events(value if usage else value | {"usage": None})
        ]


def _type_of(event: SseEvent, data: bytes, *, opened: bool) -> str:
    """The type of an event, or ``""`` where it is none of this API's."""
    if opened:
        found = _TYPE.match(data)
        if found is not None:
            return found[1].decode()
        # In a string, these quotes would be escaped: they are the type's.
        if event.name.endswith(b".delta") and b'"' + event.name + b'"' in data:
            return event.name.decode()
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    if type(value) is not dict:
        return ""
    kind = value.get("type")
    if type(kind) is str and kind:
        return kind
    return ""


def _bad(message: str, param: str | None) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)
