"""The intermediate form into a request of this API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..effort import effort_of, nearest
from ..form import Chat, ReasoningAsk, Tool
from ..wire import Support, Unsupported, support
from .models import Traits, traits_of
from .schema import strict_schema
from .turns import encode_turns

__all__ = ["DEFAULT_MAX_TOKENS", "SUPPORT", "encode_request"]

SUPPORT: Final = support(
    carried="""system developer tools tools.strict tool_choice.none tool_choice.required tool_choice.named parallel_tool_calls
        tool_results.images tool_results.error json_schema image.url image.base64 document.url document.base64 document.text
        document.citations reasoning reasoning.summary reasoning.history prefill refusal max_output_tokens temperature top_p
        top_k stop cache_control user service_tier""",
    ignored="""names image.detail min_p frequency_penalty presence_penalty seed prompt_cache_key metadata store verbosity
        truncation prediction include extra""",
    # A file's id means nothing to another provider; of the others the caller could not do without what is asked for.
    refused="""tools.hosted tools.custom json_object image.file document.file audio audio.out logit_bias logprobs n conversation
        background prompt_template""",
)
DEFAULT_MAX_TOKENS: Final = 8192
"""The longest answer where neither the caller nor the catalogue says one: this API wants it said."""

_TIERS: Final = {"auto": "auto", "priority": "auto", "default": "standard_only"}
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}


def encode_request(chat: Chat, supports: Mapping[str, Support], wire: str) -> dict[str, Any]:
    """The body of a request; ``supports`` may leave out what the model does not take.

    Raises:
        Unsupported: something of the request has no place in this API that admission could have known of.
    """
    traits = traits_of(chat.model)
    system, messages = encode_turns(chat, traits, wire)
    body: dict[str, Any] = {"model": chat.model, "max_tokens": _max_tokens(chat), "messages": messages}
    if system:
        plain = len(system) == 1 and system[0].keys() == {"type", "text"}
        body["system"] = system[0]["text"] if plain else system
    if chat.tools:
        body["tools"] = [_encode_tool(tool) for tool in chat.tools]
        choice = _encode_tool_choice(chat)
        if choice is not None:
            body["tool_choice"] = choice
    _encode_output(chat, traits, body)
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if supports["temperature"] == "carried" and not thinks:
        _encode_sampling(chat, body)
    if chat.stop:
        # What stops at a line's end elsewhere cannot be asked for here, and an answer that runs on is another answer.
        if any(not one.strip() for one in chat.stop):
            raise Unsupported(wire, "stop", chat.uses.get("stop", "stop"))
        body["stop_sequences"] = chat.stop
    if chat.user:
        body["metadata"] = {"user_id": chat.user}
    if chat.service_tier in _TIERS:
        body["service_tier"] = _TIERS[chat.service_tier]
    if type(chat.extra.get("cache_control")) is dict:
        body["cache_control"] = chat.extra["cache_control"]
    if chat.stream:
        body["stream"] = True
    return body


def _max_tokens(chat: Chat) -> int:
    if chat.max_output_tokens is not None:
        return chat.max_output_tokens
    if chat.output_limit is not None:
        return chat.output_limit
    return DEFAULT_MAX_TOKENS


def _encode_sampling(chat: Chat, body: dict[str, Any]) -> None:
    if chat.temperature is not None:
        # Others count up to 2; the provider's own layer for their clients caps at 1 as well.
        body["temperature"] = min(chat.temperature, 1)
    elif chat.top_p is not None:
        body["top_p"] = chat.top_p  # models since 4.1 take one of the two
    if chat.top_k is not None:
        body["top_k"] = chat.top_k


# -- tools ------------------------------------------------------------------------------------


def _encode_tool(tool: Tool) -> dict[str, Any]:
    if type(tool.hosted) is dict:
        return tool.hosted
    schema: Any = tool.schema if type(tool.schema) is dict else {"type": "object", "properties": {}}
    if "type" not in schema:
        schema = {"type": "object", **schema}
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    out["input_schema"] = strict_schema(schema) if tool.strict else schema
    if tool.strict is not None:
        out["strict"] = tool.strict
    return out | ({"cache_control": tool.cache} if tool.cache is not None else {})


def _encode_tool_choice(chat: Chat) -> dict[str, Any] | None:
    choice, parallel = chat.tool_choice, chat.parallel_tool_calls
    mode = choice.mode if choice is not None else "auto"
    if choice is None and parallel is None:
        return None
    if mode == "none":
        return {"type": "none"}
    out: dict[str, Any] = {"type": "any" if mode == "required" else mode}
    if choice is not None and mode == "named":
        out = {"type": "tool", "name": choice.name}
    return out | ({"disable_parallel_tool_use": not parallel} if parallel is not None else {})


# -- reasoning and format ---------------------------------------------------------------------


def _encode_output(chat: Chat, traits: Traits, body: dict[str, Any]) -> None:
    config: dict[str, Any] = {}
    if chat.reasoning is not None:
        if traits.thinks == "adaptive":
            _encode_adaptive(chat, traits, body, config)
        elif traits.thinks == "budget":
            _encode_budget(chat, traits, body)
    form = chat.format
    if form is not None and form.kind == "json_schema":
        config["format"] = {"type": "json_schema", "schema": strict_schema(form.schema)}
    if config:
        body["output_config"] = config


def _encode_adaptive(chat: Chat, traits: Traits, body: dict[str, Any], config: dict[str, Any]) -> None:
    ask = chat.reasoning
    assert ask is not None
    if not ask.enabled:
        if traits.off == "never":
            config["effort"] = traits.efforts[0]
        else:
            body["thinking"] = {"type": traits.off}
        return
    if not _is_forced(chat):
        body["thinking"] = {"type": "adaptive", **_shown(ask)}
    effort = ask.effort or effort_of(ask.budget_tokens)
    if effort:
        config["effort"] = nearest(effort, traits.efforts)


def _encode_budget(chat: Chat, traits: Traits, body: dict[str, Any]) -> None:
    """Thinking with a budget, which must leave room for the answer; models that think so think nothing otherwise."""
    ask = chat.reasoning
    assert ask is not None
    if not ask.enabled:
        body["thinking"] = {"type": "disabled"}
        return
    if _is_forced(chat) or "prefill" in chat.uses or _lacks_thoughts(body["messages"]):
        return
    budget = max(ask.budget_tokens or _BUDGETS.get(ask.effort, _BUDGETS["medium"]), traits.least_budget)
    stated = chat.max_output_tokens if chat.max_output_tokens is not None else chat.output_limit
    if stated is None:
        body["max_tokens"] = DEFAULT_MAX_TOKENS + budget
    elif budget >= stated:
        budget = stated // 2
        if budget < traits.least_budget:
            return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget, **_shown(ask)}


def _shown(ask: ReasoningAsk) -> dict[str, Any]:
    return {"display": "summarized"} if ask.summary else {}


def _is_forced(chat: Chat) -> bool:
    """Thinking and a tool that must be called exclude each other."""
    return (
        bool(chat.tools) and chat.tool_choice is not None and chat.tool_choice.mode in ("required", "named")
    )


def _lacks_thoughts(messages: list[dict[str, Any]]) -> bool:
    """Whether calls of the running turn come without the thoughts before them, which a model with a budget wants
    back; clients of other dialects do not keep them.
    """
    for message in reversed(messages):
        content = message["content"]
        if message["role"] == "assistant":
            blocks = content if type(content) is list else []
            calls = any(block["type"] == "tool_use" for block in blocks)
            return calls and blocks[0]["type"] not in ("thinking", "redacted_thinking")
        if type(content) is str or not any(block["type"] == "tool_result" for block in content):
            return False
    return False
