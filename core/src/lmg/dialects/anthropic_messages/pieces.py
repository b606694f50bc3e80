"""The texts in the events of a stream, and which of them get no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from ...jsontext import Json, JsonPath
from ...segments import Role, Segment
from .. import Delta
from .texts import block_texts, leaves, response_texts

__all__ = ["delta_event", "deltas", "ends"]

# By the type of a delta: its member, and the rest of the id, role and format of the text.
_GROWING: Final[dict[str, tuple[str, str, Role, Literal["text", "json"]]]] = {
    "text_delta": ("text", "text", "assistant", "text"),
    "thinking_delta": ("thinking", "thinking", "reasoning", "text"),
    "input_json_delta": ("partial_json", "input", "tool_arguments", "json"),
}
_MEMBERS: Final = {suffix: (kind, key) for kind, (key, suffix, _, _) in _GROWING.items()}
_NO_TEXT_OF_DELTA: Final = frozenset({"stop_reason", "stop_sequence", "container", "type"})


def deltas(value: Json) -> Iterable[Delta]:
    """The pieces of text in an event, in order."""
    if type(value) is not dict:
        return ()
    kind, delta = value.get("type"), value.get("delta")
    if kind == "content_block_delta" and type(delta) is dict:
        growing = _GROWING.get(delta.get("type"))  # type: ignore[arg-type]
        if growing is not None:
            key, suffix, role, form = growing
            text = delta.get(key)
            if type(text) is not str:
                return ()
            # A signature over the thoughts follows them.
            signed = suffix == "thinking"
            return (
                Delta(f"content.{value.get('index')}.{suffix}", role, text, ("delta", key), form, signed),
            )
        if delta.get("type") == "signature_delta":
            return ()
        return _of_segments(block_texts(delta, ("delta",), "assistant"), f"content.{value.get('index')}", 1)
    if kind == "content_block_start":
        found = block_texts(value.get("content_block"), ("content_block",), "assistant")
        return _of_segments(found, f"content.{value.get('index')}", 1)
    return _of_segments(_others(value, kind), "", 0)


def _others(value: dict[str, Any], kind: Json) -> Iterator[Segment]:
    if kind == "message_start" and type(value.get("message")) is dict:
        yield from response_texts(value["message"], ("message",))
        return
    for key, item in value.items():
        if key == "delta" and kind == "message_delta" and type(item) is dict:
            for name, inner in item.items():
                if name not in _NO_TEXT_OF_DELTA:
                    yield from leaves(inner, (key, name), "refusal")
        elif key not in ("type", "usage"):
            yield from leaves(item, (key,), "unknown")


def _of_segments(segments: Iterable[Segment], opening: str, skip: int) -> tuple[Delta, ...]:
    out: list[Delta] = []
    for segment in segments:
        if segment.format != "opaque" and segment.text:
            rest = ".".join(map(str, segment.path[skip:]))
            out.append(
                Delta(f"{opening}.{rest}" if opening else rest, segment.role, segment.text, segment.path)
            )
    return tuple(out)


def ends(value: Json) -> Iterable[str]:
    """What ids begin with that get no more text: of a block that stops, of the message, and of all that comes whole."""
    if type(value) is not dict:
        return ()
    kind = value.get("type")
    if kind == "content_block_stop":
        return (f"content.{value.get('index')}.",)
    whole = [delta.id for delta in deltas(value) if not _grows(delta)]
    return ("content.", *whole) if kind == "message_delta" else whole


def _grows(delta: Delta) -> bool:
    parts = delta.id.split(".")
    return len(parts) == 3 and parts[0] == "content" and parts[2] in _MEMBERS and delta.path[0] != "message"


def delta_event(like: Json, delta: Delta, text: str) -> Json:
    """An event that carries only ``text`` for ``delta``."""
    if _grows(delta):
        _, index, suffix = delta.id.split(".")
        kind, key = _MEMBERS[suffix]
        at: Json = int(index) if index.isdigit() else None
        return {"type": "content_block_delta", "index": at, "delta": {"type": kind, key: text}}
    changed: Json = _with(like, delta.path, text)
    return changed


def _with(value: Any, path: JsonPath, text: str) -> Any:
    if not path:
        return text
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], text)
    return copy
