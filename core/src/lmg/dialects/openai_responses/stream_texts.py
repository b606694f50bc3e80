"""The texts in the events of a stream: which are new, which repeat earlier ones, and when a text is complete.

A text has the id of its place in the response, ``output.0.content.1.text``, whichever event it stands in. Texts of
messages, reasoning and calls come in deltas, and the events that close them repeat them. Whatever else an item holds
(the queries of a search, what a program printed) is new in the event that closes the item.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from ...jsontext import Json, JsonPath
from ...segments import Format, Role, Segment
from .. import Delta
from .texts import item_segments, walk

__all__ = ["STATES", "TERMINAL", "Repeat", "delta_event", "deltas", "ends", "part_id", "repeats"]

TERMINAL: Final = frozenset({"response.completed", "response.incomplete"})
"""The events that say that the answer is complete. There is no ``[DONE]``."""
_FAILED: Final = frozenset({"response.failed", "response.cancelled", "error"})
STATES: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
"""The events that tell how far the response has come. Like the terminal ones they hold all of it."""


class _Stem(NamedTuple):
    """What ``<stem>.delta`` and ``<stem>.done`` carry: in which list of the item, at which index, under which name."""

    list: str
    at: str
    leaf: str
    role: Role
    format: Format = "text"


_STEMS: Final[dict[str, _Stem]] = {
    "response.output_text": _Stem("content", "content_index", "text", "assistant"),
    "response.refusal": _Stem("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text": _Stem("content", "content_index", "text", "reasoning"),
    "response.reasoning_summary_text": _Stem("summary", "summary_index", "text", "reasoning"),
    "response.function_call_arguments": _Stem("", "", "arguments", "tool_arguments", "json"),
    "response.mcp_call_arguments": _Stem("", "", "arguments", "tool_arguments", "json"),
    "response.custom_tool_call_input": _Stem("", "", "input", "tool_arguments"),
    "response.code_interpreter_call_code": _Stem("", "", "code", "tool_arguments"),
}
_DELTAS: Final = {f"{name}.delta": stem for name, stem in _STEMS.items()}
_DONES: Final = {f"{name}.done": stem for name, stem in _STEMS.items()}
_PARTS: Final = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}
# What of an item comes in deltas (or, its name, with the event that opens it), by the item's type.
_STREAMED: Final[dict[str, frozenset[str]]] = {
    "message": frozenset({"content"}),
    "reasoning": frozenset({"content", "summary"}),
    "function_call": frozenset({"name", "arguments"}),
    "custom_tool_call": frozenset({"name", "input"}),
    "mcp_call": frozenset({"name", "arguments"}),
    "code_interpreter_call": frozenset({"code"}),
}
# Members of an event that are no text wherever they stand.
_FRAME: Final = frozenset({"type", "item_id", "sequence_number", "output_index", "obfuscation", "logprobs"})


class Repeat(NamedTuple):
    """A text that earlier events have carried: its id, and where it stands in this event."""

    id: str
    path: JsonPath
    text: str
    role: Role


def part_id(value: dict[str, Any], list: str, index: str) -> str:
    """The place of an item's part, or of the item itself where ``list`` is empty."""
    item = f"output.{value.get('output_index', 0)}"
    return f"{item}.{list}.{value.get(index, 0)}" if list else item


def deltas(value: Json) -> Iterator[Delta]:
    """The new texts of an event."""
    if type(value) is not dict:
        return
    kind = value.get("type")
    stem = _DELTAS.get(kind) if type(kind) is str else None
    if stem is not None:
        text = value.get("delta")
        if type(text) is str:
            id_ = f"{part_id(value, stem.list, stem.at)}.{stem.leaf}"
            yield Delta(id_, stem.role, text, ("delta",), "json" if stem.format == "json" else "text")
    elif kind == "response.output_item.added" or kind == "response.output_item.done":
        yield from _of_item(value, opening=kind.endswith("added"))
    elif kind == "response.output_text.annotation.added":
        yield from _at(value.get("annotation"), ("annotation",), f"{_annotation(value)}.")
    elif type(kind) is str and kind.removesuffix(".added") in _PARTS:
        place = part_id(value, *_PARTS[kind.removesuffix(".added")])
        yield from _at(value.get("part"), ("part",), f"{place}.", _role_of_part(value))
    elif kind != "response.audio.delta" and not _repeating(kind):
        yield from _unknown(value, str(kind))


def _repeating(kind: Json) -> bool:
    return type(kind) is not str or (
        kind in _DONES
        or kind in TERMINAL
        or kind in _FAILED
        or kind in STATES
        or kind.removesuffix(".done") in _PARTS
    )


def _role_of_part(value: dict[str, Any]) -> Role:
    part = value.get("part")
    kind = part.get("type") if type(part) is dict else None
    return "reasoning" if kind in ("reasoning_text", "summary_text") else "assistant"


def _annotation(value: dict[str, Any]) -> str:
    return f"{part_id(value, 'content', 'content_index')}.annotations.{value.get('annotation_index', 0)}"


def _at(value: Json, path: JsonPath, prefix: str, role: Role = "assistant") -> Iterator[Delta]:
    for segment in walk(value, path, role):
        if segment.format != "opaque":
            yield _delta(segment, prefix + ".".join(map(str, segment.path[len(path) :])))


def _delta(segment: Segment, id: str) -> Delta:
    return Delta(id, segment.role, segment.text, segment.path, "json" if segment.format == "json" else "text")


def _of_item(value: dict[str, Any], *, opening: bool) -> Iterator[Delta]:
    item = value.get("item")
    streamed = _STREAMED.get(str(item.get("type")), ()) if type(item) is dict else ()
    index = value.get("output_index", 0)
    for segment in item_segments(item, ("item",)):
        if segment.format == "opaque":
            continue
        rest = ".".join(map(str, segment.path[1:]))
        if opening == (segment.path[1:2] != () and segment.path[1] in streamed):
            yield _delta(segment, f"output.{index}.{rest}")
        elif opening:
            # It stands again in the event that closes the item: a text of its own, seen twice.
            yield _delta(segment, f"opening.{index}.{rest}")


def _unknown(value: dict[str, Any], kind: str) -> Iterator[Delta]:
    """The texts of an event that this page of the reference does not have."""
    place = f"{kind}.{value.get('output_index', 0)}.{value.get('item_id', '')}"
    for key, item in value.items():
        if key not in _FRAME:
            yield from _at({key: item}, (), f"{place}.")


def ends(value: Json) -> Iterator[str]:
    """What ids of deltas begin with that get no more text after this event."""
    if type(value) is not dict:
        return
    kind = value.get("type")
    if type(kind) is not str:
        return
    stem = _DONES.get(kind)
    if stem is not None:
        yield f"{part_id(value, stem.list, stem.at)}.{stem.leaf}"
    elif kind == "response.output_item.added":
        index = value.get("output_index", 0)
        yield from (f"opening.{index}.", f"output.{index}.name")
    elif kind == "response.output_item.done":
        yield f"output.{value.get('output_index', 0)}."
    elif kind == "response.output_text.annotation.added":
        yield f"{_annotation(value)}."
    elif kind.removesuffix(".done") in _PARTS:
        yield f"{part_id(value, *_PARTS[kind.removesuffix('.done')])}."
    elif kind in TERMINAL or kind in _FAILED:
        yield ""
    elif not kind.endswith((".delta", ".added")) and kind not in STATES:
        yield f"{kind}.{value.get('output_index', 0)}.{value.get('item_id', '')}."


def repeats(value: Json) -> Iterator[Repeat]:
    """The texts of an event that earlier events have carried."""
    if type(value) is not dict:
        return
    kind = value.get("type")
    if type(kind) is not str:
        return
    stem = _DONES.get(kind)
    if stem is not None:
        place = part_id(value, stem.list, stem.at)
        text, name = value.get(stem.leaf), value.get("name")
        if type(text) is str:
            yield Repeat(f"{place}.{stem.leaf}", (stem.leaf,), text, stem.role)
        if stem.leaf == "arguments" and type(name) is str:
            yield Repeat(f"{place}.name", ("name",), name, "assistant")
    elif kind.removesuffix(".done") in _PARTS:
        place = part_id(value, *_PARTS[kind.removesuffix(".done")])
        for delta in _at(value.get("part"), ("part",), f"{place}.", _role_of_part(value)):
            yield Repeat(delta.id, delta.path, delta.text, delta.role)
    elif kind == "response.output_item.done":
        index, item = value.get("output_index", 0), value.get("item")
        streamed = _STREAMED.get(str(item.get("type")), ()) if type(item) is dict else ()
        for repeat in _repeats_of(item, index, ("item",)):
            if repeat.path[1] in streamed:
                yield repeat
    elif kind in TERMINAL or kind in STATES:
        response = value.get("response")
        output = response.get("output") if type(response) is dict else None
        for n, item in enumerate(output if type(output) is list else ()):
            yield from _repeats_of(item, n, ("response", "output", n))


def _repeats_of(item: Json, index: Any, path: JsonPath) -> Iterator[Repeat]:
    for segment in item_segments(item, path):
        if segment.format != "opaque" and len(segment.path) > len(path):
            rest = ".".join(map(str, segment.path[len(path) :]))
            yield Repeat(f"output.{index}.{rest}", segment.path, segment.text, segment.role)


# -- events of our own making ---------------------------------------------------------------------


def delta_event(like: Json, delta: Delta, text: str) -> dict[str, Any]:
    """An event that carries ``text`` for the place of ``delta``, in the item that ``like`` belongs to."""
    stated: dict[str, Any] = like if type(like) is dict else {}
    steps = delta.id.split(".")
    if steps[0] != "output" or not steps[1].isdigit():
        return _same_shape(stated, delta, text)
    name = _stem_of(steps[2:], delta.role, stated)
    if name is None:
        return _same_shape(stated, delta, text)
    stem = _STEMS[name]
    item = stated.get("item")
    named = stated.get("item_id") or (item.get("id") if type(item) is dict else None) or ""
    out: dict[str, Any] = {"type": f"{name}.delta", "item_id": named, "output_index": int(steps[1])}
    if stem.list:
        out[stem.at] = int(steps[3])
    out["delta"] = text
    if name == "response.output_text":
        out["logprobs"] = []
    if "sequence_number" in stated:
        out["sequence_number"] = stated["sequence_number"]
    return out


def _stem_of(steps: list[str], role: Role, like: dict[str, Any]) -> str | None:
    """Which events carry the text at ``steps`` of an item."""
    if steps[0] in ("content", "summary"):
        found: Iterable[str] = (
            name
            for name, stem in _STEMS.items()
            if [stem.list, stem.leaf] == [steps[0], steps[-1]] and stem.role == role and len(steps) == 3
        )
        return next(iter(found), None)
    if len(steps) > 1:
        return None
    if steps[0] == "arguments":
        item = like.get("item")
        kind = str(item.get("type") if type(item) is dict else like.get("type"))
        return "response.mcp_call_arguments" if "mcp_call" in kind else "response.function_call_arguments"
    return next((name for name, stem in _STEMS.items() if not stem.list and stem.leaf == steps[0]), None)


def _same_shape(like: dict[str, Any], delta: Delta, text: str) -> dict[str, Any]:
    """``like`` itself, with ``text`` where ``delta`` stands and no other text: for what comes in no deltas."""
    out = {key: item for key, item in like.items() if key in _FRAME}
    nested: dict[str, Any] = _nested(like, delta.path, text)
    return nested | out


def _nested(like: Any, path: JsonPath, text: str) -> Any:
    key, rest = path[0], path[1:]
    inner = _nested(like[key] if _has(like, key) else None, rest, text) if rest else text
    if isinstance(key, int):
        return [inner]
    kept = {name: like[name] for name in ("type", "id", "status") if type(like) is dict and name in like}
    index = (
        {name: item for name, item in like.items() if name.endswith("_index")} if type(like) is dict else {}
    )
    return kept | index | {key: inner}


def _has(like: Any, key: str | int) -> bool:
    if isinstance(key, int):
        return type(like) is list and key < len(like)
    return type(like) is dict and key in like
