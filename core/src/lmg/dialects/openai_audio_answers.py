"""Answers that are no JSON, as documents: sound, and transcripts in plain text."""

from __future__ import annotations

from typing import Final

import orjson

from ..errors import UpstreamError
from ..jsontext import JsonPath, JsonText

__all__ = ["PlainText", "Sound", "media_type"]

_SOUND: Final = (b"audio/", b"video/")  # containers of sound alone are sent as video, too
_UNTOLD: Final = frozenset({b"application/octet-stream", b"binary/octet-stream", b"application/ogg"})
_TEXT: Final = frozenset({b"text/plain", b"text/vtt", b"text/srt", b"application/x-subrip"})


def media_type(content_type: bytes) -> bytes:
    """The type alone, without its parameters, in lower case."""
    return content_type.partition(b";")[0].strip().lower()


class Sound(JsonText):
    """Sound as it came: one opaque thing. It cannot be edited."""

    __slots__ = ()
    replayable = False

    def __init__(self, raw: bytes, content_type: bytes) -> None:
        kind = media_type(content_type)
        if not kind.startswith(_SOUND) and kind not in _UNTOLD:
            raise UpstreamError("answer", "protocol", "the answer is no sound")
        super().__init__(raw, {"audio": {"content_type": kind.decode("latin-1"), "size": len(raw)}})

    def _edit(self, path: JsonPath, value: object) -> JsonText:
        raise ValueError("sound cannot be edited")


class PlainText(JsonText):
    """A plain text: the member ``text`` of an object that has no other."""

    __slots__ = ()

    @classmethod
    def read(cls, raw: bytes, content_type: bytes) -> PlainText:
        """What ``raw`` says; a text that is not UTF-8, or no text, is nothing that the API sends."""
        if media_type(content_type) not in _TEXT:
            raise UpstreamError("answer", "protocol", "the answer is no transcript")
        try:
            return cls(raw, {"text": raw.decode()})
        except UnicodeDecodeError:
            raise UpstreamError("answer", "protocol", "the answer is no UTF-8") from None

    def _edit(self, path: JsonPath, value: object) -> JsonText:
        if path != ("text",):
            raise KeyError(f"a plain text has no place {path}")
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return PlainText(self.raw, {"text": text}, {path: text})

    def render(self) -> bytes:
        """The text's bytes: as they came, or those of the text in their place."""
        return str(self.get("text")).encode() if self.edited else self.raw
