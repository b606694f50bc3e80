"""Chat completions as servers other than OpenAI's own take them: what each leaves out, and what it spells otherwise.

Only requests that are translated pass here: a body that came as a chat completion leaves as it came.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import orjson

from lmg.dialects.form import Chat, Completion, FormEvent
from lmg.dialects.openai_chat import CompatibleChat
from lmg.dialects.wire import EventDecoder, Support
from lmg.jsontext import Json
from lmg.sse import SseEvent

__all__ = [
    "DeepSeekChat",
    "GroqChat",
    "LMStudioChat",
    "LlamaCppChat",
    "MistralChat",
    "OllamaChat",
    "OpenRouterChat",
    "ServerChat",
    "TogetherChat",
    "VllmChat",
    "XaiChat",
]

# What a server that knows less than OpenAI's does without notice, and what it cannot do.
_HINTS: Final = "cache_control reasoning.history prompt_cache_key metadata service_tier store verbosity prediction image.detail"
_BEYOND: Final = "tools.custom audio audio.out document.base64 document.file"

_CALL_ID: Final = re.compile(r"[A-Za-z0-9]{9}")
_CONTENT_LIST: Final = re.compile(rb'"content"\s*:\s*\[')


def differs(*, carried: str = "", ignored: str = "", refused: str = "") -> Mapping[str, Support]:
    """The table of a vendor that knows less than OpenAI, as it differs from that; see ``lmg.dialects.wire.support``.

    Raises:
        KeyError: there is no such feature.
    """
    table = dict(CompatibleChat.support)
    lists: tuple[tuple[str, Support], ...] = (
        (_HINTS, "ignored"), (_BEYOND, "refused"), (carried, "carried"), (ignored, "ignored"), (refused, "refused"),
    )  # fmt: skip
    for features, how in lists:
        for feature in features.split():
            if feature not in table:
                raise KeyError(feature)
            table[feature] = how
    return table


class ServerChat(CompatibleChat):
    """Any server: all that is known is that chat templates have no role ``developer``."""

    developer: ClassVar[Literal["developer", "system"]] = "system"
    """The role of the developer's messages."""

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        if self.support["prediction"] != "carried":
            body.pop("prediction", None)
        for message in body["messages"]:
            if message["role"] == "developer":
                message["role"] = self.developer
            self.message(message)
        for tool in body.get("tools", ()):
            if self.support["tools.strict"] != "carried":
                tool.get("function", {}).pop("strict", None)
            if self.support["cache_control"] != "carried":
                tool.pop("cache_control", None)
        return body

    def message(self, message: dict[str, Any]) -> None:
        """Brings one message of a request into the vendor's shape, in place."""
        content, refusal = message.get("content"), message.pop("refusal", None)
        if refusal:  # a text like any other, but to OpenAI
            said = [{"type": "text", "text": refusal}]
            message["content"] = [*content, *said] if isinstance(content, list) else (content or "") + refusal
        elif content is None and "tool_calls" not in message:
            message["content"] = ""
        if self.support["names"] != "carried":
            message.pop("name", None)
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if self.support["image.detail"] != "carried" and part["type"] == "image_url":
                part["image_url"].pop("detail", None)


class XaiChat(ServerChat):
    """xAI. Source: xAI API reference, "Chat completions": ``max_tokens`` is deprecated, ``logit_bias`` unsupported."""

    developer = "developer"
    output_cap = "max_completion_tokens"
    support = differs(carried="image.detail", ignored="top_k min_p prefill", refused="logit_bias")


class GroqChat(ServerChat):
    """Groq. Source: GroqDocs, "OpenAI compatibility": names, log probabilities and a bias are a 400, and so is n > 1."""

    developer = "developer"
    output_cap = "max_completion_tokens"
    support = differs(carried="image.detail", ignored="top_k min_p names", refused="logprobs logit_bias n")


class DeepSeekChat(ServerChat):
    """DeepSeek. Source: DeepSeek API docs, "Create chat completion" and "Thinking mode".

    Reasoning is switched by ``thinking``; earlier reasoning goes back as ``reasoning_content``, which is required
    where the turn called tools. Only ``json_object`` is a format of the answer.
    """

    support = differs(
        carried="reasoning.history", ignored="top_k min_p prefill seed user parallel_tool_calls tools.strict",
        refused="json_schema logit_bias n",
    )  # fmt: skip

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        if chat.reasoning is not None:
            body["thinking"] = {"type": "enabled" if chat.reasoning.enabled else "disabled"}
            if not chat.reasoning.enabled:
                body.pop("reasoning_effort", None)
        return body

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        message.pop("reasoning_details", None)


class TogetherChat(ServerChat):
    """Together. Source: Together API reference, "Create chat completion": ``logprobs`` is a number there, and the answer's
    have another shape.
    """

    support = differs(ignored="names user parallel_tool_calls tools.strict prefill", refused="logprobs")


class OpenRouterChat(ServerChat):
    """OpenRouter. Source: OpenRouter docs, "Reasoning tokens": an object with an effort or a budget; earlier reasoning
    goes back as ``reasoning_details``.
    """

    developer = "developer"
    support = differs(
        carried="cache_control reasoning.history verbosity prediction image.detail audio document.base64",
        ignored="metadata store",
    )

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        body.pop("reasoning_effort", None)
        ask = chat.reasoning
        if ask is not None:
            told: dict[str, Any] = {"enabled": ask.enabled}
            if ask.enabled and (ask.effort or ask.budget_tokens is not None):
                told = {"effort": ask.effort} if ask.effort else {"max_tokens": ask.budget_tokens}
            body["reasoning"] = told
        return body

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        message.pop("reasoning_content", None)


class OllamaChat(ServerChat):
    """Ollama. Source: Ollama docs, "OpenAI compatibility": images only within the request, no ``tool_choice``, one answer.

    Where no tool may be called, none is offered. Earlier reasoning goes back as ``reasoning``.
    """

    support = differs(
        carried="reasoning.history",
        ignored="top_k min_p names user parallel_tool_calls tools.strict",
        refused="image.url tool_choice.required tool_choice.named logit_bias n",
    )

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        if body.pop("tool_choice", None) == "none":
            body.pop("tools", None)
        return body

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        message.pop("reasoning_details", None)
        if "reasoning_content" in message:
            message["reasoning"] = message.pop("reasoning_content")


class VllmChat(ServerChat):
    """vLLM. Source: vLLM docs, "OpenAI-compatible server": ``user`` and ``image_url.detail`` are ignored; an answer that is
    already begun goes on only where the request says so.
    """

    support = differs(carried="reasoning.history audio", ignored="user")

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        if chat.turns and chat.turns[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        message.pop("reasoning_details", None)


class LlamaCppChat(ServerChat):
    """llama.cpp's server. Source: its README, "/v1/chat/completions": ``tool_choice`` is a word, so no tool can be named."""

    support = differs(carried="reasoning.history audio", ignored="user", refused="tool_choice.named")

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        message.pop("reasoning_details", None)


class LMStudioChat(ServerChat):
    """LM Studio. Source: its docs, "Chat completions", "Tool use" and "Structured output": a format is always a schema, and
    ``tool_choice`` a word. Any JSON object is one schema.
    """

    support = differs(
        ignored="min_p names user parallel_tool_calls tools.strict reasoning prefill",
        refused="image.url tool_choice.named logprobs n",
    )

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        if body.get("response_format") == {"type": "json_object"}:
            schema = {"name": "answer", "schema": {"type": "object"}}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


class MistralChat(ServerChat):
    """Mistral. Source: Mistral API, "Chat completion". Fields that it does not know are a 422.

    It has ``random_seed`` for ``seed`` and ``prefix`` for an answer that is begun; ids of calls have nine letters and
    digits; documents and sound are parts of its own; an answer's content may be a list, with the reasoning in it.
    """

    support = differs(
        carried="metadata prompt_cache_key prediction image.detail audio document.base64 document.file",
        ignored="top_k min_p names user", refused="logprobs logit_bias",
    )  # fmt: skip

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        body = super().encode_request(chat)
        body.pop("stream_options", None)  # usage comes with the last chunk by itself
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        if "reasoning_effort" in body:  # it knows these two
            body["reasoning_effort"] = "none" if body["reasoning_effort"] == "none" else "high"
        if chat.turns and chat.turns[-1].role == "assistant":
            body["messages"][-1]["prefix"] = True
        return body

    def message(self, message: dict[str, Any]) -> None:
        super().message(message)
        if "tool_call_id" in message:
            message["tool_call_id"] = _call_id(message["tool_call_id"])
        for call in message.get("tool_calls", ()):
            call["id"] = _call_id(call["id"])
        if isinstance(message.get("content"), list):
            message["content"] = [_part(part) for part in message["content"]]

    def decode_answer(self, value: Json) -> Completion:
        return super().decode_answer(_flattened(value, "message"))

    def decoder(self) -> EventDecoder:
        return _Flattening(super().decoder())


def _call_id(id: str) -> str:
    """``id``, or what stands for it in both the call and its result."""
    return id if _CALL_ID.fullmatch(id) else hashlib.sha256(id.encode()).hexdigest()[:9]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_audio":
        return {"type": "input_audio", "input_audio": part["input_audio"]["data"]}
    if part["type"] == "file":
        stated = part["file"]
        if "file_id" in stated:
            return {"type": "file", "file_id": stated["file_id"]}
        named = {"document_name": stated["filename"]} if "filename" in stated else {}
        return {"type": "document_url", "document_url": stated["file_data"], **named}
    return part


class _Flattening(EventDecoder):
    """Brings contents that are lists into the shape that the decoder behind it reads."""

    def __init__(self, behind: EventDecoder) -> None:
        self._behind = behind

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        if event.data is not None and _CONTENT_LIST.search(event.data):
            flat = orjson.dumps(_flattened(orjson.loads(event.data), "delta"))
            event = SseEvent(event.raw, flat, event.name)
        return self._behind.feed(event)

    def finish(self) -> Sequence[FormEvent]:
        return self._behind.finish()


def _flattened(value: Json, key: str) -> Json:
    """An answer or an event whose contents are texts, with the reasoning beside them."""
    choices: Any = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(choices, list):
        return value
    out: list[Json] = []
    for choice in choices:
        said = choice.get(key) if isinstance(choice, dict) else None
        if isinstance(said, dict) and isinstance(said.get("content"), list):
            texts = {kind: "".join(_texts(said["content"], kind)) for kind in ("text", "thinking")}
            told = {"reasoning_content": texts["thinking"]} if texts["thinking"] else {}
            choice = {**choice, key: {**said, "content": texts["text"] or None, **told}}
        out.append(choice)
    return {**value, "choices": out}


def _texts(parts: Any, kind: str) -> list[str]:
    found = []
    for part in parts:
        if part.get("type") == kind:
            inner = part.get(kind)
            found += [inner] if isinstance(inner, str) else _texts(inner or (), "text")
    return found
