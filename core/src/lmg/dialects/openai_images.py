"""OpenAI images: made from a prompt, or from a prompt and other images.

Source: OpenAI API reference, "Create image", "Create image edit" and "Image streaming".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

import orjson

from ..jsontext import Json, JsonText
from ..segments import Role, Segment
from ..sse import SseEvent, encode_event
from . import Delta, Rebuilder, StreamEvent
from .passed_through import PassedThrough, opaque, refuse_text

__all__ = ["OpenAIImageEdits", "OpenAIImages"]

_PARTIAL: Final = "partial_images"
"""Where the events before the last one stand in an answer that was put together for review."""


class OpenAIImages(PassedThrough):
    """``POST /v1/images/generations``. A streamed image ends with its event ``completed``."""

    name = "openai.images"
    operation = "images"
    max_event_bytes = 64 * 2**20
    events: ClassVar[str] = "image_generation"
    settings = frozenset(
        {
            "model", "n", "size", "quality", "style", "background", "moderation", "output_format", "output_compression",
            "response_format", "partial_images", "stream", "input_fidelity",
        }
    )  # fmt: skip
    hidden = frozenset({"image", "images", "image[]", "mask", "mask[]"})
    facts = frozenset(
        {
            "created", "created_at", "background", "output_format", "quality", "size", "usage", "partial_image_index", "object",
            "model", "id",
        }
    )  # fmt: skip
    hidden_answer = frozenset({"b64_json", "url"})
    last = frozenset({"image_generation.completed", "image_edit.completed"})

    def check_fields(self, value: dict[str, Json]) -> None:
        prompt = value.get("prompt")
        if type(prompt) is not str or not prompt:
            raise refuse_text("'prompt' must be a non-empty string.", "prompt")
        if self.wants_stream(value) and value.get("n") not in (None, 1, "1"):
            # The event that ends one image ends the stream: a second one would be lost.
            raise refuse_text("'n' must be 1 where the image is streamed.", "n")

    def role(self, key: str) -> Role:
        return "user" if key == "prompt" else "unknown"

    def answer_segments(self, key: str, item: Json) -> Iterator[Segment]:
        if key not in ("data", _PARTIAL) or type(item) is not list:
            yield from super().answer_segments(key, item)
            return
        for n, image in enumerate(item):
            for name, part in image.items() if type(image) is dict else ():
                if name in self.hidden_answer:
                    if part is not None:
                        yield opaque((key, n, name), "assistant")
                    continue
                for segment in super().answer_segments(name, part):
                    path = (key, n, *segment.path)
                    yield Segment(".".join(map(str, path)), segment.role, path, segment.text, segment.format)

    def rebuilder(self) -> Rebuilder:
        return Shown(self)

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        assert type(like) is dict
        # An image is not sent twice for the sake of a text beside it.
        return super().delta_event(
            {k: v for k, v in like.items() if k not in self.hidden_answer}, delta, text
        )

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        out: dict[str, Json] = {}
        partial: list[Json] = []
        for event in events:
            value = event.body.value if event.body is not None else None
            if type(value) is not dict:
                continue
            if value.get("type") not in self.last:
                partial.append(value)
                continue
            image = {key: item for key, item in value.items() if key not in (*self.facts, "type")}
            out |= {key: item for key, item in value.items() if key in self.facts and key != "created_at"}
            out |= {"created": value.get("created_at"), "data": [image]}
        return {**out, "data": out.get("data") or [], **({_PARTIAL: partial} if partial else {})}

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        assert type(value) is dict
        images: Any = value.get("data") or []
        partial: Any = value.get(_PARTIAL) or []
        shared = {key: item for key, item in value.items() if key not in ("data", "created", _PARTIAL)}
        # A stream is of one image (see ``check_fields``).
        image = {"created_at": value.get("created"), **(images[0] if images else {}), **shared}
        events = [*partial, {"type": f"{self.events}.completed", **image}]
        return [encode_event(orjson.dumps(event), str(event["type"]).encode()) for event in events]


class Shown(Rebuilder):
    """Shows filters the event that ends a stream, as a copy that does not leave: what they make of it is what leaves.

    Where the copy does not come through, nothing that could be read does.
    """

    def __init__(self, dialect: OpenAIImages) -> None:
        self._dialect = dialect
        self._reviewed: JsonText | None = None

    def into(self, event: StreamEvent) -> Sequence[StreamEvent]:
        if event.kind != "done" or event.body is None:
            return (event,)
        unsent = SseEvent(b"", event.sse.data, event.sse.name)
        return (StreamEvent(self._dialect, unsent, "delta", event.body), event)

    def out(self, event: StreamEvent) -> StreamEvent:
        value = event.body.value if event.body is not None else None
        if type(value) is not dict or value.get("type") not in self._dialect.last:
            return event
        if event.kind != "done":
            self._reviewed = event.body
            return StreamEvent(self._dialect, SseEvent(b"", None), "other")
        if self._reviewed is not None:
            return StreamEvent(self._dialect, event.sse, "done", self._reviewed)
        for delta in event.deltas:
            event = event.replace(delta, "") if delta.format != "opaque" else event
        return event


class OpenAIImageEdits(OpenAIImages):
    """``POST /v1/images/edits``: a form with the images, or JSON that says where they are."""

    name = "openai.image_edits"
    events = "image_edit"
    content_types = frozenset({b"multipart/form-data", b"application/json"})
