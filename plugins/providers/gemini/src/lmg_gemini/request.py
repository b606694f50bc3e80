"""A chat as the body of ``generateContent``.

Source: Gemini API reference, "GenerateContentRequest" and "GenerationConfig"; google-genai's ``types``.
"""

from __future__ import annotations

from typing import Any, Final

from lmg.dialects.form import Chat, Tool
from lmg.dialects.wire import Unsupported

from .models import thinking_config
from .turns import WIRE, contents_of

__all__ = ["encode_request"]

# The attribute of Chat, the field of generationConfig.
_PLAIN: Final = (
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("max_output_tokens", "maxOutputTokens"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
)
_TIERS: Final = {
    "auto": "",
    "default": "standard",
    "standard": "standard",
    "standard_only": "standard",
    "flex": "flex",
    "priority": "priority",
}
_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_INT32: Final = 2**31


def encode_request(chat: Chat) -> dict[str, Any]:
    """The body of a request; raises ``Unsupported`` where a value is one that the API has no words for."""
    system, contents = contents_of(chat)
    body: dict[str, Any] = {}
    if system:
        body["systemInstruction"] = {"parts": system}
    body["contents"] = contents
    if chat.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in chat.tools]}]
    calling = _calling_config(chat)
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    config = _generation_config(chat)
    if config:
        body["generationConfig"] = config
    if chat.service_tier:
        tier = _TIERS.get(chat.service_tier)
        if tier is None:
            raise Unsupported(WIRE, "service_tier", chat.uses.get("service_tier", "service_tier"))
        if tier:
            body["serviceTier"] = tier
    if chat.store is not None:
        body["store"] = chat.store
    return body


def _declaration(tool: Tool) -> dict[str, Any]:
    stated: dict[str, Any] = {"name": tool.name}
    if tool.description:
        stated["description"] = tool.description
    if tool.schema is not None:
        # The one of the two members that takes JSON schemas as they are.
        stated["parametersJsonSchema"] = tool.schema
    return stated


def _calling_config(chat: Chat) -> dict[str, Any]:
    choice = chat.tool_choice
    if choice is not None and choice.mode != "auto":
        named = {"allowedFunctionNames": [choice.name]} if choice.mode == "named" else {}
        return {"mode": _MODES[choice.mode], **named}
    if any(tool.strict for tool in chat.tools):
        return {"mode": "VALIDATED"}  # like AUTO, with calls held to their schemas
    return {"mode": "AUTO"} if choice is not None else {}


def _generation_config(chat: Chat) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for attribute, field in _PLAIN:
        value = getattr(chat, attribute)
        if value is not None:
            out[field] = value
    if chat.stop:
        out["stopSequences"] = chat.stop
    if chat.n is not None and chat.n != 1:
        out["candidateCount"] = chat.n
    if chat.seed is not None:
        out["seed"] = _seed(chat.seed)
    if chat.logprobs:
        out["responseLogprobs"] = True
        if chat.top_logprobs:
            out["logprobs"] = chat.top_logprobs
    if chat.format is not None:
        out["responseMimeType"] = "application/json"
        if chat.format.kind == "json_schema" and chat.format.schema is not None:
            out["responseJsonSchema"] = chat.format.schema
    if chat.reasoning is not None:
        thinking = thinking_config(chat.model, chat.reasoning)
        if thinking is None:
            raise Unsupported(WIRE, "reasoning", chat.uses.get("reasoning", "reasoning"))
        if thinking:
            out["thinkingConfig"] = thinking
    return out


def _seed(seed: int) -> int:
    """``seed``, where it is one of 64 bits folded into the 32 that the API takes: equal ones stay equal."""
    return seed if type(seed) is not int or -_INT32 <= seed < _INT32 else seed % _INT32
