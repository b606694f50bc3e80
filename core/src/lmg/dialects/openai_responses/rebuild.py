"""Keeps what repeats a text true to what has left: a guard that masked the deltas has masked the whole answer.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ...errors import UpstreamError
from ...jsontext import Json, JsonPath, JsonText, JsonTextError
from .. import Delta, Dialect, Rebuilder, StreamEvent
from .frames import FRAMES, PARTS, item_events, part_events
from .stream_texts import STATES, TERMINAL, Repeat, delta_event, repeats

__all__ = ["ResponseRebuilder"]

_MANY: Final = 8


class ResponseRebuilder(Rebuilder):
    """``into`` stands before the filters of a stream, ``out`` behind them.

    Text that only a closing event holds, and no delta before it, comes out of ``into`` as the deltas that filters
    look at. Where ``into`` is not asked, such text does not leave: no filter has seen it.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._given: set[str] = set()  # the ids of texts and the places of parts that filters were given
        self._left: dict[str, list[str]] = {}
        self._items: dict[int, Json] = {}  # items as they have left, or None while they are open
        self._next: int | None = None

    # -- before the filters -------------------------------------------------------------------
    def into(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """``event``, after deltas for what it repeats though nothing has said it before."""
        value = _value(event)
        if value is None:
            return (event,)
        made = []
        for one in self._missing(value):
            self._note(one)
            made.append(self._event(one))
        self._note(value)
        return [*made, event]

    def _note(self, value: dict[str, Any]) -> None:
        index = value.get("output_index")
        self._given.add(f"item.{index}")
        if value["type"] == "response.content_part.added":
            self._given.add(f"part.{index}.{value.get('content_index')}")
        self._given |= {delta.id for delta in self._dialect.deltas(value) if delta.text}

    def _missing(self, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind = value["type"]
        if kind == "response.output_item.done":
            yield from self._of_item(value.get("item"), value.get("output_index"), value)
        elif kind in TERMINAL:
            output = value["response"].get("output") if type(value.get("response")) is dict else None
            for n, item in enumerate(output if type(output) is list else ()):
                yield from self._of_item(item, n, None)
        elif kind.removesuffix(".done") in FRAMES:
            at = {key: item for key, item in value.items() if key == "item_id" or key.endswith("_index")}
            part = value.get("part")
            if type(part) is dict and part.get("type") in PARTS:
                made = part_events(part, at, kind.removesuffix(".done"))
                yield from (one for one in made if self._lacks(one))
        else:
            for repeat in repeats(value):
                if repeat.text and repeat.id not in self._given:
                    yield from _said(value, repeat)

    def _of_item(self, item: Json, index: Any, done: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        """What of a whole item the filters were not given: all its events, or the deltas that are missing."""
        made = list(item_events(item, index))
        if f"item.{index}" not in self._given:
            yield from made[:-1] if done is not None else made
        else:
            yield from (one for one in made if self._lacks(one))

    def _lacks(self, made: dict[str, Any]) -> bool:
        kind = made["type"]
        if kind == "response.content_part.added":
            return f"part.{made['output_index']}.{made['content_index']}" not in self._given
        if not kind.endswith((".delta", ".annotation.added")):
            return False
        return any(delta.text and delta.id not in self._given for delta in self._dialect.deltas(made))

    def _event(self, value: dict[str, Any]) -> StreamEvent:
        return self._dialect.make_event(value, "delta" if value["type"].endswith(".delta") else "finish")

    # -- behind the filters -------------------------------------------------------------------
    def out(self, event: StreamEvent) -> StreamEvent:
        """``event`` with the texts that have left in the place of those it repeats, and with its number.

        Raises:
            UpstreamError: the event cannot be read.
        """
        value = _value(event)
        if value is None:
            return event
        for delta in event.deltas:
            self._left.setdefault(delta.id, []).append(delta.text)
        edits: dict[JsonPath, Json] = {}
        for repeat in repeats(value):
            self._repeat(value, repeat, edits)
        number = value.get("sequence_number")
        if self._next is None and type(number) is int:
            self._next = number
        if self._next is not None:
            if number != self._next:
                edits["sequence_number",] = self._next
            self._next += 1
        body = event.body
        assert body is not None
        body = _edited(body, edits) if edits else body
        kind = value["type"]
        if kind in TERMINAL or kind in STATES:
            body = self._whole(body)
        elif kind == "response.output_item.done":
            self._items[_index(value)] = body.get("item")
        elif "output_index" in value:
            self._items.setdefault(_index(value), None)
        return event if body is event.body else StreamEvent(self._dialect, event.sse, event.kind, body)

    def _repeat(self, value: dict[str, Any], repeat: Repeat, edits: dict[JsonPath, Json]) -> None:
        pieces = self._left.get(repeat.id, [])
        if len(pieces) > 1:
            pieces[:] = ["".join(pieces)]
        text = pieces[0] if pieces else ""
        if text == repeat.text:
            return
        edits[repeat.path] = text
        beside: Any = value
        for key in repeat.path[:-1]:
            beside = beside[key]
        if type(beside) is dict and beside.get("logprobs") and repeat.path[-1] == "text":
            edits[(*repeat.path[:-1], "logprobs")] = []  # they spell out the text as it was

    def _whole(self, body: JsonText) -> JsonText:
        """An event that holds the whole response, with the items that have left, in the place of others than those."""
        output = body.get("response", "output")
        if type(output) is not list:
            return body
        kept: list[Json] = []
        for n in sorted(self._items):
            mine, theirs = self._items[n], output[n] if 0 <= n < len(output) else None
            kept.append(theirs if _type(mine) in (_type(theirs), None) and theirs is not None else mine)
        if len(kept) != len(output) or any(a is not b for a, b in zip(kept, output, strict=True)):
            body = body.set(("response", "output"), [item for item in kept if item is not None])
        if type(body.get("response", "output_text")) is str:
            written = "".join(_texts(body.get("response", "output")))
            if written != body.get("response", "output_text"):
                body = body.set(("response", "output_text"), written)
        return body


def _value(event: StreamEvent) -> dict[str, Any] | None:
    try:
        body = event.body
    except JsonTextError:
        raise UpstreamError("stream", "protocol", "an event that is no JSON") from None
    value = body.value if body is not None else None
    return value if type(value) is dict and type(value.get("type")) is str else None


def _said(value: dict[str, Any], repeat: Repeat) -> Iterator[dict[str, Any]]:
    made = delta_event(value, Delta(repeat.id, repeat.role, repeat.text, repeat.path), repeat.text)
    if made["type"] != value["type"]:
        yield made


def _index(value: dict[str, Any]) -> int:
    index = value.get("output_index")
    return index if type(index) is int else 0


def _type(item: Json) -> Json:
    return item.get("type") if type(item) is dict else None


def _texts(output: Json) -> Iterator[str]:
    for item in output if type(output) is list else ():
        content = item.get("content") if type(item) is dict and item.get("type") == "message" else None
        for part in content if type(content) is list else ():
            text = part.get("text") if type(part) is dict and part.get("type") == "output_text" else None
            if type(text) is str:
                yield text


# -- many edits at once ---------------------------------------------------------------------------


def _edited(body: JsonText, edits: Mapping[JsonPath, Json]) -> JsonText:
    """``body`` with all of ``edits``; in one pass where they are many, as in the terminal event of a long answer."""
    if len(edits) <= _MANY or body.edited:
        for path, value in edits.items():
            body = body.set(path, value)
        return body
    tree: dict[str | int, Any] = {}
    for path, value in edits.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = (value,)
    return JsonText(body.raw, _copied(body.value, tree), edits)


def _copied(value: Any, edits: Any) -> Any:
    if isinstance(edits, tuple):
        return edits[0]
    out = dict(value) if type(value) is dict else list(value)
    for key, below in edits.items():
        out[key] = _copied(value[key] if not isinstance(below, tuple) else None, below)
    return out
