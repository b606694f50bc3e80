"""The input items of a request, into turns of the intermediate form.

What a model wrote in one go (messages, reasoning, calls) is one assistant turn, and what its calls brought is one
tool turn: other APIs want them together, and here they are separate items.

Source: OpenAI API reference, "Create a model response", ``input``.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ...errors import Refusal
from ...jsontext import Json
from ..form import Audio, Chat, Document, Image, Part, Reasoning, Refused, Text, ToolCall, ToolResult, Turn
from ..reading import items_of, object_of
from ..wire import unknown

__all__ = ["data_of", "decode_input", "extra", "reasoning_of"]

_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})


def extra(chat: Chat, where: str, item: Json) -> None:
    """Notes a field that other APIs have no words for and that may be left out."""
    chat.extra[where] = item
    chat.use("extra", where)


def decode_input(chat: Chat, item: Json, key: str) -> None:
    """``input``: a text, or items."""
    if type(item) is str:
        chat.turns.append(Turn("user", [Text(item)] if item else []))
        return
    items = items_of(item, key)
    for n, stated in enumerate(items):
        where = f"{key}[{n}]"
        stated = object_of(stated, where)
        kind = stated.get("type") or ("message" if "role" in stated else "item_reference")
        decode = _ITEMS.get(kind) if type(kind) is str else None
        if decode is None:
            raise unknown(where)
        decode(chat, stated, where)
        caller = stated.get("caller")
        if caller is not None and caller != {"type": "direct"}:
            extra(chat, f"{where}.caller", caller)
    if chat.turns and chat.turns[-1].role == "assistant":
        chat.use("prefill", f"{key}[{len(items) - 1}]")


def _turn(chat: Chat, role: Any) -> Turn:
    """The turn that more of ``role`` belongs to: assistant and tool items join the one before."""
    if role in ("assistant", "tool") and chat.turns and chat.turns[-1].role == role:
        return chat.turns[-1]
    chat.turns.append(Turn(role, []))
    return chat.turns[-1]


def _message(chat: Chat, item: dict[str, Any], where: str) -> None:
    role = item.get("role")
    if role not in _ROLES:
        raise unknown(f"{where}.role")
    if role in ("system", "developer"):
        chat.use(role, where)
    if item.get("phase") is not None:
        extra(chat, f"{where}.phase", item["phase"])
    _turn(chat, role).parts += _content(chat, item.get("content"), f"{where}.content")


def _content(chat: Chat, content: Json, where: str) -> list[Part]:
    if content is None:
        return []
    if type(content) is str:
        return [Text(content)] if content else []
    out: list[Part] = []
    for n, part in enumerate(items_of(content, where)):
        at = f"{where}[{n}]"
        part = object_of(part, at)
        decode = _PARTS.get(str(part.get("type")))
        if decode is None:
            raise unknown(f"{at}.type")
        out.append(decode(chat, part, at))
    return out


def _cache(chat: Chat, part: dict[str, Any], where: str) -> Json:
    if part.get("prompt_cache_breakpoint") is None:
        return None
    chat.use("cache_control", f"{where}.prompt_cache_breakpoint")
    return {"type": "ephemeral"}


def _text(chat: Chat, part: dict[str, Any], where: str) -> Part:
    text = part.get("text")
    if type(text) is not str:
        raise Refusal(400, "invalid_request", f"'{where}.text' must be a string.", param=f"{where}.text")
    return Text(text, _cache(chat, part, where))


def _refusal(chat: Chat, part: dict[str, Any], where: str) -> Part:
    chat.use("refusal", where)
    return Refused(str(part.get("refusal") or ""))


def _image(chat: Chat, part: dict[str, Any], where: str) -> Part:
    detail = str(part.get("detail") or "")
    cache = _cache(chat, part, where)
    if detail and detail != "auto":
        chat.use("image.detail", f"{where}.detail")
    if part.get("file_id"):
        chat.use("image.file", f"{where}.file_id")
        return Image(file_id=str(part["file_id"]), detail=detail, cache=cache)
    url = part.get("image_url")
    if type(url) is not str or not url:
        place = f"{where}.image_url"
        raise Refusal(400, "invalid_request", f"'{place}' must be a URL.", param=place)
    data = data_of(url)
    if data is not None:
        chat.use("image.base64", f"{where}.image_url")
        return Image(data=data[1], media_type=data[0], detail=detail, cache=cache)
    chat.use("image.url", f"{where}.image_url")
    return Image(url=url, detail=detail, cache=cache)


def _file(chat: Chat, part: dict[str, Any], where: str) -> Part:
    title = str(part.get("filename") or "")
    cache = _cache(chat, part, where)
    if part.get("detail") not in (None, "auto"):
        extra(chat, f"{where}.detail", part["detail"])
    if part.get("file_id"):
        chat.use("document.file", f"{where}.file_id")
        return Document(file_id=str(part["file_id"]), title=title, cache=cache)
    if part.get("file_url"):
        chat.use("document.url", f"{where}.file_url")
        return Document(url=str(part["file_url"]), title=title, cache=cache)
    place = f"{where}.file_data"
    stated = part.get("file_data")
    if type(stated) is not str or not stated:
        raise Refusal(400, "invalid_request", f"'{place}' must hold the file.", param=place)
    # The API takes a data: URL, and bare base64 as well.
    data = data_of(stated) or (mimetypes.guess_type(title)[0] or "application/pdf", stated)
    text = _plain(data[1]) if data[0] == "text/plain" else None
    if text is not None:
        chat.use("document.text", place)
        return Document(text=text, title=title, cache=cache)
    chat.use("document.base64", place)
    return Document(data=data[1], media_type=data[0], title=title, cache=cache)


def _plain(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _audio(chat: Chat, part: dict[str, Any], where: str) -> Part:
    sound = object_of(part.get("input_audio"), f"{where}.input_audio")
    chat.use("audio", f"{where}.input_audio")
    return Audio(str(sound.get("data") or ""), str(sound.get("format") or ""))


def data_of(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a ``data:`` URL (RFC 2397), or None where it is another URL."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    if not comma:
        return None
    kind, *parameters = head.split(";")
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return kind or "text/plain", data


# -- what is not a message ------------------------------------------------------------------------


def _call(chat: Chat, item: dict[str, Any], where: str) -> None:
    custom = item.get("type") == "custom_tool_call"
    written = item.get("input" if custom else "arguments")
    name = str(item.get("name") or "")
    call = ToolCall(str(item.get("call_id") or ""), name, str(written or ""), custom)
    if item.get("namespace") is not None:
        raise unknown(f"{where}.namespace")
    _turn(chat, "assistant").parts.append(call)
    chat.use("tools.custom" if custom else "tools", where)


def _result(chat: Chat, item: dict[str, Any], where: str) -> None:
    custom = item.get("type") == "custom_tool_call_output"
    parts = _content(chat, item.get("output"), f"{where}.output")
    kept: list[Text | Image | Document] = []
    for n, part in enumerate(parts):
        if not isinstance(part, Text | Image | Document):
            raise unknown(f"{where}.output[{n}].type")
        if not isinstance(part, Text):
            chat.use("tool_results.images", f"{where}.output[{n}]")
        kept.append(part)
    _turn(chat, "tool").parts.append(ToolResult(str(item.get("call_id") or ""), kept, custom=custom))
    chat.use("tools.custom" if custom else "tools", where)


def _reasoning(chat: Chat, item: dict[str, Any], where: str) -> None:
    part = reasoning_of(item)
    chat.use("reasoning.history", where)
    if part.text or part.signature or part.encrypted:
        _turn(chat, "assistant").parts.append(part)
    else:
        # Only its id is here: the text is with the provider that wrote it.
        extra(chat, where, item)


def reasoning_of(item: dict[str, Any]) -> Reasoning:
    """A reasoning item. Its text is what the model thought where that is told, else the summary of it."""
    text = ""
    for key in ("content", "summary"):
        parts = item.get(key)
        pieces = [part.get("text") for part in parts if type(part) is dict] if type(parts) is list else []
        text = text or "\n\n".join(str(piece) for piece in pieces if piece)
    sealed = str(item.get("encrypted_content") or "")
    id_ = str(item.get("id") or "")
    return Reasoning(text, sealed, id=id_) if text else Reasoning(encrypted=sealed, id=id_)


def _reference(chat: Chat, item: dict[str, Any], where: str) -> None:
    chat.use("conversation", where)


_PARTS: Final[dict[str, Callable[[Chat, dict[str, Any], str], Part]]] = {
    "input_text": _text,
    "output_text": _text,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
    "refusal": _refusal,
}
_ITEMS: Final[dict[str, Callable[[Chat, dict[str, Any], str], None]]] = {
    "message": _message,
    "function_call": _call,
    "custom_tool_call": _call,
    "function_call_output": _result,
    "custom_tool_call_output": _result,
    "reasoning": _reasoning,
    "item_reference": _reference,
}
