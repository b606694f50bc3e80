"""One request for each feature of the intermediate form, and answers of every kind: what goldens are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..dialects.form import (
    FEATURES,
    Audio,
    Chat,
    Choice,
    Completion,
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
from ..records import Usage

__all__ = ["ANSWERS", "PIXEL", "SAMPLES", "WRITTEN"]

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel, in base64."""

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def _chat(*parts: Part, **more: Any) -> Chat:
    turns = [Turn("user", list(parts) or [Text("What is the weather in Paris?")])]
    return Chat(
        "a-model", more.pop("before", []) + turns + more.pop("after", []), **{"max_output_tokens": 256} | more
    )


def _weather(**more: Any) -> Tool:
    return Tool("get_weather", "The weather of a city", SCHEMA, **more)


def _called(result: ToolResult) -> list[Turn]:
    call = ToolCall("call_1", "get_weather", '{"city":"Paris"}')
    return [Turn("assistant", [Text("I shall look."), call]), Turn("tool", [result])]


_RESULT: Final = ToolResult("call_1", [Text("18 degrees")])

SAMPLES: Final[Mapping[str, Chat]] = {
    "system": _chat(before=[Turn("system", [Text("Be brief.")])]),
    "developer": _chat(before=[Turn("developer", [Text("Be brief.")])]),
    "names": Chat("a-model", [Turn("user", [Text("Hello")], "alice")], max_output_tokens=256),
    "tools": _chat(tools=[_weather()], after=_called(_RESULT), parallel_tool_calls=None),
    "tools.strict": _chat(tools=[_weather(strict=True)]),
    "tools.custom": _chat(tools=[Tool("run", "Runs code", custom={"type": "text"})]),
    "tool_choice.none": _chat(tools=[_weather()], tool_choice=ToolChoice("none")),
    "tool_choice.required": _chat(tools=[_weather()], tool_choice=ToolChoice("required")),
    "tool_choice.named": _chat(tools=[_weather()], tool_choice=ToolChoice("named", "get_weather")),
    "parallel_tool_calls": _chat(
        tools=[_weather()], tool_choice=ToolChoice("auto"), parallel_tool_calls=False
    ),
    "tool_results.images": _chat(
        tools=[_weather()],
        after=_called(ToolResult("call_1", [Text("A map:"), Image(data=PIXEL, media_type="image/png")])),
    ),
    "tool_results.error": _chat(
        tools=[_weather()], after=_called(ToolResult("call_1", [Text("no such city")], is_error=True))
    ),
    "json_object": _chat(Text("Answer as JSON."), format=Format("json_object")),
    "json_schema": _chat(format=Format("json_schema", "weather", SCHEMA, True)),
    "image.url": _chat(Text("What is this?"), Image(url="https://example.com/cat.png")),
    "image.base64": _chat(Text("What is this?"), Image(data=PIXEL, media_type="image/png")),
    "image.file": _chat(Text("What is this?"), Image(file_id="file-123")),
    "image.detail": _chat(Image(url="https://example.com/cat.png", detail="low"), Text("What is this?")),
    "document.url": _chat(Text("Sum it up."), Document(url="https://example.com/a.pdf")),
    "document.base64": _chat(
        Text("Sum it up."), Document(data="JVBERi0xLjQK", media_type="application/pdf", title="a.pdf")
    ),
    "document.text": _chat(Text("Sum it up."), Document(text="Once upon a time.", title="A tale")),
    "document.file": _chat(Text("Sum it up."), Document(file_id="file-123")),
    "document.citations": _chat(
        Text("Sum it up."), Document(text="Once upon a time.", title="A tale", citations=True)
    ),
    "audio": _chat(Text("What is said?"), Audio("UklGRg==", "wav")),
    "reasoning": _chat(reasoning=ReasoningAsk(effort="high")),
    "reasoning.summary": _chat(reasoning=ReasoningAsk(effort="high", summary="auto")),
    "reasoning.history": _chat(
        before=[
            Turn("user", [Text("Is 7 prime?")]),
            Turn("assistant", [Reasoning("It has no divisors.", "c2lnbmVk"), Text("Yes.")]),
        ]
    ),
    "prefill": _chat(after=[Turn("assistant", [Text("It is")])]),
    "refusal": _chat(before=[Turn("user", [Text("Do harm.")]), Turn("assistant", [Refused("I will not.")])]),
    "max_output_tokens": _chat(),
    "temperature": _chat(temperature=0.5),
    "top_p": _chat(top_p=0.9),
    "top_k": _chat(top_k=40),
    "min_p": _chat(min_p=0.05),
    "frequency_penalty": _chat(frequency_penalty=0.5),
    "presence_penalty": _chat(presence_penalty=0.5),
    "logit_bias": _chat(logit_bias={"50256": -100}),
    "logprobs": _chat(logprobs=True, top_logprobs=2),
    "stop": _chat(stop=["END"]),
    "seed": _chat(seed=7),
    "n": _chat(n=2),
    "cache_control": _chat(Text("A long text.", cache={"type": "ephemeral"}), Text("And a question.")),
    "prompt_cache_key": _chat(prompt_cache_key="team-a"),
    "metadata": _chat(metadata={"team": "a"}),
    "user": _chat(user="user-1"),
    "service_tier": _chat(service_tier="auto"),
    "store": _chat(store=False),
    "verbosity": _chat(verbosity="low"),
    "truncation": _chat(truncation="auto"),
}
"""By feature, the request that shows it; what no form can show is in ``WRITTEN``."""

_HELLO: Final = [{"role": "user", "content": "Hello"}]

WRITTEN: Final[Mapping[str, Mapping[str, dict[str, Any]]]] = {
    "openai.chat": {
        "tools.hosted": {"model": "a-model", "messages": _HELLO, "web_search_options": {}},
        "audio.out": {
            "model": "a-model", "messages": _HELLO, "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"},
        },
        "prediction": {"model": "a-model", "messages": _HELLO, "prediction": {"type": "content", "content": "Hello!"}},
        "extra": {"model": "a-model", "messages": _HELLO, "x_new": 1},
        "top_k": {"model": "a-model", "messages": _HELLO, "top_k": 40},
        "min_p": {"model": "a-model", "messages": _HELLO, "min_p": 0.05},
        "reasoning.history": {
            "model": "a-model",
            "messages": [
                *_HELLO, {"role": "assistant", "content": "Hi.", "reasoning_details": [{"type": "reasoning.text", "text": "A greeting.", "signature": "c2lnbmVk"}]},
                *_HELLO,
            ],
        },
        "cache_control": {
            "model": "a-model",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "A long text.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "And a question."}]},
            ],
        },
        "prefill": {"model": "a-model", "messages": [*_HELLO, {"role": "assistant", "content": "It is"}]},
    },
    "anthropic.messages": {
        "tools.hosted": {
            "model": "a-model", "max_tokens": 256, "messages": _HELLO, "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        },
        "extra": {"model": "a-model", "max_tokens": 256, "messages": _HELLO, "x_new": 1},
    },
    "openai.responses": {
        "tools.hosted": {"model": "a-model", "input": "Hello", "tools": [{"type": "web_search"}]},
        "conversation": {"model": "a-model", "input": "Hello", "previous_response_id": "resp_1"},
        "background": {"model": "a-model", "input": "Hello", "background": True},
        "prompt_template": {"model": "a-model", "input": "Hello", "prompt": {"id": "pmpt_1"}},
        "include": {"model": "a-model", "input": "Hello", "include": ["file_search_call.results"]},
        "extra": {"model": "a-model", "input": "Hello", "x_new": 1},
    },
}  # fmt: skip
"""Requests in a dialect's own words, for what only it can say (or says though it is not carried into it)."""

assert {*SAMPLES, *(feature for one in WRITTEN.values() for feature in one)} == FEATURES.keys()

_USAGE: Final = Usage(120, 30, 100, 10, False, 8)

ANSWERS: Final[Mapping[str, Completion]] = {
    "text": Completion("answer-1", "a-model", [Choice([Text("It is 18 degrees.")])], _USAGE, 1760000000),
    "length": Completion("answer-1", "a-model", [Choice([Text("It is")], "length")], _USAGE, 1760000000),
    "tool_calls": Completion(
        "answer-1",
        "a-model",
        [
            Choice(
                [
                    Text("I shall look."),
                    ToolCall("call_1", "get_weather", '{"city":"Paris"}'),
                    ToolCall("call_2", "get_weather", '{"city":"Rome"}'),
                ],
                "tool_calls",
            )
        ],
        _USAGE,
        1760000000,
    ),
    "reasoning": Completion(
        "answer-1",
        "a-model",
        [Choice([Reasoning("Paris is warm.", "c2lnbmVk"), Text("18 degrees.")])],
        _USAGE,
        1760000000,
    ),
    "refusal": Completion(
        "answer-1", "a-model", [Choice([Refused("I will not.")], "refusal")], _USAGE, 1760000000
    ),
    "content_filter": Completion(
        "answer-1", "a-model", [Choice([Text("It")], "content_filter")], _USAGE, 1760000000
    ),
    "stop_sequence": Completion(
        "answer-1", "a-model", [Choice([Text("One ")], "stop_sequence", "END")], _USAGE, 1760000000
    ),
}
"""Whole answers, by what they show."""
