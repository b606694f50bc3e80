"""A request of this dialect into the intermediate form: settings, tools, what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...errors import Refusal
from ...jsontext import Json
from ..form import Chat, Format, ReasoningAsk, Tool, ToolChoice, Turn
from ..reading import items_of, object_of
from ..wire import unknown
from .blocks import decode_content, known
from .turns import decode_messages

__all__ = ["decode_request"]

# Plain values that keep their meaning: the field, the attribute of Chat (and the feature), the types it may have.
_PLAIN: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "max_tokens": ("max_output_tokens", (int,)),
    "temperature": ("temperature", (int, float)),
    "top_p": ("top_p", (int, float)),
    "top_k": ("top_k", (int,)),
}
_TIERS: Final = {"auto": "auto", "standard_only": "default"}
# What another provider has no place for and what must not be lost, with the feature that says so.
_STATE: Final = {
    "container": "conversation",
    "mcp_servers": "tools.hosted",
}
_TOOL_KEYS: Final = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})


def decode_request(value: Json) -> Chat:
    """What a request of this dialect says; raises ``Refusal`` (400) or ``Unsupported``, with the path."""
    assert type(value) is dict
    chat = Chat(str(value.get("model", "")))
    # The system prompt comes first wherever it stands in the body.
    if value.get("system") is not None:
        _decode_system(chat, value["system"])
    for key, item in value.items():
        if item is None or key in ("model", "system"):
            continue
        decode = _FIELDS.get(key)
        if decode is not None:
            decode(chat, item, key)
        elif key in _PLAIN:
            attribute, types = _PLAIN[key]
            if type(item) not in types:
                raise Refusal(400, "invalid_request", f"'{key}' must be a number.", param=key)
            setattr(chat, attribute, item)
            chat.use(attribute, key)
        else:
            chat.extra[key] = item
            chat.use(_STATE.get(key, "extra"), key)
    return chat


def _decode_system(chat: Chat, item: Json) -> None:
    parts: Any = decode_content(chat, item, "system", allowed=("text",))
    if parts:
        chat.turns.append(Turn("system", parts))
        chat.use("system", "system")


def _decode_stop(chat: Chat, item: Json, key: str) -> None:
    chat.stop = [str(one) for one in items_of(item, key)]
    if chat.stop:
        chat.use("stop", key)


def _decode_stream(chat: Chat, item: Json, key: str) -> None:
    chat.stream = item is True


def _decode_metadata(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, key)
    if type(stated.get("user_id")) is str and stated["user_id"]:
        chat.user = stated["user_id"]
        chat.use("user", "metadata.user_id")
    known(chat, stated, frozenset({"user_id"}), key)


def _decode_tier(chat: Chat, item: Json, key: str) -> None:
    chat.service_tier = _TIERS.get(str(item), str(item))
    chat.use("service_tier", key)


def _decode_geography(chat: Chat, item: Json, key: str) -> None:
    # Where the answer is computed is a promise that only this provider can keep.
    raise unknown(key)


def _decode_thread(chat: Chat, item: Json, key: str) -> None:
    """A conversation that the provider keeps: its first request holds it all, the others only what is new."""
    if object_of(item, key).get("type") != "create":
        # Clients of this API answer it by sending the whole conversation.
        raise Refusal(
            404, "thread_not_found", "The thread is not known here: send the whole conversation.", param=key
        )
    chat.extra[key] = item
    chat.use("extra", key)


# -- reasoning and format ---------------------------------------------------------------------


def _ask(chat: Chat) -> ReasoningAsk:
    if chat.reasoning is None:
        chat.reasoning = ReasoningAsk()
    return chat.reasoning


def _decode_thinking(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, key)
    kind = stated.get("type")
    if kind not in ("enabled", "disabled", "adaptive", "between_tools"):
        raise unknown(f"{key}.type")
    ask = _ask(chat)
    ask.enabled = kind in ("enabled", "adaptive")
    budget = stated.get("budget_tokens")
    if type(budget) is int:
        ask.budget_tokens = budget
    chat.use("reasoning", key)
    if stated.get("display") == "summarized":
        ask.summary = "auto"
        chat.use("reasoning.summary", f"{key}.display")
    known(chat, stated, frozenset({"type", "budget_tokens", "display"}), key)


def _decode_output(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, key)
    if type(stated.get("effort")) is str:
        _ask(chat).effort = stated["effort"]
        chat.use("reasoning", f"{key}.effort")
    if stated.get("format") is not None:
        _decode_format(chat, stated["format"], f"{key}.format")
    known(chat, stated, frozenset({"effort", "format"}), key)


def _decode_format(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, key)
    if stated.get("type") != "json_schema":
        raise unknown(f"{key}.type")
    chat.format = Format("json_schema", schema=stated.get("schema"), strict=True)
    chat.use("json_schema", key)


# -- tools ------------------------------------------------------------------------------------


def _decode_tools(chat: Chat, item: Json, key: str) -> None:
    for n, tool in enumerate(items_of(item, key)):
        where = f"{key}[{n}]"
        stated = object_of(tool, where)
        kind = stated.get("type")
        if kind not in (None, "custom"):
            chat.tools.append(Tool(str(stated.get("name") or kind), hosted=stated))
            chat.use("tools.hosted", where)
            continue
        cache, strict = stated.get("cache_control"), stated.get("strict")
        name, description = str(stated.get("name", "")), str(stated.get("description") or "")
        chat.tools.append(
            Tool(
                name, description, stated.get("input_schema"), strict if type(strict) is bool else None, cache
            )
        )
        chat.use("tools", where)
        if cache is not None:
            chat.use("cache_control", f"{where}.cache_control")
        if strict is not None:
            chat.use("tools.strict", f"{where}.strict")
        known(chat, stated, _TOOL_KEYS, where)


def _decode_tool_choice(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, key)
    kind = stated.get("type")
    if kind == "tool":
        chat.tool_choice = ToolChoice("named", str(stated.get("name", "")))
    elif kind in ("auto", "none", "any"):
        chat.tool_choice = ToolChoice("required" if kind == "any" else kind)
    else:
        raise unknown(f"{key}.type")
    if chat.tool_choice.mode != "auto":
        chat.use(f"tool_choice.{chat.tool_choice.mode}", key)
    if type(stated.get("disable_parallel_tool_use")) is bool:
        chat.parallel_tool_calls = not stated["disable_parallel_tool_use"]
        chat.use("parallel_tool_calls", f"{key}.disable_parallel_tool_use")


_FIELDS: Final[dict[str, Callable[[Chat, Json, str], None]]] = {
    "messages": decode_messages,
    "stop_sequences": _decode_stop,
    "stream": _decode_stream,
    "metadata": _decode_metadata,
    "service_tier": _decode_tier,
    "inference_geo": _decode_geography,
    "thread": _decode_thread,
    "thinking": _decode_thinking,
    "output_config": _decode_output,
    "output_format": _decode_format,
    "tools": _decode_tools,
    "tool_choice": _decode_tool_choice,
}
