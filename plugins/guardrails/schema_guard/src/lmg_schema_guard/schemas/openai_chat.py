"""What `POST /v1/chat/completions` takes.

Source: OpenAI API reference, "Create chat completion"; fields that compatible servers have added (vLLM, llama.cpp,
OpenRouter) are known where clients commonly send them.
"""

from __future__ import annotations

from typing import Final

from .shapes import (
    ANY,
    BOOL,
    OBJECT,
    STR,
    Shape,
    arr,
    choice,
    integer,
    map_of,
    number,
    obj,
    tagged,
    text,
    text_or,
)

__all__ = ["CHAT", "EFFORT", "TIER"]

EFFORT: Final = choice("none", "minimal", "low", "medium", "high", "xhigh", "max")
TIER: Final = choice("auto", "default", "flex", "scale", "priority", "standard_only")

_CACHE: Final = {"cache_control": OBJECT, "prompt_cache_breakpoint": OBJECT}
_TEXT: Final = obj("text", text=STR, **_CACHE)
_PARTS: Final = tagged(
    "type",
    {
        "text": _TEXT,
        "image_url": obj("image_url", image_url=obj("url", url=STR, detail=choice("auto", "low", "high")), **_CACHE),
        "input_audio": obj("input_audio", input_audio=obj("data format", data=STR, format=STR), **_CACHE),
        "file": obj("file", file=obj("", file_data=STR, file_id=STR, filename=STR), **_CACHE),
        "video_url": obj("video_url", video_url=obj("url", url=STR), **_CACHE),
        "refusal": obj("refusal", refusal=STR),
    },
)  # fmt: skip

_CALLS: Final = tagged(
    "type",
    {
        "function": obj("id function", id=STR, function=obj("name arguments", name=STR, arguments=STR), index=integer(0)),
        "custom": obj("id custom", id=STR, custom=obj("name input", name=STR, input=STR), index=integer(0)),
    },
    default="function",
)  # fmt: skip

_SPOKEN: Final[dict[str, Shape]] = {"name": STR, "content": text_or(_PARTS), **_CACHE}
_MESSAGES: Final = tagged(
    "role",
    {
        "system": obj("content", **_SPOKEN),
        "developer": obj("content", **_SPOKEN),
        "user": obj("content", **_SPOKEN),
        "assistant": obj(
            "", **_SPOKEN, tool_calls=arr(_CALLS), function_call=obj("name arguments", name=STR, arguments=STR), refusal=STR,
            audio=obj("id", id=STR), reasoning=STR, reasoning_content=STR, reasoning_details=arr(OBJECT), annotations=arr(OBJECT),
            prefix=BOOL,
        ),
        "tool": obj("content tool_call_id", **_SPOKEN, tool_call_id=STR),
        "function": obj("name", **_SPOKEN),
    },
)  # fmt: skip

_FUNCTION: Final = obj("name", name=text(1, 256), description=STR, parameters=OBJECT, strict=BOOL)
_TOOLS: Final = tagged(
    "type",
    {
        "function": obj("function", function=_FUNCTION, **_CACHE),
        "custom": obj("custom", custom=obj("name", name=text(1, 256), description=STR, format=OBJECT)),
    },
)
_TOOL_CHOICE: Final[Shape] = {
    **tagged(
        "type",
        {
            "function": obj("function", function=obj("name", name=STR)),
            "custom": obj("custom", custom=obj("name", name=STR)),
            "allowed_tools": obj(
                "allowed_tools",
                allowed_tools=obj("mode tools", mode=choice("auto", "required"), tools=arr(OBJECT)),
            ),
        },
    ),
    "type": ["string", "object"],
}
_FORMAT: Final = tagged(
    "type",
    {
        "text": obj(),
        "json_object": obj("", schema=OBJECT),
        "json_schema": obj(
            "json_schema",
            json_schema=obj("name", name=text(1, 64), description=STR, schema=OBJECT, strict=BOOL),
        ),
    },
)

CHAT: Final = obj(
    "model messages",
    model=STR,
    messages=arr(_MESSAGES, 1),
    audio=obj("format voice", format=STR, voice={"type": ["string", "object"]}),
    frequency_penalty=number(-2, 2),
    function_call={"type": ["string", "object"]},
    functions=arr(_FUNCTION),
    logit_bias=map_of(number(-100, 100)),
    logprobs=BOOL,
    max_completion_tokens=integer(1),
    max_tokens=integer(1),
    metadata=map_of(STR),
    modalities=arr(choice("text", "audio", "image")),
    moderation=OBJECT,
    n=integer(1),
    parallel_tool_calls=BOOL,
    prediction=obj("type content", type=STR, content=text_or(_PARTS)),
    presence_penalty=number(-2, 2),
    prompt_cache_key=STR,
    prompt_cache_options=OBJECT,
    prompt_cache_retention=STR,
    reasoning_effort=EFFORT,
    response_format=_FORMAT,
    safety_identifier=STR,
    seed=integer(),
    service_tier=TIER,
    stop=text_or(STR),
    store=BOOL,
    stream=BOOL,
    stream_options=obj("", include_usage=BOOL, include_obfuscation=BOOL),
    temperature=number(0, 2),
    tool_choice=_TOOL_CHOICE,
    tools=arr(_TOOLS),
    top_logprobs=integer(0, 20),
    top_p=number(0, 1),
    user=STR,
    verbosity=choice("low", "medium", "high"),
    web_search_options=OBJECT,
    # of compatible servers
    cache_control=OBJECT,
    min_p=number(0, 1),
    reasoning=OBJECT,
    repetition_penalty=number(0),
    top_k=integer(-1),
    routing_hint=ANY,
)
