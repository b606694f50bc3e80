"""What one field of a request says about another: tools and their calls, results and their calls.

Everything here comes after the dialect's schema, so the fields that it names have the types that it says; what a lenient
schema leaves alone is left alone here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from .faults import Fault

__all__ = ["PLACES", "Places", "mismatch"]

Json = Any
Places = Iterator[tuple[str, Json]]
"""Things of one kind in a request, each with its path."""


def mismatch(dialect: str, value: dict[str, Json]) -> Fault | None:
    """The first field that contradicts another one; None where there is none, or the dialect has no tools."""
    places = PLACES.get(dialect)
    if places is None:
        return None
    names: set[str] = set()
    for path, name in places.names(value):
        if name in names:
            return Fault(path, f"'{path}' is the name of another tool of this request already.", "tool_name")
        names.add(name)
    chosen = places.chosen(value)
    if chosen is not None and chosen[1] not in names:
        return Fault(chosen[0], f"'{chosen[0]}' names a tool that is not among 'tools'.", "tool_choice")
    if not places.whole(value):
        return None
    made: set[str] = set()
    for path, made_id, answered_id in places.calls(value):
        if made_id is not None:
            made.add(made_id)
        elif answered_id not in made:
            return Fault(
                path, f"'{path}' refers to a tool call that no message before it makes.", "tool_result"
            )
    return None


class _Places:
    """Where a dialect has its tools; each field is a function of the request's value."""

    def __init__(
        self,
        *,
        names: Callable[[Json], Places],
        chosen: Callable[[Json], tuple[str, str] | None],
        calls: Callable[[Json], Iterator[tuple[str, str | None, str | None]]],
        schemas: Callable[[Json], Places],
        history: str,
        whole: Callable[[Json], bool] = lambda _: True,
    ) -> None:
        self.names, self.chosen, self.calls, self.schemas = names, chosen, calls, schemas
        self.history, self.whole = history, whole


def _list(value: Json) -> list[Json]:
    return value if type(value) is list else []


def _dict(value: Json) -> dict[str, Json]:
    return value if type(value) is dict else {}


# -- OpenAI chat ----------------------------------------------------------------------------------


def _chat_names(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        for kind in ("function", "custom"):
            if type(name := _dict(tool.get(kind)).get("name")) is str:
                yield f"tools[{n}].{kind}.name", name
    for n, function in enumerate(_list(value.get("functions"))):
        yield f"functions[{n}].name", function["name"]


def _chat_chosen(value: Json) -> tuple[str, str] | None:
    choice = _dict(value.get("tool_choice"))
    for kind in ("function", "custom"):
        if choice.get("type") == kind:
            return f"tool_choice.{kind}.name", choice[kind]["name"]
    function = _dict(value.get("function_call"))
    return ("function_call.name", function["name"]) if type(function.get("name")) is str else None


def _chat_calls(value: Json) -> Iterator[tuple[str, str | None, str | None]]:
    for n, message in enumerate(value["messages"]):
        role = message["role"]
        if role == "assistant":
            for call in _list(message.get("tool_calls")):
                yield "", str(call.get("id")), None
        elif role == "tool":
            yield f"messages[{n}].tool_call_id", None, message["tool_call_id"]


def _chat_schemas(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        yield f"tools[{n}].function.parameters", _dict(tool.get("function")).get("parameters")
    for n, function in enumerate(_list(value.get("functions"))):
        yield f"functions[{n}].parameters", function.get("parameters")
    stated = _dict(_dict(value.get("response_format")).get("json_schema")).get("schema")
    yield "response_format.json_schema.schema", stated


# -- OpenAI responses -----------------------------------------------------------------------------


def _responses_names(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        if tool["type"] in ("function", "custom"):
            yield f"tools[{n}].name", tool["name"]


def _responses_chosen(value: Json) -> tuple[str, str] | None:
    choice = _dict(value.get("tool_choice"))
    # The tools of a namespace, and those of a stored prompt, are not written here.
    elsewhere = value.get("prompt") or any(tool["type"] == "namespace" for tool in _list(value.get("tools")))
    if choice.get("type") in ("function", "custom") and type(choice.get("name")) is str and not elsewhere:
        return "tool_choice.name", choice["name"]
    return None


def _responses_calls(value: Json) -> Iterator[tuple[str, str | None, str | None]]:
    for n, item in enumerate(_list(value.get("input"))):
        kind = item.get("type")
        if kind in ("function_call", "custom_tool_call"):
            yield "", item["call_id"], None
        elif kind in ("function_call_output", "custom_tool_call_output"):
            yield f"input[{n}].call_id", None, item["call_id"]


def _responses_schemas(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        if tool["type"] == "function":
            yield f"tools[{n}].parameters", tool.get("parameters")
    yield "text.format.schema", _dict(_dict(value.get("text")).get("format")).get("schema")


def _responses_whole(value: Json) -> bool:
    """Whether the whole conversation is in the request, and not kept by the API."""
    kept = any(value.get(key) is not None for key in ("previous_response_id", "conversation", "prompt"))
    return not kept and not any(item.get("type") == "item_reference" for item in _list(value.get("input")))


# -- Anthropic ------------------------------------------------------------------------------------


def _anthropic_names(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        if type(name := tool.get("name")) is str:
            yield f"tools[{n}].name", name


def _anthropic_chosen(value: Json) -> tuple[str, str] | None:
    choice = _dict(value.get("tool_choice"))
    return ("tool_choice.name", choice["name"]) if choice.get("type") == "tool" else None


def _anthropic_calls(value: Json) -> Iterator[tuple[str, str | None, str | None]]:
    for n, message in enumerate(value["messages"]):
        for m, block in enumerate(_list(message.get("content"))):
            kind = block.get("type")
            if kind == "tool_use":
                yield "", block["id"], None
            elif kind == "tool_result":
                yield f"messages[{n}].content[{m}].tool_use_id", None, block["tool_use_id"]


def _anthropic_schemas(value: Json) -> Places:
    for n, tool in enumerate(_list(value.get("tools"))):
        yield f"tools[{n}].input_schema", tool.get("input_schema")
    for field, stated in (
        ("output_config.format", _dict(value.get("output_config")).get("format")),
        ("output_format", value.get("output_format")),
    ):
        yield f"{field}.schema", _dict(stated).get("schema")


_ANTHROPIC: Final = _Places(
    names=_anthropic_names, chosen=_anthropic_chosen, calls=_anthropic_calls, schemas=_anthropic_schemas, history="messages",
    # A thread that is continued has its earlier messages at the API.
    whole=lambda value: value.get("thread") is None,
)  # fmt: skip
PLACES: Final = {
    "openai.chat": _Places(
        names=_chat_names, chosen=_chat_chosen, calls=_chat_calls, schemas=_chat_schemas, history="messages"
    ),
    "openai.responses": _Places(
        names=_responses_names, chosen=_responses_chosen, calls=_responses_calls, schemas=_responses_schemas, history="input",
        whole=_responses_whole,
    ),
    "anthropic.messages": _ANTHROPIC,
    "anthropic.count_tokens": _ANTHROPIC,
}  # fmt: skip
