"""The turns of a chat as the API's contents.

Source: Gemini API reference, "Content" and "Part"; "Function calling"; "Thought signatures".
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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
    Turn,
)
from lmg.dialects.wire import Unsupported
from lmg.jsontext import JsonTextError, strict_loads

from .models import signs_calls, takes_media_in_results
from .signatures import SKIP, unmarked, unpacked

__all__ = ["contents_of"]

WIRE: Final = "gemini.generate"
_MEDIA_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "csv": "text/csv",
    "xml": "text/xml",
    "json": "application/json",
}
_SHOWN: Final = 64
_PLACE: Final = " place"  # of a result among those of its content; taken out before the request is written

Object = dict[str, Any]


def contents_of(chat: Chat) -> tuple[list[Object], list[Object]]:
    """The parts of the system instruction, and the contents.

    The API has one place for instructions: those between other turns move there. Calls that came in parallel, and
    their results, each stand in one content: a content of its own would be a further step.

    Raises:
        Unsupported: a call or a result that the API cannot be told of.
    """
    system: list[Object] = []
    contents: list[Object] = []
    calls: dict[str, _Call] = {}
    before = ""
    for turn in chat.turns:
        if turn.role in ("system", "developer"):
            system += _system(chat, turn)
            continue
        if turn.role == "assistant":
            role, parts = "model", _model_parts(chat, turn, calls)
        elif turn.role == "tool":
            role, parts = "user", _result_parts(chat, turn, calls)
        else:
            role, parts = "user", [made for part in turn.parts for made in _plain(chat, part)]
            parts = parts or [{"text": ""}]
        if turn.role == before and turn.role != "user":
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
            before = turn.role
    for content in contents:
        _settle(chat, content)
    if system and not contents:
        # A request of instructions alone: the API wants something to answer.
        contents, system = [{"role": "user", "parts": system}], []
    return system, contents


def _settle(chat: Chat, content: Object) -> None:
    """What is known of a content only when it is whole."""
    parts = content["parts"]
    if content["role"] == "model":
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first and signs_calls(chat.model):
            first["thoughtSignature"] = SKIP
    elif _PLACE in parts[0]:
        # Results without ids are told apart by their order alone, and clients send them as they come in.
        parts.sort(key=lambda part: part[_PLACE])
        for part in parts:
            del part[_PLACE]


@dataclass(slots=True)
class _Call:
    """A call of an earlier turn, as its result needs to know it."""

    name: str
    own_id: str
    place: int


def _system(chat: Chat, turn: Turn) -> list[Object]:
    if not all(isinstance(part, Text) for part in turn.parts):
        raise Unsupported(WIRE, "system", chat.uses.get(turn.role, "system"))
    return [{"text": part.text} for part in turn.parts if isinstance(part, Text) and part.text]


# -- what a model wrote ---------------------------------------------------------------------------


def _model_parts(chat: Chat, turn: Turn, calls: dict[str, _Call]) -> list[Object]:
    parts: list[Object] = []
    loose: list[str] = []  # signatures of texts that stand before them: not every dialect keeps the order
    for part in turn.parts:
        if isinstance(part, ToolCall):
            parts.append(_call_part(chat, part, calls))
        elif isinstance(part, Reasoning):
            signature = unmarked(part.signature, part.encrypted)
            if part.text:
                parts.append({"text": part.text, "thought": True, **_signed(signature)})
            elif signature and parts and _takes_signature(parts[-1]):
                parts[-1] |= _signed(signature)
            elif signature:
                loose.append(signature)
        else:
            made = _plain(chat, part)
            if made and loose and _takes_signature(made[-1]):
                made[-1] |= _signed(loose.pop(0))
            parts += made
    if loose:
        at = next((n for n, part in enumerate(parts) if "functionCall" in part), len(parts))
        parts[at:at] = [{"text": "", **_signed(signature)} for signature in loose]
    return parts


def _takes_signature(part: Object) -> bool:
    return "text" in part and "thought" not in part and "thoughtSignature" not in part


def _signed(signature: str) -> Object:
    return {"thoughtSignature": signature} if signature else {}


def _call_part(chat: Chat, call: ToolCall, calls: dict[str, _Call]) -> Object:
    own_id, signature = unpacked(call.id)
    try:
        args = strict_loads(call.arguments.encode()) if call.arguments.strip() else {}
    except JsonTextError:
        args = None
    if type(args) is not dict:
        raise Unsupported(
            WIRE, "tools", f"arguments of the call of {call.name[:_SHOWN]}, which are no JSON object"
        )
    calls[call.id] = _Call(call.name, own_id, len(calls))
    stated: Object = ({"id": own_id} if own_id else {}) | {"name": call.name, "args": args}
    return {"functionCall": stated, **_signed(signature)}


# -- what calls brought ---------------------------------------------------------------------------


def _result_parts(chat: Chat, turn: Turn, calls: dict[str, _Call]) -> list[Object]:
    return [_result_part(chat, part, calls) for part in turn.parts if isinstance(part, ToolResult)]


def _result_part(chat: Chat, result: ToolResult, calls: dict[str, _Call]) -> Object:
    call = calls.get(result.call_id)
    if call is None:
        raise Unsupported(
            WIRE, "tools", f"result of {result.call_id[:_SHOWN]}, which no earlier message calls"
        )
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    media = [_media(chat, part) for part in result.parts if not isinstance(part, Text)]
    stated: Object = {"id": call.own_id} if call.own_id else {}
    # Text stays text: as JSON its numbers would lose their digits.
    stated |= {"name": call.name, "response": {"error" if result.is_error else "output": text}}
    if media:
        stated["parts"] = media
    return {"functionResponse": stated, _PLACE: call.place}


def _media(chat: Chat, part: Image | Document) -> Object:
    where = chat.uses.get("tool_results.images", "tool results")
    text = part.text if isinstance(part, Document) else ""
    if not takes_media_in_results(chat.model) or not (part.data or text):
        raise Unsupported(WIRE, "tool_results.images", where)
    return _inline(part.media_type, part.data) if part.data else _inline_text(text)


# -- parts that stand for themselves --------------------------------------------------------------


def _plain(chat: Chat, part: Part) -> list[Object]:
    encode = _PLAIN.get(type(part))
    if encode is None:
        raise Unsupported(WIRE, "extra", "messages")
    return encode(chat, part)


def _text(chat: Chat, part: Any) -> list[Object]:
    return [{"text": part.text}] if part.text else []


def _image(chat: Chat, part: Any) -> list[Object]:
    if part.data:
        return [_inline(part.media_type, part.data)]
    return [_file(chat, part.url, part.media_type, "", "image.file")]


def _document(chat: Chat, part: Any) -> list[Object]:
    # There is no member for what a document is called: said before it, the model can still tell one from another.
    about = "\n".join(text for text in (part.title, part.context) if text)
    out: list[Object] = [{"text": about}] if about else []
    if part.data:
        return [*out, _inline(part.media_type, part.data)]
    if part.text:
        return [*out, _inline_text(part.text)]
    return [*out, _file(chat, part.url, part.media_type, "application/pdf", "document.file")]


def _audio(chat: Chat, part: Any) -> list[Object]:
    return [_inline(f"audio/{part.format}", part.data)]


def _inline(media_type: str, data: str) -> Object:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _inline_text(text: str) -> Object:
    return _inline("text/plain", base64.b64encode(text.encode()).decode())


def _file(chat: Chat, url: str, media_type: str, default: str, feature: str) -> Object:
    if not url:
        raise Unsupported(WIRE, feature, chat.uses.get(feature, "messages"))
    ending = url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    found = media_type or _MEDIA_TYPES.get(ending, default)
    return {"fileData": {"fileUri": url} | ({"mimeType": found} if found else {})}


_PLAIN: Final[dict[type[Any], Callable[[Chat, Any], list[Object]]]] = {
    Text: _text,
    Refused: _text,
    Image: _image,
    Document: _document,
    Audio: _audio,
}
