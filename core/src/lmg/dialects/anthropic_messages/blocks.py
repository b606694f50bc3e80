"""Content blocks of a request, into the intermediate form and out of it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from ...jsontext import Json
from ..form import Chat, Document, Image, Part, Reasoning, Refused, Text, ToolCall, ToolResult
from ..reading import items_of, object_of
from ..wire import Unsupported, unknown

__all__ = [
    "arguments_of",
    "decode_content",
    "encode_parts",
    "input_of",
    "known",
    "own_citations",
    "tool_id",
]

IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
# A call's `caller` is the model, or a tool of the provider's own whose blocks are refused themselves.
_KEYS: Final = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "cache_control", "title", "context", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
}
CITATIONS: Final = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "search_result_location",
        "web_search_result_location",
    }
)
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")


def known(chat: Chat, stated: dict[str, Any], keys: frozenset[str], where: str) -> None:
    """Notes each member of ``stated`` beside ``keys`` as a field that the gateway does not know."""
    for key, item in stated.items():
        if key not in keys and item is not None:
            chat.extra[f"{where}.{key}"] = item
            chat.use("extra", f"{where}.{key}")


def arguments_of(value: Json) -> str:
    """The arguments of a call as JSON text."""
    return orjson.dumps(value if value is not None else {}).decode()


def input_of(arguments: str) -> Json:
    """The input of a call from JSON text; what is no object is wrapped as this API's documentation proposes."""
    if not arguments.strip():
        return {}
    try:
        value: Json = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"INVALID_JSON": arguments}
    return value if type(value) is dict else {"INVALID_JSON": arguments}


def own_citations(citations: Sequence[Json]) -> list[Json]:
    """Those that this API wrote, or could have."""
    return [one for one in citations if type(one) is dict and one.get("type") in CITATIONS]


def tool_id(id: str) -> str:
    """An id of a call in the letters that this API takes; equal ids stay equal and others apart."""
    return _NOT_IN_AN_ID.sub(lambda found: f"_{ord(found[0]):x}_", id) or "call"


# -- in -------------------------------------------------------------------------------------------


def decode_content(chat: Chat, content: Json, where: str, *, allowed: Sequence[str] = ()) -> list[Part]:
    """The parts of a string or of blocks at ``where``; ``allowed`` are the types that may stand there, or all."""
    if type(content) is str:
        return [Text(content)] if content else []
    out: list[Part] = []
    for n, item in enumerate(items_of(content, where)):
        at = f"{where}[{n}]"
        block = object_of(item, at)
        kind = block.get("type")
        decode = _BLOCKS.get(kind) if type(kind) is str else None
        if decode is None or (allowed and kind not in allowed):
            raise unknown(f"{at}.type")
        if block.get("cache_control") is not None:
            chat.use("cache_control", f"{at}.cache_control")
        known(chat, block, _KEYS[str(kind)], at)
        out.append(decode(chat, block, at))
    return out


def _text(chat: Chat, block: dict[str, Any], at: str) -> Part:
    citations = block.get("citations")
    return Text(
        str(block.get("text", "")),
        block.get("cache_control"),
        [*citations] if type(citations) is list else [],
    )


def _image(chat: Chat, block: dict[str, Any], at: str) -> Part:
    source = object_of(block.get("source"), f"{at}.source")
    kind, cache = source.get("type"), block.get("cache_control")
    if kind not in ("base64", "url", "file"):
        raise unknown(f"{at}.source.type")
    chat.use(f"image.{kind}", f"{at}.source")
    if kind == "base64":
        data, media_type = str(source.get("data", "")), str(source.get("media_type", ""))
        return Image(data=data, media_type=media_type, cache=cache)
    if kind == "url":
        return Image(url=str(source.get("url", "")), cache=cache)
    return Image(file_id=str(source.get("file_id", "")), cache=cache)


def _document(chat: Chat, block: dict[str, Any], at: str) -> Part:
    source = object_of(block.get("source"), f"{at}.source")
    kind = source.get("type")
    citations = block.get("citations")
    out = Document(
        title=str(block.get("title") or ""),
        context=str(block.get("context") or ""),
        citations=type(citations) is dict and citations.get("enabled") is True,
        cache=block.get("cache_control"),
    )
    if kind == "base64":
        out.data, out.media_type = str(source.get("data", "")), str(source.get("media_type", ""))
    elif kind == "url":
        out.url = str(source.get("url", ""))
    elif kind == "file":
        out.file_id = str(source.get("file_id", ""))
    elif kind == "text":
        out.text = str(source.get("data", ""))
    elif kind == "content" and not out.citations:
        # Without citations nothing points into the pieces, and their text is the document.
        pieces = decode_content(chat, source.get("content"), f"{at}.source.content", allowed=("text",))
        out.text = "\n".join(piece.text for piece in pieces if isinstance(piece, Text))
    else:
        raise unknown(f"{at}.source")
    chat.use(f"document.{'text' if kind == 'content' else kind}", f"{at}.source")
    if out.citations:
        chat.use("document.citations", f"{at}.citations")
    return out


def _thinking(chat: Chat, block: dict[str, Any], at: str) -> Part:
    chat.use("reasoning.history", at)
    return Reasoning(str(block.get("thinking", "")), str(block.get("signature") or ""))


def _redacted(chat: Chat, block: dict[str, Any], at: str) -> Part:
    chat.use("reasoning.history", at)
    return Reasoning(encrypted=str(block.get("data", "")))


def _tool_use(chat: Chat, block: dict[str, Any], at: str) -> Part:
    chat.use("tools", at)
    return ToolCall(
        str(block.get("id", "")),
        str(block.get("name", "")),
        arguments_of(block.get("input")),
        cache=block.get("cache_control"),
    )


def _tool_result(chat: Chat, block: dict[str, Any], at: str) -> Part:
    chat.use("tools", at)
    content = block.get("content")
    allowed = ("text", "image", "document")
    parts: Any = [] if content is None else decode_content(chat, content, f"{at}.content", allowed=allowed)
    if any(not isinstance(part, Text) for part in parts):
        chat.use("tool_results.images", f"{at}.content")
    failed = block.get("is_error") is True
    if failed:
        chat.use("tool_results.error", f"{at}.is_error")
    return ToolResult(str(block.get("tool_use_id", "")), parts, failed, cache=block.get("cache_control"))


_BLOCKS: Final[dict[str, Callable[[Chat, dict[str, Any], str], Part]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


# -- out ------------------------------------------------------------------------------------------


def encode_parts(parts: Sequence[Part], wire: str, *, citations: bool) -> list[dict[str, Any]]:
    """The blocks of a message. Text without a word is left out, which this API refuses; ``citations`` of text
    are written where the model wrote it.

    Raises:
        Unsupported: a part is of a kind of data that this API does not take.
    """
    out: list[dict[str, Any]] = []
    for part in parts:
        block = _block(part, wire, citations)
        if block is not None:
            cache = getattr(part, "cache", None)
            out.append(block if cache is None else {**block, "cache_control": cache})
    return out


def _block(part: Part, wire: str, citations: bool) -> dict[str, Any] | None:
    if isinstance(part, Text):
        if not part.text.strip():
            return None
        kept = own_citations(part.citations) if citations else []
        return {"type": "text", "text": part.text} | ({"citations": kept} if kept else {})
    if isinstance(part, ToolCall):
        return {
            "type": "tool_use",
            "id": tool_id(part.id),
            "name": part.name,
            "input": input_of(part.arguments),
        }
    if isinstance(part, ToolResult):
        return _encode_result(part, wire)
    if isinstance(part, Image):
        return {"type": "image", "source": _image_source(part, wire)}
    if isinstance(part, Document):
        return _encode_document(part, wire)
    if isinstance(part, Reasoning):
        return _encode_reasoning(part)
    if isinstance(part, Refused):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    return None  # sound, which admission has refused


def _encode_reasoning(part: Reasoning) -> dict[str, Any] | None:
    if part.foreign:
        return None
    if part.encrypted:
        return {"type": "redacted_thinking", "data": part.encrypted}
    if part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return None  # nothing that this API could verify, and it takes no other


def _encode_result(part: ToolResult, wire: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": tool_id(part.call_id)}
    content = encode_parts(part.parts, wire, citations=False)
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        block["content"] = content[0]["text"]
    elif content:
        block["content"] = content
    return block | ({"is_error": True} if part.is_error else {})


def _image_source(part: Image, wire: str) -> dict[str, Any]:
    if part.file_id:
        return {"type": "file", "file_id": part.file_id}
    if part.url:
        return {"type": "url", "url": part.url}
    media_type = "image/jpeg" if part.media_type == "image/jpg" else part.media_type
    if media_type not in IMAGES:
        raise Unsupported(wire, "image.base64", media_type or "an image without a media type")
    return {"type": "base64", "media_type": media_type, "data": part.data}


def _encode_document(part: Document, wire: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "document", "source": _document_source(part, wire)}
    if part.title:
        block["title"] = part.title
    if part.context:
        block["context"] = part.context
    if part.citations:
        block["citations"] = {"enabled": True}
    return block


def _document_source(part: Document, wire: str) -> dict[str, Any]:
    if part.file_id:
        return {"type": "file", "file_id": part.file_id}
    if part.url:
        return {"type": "url", "url": part.url}
    if not part.data:
        return {"type": "text", "media_type": "text/plain", "data": part.text}
    if part.media_type == "application/pdf":
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.media_type.startswith("text/"):
        try:
            text = base64.b64decode(part.data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise Unsupported(wire, "document.base64", "text that is not UTF-8 in base64") from None
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise Unsupported(wire, "document.base64", part.media_type or "a document without a media type")
