"""The content blocks of a request."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from lmg.dialects.form import (
    Audio,
    Chat,
    Document,
    Image,
    Part,
    Reasoning,
    Refused,
    Text,
    ToolCall,
    ToolResult,
)
from lmg.dialects.wire import Unsupported
from lmg.jsontext import Json

from .families import Family

__all__ = ["Block", "Blocks"]

Block = dict[str, Any]

_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/json": "txt",
    "application/xml": "txt",
    "application/yaml": "txt",
}
_ENDINGS: Final = frozenset({*_DOCUMENTS.values()})
_SOUNDS: Final = {"pcm16": "pcm"}
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9()\[\]-]+")
_MAX_NAME: Final = 200
_ROOM_FOR_A_NUMBER: Final = 8


class Blocks:
    """Writes the blocks of one request; remembers the names of its documents, which must differ."""

    def __init__(self, chat: Chat, family: Family, wire: str) -> None:
        self._chat = chat
        self._carried = frozenset(name for name, how in family.support.items() if how == "carried")
        self._long = family.caches_long
        self._wire = wire
        self._names: set[str] = set()

    def of(self, parts: Iterable[Part]) -> list[Block]:
        """The blocks of a message. Text without a word, which the API refuses, is left out.

        Raises:
            Unsupported: a part is of a kind of data that the API does not take.
        """
        out: list[Block] = []
        for part in parts:
            block = _WRITERS[type(part)](self, part)
            if block is not None:
                out.append(block)
            cache = _cache_of(part)
            if cache is not None and out:
                out += self.cache_point(cache)
        return out

    def cache_point(self, cache: Json) -> list[Block]:
        """The block behind what is to be cached; none where the model knows no such thing."""
        if "cache_control" not in self._carried:
            return []
        long = type(cache) is dict and cache.get("ttl") == "1h" and self._long
        return [{"cachePoint": {"type": "default"} | ({"ttl": "1h"} if long else {})}]

    # -- one writer a part ----------------------------------------------------------------------
    def _text(self, part: Text | Refused) -> Block | None:
        return {"text": part.text} if part.text.strip() else None

    def _image(self, part: Image) -> Block:
        kind = _IMAGES.get(part.media_type.lower())
        if kind is None or not part.data:
            raise self._unsupported("image.base64" if part.data or not part.url else "image.url")
        return {"image": {"format": kind, "source": {"bytes": part.data}}}

    def _document(self, part: Document) -> Block:
        if part.url or part.file_id:
            raise self._unsupported("document.url" if part.url else "document.file")
        cited = part.citations and "document.citations" in self._carried
        source: Block = {"bytes": part.data}
        if not part.data:
            # Citations count in characters of a text; elsewhere bytes are what every model takes.
            encoded = base64.b64encode(part.text.encode()).decode()
            source = {"text": part.text} if cited else {"bytes": encoded}
        block = {"format": self._format(part), "name": self._name(part.title), "source": source}
        if part.context:
            block["context"] = part.context
        if cited:
            block["citations"] = {"enabled": True}
        return {"document": block}

    def _format(self, part: Document) -> str:
        if not part.data:
            return "txt"
        media_type = part.media_type.partition(";")[0].strip().lower()
        known = _DOCUMENTS.get(media_type)
        if known is None:
            ending = part.title.rpartition(".")[2].lower()
            known = ending if ending in _ENDINGS else "txt" if media_type.startswith("text/") else None
        if known is None:
            raise self._unsupported("document.base64")
        return known

    def _name(self, title: str) -> str:
        """A name in the letters that the API takes, and no other document's."""
        plain = (
            _NOT_IN_A_NAME.sub(" ", title[: 2 * _MAX_NAME]).strip()[: _MAX_NAME - _ROOM_FOR_A_NUMBER].strip()
        )
        name = first = plain or "document"
        number = 1
        while name in self._names:
            number += 1
            name = f"{first} {number}"
        self._names.add(name)
        return name

    def _audio(self, part: Audio) -> Block:
        return {"audio": {"format": _SOUNDS.get(part.format, part.format), "source": {"bytes": part.data}}}

    def _call(self, part: ToolCall) -> Block:
        return {
            "toolUse": {"toolUseId": _tool_id(part.id), "name": part.name, "input": _input(part.arguments)}
        }

    def _result(self, part: ToolResult) -> Block:
        content = [
            {"text": inner.text} if isinstance(inner, Text) else _WRITERS[type(inner)](self, inner)
            for inner in part.parts
        ]
        block: Block = {"toolUseId": _tool_id(part.call_id), "content": content}
        if part.is_error and "tool_results.error" in self._carried:
            block["status"] = "error"
        return {"toolResult": block}

    def _reasoning(self, part: Reasoning) -> Block | None:
        """What a model can verify as its own; of other thoughts it takes none."""
        if "reasoning.history" not in self._carried:
            return None
        if part.encrypted:
            redacted = {"redactedContent": part.encrypted}
            return {"reasoningContent": redacted} if _is_base64(part.encrypted) else None
        if not part.signature:
            return None
        return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}

    def _unsupported(self, feature: str) -> Unsupported:
        return Unsupported(self._wire, feature, self._chat.uses.get(feature, "messages"))


_WRITERS: Final[dict[type, Callable[[Blocks, Any], Block | None]]] = {
    Text: Blocks._text,
    Refused: Blocks._text,
    Image: Blocks._image,
    Document: Blocks._document,
    Audio: Blocks._audio,
    ToolCall: Blocks._call,
    ToolResult: Blocks._result,
    Reasoning: Blocks._reasoning,
}


def _cache_of(part: Part) -> Json:
    """What is to be cached up to here; within a result there is no place for a cache point, so it follows it."""
    inner = part.parts if isinstance(part, ToolResult) else ()
    marks = [getattr(part, "cache", None), *(one.cache for one in inner)]
    return next((mark for mark in marks if mark is not None), None)


def _tool_id(id: str) -> str:
    """The id of a call in the letters and the length that the API takes; equal ids stay equal and others apart."""
    return id if _ID.fullmatch(id) else "call_" + hashlib.sha256(id.encode()).hexdigest()[:40]


def _input(arguments: str) -> Json:
    """The input of a call, which must be an object: what is none is wrapped, so that the model sees what it wrote."""
    if not arguments.strip():
        return {}
    try:
        value: Json = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    return value if type(value) is dict else {"INVALID_JSON": arguments}


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
