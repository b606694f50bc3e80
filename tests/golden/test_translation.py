"""Every feature and every answer of every dialect and wire, as files that a person reviews at a glance.

With UPDATE_GOLDEN=1 in the environment the files are written instead of compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmg.dialects import Dialect
from lmg.dialects.form import FEATURES
from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec, Wire
from lmg.discovery import discover, load_component
from lmg.testing.samples import ANSWERS, PIXEL
from lmg.testing.wires import (
    check_golden,
    check_split_points,
    golden_answer,
    golden_pair,
    golden_request,
    streamed,
)

FILES = Path(__file__).parent / "files"
CODECS: dict[str, Codec] = {one.name: one for one in DIALECTS.values() if isinstance(one, Codec)}


def wires_of(provider: str) -> list[Dialect | Wire]:
    component = load_component(provider, discover(), kind=("provider",))
    return list(component.wires.get("chat", ()))


WIRES: dict[str, Wire] = dict(CODECS) | {
    wire.name: wire
    for provider in ("gemini", "bedrock")
    for wire in wires_of(provider)
    if isinstance(wire, Wire)
}


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_of_a_request(name: str, feature: str) -> None:
    text = golden_request(WIRES[name], feature)
    path = FILES / name / "requests" / f"{feature}.txt"
    if text is None:
        assert not path.exists(), f"{path} shows what {name} has no words for"
    else:
        check_golden(path, text)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_each_kind_of_answer(name: str, answer: str) -> None:
    check_golden(FILES / name / "answers" / f"{answer}.txt", golden_answer(CODECS[name], answer))


@pytest.mark.parametrize("answer", ["tool_calls", "reasoning"])
@pytest.mark.parametrize("name", CODECS)
def test_a_stream_cut_anywhere_is_the_same_answer_in_every_dialect(name: str, answer: str) -> None:
    found = check_split_points(CODECS[name], streamed(CODECS[name], ANSWERS[answer]), list(CODECS.values()))
    said = [type(part) for part in found.choices[0].parts]
    assert said == [type(part) for part in ANSWERS[answer].choices[0].parts]


# The six commonest pairs, a whole exchange each

TOOL: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_REQUEST: dict[str, Any] = {
    "model": "a-model",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which city is this, and how warm is it?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "The weather", "parameters": TOOL},
        }
    ],
    "max_tokens": 300,
    "temperature": 0.2,
    "stop": ["END"],
    "seed": 7,
}
MESSAGES_REQUEST: dict[str, Any] = {
    "model": "a-model",
    "max_tokens": 300,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which city is this, and how warm is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "18 degrees"},
                {"type": "text", "text": "And in Rome?"},
            ],
        },
    ],
    "tools": [{"name": "get_weather", "description": "The weather", "input_schema": TOOL}],
    "stop_sequences": ["END"],
    "temperature": 0.2,
}
RESPONSES_REQUEST: dict[str, Any] = {
    "model": "a-model",
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Which city is this, and how warm is it?"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
            ],
        },
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city":"Paris"}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "18 degrees"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "The weather",
            "parameters": TOOL,
            "strict": True,
        }
    ],
    "max_output_tokens": 300,
    "store": False,
}
CHAT_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "a-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris, 18 degrees."},
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 120,
        "completion_tokens": 6,
        "total_tokens": 126,
        "prompt_tokens_details": {"cached_tokens": 100},
    },
}
MESSAGES_ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "a-model",
    "content": [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 20,
        "output_tokens": 12,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 0,
    },
}
GEMINI_ANSWER: dict[str, Any] = {
    "responseId": "resp-1",
    "modelVersion": "a-model",
    "candidates": [
        {
            "index": 0,
            "content": {
                "role": "model",
                "parts": [{"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}}],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 120, "candidatesTokenCount": 12, "totalTokenCount": 132},
}
CONVERSE_ANSWER: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Paris, 18 degrees."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 120, "outputTokens": 6, "totalTokens": 126},
    "metrics": {"latencyMs": 1},
}
PAIRS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("openai.chat", "anthropic.messages", CHAT_REQUEST, MESSAGES_ANSWER),
    ("openai.chat", "gemini.generate", CHAT_REQUEST, GEMINI_ANSWER),
    ("openai.chat", "bedrock.converse", CHAT_REQUEST, CONVERSE_ANSWER),
    ("anthropic.messages", "openai.chat", MESSAGES_REQUEST, CHAT_ANSWER),
    ("anthropic.messages", "gemini.generate", MESSAGES_REQUEST, GEMINI_ANSWER),
    ("openai.responses", "openai.chat", RESPONSES_REQUEST, CHAT_ANSWER),
]


@pytest.mark.parametrize(
    ("dialect", "wire", "request_", "answer"), PAIRS, ids=lambda one: one if isinstance(one, str) else ""
)
def test_whole_exchanges_of_the_commonest_pairs(dialect: str, wire: str, request_: Any, answer: Any) -> None:
    text = golden_pair(CODECS[dialect], WIRES[wire], request_, answer)
    check_golden(FILES / "pairs" / f"{dialect}-{wire}.txt", text)
