"""What is passed on as it came: the base of the operations that every OpenAI-compatible provider spells alike.

Nothing is translated here, but everything is read: which texts a request and an answer hold, and what is opaque.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final

from ..errors import Refusal
from ..jsontext import Json, JsonPath, JsonText, JsonTextError
from ..records import Usage
from ..segments import Role, Segment, walk_text
from ..sse import SseEvent
from . import DONE, Delta, Dialect, EventKind
from .multipart import FORM, MultipartText, Upload
from .openai_errors import error_body

__all__ = ["PassedThrough", "opaque", "refuse_text", "stated_usage"]

MAX_MODEL_NAME: Final = 256
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([A-Za-z_.]+)"')


class PassedThrough(Dialect):
    """One operation of the OpenAI API that has no other dialect. Its events, where it has any, state their ``type``."""

    settings: ClassVar[frozenset[str]] = frozenset()
    """Members of a request that are settings, not text."""
    hidden: ClassVar[frozenset[str]] = frozenset()
    """Members of a request that hold an image or sound, or say where one is."""
    facts: ClassVar[frozenset[str]] = frozenset()
    """Members of an answer or an event that are no text."""
    hidden_answer: ClassVar[frozenset[str]] = frozenset()
    """Members of an answer or an event that hold an image or sound, or say where one is."""
    last: ClassVar[frozenset[str]] = frozenset()
    """The types of the events that end a stream."""

    # -- requests -----------------------------------------------------------------------------
    def read_request(self, raw: bytes, content_type: bytes, *, max_depth: int) -> JsonText:
        if content_type.partition(b";")[0].strip().lower() == FORM:
            return MultipartText.read(raw, content_type)
        return super().read_request(raw, content_type, max_depth=max_depth)

    def check(self, value: Json) -> None:
        if type(value) is not dict:
            raise refuse_text("The body must be a JSON object.", None)
        model = value.get("model")
        if type(model) is not str or not 0 < len(model) <= MAX_MODEL_NAME:
            raise refuse_text("'model' must be a string of 1 to 256 characters.", "model")
        # A form's values are texts; other spellings are read in more ways than one.
        stream = value.get("stream")
        if type(stream) not in (bool, type(None)) and str(stream).lower() not in ("true", "false"):
            raise refuse_text("'stream' must be a boolean.", "stream")
        self.check_fields(value)

    def check_fields(self, value: dict[str, Json]) -> None:
        """Refuses what cannot be a request of this operation."""

    def wants_stream(self, value: Json) -> bool:
        return type(value) is dict and str(value.get("stream")).lower() == "true"

    def role(self, key: str) -> Role:
        """Whose text stands in the member ``key`` of a request."""
        return "unknown"

    def request_segments(self, value: Json) -> Iterator[Segment]:
        for key, item in value.items() if type(value) is dict else ():
            if key in self.settings and _is_setting(item):
                continue
            yield from _segments(item, (key,), self.role(key), key in self.hidden)

    # -- answers ------------------------------------------------------------------------------
    def response_segments(self, value: Json) -> Iterator[Segment]:
        for key, item in value.items() if type(value) is dict else ():
            if key == "error":
                yield from walk_text(item, ("error",), "error")
            else:
                yield from self.answer_segments(key, item)

    def answer_segments(self, key: str, item: Json) -> Iterator[Segment]:
        """What stands in the member ``key`` of an answer or an event."""
        if key not in self.facts:
            yield from _segments(item, (key,), "assistant", key in self.hidden_answer)

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        return stated_usage(value.get("usage")) if type(value) is dict else None

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)

    # -- events -------------------------------------------------------------------------------
    def kind(self, event: SseEvent, *, opened: bool) -> EventKind:
        if event.data is None:
            return "other"
        if event.data == DONE:
            return "done"
        told = _TYPE.match(event.data)
        if told is not None:  # an image has megabytes: its event need not be parsed to be told apart
            name = told[1].decode()
            return "error" if name == "error" else "done" if name in self.last else "delta"
        try:
            value = self.read_json(event.data)
        except JsonTextError:
            return "error"
        if type(value) is not dict or value.get("error") is not None:
            return "error"
        if value.get("type") in self.last:
            return "done"
        return "delta" if value.get("usage") is None else "finish"

    def deltas(self, value: Json) -> Iterable[Delta]:
        if type(value) is not dict:
            return
        event = self.event_id(value)
        for key, item in value.items():
            for segment in self.answer_segments(key, item) if key != "type" else ():
                yield Delta(f"{event}.{segment.id}", segment.role, segment.text, segment.path, segment.format)

    def event_id(self, value: dict[str, Json]) -> str:
        """What tells the texts of one event apart from those of others: the same for pieces of one text."""
        return str(value.get("type") or "event")

    def ends(self, value: Json) -> Iterable[str]:
        # The events before the last one hold pieces; it says all that there is to say.
        return ("",) if type(value) is dict and value.get("type") in self.last else ()

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        assert type(like) is dict
        value = {key: item for key, item in like.items() if key not in ("usage", "logprobs")}
        return JsonText(b"", value).set(delta.path, text).value


def _is_setting(value: Json) -> bool:
    return all(_is_setting(item) for item in value) if type(value) is list else not isinstance(value, dict)


def _segments(value: Json, path: JsonPath, role: Role, hidden: bool) -> Iterator[Segment]:
    """The texts below ``value``; uploads, data URLs, and all of what is ``hidden`` are opaque."""
    if value is None:
        return
    if isinstance(value, Upload) or (hidden and type(value) is not list):
        yield opaque(path, role)
    elif type(value) is list and (hidden or any(isinstance(item, Upload) for item in value)):
        for n, item in enumerate(value):
            yield from _segments(item, (*path, n), role, hidden)
    else:
        for segment in walk_text(value, path, role):
            held = segment.format != "opaque" and segment.text[:5].lower() == "data:"
            yield replace(segment, text="", format="opaque") if held else segment


def opaque(path: JsonPath, role: Role) -> Segment:
    """The segment of something at ``path`` that cannot be read."""
    return Segment(".".join(map(str, path)), role, path, "", "opaque")


def refuse_text(message: str, param: str | None) -> Refusal:
    """A 400 that says what is wrong with the member ``param``."""
    return Refusal(400, "invalid_request", message, param=param)


def stated_usage(stated: Json) -> Usage | None:
    """Tokens in either of OpenAI's two spellings; None where tokens are not what is counted."""
    if type(stated) is not dict:
        return None
    counts = [
        _count(stated, "input_tokens", "prompt_tokens"),
        _count(stated, "output_tokens", "completion_tokens"),
    ]
    if counts == [None, None]:
        total = _count(stated, "total_tokens")
        return Usage(total, estimated=False) if total is not None else None
    details: Any = stated.get("input_tokens_details") or stated.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if type(details) is dict else None
    return Usage(counts[0] or 0, counts[1] or 0, cached or 0, estimated=False)


def _count(stated: dict[str, Json], *names: str) -> int | None:
    for name in names:
        count = stated.get(name)
        if type(count) is int and count >= 0:
            return count
    return None
