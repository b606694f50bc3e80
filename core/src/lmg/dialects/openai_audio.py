"""OpenAI audio: speech from text, and text from speech.

Source: OpenAI API reference, "Create speech", "Create transcription", "Create translation" and their streaming events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

import orjson

from ..jsontext import Json, JsonPath, JsonText
from ..segments import Role, Segment
from ..sse import encode_event
from . import Delta, Rebuilder, StreamEvent
from .multipart import Upload
from .openai_audio_answers import PlainText, Sound, media_type
from .passed_through import PassedThrough, refuse_text

__all__ = ["OpenAISpeech", "OpenAITranscription", "OpenAITranslation"]

_IN_PIECES: Final = ("logprobs", "words", "tokens")


class OpenAISpeech(PassedThrough):
    """``POST /v1/audio/speech``: sound, whole, or as events where ``stream_format`` is ``sse``."""

    name = "openai.speech"
    operation = "speech"
    settings = frozenset({"model", "voice", "response_format", "speed", "stream_format", "stream"})
    facts = frozenset({"usage", "id", "object", "created", "model"})
    hidden_answer = frozenset({"audio"})
    last = frozenset({"speech.audio.done"})

    def check_fields(self, value: dict[str, Json]) -> None:
        text = value.get("input")
        if type(text) is not str or not text:
            raise refuse_text("'input' must be a non-empty string.", "input")
        if value.get("stream_format") not in (None, "audio", "sse"):
            raise refuse_text("'stream_format' must be 'audio' or 'sse'.", "stream_format")

    def wants_stream(self, value: Json) -> bool:
        return type(value) is dict and value.get("stream_format") == "sse"

    def role(self, key: str) -> Role:
        return "user" if key == "input" else "system" if key == "instructions" else "unknown"

    def read_answer(self, raw: bytes, content_type: bytes, *, strict: bool) -> JsonText:
        if media_type(content_type) == b"application/json":
            body = super().read_answer(raw, content_type, strict=strict)
            if body.get("error"):
                return body  # an error that calls itself an answer
        return Sound(raw, content_type)

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        out: dict[str, Json] = {}
        for event in events:
            value = event.body.value if event.body is not None else None
            out |= {key: item for key, item in value.items() if key != "type"} if type(value) is dict else {}
        return out

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        assert type(value) is dict
        rest = {key: item for key, item in value.items() if key != "audio"}
        return [_event("speech.audio.delta", audio=value.get("audio")), _event("speech.audio.done", **rest)]


class OpenAITranscription(PassedThrough):
    """``POST /v1/audio/transcriptions``: a form with the sound; JSON, plain text or events come back.

    Servers that stream chunks like those of a chat completion, ended by ``[DONE]``, are understood too.
    """

    name = "openai.transcription"
    operation = "transcription"
    content_types = frozenset({b"multipart/form-data"})
    settings = frozenset(
        {
            "model", "language", "languages[]", "response_format", "temperature", "stream", "timestamp_granularities[]", "include[]",
            "chunking_strategy", "chunking_strategy[type]", "chunking_strategy[threshold]",
            "chunking_strategy[prefix_padding_ms]", "chunking_strategy[silence_duration_ms]",
        }
    )  # fmt: skip
    hidden = frozenset({"file", "file_url", "url"})
    facts = frozenset(
        {
            "usage", "language", "languages", "duration", "task", "logprobs", "words", "id", "object", "created", "model",
            "segment_id", "start", "end", "x_groq",
        }
    )  # fmt: skip
    last = frozenset({"transcript.text.done", "transcription.done"})
    pieces: ClassVar[frozenset[str]] = frozenset({"transcript.text.delta", "transcription.text.delta"})
    """The types of the events that hold the next piece of the text, which the last one repeats whole."""

    def check_fields(self, value: dict[str, Json]) -> None:
        if not isinstance(value.get("file"), Upload) and not any(
            value.get(key) for key in ("file_url", "url")
        ):
            raise refuse_text("'file' must be a file.", "file")
        if type(value.get("prompt")) not in (str, type(None)):
            raise refuse_text("'prompt' must be a text.", "prompt")

    def role(self, key: str) -> Role:
        return "user" if key in ("prompt", "file") else "unknown"

    # -- answers ------------------------------------------------------------------------------
    def read_answer(self, raw: bytes, content_type: bytes, *, strict: bool) -> JsonText:
        if media_type(content_type) in (b"application/json", b""):
            return super().read_answer(raw, content_type, strict=strict)
        return PlainText.read(raw, content_type)

    def answer_segments(self, key: str, item: Json) -> Iterator[Segment]:
        for segment in super().answer_segments(key, item):
            if not any(name in segment.path for name in _IN_PIECES):
                yield segment

    def after_edit(self, body: JsonText, path: JsonPath) -> JsonText:
        """Without what repeats the text at ``path`` in pieces: words, log probabilities and token ids. They are no
        segments of their own, and leave with the text that they belong to.
        """
        for name in _IN_PIECES:
            body = body.remove((name,))
        segments: Any = body.get("segments")
        for n, segment in enumerate(segments if type(segments) is list else ()):
            for name in _IN_PIECES if type(segment) is dict else ():
                body = body.remove(("segments", n, name))
        return body

    # -- events -------------------------------------------------------------------------------
    def deltas(self, value: Json) -> Iterable[Delta]:
        if type(value) is dict and value.get("type") in self.last:
            return ()  # nothing that has not been said: see ``Heard``
        return super().deltas(value)

    def rebuilder(self) -> Rebuilder:
        return Heard(self)

    def event_id(self, value: dict[str, Json]) -> str:
        speech = value.get("segment_id") or value.get("id") if "choices" not in value else None
        return f"{super().event_id(value)}.{speech}" if type(speech) is str else super().event_id(value)

    def ends(self, value: Json) -> Iterable[str]:
        if type(value) is dict and value.get("type") == "transcript.text.segment":
            return (f"transcript.text.delta.{value.get('id')}.", f"{self.event_id(value)}.")
        choices: Any = value.get("choices") if type(value) is dict else None
        if type(choices) is list and any(type(one) is dict and one.get("finish_reason") for one in choices):
            return ("",)
        return super().ends(value)

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        texts: list[str] = []
        segments: list[Json] = []
        out: dict[str, Json] = {}
        for event in events:
            value: Any = event.body.value if event.body is not None else None
            kind = value.get("type") if type(value) is dict else None
            if kind == "transcript.text.segment":
                segments.append(value)
            elif kind in self.last:
                out = {key: item for key, item in value.items() if key != "type"}
            elif type(value) is dict:
                texts += [delta.text for delta in event.deltas if delta.format == "text"]
        out.setdefault("text", "".join(texts))
        return out | ({"segments": segments} if segments else {})

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        assert type(value) is dict
        segments: Any = value.get("segments") or []
        out = [_event("transcript.text.delta", delta=value.get("text"))]
        if all(type(segment) is dict and type(segment.get("id")) is str for segment in segments):
            out += [_event(**{"type": "transcript.text.segment", **segment}) for segment in segments]
        rest = {key: item for key, item in value.items() if key in ("text", "languages", "logprobs", "usage")}
        return [*out, _event("transcript.text.done", **rest)]


class Heard(Rebuilder):
    """The last event repeats the whole text: what filters have made of its pieces is what it says."""

    def __init__(self, dialect: OpenAITranscription) -> None:
        self._dialect = dialect
        self._said = False
        self._left: list[str] = []

    def into(self, event: StreamEvent) -> Sequence[StreamEvent]:
        value = event.body.value if event.body is not None else None
        kind = value.get("type") if type(value) is dict else None
        if kind in self._dialect.pieces:
            self._said = True
        elif kind in self._dialect.last and not self._said and type(value) is dict and value.get("text"):
            self._said = True
            piece = {"type": "transcript.text.delta", "delta": value["text"]}
            return (self._dialect.make_event(piece, "delta"), event)
        return (event,)

    def out(self, event: StreamEvent) -> StreamEvent:
        value = event.body.value if event.body is not None else None
        kind = value.get("type") if type(value) is dict else None
        if kind in self._dialect.pieces:
            self._left += [delta.text for delta in event.deltas]
        elif kind in self._dialect.last and type(value) is dict and type(value.get("text")) is str:
            left, said = "".join(self._left), str(value["text"])
            if "".join(left.split()) != "".join(said.split()):  # pieces may lack the blanks between them
                return event.replace(Delta("text", "assistant", said, ("text",)), left)
        return event


class OpenAITranslation(OpenAITranscription):
    """``POST /v1/audio/translations``: the same into English."""

    name = "openai.translation"


def _event(type: str, **members: Any) -> bytes:
    return encode_event(orjson.dumps({"type": type, **members}))
