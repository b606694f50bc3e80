"""A chat completion's request, into the intermediate form; and what this API can express of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ...errors import Refusal
from ...jsontext import Json
from ..form import (
    Audio,
    Chat,
    Document,
    Format,
    Image,
    Part,
    Reasoning,
    ReasoningAsk,
    Refused,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..reading import items_of, object_of
from ..wire import support, unknown

__all__ = ["SUPPORT", "decode_request"]

SUPPORT = support(
    carried="""system developer names tools tools.strict tools.custom tool_choice.none tool_choice.required tool_choice.named
        parallel_tool_calls json_object json_schema image.url image.base64 image.detail document.base64 document.file audio audio.out
        reasoning refusal max_output_tokens temperature top_p frequency_penalty presence_penalty logit_bias
        logprobs stop seed n prompt_cache_key metadata user service_tier store verbosity prediction""",
    ignored="""tool_results.error reasoning.summary reasoning.history cache_control top_k min_p prefill truncation include document.citations extra""",
    refused="""tools.hosted tool_results.images image.file document.url document.text conversation background prompt_template""",
)

_DATA: Final = re.compile(r"data:([^;,]*)(?:;[^,]*)?,(.*)", re.DOTALL)
# Plain values that keep their name: the field, the attribute of Chat, the feature.
_PLAIN: Final = {
    "temperature": ("temperature", "temperature"),
    "top_p": ("top_p", "top_p"),
    "top_k": ("top_k", "top_k"),
    "min_p": ("min_p", "min_p"),
    "frequency_penalty": ("frequency_penalty", "frequency_penalty"),
    "presence_penalty": ("presence_penalty", "presence_penalty"),
    "logit_bias": ("logit_bias", "logit_bias"),
    "seed": ("seed", "seed"),
    "user": ("user", "user"),
    "safety_identifier": ("user", "user"),
    "metadata": ("metadata", "metadata"),
    "service_tier": ("service_tier", "service_tier"),
    "store": ("store", "store"),
    "verbosity": ("verbosity", "verbosity"),
    "prompt_cache_key": ("prompt_cache_key", "prompt_cache_key"),
    "parallel_tool_calls": ("parallel_tool_calls", "parallel_tool_calls"),
    "max_tokens": ("max_output_tokens", "max_output_tokens"),
    "max_completion_tokens": ("max_output_tokens", "max_output_tokens"),
}
_OTHER: Final = {"prediction": "prediction", "audio": "audio.out", "web_search_options": "tools.hosted"}


def decode_request(value: Json) -> Chat:
    """What a request of this dialect says; raises ``Refusal`` (400) or ``Unsupported``, with the path."""
    assert type(value) is dict
    chat = Chat(str(value.get("model", "")))
    for key, item in value.items():
        if item is None or key in ("model", "stream_options"):
            continue
        decode = _FIELDS.get(key)
        if decode is not None:
            decode(chat, item, key)
        elif key in _PLAIN:
            attribute, feature = _PLAIN[key]
            setattr(chat, attribute, item)
            chat.use(feature, key)
        else:
            chat.extra[key] = item
            chat.use(_OTHER.get(key, "extra"), key)
    return chat


def _decode_effort(chat: Chat, item: Json, key: str) -> None:
    chat.reasoning = ReasoningAsk(effort=str(item), enabled=item != "none")
    chat.use("reasoning", key)


def _decode_reasoning_ask(chat: Chat, item: Json, key: str) -> None:
    chat.reasoning = _reasoning_object(object_of(item, key))
    chat.use("reasoning", key)


def _decode_stop(chat: Chat, item: Json, key: str) -> None:
    chat.stop = [item] if type(item) is str else [str(one) for one in items_of(item, key)]
    chat.use("stop", key)


def _decode_n(chat: Chat, item: Json, key: str) -> None:
    chat.n = item if type(item) is int else None
    if item != 1:
        chat.use("n", key)


def _decode_logprobs(chat: Chat, item: Json, key: str) -> None:
    chat.logprobs = item is True
    if item is True:
        chat.use("logprobs", key)


def _decode_top_logprobs(chat: Chat, item: Json, key: str) -> None:
    chat.top_logprobs = item if type(item) is int else None


def _decode_stream(chat: Chat, item: Json, key: str) -> None:
    chat.stream = item is True


def _decode_modalities(chat: Chat, item: Json, key: str) -> None:
    if item != ["text"]:
        chat.use("audio.out", key)
        chat.extra[key] = item


def _reasoning_object(item: dict[str, Json]) -> ReasoningAsk:
    budget = item.get("max_tokens")
    return ReasoningAsk(
        str(item.get("effort") or ""),
        budget if type(budget) is int else None,
        item.get("enabled") is not False,
    )


# -- messages -------------------------------------------------------------------------------------


def _decode_messages(chat: Chat, item: Json, key: str) -> None:
    for n, message in enumerate(items_of(item, "messages")):
        where = f"messages[{n}]"
        message = object_of(message, where)
        role = message.get("role")
        if role in ("tool", "function"):
            chat.turns.append(Turn("tool", [_decode_result(chat, message, where)]))
            chat.use("tools", where)
            continue
        if role not in ("system", "developer", "user", "assistant"):
            raise unknown(f"{where}.role")
        turn = Turn(role, [], str(message.get("name") or ""))
        if role in ("system", "developer"):
            chat.use(role, where)
        if turn.name:
            chat.use("names", f"{where}.name")
        if role == "assistant":
            turn.parts += _decode_reasoning(chat, message, where)
        turn.parts += _decode_content(chat, message.get("content"), f"{where}.content")
        if role == "assistant":
            _decode_assistant(chat, turn, message, where)
        chat.turns.append(turn)
    if chat.turns and chat.turns[-1].role == "assistant":
        chat.use("prefill", f"messages[{len(chat.turns) - 1}]")


def _decode_result(chat: Chat, message: dict[str, Any], where: str) -> ToolResult:
    kept: list[Text | Image | Document] = []
    for n, part in enumerate(_decode_content(chat, message.get("content"), f"{where}.content")):
        if not isinstance(part, Text | Image | Document):
            raise unknown(f"{where}.content[{n}]")
        if not isinstance(part, Text):
            chat.use("tool_results.images", f"{where}.content[{n}]")
        kept.append(part)
    cache = message.get("cache_control")
    if cache is not None:
        chat.use("cache_control", f"{where}.cache_control")
    return ToolResult(str(message.get("tool_call_id") or message.get("name") or ""), kept, cache=cache)


def _decode_content(chat: Chat, content: Json, where: str) -> list[Part]:
    if content is None:
        return []
    if type(content) is str:
        return [Text(content)] if content else []
    out: list[Part] = []
    for n, part in enumerate(items_of(content, where)):
        at = f"{where}[{n}]"
        part = object_of(part, at)
        kind = part.get("type")
        cache = part.get("cache_control")
        if cache is not None:
            chat.use("cache_control", f"{at}.cache_control")
        if kind == "text":
            out.append(Text(str(part.get("text", "")), cache))
        elif kind == "image_url":
            out.append(_decode_image(chat, part, f"{at}.image_url", cache))
        elif kind == "input_audio":
            sound = object_of(part.get("input_audio"), f"{at}.input_audio")
            out.append(Audio(str(sound.get("data", "")), str(sound.get("format", ""))))
            chat.use("audio", f"{at}.input_audio")
        elif kind == "file":
            out.append(_decode_file(chat, part, f"{at}.file", cache))
        elif kind == "refusal":
            out.append(Refused(str(part.get("refusal", ""))))
            chat.use("refusal", f"{at}.refusal")
        else:
            raise unknown(f"{at}.type")
    return out


def _decode_image(chat: Chat, part: dict[str, Any], where: str, cache: Json) -> Image:
    stated = part.get("image_url")
    stated = {"url": stated} if type(stated) is str else object_of(stated, where)
    url, detail = str(stated.get("url", "")), str(stated.get("detail") or "")
    if detail and detail != "auto":
        chat.use("image.detail", f"{where}.detail")
    data = _DATA.fullmatch(url) if url.startswith("data:") else None
    if data is not None:
        chat.use("image.base64", f"{where}.url")
        return Image(data=data[2], media_type=data[1], detail=detail, cache=cache)
    chat.use("image.url", f"{where}.url")
    return Image(url=url, detail=detail, cache=cache)


def _decode_file(chat: Chat, part: dict[str, Any], where: str, cache: Json) -> Document:
    stated = object_of(part.get("file"), where)
    title = str(stated.get("filename") or "")
    if stated.get("file_id"):
        chat.use("document.file", f"{where}.file_id")
        return Document(file_id=str(stated["file_id"]), title=title, cache=cache)
    data = _DATA.fullmatch(str(stated.get("file_data", "")))
    if data is None:
        raise Refusal(
            400, "invalid_request", f"'{where}.file_data' must be a data: URL.", param=f"{where}.file_data"
        )
    chat.use("document.base64", f"{where}.file_data")
    return Document(data=data[2], media_type=data[1], title=title, cache=cache)


def _decode_reasoning(chat: Chat, message: dict[str, Any], where: str) -> list[Part]:
    details = message.get("reasoning_details")
    out: list[Part] = []
    if type(details) is list and details:
        chat.use("reasoning.history", f"{where}.reasoning_details")
        for detail in details:
            detail = object_of(detail, f"{where}.reasoning_details")
            id_ = str(detail.get("id") or "")
            if detail.get("type") == "reasoning.encrypted":
                out.append(Reasoning(encrypted=str(detail.get("data") or ""), id=id_))
            else:
                text = str(detail.get("text") or detail.get("summary") or "")
                out.append(Reasoning(text, str(detail.get("signature") or ""), id=id_))
    elif type(message.get("reasoning_content")) is str and message["reasoning_content"]:
        chat.use("reasoning.history", f"{where}.reasoning_content")
        out.append(Reasoning(message["reasoning_content"]))
    return out


def _decode_assistant(chat: Chat, turn: Turn, message: dict[str, Any], where: str) -> None:
    if message.get("refusal"):
        turn.parts.append(Refused(str(message["refusal"])))
        chat.use("refusal", f"{where}.refusal")
    if message.get("audio") is not None:
        chat.use("audio.out", f"{where}.audio")
    calls = message.get("tool_calls") or []
    if message.get("function_call") is not None:
        legacy = object_of(message["function_call"], f"{where}.function_call")
        calls = [{"id": str(legacy.get("name", "")), "function": legacy}]
    for n, call in enumerate(items_of(calls, f"{where}.tool_calls")):
        at = f"{where}.tool_calls[{n}]"
        call = object_of(call, at)
        custom = call.get("type") == "custom"
        stated = object_of(call.get("custom" if custom else "function"), at)
        text = str(stated.get("input" if custom else "arguments") or "")
        turn.parts.append(ToolCall(str(call.get("id") or ""), str(stated.get("name") or ""), text, custom))
        chat.use("tools.custom" if custom else "tools", at)


# -- tools and format -----------------------------------------------------------------------------


def _decode_tools(chat: Chat, item: Json, key: str) -> None:
    for n, tool in enumerate(items_of(item, key)):
        where = f"{key}[{n}]"
        tool = object_of(tool, where)
        kind = tool.get("type", "function")
        cache = tool.get("cache_control")
        if cache is not None:
            chat.use("cache_control", f"{where}.cache_control")
        if kind == "custom":
            stated = object_of(tool.get("custom"), where)
            name, what = str(stated.get("name", "")), str(stated.get("description") or "")
            chat.tools.append(Tool(name, what, cache=cache, custom=stated.get("format") or {"type": "text"}))
            chat.use("tools.custom", where)
        elif kind == "function":
            stated = object_of(tool.get("function", tool), where)
            strict = stated.get("strict")
            if strict is not None:
                chat.use("tools.strict", f"{where}.function.strict")
            chat.tools.append(
                Tool(
                    str(stated.get("name", "")), str(stated.get("description") or ""), stated.get("parameters"),
                    strict if type(strict) is bool else None, cache,
                )
            )  # fmt: skip
            chat.use("tools", where)
        else:
            chat.tools.append(Tool(str(kind), hosted=tool))
            chat.use("tools.hosted", where)


def _decode_tool_choice(chat: Chat, item: Json, key: str) -> None:
    if item in ("auto", "none", "required"):
        mode: Any = item
        chat.tool_choice = ToolChoice(mode)
        if mode != "auto":
            chat.use(f"tool_choice.{mode}", key)
        return
    stated = object_of(item, key)
    name = stated.get("name") or (stated.get("function") or stated.get("custom") or {}).get("name")
    if type(name) is not str:
        raise unknown(key)
    chat.tool_choice = ToolChoice("named", name)
    chat.use("tool_choice.named", key)


def _decode_format(chat: Chat, item: Json, key: str) -> None:
    stated = object_of(item, "response_format")
    kind = stated.get("type")
    if kind == "json_object":
        chat.format = Format("json_object")
        chat.use("json_object", "response_format")
    elif kind == "json_schema":
        inner = object_of(stated.get("json_schema"), "response_format.json_schema")
        strict = inner.get("strict")
        chat.format = Format(
            "json_schema", str(inner.get("name") or "answer"), inner.get("schema"),
            strict if type(strict) is bool else None, str(inner.get("description") or ""),
        )  # fmt: skip
        chat.use("json_schema", "response_format")
    elif kind != "text":
        raise unknown("response_format.type")


_FIELDS: Final[dict[str, Callable[[Chat, Json, str], None]]] = {
    "messages": _decode_messages,
    "tools": _decode_tools,
    "functions": _decode_tools,
    "tool_choice": _decode_tool_choice,
    "function_call": _decode_tool_choice,
    "response_format": _decode_format,
    "reasoning_effort": _decode_effort,
    "reasoning": _decode_reasoning_ask,
    "stop": _decode_stop,
    "n": _decode_n,
    "logprobs": _decode_logprobs,
    "top_logprobs": _decode_top_logprobs,
    "stream": _decode_stream,
    "modalities": _decode_modalities,
}
