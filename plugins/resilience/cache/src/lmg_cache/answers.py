"""What a complete answer is: put together from a stream, and whether it may be given to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from lmg import MeshError, StreamEvent, Usage
from lmg.dialects import DONE, Dialect
from lmg.dialects.form import Completion, Refused, Text, ToolCall
from lmg.dialects.wire import Codec, StreamFault
from lmg.jsontext import Json, JsonText
from lmg.sse import EventSplitter, SseEvent

__all__ = ["Traits", "assembled", "traits_of"]


class Traits(NamedTuple):
    """What tells answers apart that an operator may want kept from those that are kept anyway."""

    calls: bool
    """It calls tools, the provider's own ones included."""
    truncated: bool
    """It ended at its limit of tokens."""


PLAIN: Final = Traits(False, False)
_ENDS: Final = frozenset({"stop", "stop_sequence", "tool_calls", "length"})
_BY_THE_MODEL: Final = frozenset({"message", "reasoning", "text", "thinking", "redacted_thinking"})
"""The types of items and blocks that hold no call of a tool, be it one that the provider runs."""
AT_A_TIME: Final = 256
"""Events that are read before others get their turn: about a millisecond."""
_BROKEN: Final = (MeshError, StreamFault, LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer raises that is not what its API sends."""


async def assembled(dialect: Dialect, events: Sequence[bytes], usage: Usage) -> dict[str, Any] | None:
    """The whole answer that the events of a complete stream amount to; None where something of it would be lost.

    ``usage`` is what the upstream has counted: some dialects say it in an event that filters are not given. Others
    get their turn meanwhile: a long answer has thousands of events.
    """
    if not isinstance(dialect, Codec):
        return None
    told: list[StreamEvent] = []
    splitter = EventSplitter(max_event_bytes=dialect.max_event_bytes)
    try:
        for n in range(0, len(events), AT_A_TIME):
            if n:
                await asyncio.sleep(0)
            told += [_read(dialect, one) for one in splitter.feed(b"".join(events[n : n + AT_A_TIME]))]
        if any(_lossy(one.body.value) for one in told if one.body is not None):
            return None
        whole: Any = dialect.assemble(told)
        if not _says_how_it_ended(whole):
            return None
        if not whole.get("usage") and not usage.estimated:
            stated: Any = dialect.encode_answer(Completion("", "", [], usage))
            whole["usage"] = stated.get("usage")
    except _BROKEN:
        return None
    # The events that the API's reference does not have, kept for who reviews them: no stream has them again.
    return whole if "events" not in whole else None


def _read(dialect: Dialect, event: SseEvent) -> StreamEvent:
    """An event, read faster than the kernel does: it was read strictly by whoever looked at it on its way, and what
    it amounts to will be.
    """
    data = event.data
    body = JsonText(data, orjson.loads(data)) if data and data != DONE else None
    return StreamEvent(dialect, event, dialect.kind(event, opened=True), body)


def _lossy(value: Json) -> bool:
    """Whether a chunk of a chat completion holds what putting chunks together would lose: log probabilities, sound,
    calls of tools that are no functions.
    """
    choices: Any = value.get("choices") if type(value) is dict else None
    for choice in choices if type(choices) is list else ():
        if choice.get("logprobs"):
            return True
        delta = choice.get("delta") or {}
        for name, item in delta.items():
            if name == "tool_calls":
                if any(call.get("type") not in ("function", None) for call in item or ()):
                    return True
            elif item is not None and type(item) is not str:
                return True
    return False


def _says_how_it_ended(whole: dict[str, Any]) -> bool:
    """Whether the events that were seen say why the answer ended. (The terminal event of a response, which does,
    is shown to no filter: the state of its last item tells.)
    """
    choices, output = whole.get("choices"), whole.get("output")
    if type(choices) is list:
        return bool(choices) and all(type(one.get("finish_reason")) is str for one in choices)
    if type(output) is list:
        return bool(output) and output[-1].get("status") == "completed"
    return type(whole.get("stop_reason")) is str


def traits_of(dialect: Dialect, value: Json) -> Traits | None:
    """What ``value`` is; None for what nobody should be given again: filtered, paused, empty, or not understood."""
    if type(value) is not dict:
        return None
    if not isinstance(dialect, Codec):
        return PLAIN
    try:
        completion = dialect.decode_answer(value)
        ends = {choice.finish for choice in completion.choices}
        parts = [part for choice in completion.choices for part in choice.parts]
        hosted = _hosted(value)
    except _BROKEN:
        return None
    called = any(isinstance(part, ToolCall) for part in parts)
    said = any(isinstance(part, Text | Refused) and part.text for part in parts)
    refused = any(isinstance(part, Refused) for part in parts)
    # A refusal without words is a filter's, and a filter's mood is nothing to keep.
    if not (said or called) or not ends <= (_ENDS | {"refusal"} if refused else _ENDS):
        return None
    return Traits(called or hosted or "tool_calls" in ends, "length" in ends)


def _hosted(value: dict[str, Any]) -> bool:
    """Whether an item or block of the answer tells of a tool."""
    return any(
        item.get("type") not in _BY_THE_MODEL
        for name in ("output", "content")
        if type(value.get(name)) is list
        for item in value[name]
    )
