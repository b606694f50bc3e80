"""Requests for responses: what of them is read, refused and ignored, and what goes to an upstream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Refusal
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.form import (
    Chat,
    Document,
    Format,
    Image,
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
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.dialects.wire import Unsupported

DIALECT = OpenAIResponses()
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}


def read(**fields: Any) -> Chat:
    body = {"model": "m", "input": "Hello", **fields}
    DIALECT.check(body)
    return DIALECT.decode_request(body)


def item(**fields: Any) -> Chat:
    return read(input=[fields])


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


# -- what a client may say ------------------------------------------------------------------------

FIELDS: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({"input": "Hello"}, {"turns": [Turn("user", [Text("Hello")])]}, {}),
    (
        {"instructions": "Be brief."},
        {"turns": [Turn("system", [Text("Be brief.")]), Turn("user", [Text("Hello")])]},
        {"system": "instructions"},
    ),
    ({"instructions": ""}, {"turns": [Turn("user", [Text("Hello")])]}, {}),
    ({"temperature": 0.5}, {"temperature": 0.5}, {"temperature": "temperature"}),
    ({"top_p": 1}, {"top_p": 1}, {"top_p": "top_p"}),
    ({"max_output_tokens": 9}, {"max_output_tokens": 9}, {"max_output_tokens": "max_output_tokens"}),
    ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}, {"metadata": "metadata"}),
    ({"service_tier": "flex"}, {"service_tier": "flex"}, {"service_tier": "service_tier"}),
    ({"store": True}, {"store": True}, {"store": "store"}),
    ({"prompt_cache_key": "k"}, {"prompt_cache_key": "k"}, {"prompt_cache_key": "prompt_cache_key"}),
    (
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": "parallel_tool_calls"},
    ),
    ({"user": "u"}, {"user": "u"}, {"user": "user"}),
    ({"safety_identifier": "s", "user": "u"}, {"user": "s"}, {"user": "safety_identifier"}),
    ({"user": "u", "safety_identifier": "s"}, {"user": "s"}, {"user": "user"}),
    ({"truncation": "auto"}, {"truncation": "auto"}, {"truncation": "truncation"}),
    ({"truncation": "disabled"}, {"truncation": "disabled"}, {}),
    ({"stream": True}, {"stream": True}, {}),
    ({"stream_options": {"include_obfuscation": False}}, {"extra": {}}, {}),
    (
        {"stream_options": {"include_obfuscation": True}},
        {"extra": {"stream_options.include_obfuscation": True}},
        {"extra": "stream_options.include_obfuscation"},
    ),
    ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}, {"logprobs": "top_logprobs"}),
    ({"top_logprobs": 0}, {"logprobs": False, "top_logprobs": 0}, {}),
    ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}, {"logprobs": "include[0]"}),
    ({"include": ["reasoning.encrypted_content"]}, {"logprobs": False}, {}),
    ({"include": ["file_search_call.results"]}, {}, {"include": "include[0]"}),
    (
        {"reasoning": {"effort": "high", "summary": "auto"}},
        {"reasoning": ReasoningAsk("high", summary="auto")},
        {"reasoning": "reasoning.effort", "reasoning.summary": "reasoning.summary"},
    ),
    (
        {"reasoning": {"effort": "none"}},
        {"reasoning": ReasoningAsk("none", enabled=False)},
        {"reasoning": "reasoning.effort"},
    ),
    (
        {"reasoning": {"generate_summary": "concise"}},
        {"reasoning": ReasoningAsk(summary="concise")},
        {"reasoning.summary": "reasoning.summary"},
    ),
    ({"reasoning": {"effort": None, "summary": None}}, {"reasoning": None}, {}),
    ({"reasoning": {"context": "auto"}}, {"reasoning": None}, {"extra": "reasoning.context"}),
    ({"text": {"format": {"type": "text"}}}, {"format": None}, {}),
    ({"text": {"verbosity": "low"}}, {"verbosity": "low"}, {"verbosity": "text.verbosity"}),
    (
        {"text": {"format": {"type": "json_object"}}},
        {"format": Format("json_object")},
        {"json_object": "text.format"},
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        {"format": Format("json_schema", "n", SCHEMA, True)},
        {"json_schema": "text.format"},
    ),
    (
        {
            "tools": [
                {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
            ]
        },
        {"tools": [Tool("f", "d", SCHEMA, True)]},
        {"tools": "tools[0]", "tools.strict": "tools[0].strict"},
    ),
    (
        {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}]},
        {"tools": [Tool("f", "", SCHEMA, False)]},
        {"tools": "tools[0]"},
    ),
    (
        {"tools": [{"type": "function", "name": "f", "defer_loading": True}]},
        {"tools": [Tool("f")], "extra": {"tools[0].defer_loading": True}},
        {"tools": "tools[0]", "extra": "tools[0].defer_loading"},
    ),
    (
        {"tools": [{"type": "custom", "name": "c"}]},
        {"tools": [Tool("c", custom={"type": "text"})]},
        {"tools.custom": "tools[0]"},
    ),
    (
        {
            "tools": [
                {
                    "type": "custom",
                    "name": "c",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "s"},
                }
            ]
        },
        {"tools": [Tool("c", custom={"type": "grammar", "grammar": {"syntax": "lark", "definition": "s"}})]},
        {"tools.custom": "tools[0]"},
    ),
    (
        {"tools": [{"type": "web_search"}]},
        {"tools": [Tool("web_search", hosted={"type": "web_search"})]},
        {"tools.hosted": "tools[0]"},
    ),
    ({"tool_choice": "auto"}, {"tool_choice": ToolChoice("auto")}, {}),
    (
        {"tool_choice": "required"},
        {"tool_choice": ToolChoice("required")},
        {"tool_choice.required": "tool_choice"},
    ),
    (
        {"tool_choice": {"type": "function", "name": "f"}},
        {"tool_choice": ToolChoice("named", "f")},
        {"tool_choice.named": "tool_choice"},
    ),
    ({"previous_response_id": "resp_1"}, {}, {"conversation": "previous_response_id"}),
    ({"conversation": {"id": "c"}}, {}, {"conversation": "conversation"}),
    ({"background": True}, {}, {"background": "background"}),
    ({"background": False}, {}, {}),
    ({"prompt": {"id": "p"}}, {}, {"prompt_template": "prompt"}),
    ({"max_tool_calls": 3}, {"extra": {"max_tool_calls": 3}}, {"extra": "max_tool_calls"}),
    ({"x_new": 1}, {"extra": {"x_new": 1}}, {"extra": "x_new"}),
    ({"x_new": None}, {"extra": {}}, {}),
]


@pytest.mark.parametrize(("fields", "expected", "uses"), FIELDS, ids=[str(one[0])[:50] for one in FIELDS])
def test_a_field_is_read_where_it_stands(
    fields: dict[str, Any], expected: dict[str, Any], uses: dict[str, str]
) -> None:
    chat = read(**fields)
    assert {name: getattr(chat, name) for name in expected} == expected
    assert chat.uses == uses


ITEMS: list[tuple[dict[str, Any], Turn, dict[str, str]]] = [
    ({"role": "user", "content": "Hi"}, Turn("user", [Text("Hi")]), {}),
    (
        {"type": "message", "role": "developer", "content": "Hi"},
        Turn("developer", [Text("Hi")]),
        {"developer": "input[0]"},
    ),
    ({"role": "system", "content": "Hi"}, Turn("system", [Text("Hi")]), {"system": "input[0]"}),
    (
        user({"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}),
        Turn("user", [Text("Hi", {"type": "ephemeral"})]),
        {"cache_control": "input[0].content[0].prompt_cache_breakpoint"},
    ),
    (
        user({"type": "input_image", "image_url": "https://a/b.png", "detail": "low"}),
        Turn("user", [Image(url="https://a/b.png", detail="low")]),
        {"image.detail": "input[0].content[0].detail", "image.url": "input[0].content[0].image_url"},
    ),
    (
        user({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}),
        Turn("user", [Image(data=PIXEL, media_type="image/png", detail="auto")]),
        {"image.base64": "input[0].content[0].image_url"},
    ),
    (
        user({"type": "input_image", "file_id": "file-1"}),
        Turn("user", [Image(file_id="file-1")]),
        {"image.file": "input[0].content[0].file_id"},
    ),
    (
        user({"type": "input_file", "file_id": "file-1"}),
        Turn("user", [Document(file_id="file-1")]),
        {"document.file": "input[0].content[0].file_id"},
    ),
    (
        user({"type": "input_file", "file_url": "https://a/b.pdf"}),
        Turn("user", [Document(url="https://a/b.pdf")]),
        {"document.url": "input[0].content[0].file_url"},
    ),
    (
        user({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}),
        Turn("user", [Document(data="AAAA", media_type="application/pdf", title="a.pdf")]),
        {"document.base64": "input[0].content[0].file_data"},
    ),
    (
        user({"type": "input_file", "filename": "a.csv", "file_data": "AAAA"}),
        Turn("user", [Document(data="AAAA", media_type="text/csv", title="a.csv")]),
        {"document.base64": "input[0].content[0].file_data"},
    ),
    (
        user({"type": "input_file", "filename": "a.txt", "file_data": "data:,a%20tale"}),
        Turn("user", [Document(text="a tale", title="a.txt")]),
        {"document.text": "input[0].content[0].file_data"},
    ),
    (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1"},
        Turn("assistant", [ToolCall("c", "f", "{}")]),
        {"tools": "input[0]", "prefill": "input[0]"},
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        Turn("assistant", [ToolCall("c", "f", "x", True)]),
        {"tools.custom": "input[0]", "prefill": "input[0]"},
    ),
    (
        {"type": "function_call_output", "call_id": "c", "output": "18"},
        Turn("tool", [ToolResult("c", [Text("18")])]),
        {"tools": "input[0]"},
    ),
    (
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_image", "image_url": "https://a/b"}],
        },
        Turn("tool", [ToolResult("c", [Image(url="https://a/b")])]),
        {
            "image.url": "input[0].output[0].image_url",
            "tool_results.images": "input[0].output[0]",
            "tools": "input[0]",
        },
    ),
    (
        {"type": "custom_tool_call_output", "call_id": "c", "output": "18"},
        Turn("tool", [ToolResult("c", [Text("18")], custom=True)]),
        {"tools.custom": "input[0]"},
    ),
    (
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
            "encrypted_content": "E",
        },
        Turn("assistant", [Reasoning("a\n\nb", "E", id="rs_1")]),
        {"reasoning.history": "input[0]", "prefill": "input[0]"},
    ),
    (
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"},
        Turn("assistant", [Reasoning(encrypted="E", id="rs_1")]),
        {"reasoning.history": "input[0]", "prefill": "input[0]"},
    ),
    (
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "s"}],
            "content": [{"type": "reasoning_text", "text": "t"}],
        },
        Turn("assistant", [Reasoning("t", id="rs_1")]),
        {"reasoning.history": "input[0]", "prefill": "input[0]"},
    ),
    (
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "No."},
            ],
        },
        Turn("assistant", [Text("Hi"), Refused("No.")]),
        {"refusal": "input[0].content[1]", "prefill": "input[0]"},
    ),
]


@pytest.mark.parametrize(("stated", "turn", "uses"), ITEMS, ids=[str(one[0])[:60] for one in ITEMS])
def test_an_item_is_read_with_the_features_that_it_uses(
    stated: dict[str, Any], turn: Turn, uses: dict[str, str]
) -> None:
    chat = item(**stated)
    assert chat.turns == [turn]
    assert chat.uses == uses


def test_what_a_model_wrote_in_one_go_is_one_turn() -> None:
    chat = read(
        input=[
            {"role": "user", "content": "Paris and Rome?"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"},
            {"role": "assistant", "content": "I shall look."},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {"type": "function_call_output", "call_id": "b", "output": "2"},
            {"role": "user", "content": "And?"},
        ]
    )
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool", "user"]
    assert [type(part) for part in chat.turns[1].parts] == [Reasoning, Text, ToolCall, ToolCall]
    assert [part.call_id for part in chat.turns[2].parts if isinstance(part, ToolResult)] == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.type"),
        ({"tool_choice": {"type": "mcp", "server_label": "s"}}, "tool_choice.type"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": [{"type": "web_search_call", "id": "w"}]}, "input[0]"),
        ({"input": [{"type": "compaction", "encrypted_content": "E"}]}, "input[0]"),
        ({"input": [{"role": "narrator", "content": "x"}]}, "input[0].role"),
        ({"input": [user({"type": "video", "url": "x"})]}, "input[0].content[0].type"),
        (
            {
                "input": [
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "", "namespace": "n"}
                ]
            },
            "input[0].namespace",
        ),
    ],
)
def test_what_other_apis_have_no_words_for_is_refused_at_its_place(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        read(**fields)
    assert caught.value.param == param


def test_state_that_another_provider_keeps_is_a_feature_that_a_wire_must_know() -> None:
    for stated in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        assert item(**stated).uses == {"conversation": "input[0]"}


def test_reasoning_that_is_only_an_id_is_named_as_ignored() -> None:
    chat = item(type="reasoning", id="rs_1", summary=[])
    assert chat.turns == []
    assert chat.extra.keys() == {"input[0]"}


def test_reasoning_that_is_sealed_is_a_signed_thought_elsewhere() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    chat = read(
        max_output_tokens=2000,
        input=[
            {"role": "user", "content": "7?"},
            thought | {"encrypted_content": "c2lnbmVk"},
            {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "c2VhbGVk"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "And 8?"},
        ],
    )
    assert AnthropicMessages().encode_request(chat)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "c2VhbGVk"},
        {"type": "text", "text": "Yes."},
    ]


def test_hints_within_items_are_named_as_ignored() -> None:
    chat = read(
        input=[
            {"role": "assistant", "content": "x", "phase": "commentary"},
            {
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "arguments": "",
                "caller": {"type": "direct"},
            },
            user({"type": "input_file", "file_id": "f", "detail": "high"}),
        ]
    )
    assert chat.extra.keys() == {"input[0].phase", "input[2].content[0].detail"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 257, "input": ""}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": 1}, "input"),
        ({"model": "m", "input": ["x"]}, "input[0]"),
        ({"model": "m", "input": "x", "stream": "yes"}, "stream"),
        ({"model": "m", "input": "x", "instructions": []}, "instructions"),
        ({"model": "m", "input": "x", "temperature": "1"}, "temperature"),
        ({"model": "m", "input": "x", "temperature": True}, "temperature"),
        ({"model": "m", "input": "x", "max_output_tokens": 1.5}, "max_output_tokens"),
        ({"model": "m", "input": "x", "metadata": "a"}, "metadata"),
        ({"model": "m", "input": "x", "store": 1}, "store"),
        ({"model": "m", "input": "x", "include": "a"}, "include"),
        ({"model": "m", "input": "x", "tools": {}}, "tools"),
        ({"model": "m", "input": "x", "tools": [1]}, "tools[0]"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "m", "input": "x", "tool_choice": 1}, "tool_choice"),
        ({"model": "m", "input": "x", "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"model": "m", "input": "x", "reasoning": "high"}, "reasoning"),
        ({"model": "m", "input": "x", "reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"model": "m", "input": "x", "text": "json"}, "text"),
        ({"model": "m", "input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"model": "m", "input": [{"role": "user", "content": 1}]}, "input[0].content"),
        ({"model": "m", "input": [user(1)]}, "input[0].content[0]"),
        ({"model": "m", "input": [user({"type": "input_text"})]}, "input[0].content[0].text"),
        ({"model": "m", "input": [user({"type": "input_image"})]}, "input[0].content[0].image_url"),
        ({"model": "m", "input": [user({"type": "input_file"})]}, "input[0].content[0].file_data"),
        ({"model": "m", "input": [user({"type": "input_audio"})]}, "input[0].content[0].input_audio"),
    ],
)
def test_nonsense_is_a_400_with_its_place(body: Any, param: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        DIALECT.check(body)
        DIALECT.decode_request(body)
    assert (caught.value.status, caught.value.param) == (400, param)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            [
                "type", "role", "content", "text", "id", "name", "summary", "output", "effort", "format", "caller",
                "message", "input_text", "input_image", "image_url", "file_data", "reasoning", "function_call",
            ]
        ),
        inner | st.sampled_from(["message", "user", "reasoning", "input_image", "input_file", "function_call"]),
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@given(
    st.sampled_from(
        ["input", "tools", "text", "reasoning", "include", "tool_choice", "stream_options", "prompt"]
    ),
    JUNK,
)
def test_whatever_is_sent_is_read_or_refused(field: str, junk: Any) -> None:
    body = {"model": "m", "input": "x", field: junk}
    try:
        DIALECT.check(body)
        DIALECT.decode_request(body)
    except (Refusal, Unsupported):
        pass
    list(DIALECT.request_segments(body))


def test_an_input_may_stand_with_the_provider() -> None:
    for key in ("previous_response_id", "conversation", "prompt"):
        DIALECT.check({"model": "m", key: "x"})
