"""The events of an item, and of a whole response, as the API sends them; without sequence numbers.

Source: OpenAI API reference, "Streaming events" of responses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...jsontext import Json
from .texts import ECHOED

__all__ = ["CALLS", "FRAMES", "PARTS", "item_events", "opened", "part_events", "response_events"]

Event = dict[str, Any]

PARTS: Final = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
    "summary_text": ("response.reasoning_summary_text", "text"),
}
"""By the type of a part: what its events are called, and where its text stands."""
CALLS: Final = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
}
"""The same by the type of an item whose text comes in deltas."""
FRAMES: Final = frozenset({"response.reasoning_summary_part", "response.content_part"})
"""What opens and closes a part."""
_LISTS: Final = (
    ("summary", "summary_index", "response.reasoning_summary_part"),
    ("content", "content_index", "response.content_part"),
)
_KEPT: Final = ("type", "id", "status", "role", "phase", "call_id", "name", "namespace", "server_label")


def opened(item: dict[str, Any]) -> dict[str, Any]:
    """``item`` as it is announced, before it has any text."""
    out: dict[str, Any] = {key: item[key] for key in _KEPT if key in item}
    if "status" in out:
        out["status"] = "in_progress"
    kind = item.get("type")
    if kind == "message":
        out["content"] = []
    elif kind == "reasoning":
        out["summary"] = []
    elif kind in CALLS:
        out[CALLS[kind][1]] = ""
    return out


def item_events(item: Json, index: int) -> Iterator[Event]:
    """The events of one whole item at ``index``, from ``added`` to ``done``."""
    if type(item) is not dict:
        return
    stated: dict[str, Any] = item
    yield {"type": "response.output_item.added", "output_index": index, "item": opened(stated)}
    at: Event = {"item_id": str(stated.get("id") or ""), "output_index": index}
    for list_, name, frame in _LISTS if stated.get("type") in ("message", "reasoning") else ():
        parts = stated.get(list_)
        for n, part in enumerate(parts if type(parts) is list else ()):
            if type(part) is dict and part.get("type") in PARTS:
                yield from part_events(part, {**at, name: n}, frame)
    call = CALLS.get(str(stated.get("type")))
    if call is not None and type(stated.get(call[1])) is str:
        yield from _text_events(call[0], call[1], stated[call[1]], at, {})
    yield {"type": "response.output_item.done", "output_index": index, "item": stated}


def part_events(part: dict[str, Any], at: Event, frame: str) -> Iterator[Event]:
    """The events of one whole part, from ``added`` to ``done``; ``at`` says where it is, ``frame`` what they are called."""
    name, leaf = PARTS[part["type"]]
    text = part.get(leaf)
    empty = {key: ([] if type(item) is list else item) for key, item in part.items()} | {leaf: ""}
    yield {"type": f"{frame}.added", **at, "part": empty}
    logprobs = {"logprobs": part.get("logprobs") or []} if name == "response.output_text" else {}
    delta, done = _text_events(name, leaf, text if type(text) is str else "", at, logprobs)
    if delta["delta"]:
        yield delta
    annotations = part.get("annotations")
    for n, annotation in enumerate(annotations if type(annotations) is list else ()):
        kind = "response.output_text.annotation.added"
        yield {"type": kind, **at, "annotation_index": n, "annotation": annotation}
    yield done
    yield {"type": f"{frame}.done", **at, "part": part}


def _text_events(name: str, leaf: str, text: str, at: Event, more: Event) -> tuple[Event, Event]:
    delta = {"type": f"{name}.delta", **at, "delta": text, **more}
    return delta, {"type": f"{name}.done", **at, leaf: text, **more}


def response_events(response: dict[str, Any]) -> Iterator[Event]:
    """The events of one whole response, the terminal one included."""
    begun = {key: item for key, item in response.items() if key in ECHOED}
    begun |= {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    output = response.get("output")
    for n, item in enumerate(output if type(output) is list else ()):
        yield from item_events(item, n)
    status = response.get("status")
    kind = status if status in ("incomplete", "failed") else "completed"
    yield {"type": f"response.{kind}", "response": response}
