"""A request for a response, into the intermediate form.

Source: OpenAI API reference, "Create a model response".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...errors import Refusal
from ...jsontext import Json
from ..form import Chat, Format, ReasoningAsk, Text, Tool, ToolChoice, Turn
from ..reading import items_of, object_of
from ..wire import support, unknown
from .input import decode_input, extra

__all__ = ["SUPPORT", "decode_request"]

SUPPORT: Final = support(
    carried="""system developer tools tools.strict tools.custom tool_choice.none tool_choice.required tool_choice.named
        parallel_tool_calls tool_results.images json_object json_schema image.url image.base64 image.file image.detail
        document.url document.base64 document.text document.file reasoning reasoning.summary reasoning.history refusal
        max_output_tokens temperature top_p logprobs prompt_cache_key metadata user service_tier store verbosity truncation""",
    ignored="""names tool_results.error document.citations prefill top_k min_p frequency_penalty presence_penalty seed
        cache_control prediction include extra""",
    refused="""tools.hosted audio audio.out logit_bias stop n conversation background prompt_template""",
)

Decode = Callable[[Chat, Json, str], None]

_NUMBER: Final = (int, float)
# Plain values: the field, the attribute of Chat, its types. A feature has the name of its attribute.
_PLAIN: Final[dict[str, tuple[str, tuple[type, ...], str]]] = {
    "temperature": ("temperature", _NUMBER, "a number"),
    "top_p": ("top_p", _NUMBER, "a number"),
    "max_output_tokens": ("max_output_tokens", (int,), "an integer"),
    "metadata": ("metadata", (dict,), "an object"),
    "service_tier": ("service_tier", (str,), "a string"),
    "store": ("store", (bool,), "a boolean"),
    "prompt_cache_key": ("prompt_cache_key", (str,), "a string"),
    "parallel_tool_calls": ("parallel_tool_calls", (bool,), "a boolean"),
}


def decode_request(value: Json) -> Chat:
    """What a request of this dialect says; raises ``Refusal`` (400) or ``Unsupported``, with the path."""
    assert type(value) is dict
    chat = Chat(str(value.get("model", "")))
    _decode_instructions(chat, value.get("instructions"))
    for key, item in value.items():
        if item is None or key in ("model", "instructions"):
            continue
        decode = _FIELDS.get(key)
        if decode is not None:
            decode(chat, item, key)
        elif key in _PLAIN:
            attribute, types, what = _PLAIN[key]
            setattr(chat, attribute, _checked(item, types, what, key))
            chat.use(attribute, key)
        else:
            extra(chat, key, item)
    return chat


def _checked(item: Json, types: tuple[type, ...], what: str, where: str) -> Any:
    if type(item) not in types:
        raise Refusal(400, "invalid_request", f"'{where}' must be {what}.", param=where)
    return item


def _text(item: Json, where: str) -> str:
    checked: str = _checked(item, (str,), "a string", where)
    return checked


def _decode_instructions(chat: Chat, item: Json) -> None:
    if item is None:
        return
    if _text(item, "instructions"):
        chat.turns.append(Turn("system", [Text(str(item))]))
        chat.use("system", "instructions")


def _decode_stream(chat: Chat, item: Json, key: str) -> None:
    chat.stream = item is True


def _decode_stream_options(chat: Chat, item: Json, key: str) -> None:
    for name, option in object_of(item, key).items():
        # Nothing is padded on the way to a client of ours, which is what `include_obfuscation: false` asks for.
        if option is not None and not (name == "include_obfuscation" and option is False):
            extra(chat, f"{key}.{name}", option)


def _decode_user(chat: Chat, item: Json, key: str) -> None:
    if key == "safety_identifier" or not chat.user:
        chat.user = _text(item, key)
    chat.use("user", key)


def _decode_top_logprobs(chat: Chat, item: Json, key: str) -> None:
    chat.top_logprobs = _checked(item, (int,), "an integer", key)
    if item:
        chat.logprobs = True
        chat.use("logprobs", key)


def _decode_include(chat: Chat, item: Json, key: str) -> None:
    for n, part in enumerate(items_of(item, key)):
        if part == "message.output_text.logprobs":
            chat.logprobs = True
            chat.use("logprobs", f"{key}[{n}]")
        elif (
            part != "reasoning.encrypted_content"
        ):  # which every answer here has, where its upstream gives it
            chat.use("include", f"{key}[{n}]")


def _decode_truncation(chat: Chat, item: Json, key: str) -> None:
    chat.truncation = _text(item, key)
    if item != "disabled":
        chat.use("truncation", key)


def _decode_state(chat: Chat, item: Json, key: str) -> None:
    chat.use("conversation", key)


def _decode_background(chat: Chat, item: Json, key: str) -> None:
    if item is not False:
        chat.use("background", key)


def _decode_prompt(chat: Chat, item: Json, key: str) -> None:
    chat.use("prompt_template", key)


def _decode_moderation(chat: Chat, item: Json, key: str) -> None:
    # It can ask for answers to be blocked: to leave it out would let them pass.
    raise unknown(key)


def _decode_reasoning(chat: Chat, item: Json, key: str) -> None:
    stated = dict(object_of(item, key))
    effort = stated.pop("effort", None)
    summary = stated.pop("summary", None)
    summary = stated.pop("generate_summary", None) if summary is None else summary
    for name, setting in stated.items():
        if setting is not None and name != "generate_summary":
            extra(chat, f"{key}.{name}", setting)
    if effort is None and summary is None:
        return
    chat.reasoning = ReasoningAsk(enabled=effort != "none")
    if effort is not None:
        chat.reasoning.effort = _text(effort, f"{key}.effort")
        chat.use("reasoning", f"{key}.effort")
    if summary is not None:
        chat.reasoning.summary = _text(summary, f"{key}.summary")
        chat.use("reasoning.summary", f"{key}.summary")


def _decode_text(chat: Chat, item: Json, key: str) -> None:
    for name, stated in object_of(item, key).items():
        where = f"{key}.{name}"
        if stated is None:
            continue
        if name == "verbosity":
            chat.verbosity = _text(stated, where)
            chat.use("verbosity", where)
        elif name == "format":
            _decode_format(chat, object_of(stated, where), where)
        else:
            extra(chat, where, stated)


def _decode_format(chat: Chat, stated: dict[str, Any], where: str) -> None:
    kind = stated.get("type")
    if kind == "json_object":
        chat.format = Format("json_object")
        chat.use("json_object", where)
    elif kind == "json_schema":
        strict = stated.get("strict")
        chat.format = Format(
            "json_schema", str(stated.get("name") or "answer"), object_of(stated.get("schema"), f"{where}.schema"),
            strict if type(strict) is bool else None, str(stated.get("description") or ""),
        )  # fmt: skip
        chat.use("json_schema", where)
    elif kind != "text":
        raise unknown(f"{where}.type")


# -- tools ----------------------------------------------------------------------------------------

_KNOWN_OF_TOOL: Final = frozenset({"type", "name", "description", "parameters", "strict", "format"})


def _decode_tools(chat: Chat, item: Json, key: str) -> None:
    for n, tool in enumerate(items_of(item, key)):
        where = f"{key}[{n}]"
        tool = object_of(tool, where)
        kind = tool.get("type")
        if kind not in ("function", "custom"):
            chat.tools.append(Tool(str(kind), hosted=tool))
            chat.use("tools.hosted", where)
            continue
        name = _text(tool.get("name"), f"{where}.name")
        described = str(tool.get("description") or "")
        if kind == "custom":
            chat.tools.append(Tool(name, described, custom=_grammar_in(tool.get("format"), where)))
            chat.use("tools.custom", where)
        else:
            strict = tool.get("strict")
            chat.tools.append(
                Tool(name, described, tool.get("parameters"), strict if type(strict) is bool else None)
            )
            chat.use("tools", where)
            if strict is True:
                chat.use("tools.strict", f"{where}.strict")
        for other, stated in tool.items():
            if other not in _KNOWN_OF_TOOL and stated is not None:
                extra(chat, f"{where}.{other}", stated)


def _grammar_in(item: Json, where: str) -> Json:
    """The format of a custom tool; a grammar stands nested in the intermediate form, as in chat completions."""
    if item is None:
        return {"type": "text"}
    stated = object_of(item, f"{where}.format")
    if stated.get("type") != "grammar":
        return stated
    return {"type": "grammar", "grammar": {key: one for key, one in stated.items() if key != "type"}}


def _decode_tool_choice(chat: Chat, item: Json, key: str) -> None:
    if item in ("auto", "none", "required"):
        mode: Any = item
        chat.tool_choice = ToolChoice(mode)
        if mode != "auto":
            chat.use(f"tool_choice.{mode}", key)
        return
    stated = object_of(item, key)
    if stated.get("type") not in ("function", "custom"):
        raise unknown(f"{key}.type")
    chat.tool_choice = ToolChoice("named", _text(stated.get("name"), f"{key}.name"))
    chat.use("tool_choice.named", key)


_FIELDS: Final[dict[str, Decode]] = {
    "input": decode_input,
    "tools": _decode_tools,
    "tool_choice": _decode_tool_choice,
    "text": _decode_text,
    "reasoning": _decode_reasoning,
    "stream": _decode_stream,
    "stream_options": _decode_stream_options,
    "include": _decode_include,
    "top_logprobs": _decode_top_logprobs,
    "truncation": _decode_truncation,
    "user": _decode_user,
    "safety_identifier": _decode_user,
    "previous_response_id": _decode_state,
    "conversation": _decode_state,
    "background": _decode_background,
    "prompt": _decode_prompt,
    "moderation": _decode_moderation,
}
