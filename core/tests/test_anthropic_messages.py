"""Anthropic messages into the intermediate form and out of it: requests."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from lmg.dialects.anthropic_messages import AnthropicMessages, wire_for
from lmg.dialects.anthropic_messages.models import traits_of
from lmg.dialects.anthropic_messages.schema import strict_schema
from lmg.dialects.form import (
    FEATURES,
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
from lmg.dialects.wire import Unsupported, admit
from lmg.errors import Refusal

WIRE = AnthropicMessages()
HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL = Tool("get_weather", "The weather", {"type": "object", "properties": {}})
USE = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}}


def decoded(**fields: Any) -> Chat:
    """What a small request with ``fields`` says."""
    return WIRE.decode_request({"model": "m", "max_tokens": 9, "messages": HELLO, **fields})


def encoded(*turns: Turn, model: str = "claude-opus-5-5", **fields: Any) -> dict[str, Any]:
    """The request that a chat of ``turns`` is."""
    return WIRE.encode_request(Chat(model, list(turns) or [user("Hello")], **fields))


def user(*parts: Any) -> Turn:
    return Turn("user", [Text(part) if isinstance(part, str) else part for part in parts])


def assistant(*parts: Any) -> Turn:
    return Turn("assistant", [Text(part) if isinstance(part, str) else part for part in parts])


# -- in -------------------------------------------------------------------------------------------


def test_every_feature_is_decided() -> None:
    assert WIRE.support.keys() == FEATURES.keys()


@pytest.mark.parametrize(
    ("fields", "attribute", "value", "feature"),
    [
        ({"temperature": 0.3}, "temperature", 0.3, "temperature"),
        ({"top_p": 0.9}, "top_p", 0.9, "top_p"),
        ({"top_k": 40}, "top_k", 40, "top_k"),
        ({"max_tokens": 0}, "max_output_tokens", 0, "max_output_tokens"),
        ({"stop_sequences": ["END"]}, "stop", ["END"], "stop"),
        ({"metadata": {"user_id": "u-1"}}, "user", "u-1", "user"),
        ({"service_tier": "standard_only"}, "service_tier", "default", "service_tier"),
        ({"thinking": {"type": "disabled"}}, "reasoning", ReasoningAsk(enabled=False), "reasoning"),
        ({"thinking": {"type": "between_tools"}}, "reasoning", ReasoningAsk(enabled=False), "reasoning"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            "reasoning",
            ReasoningAsk(budget_tokens=2048),
            "reasoning",
        ),
        (
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "max"}},
            "reasoning",
            ReasoningAsk(effort="max", summary="auto"),
            "reasoning.summary",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "format",
            Format("json_schema", schema={"type": "object"}, strict=True),
            "json_schema",
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
            "format",
            Format("json_schema", schema={"type": "object"}, strict=True),
            "json_schema",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice", ToolChoice("required"), "tool_choice.required"),
        ({"tool_choice": {"type": "none"}}, "tool_choice", ToolChoice("none"), "tool_choice.none"),
        (
            {"tool_choice": {"type": "tool", "name": "f"}},
            "tool_choice",
            ToolChoice("named", "f"),
            "tool_choice.named",
        ),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "parallel_tool_calls",
            False,
            "parallel_tool_calls",
        ),
    ],
)
def test_a_setting_is_read(fields: Any, attribute: str, value: Any, feature: str) -> None:
    chat = decoded(**fields)
    assert getattr(chat, attribute) == value
    assert feature in chat.uses


def test_the_system_prompt_is_the_first_turn_wherever_it_stands() -> None:
    cache = {"type": "ephemeral", "ttl": "1h"}
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": cache}]
    chat = decoded(system=blocks)
    assert chat.turns[0] == Turn("system", [Text("Be brief.", cache)])
    assert chat.uses["cache_control"] == "system[0].cache_control"
    assert decoded(system="Be brief.").turns[0] == Turn("system", [Text("Be brief.")])


@pytest.mark.parametrize(
    ("block", "part", "feature"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
            Image(data="aaaa", media_type="image/png"),
            "image.base64",
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/a"}},
            Image(url="https://x/a"),
            "image.url",
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            Image(file_id="file_1"),
            "image.file",
        ),
        (
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "citations": {"enabled": True},
                "source": {"type": "text", "media_type": "text/plain", "data": "Once."},
            },
            Document(text="Once.", title="T", context="C", citations=True),
            "document.citations",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aaaa"},
            },
            Document(data="aaaa", media_type="application/pdf"),
            "document.base64",
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://x/a"}},
            Document(url="https://x/a"),
            "document.url",
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            Document(file_id="f"),
            "document.file",
        ),
        (
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            },
            Document(text="a\nb"),
            "document.text",
        ),
    ],
)
def test_a_block_is_read(block: Any, part: Any, feature: str) -> None:
    chat = decoded(messages=[{"role": "user", "content": [block]}])
    assert chat.turns == [Turn("user", [part])]
    assert feature in chat.uses


def test_results_of_calls_are_turns_of_their_own() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "c1", "content": "18", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "c2",
            "content": [{"type": "image", "source": {"type": "url", "url": "u"}}],
        },
        {"type": "tool_result", "tool_use_id": "c3"},
        {"type": "text", "text": "And?"},
    ]
    chat = decoded(
        messages=[*HELLO, {"role": "assistant", "content": [USE]}, {"role": "user", "content": content}]
    )
    assert chat.turns[2:] == [
        Turn(
            "tool",
            [
                ToolResult("c1", [Text("18")], is_error=True),
                ToolResult("c2", [Image(url="u")]),
                ToolResult("c3", []),
            ],
        ),
        Turn("user", [Text("And?")]),
    ]
    assert chat.uses["tool_results.error"] == "messages[2].content[0].is_error"
    assert chat.uses["tool_results.images"] == "messages[2].content[1].content"


def test_thoughts_are_kept_with_their_signatures() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "enc"},
        USE,
    ]
    chat = decoded(messages=[*HELLO, {"role": "assistant", "content": content}])
    assert chat.turns[1].parts == [
        Reasoning("Hm.", "c2ln"),
        Reasoning(encrypted="enc"),
        ToolCall("c1", "get_weather", "{}"),
    ]
    assert chat.uses["reasoning.history"] == "messages[1].content[0]"
    assert chat.uses["prefill"] == "messages[1]"


def test_tools_are_read_and_the_provider_s_own_kept_whole() -> None:
    own = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}
    theirs = {
        "name": "f",
        "description": "d",
        "input_schema": {"type": "object"},
        "strict": True,
        "defer_loading": True,
    }
    chat = decoded(tools=[theirs, own])
    assert chat.tools == [
        Tool("f", "d", {"type": "object"}, strict=True),
        Tool("web_search", hosted=own),
    ]
    assert chat.uses["tools.hosted"] == "tools[1]"
    assert chat.extra == {"tools[0].defer_loading": True}


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({"x_new": 1, "context_management": {}}, ("context_management", "x_new")),
        ({"cache_control": {"type": "ephemeral"}}, ("cache_control",)),
        ({"thread": {"type": "create"}}, ("thread",)),
        ({"metadata": {"team": "a"}}, ("metadata.team",)),
        ({"output_config": {"task_budget": {}}}, ("output_config.task_budget",)),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "new": 1}]}]},
            ("messages[0].content[0].new",),
        ),
        ({"messages": [{"role": "user", "content": "x", "new": 1}]}, ("messages[0].new",)),
    ],
)
def test_what_is_not_known_is_ignored_by_name(fields: Any, places: tuple[str, ...]) -> None:
    assert admit(WIRE, decoded(**fields)) == places


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inference_geo": "us"}, "inference_geo"),
        ({"thinking": {"type": "new"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
        ({"tool_choice": {"type": "new"}}, "tool_choice.type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "search_result"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[1].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "new"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c",
                                "content": [{"type": "tool_reference"}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0].type",
        ),
    ],
)
def test_what_has_no_words_elsewhere_is_unsupported_at_its_place(fields: Any, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        decoded(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("field", ["container", "mcp_servers"])
def test_state_and_servers_of_the_provider_are_features_that_others_refuse(field: str) -> None:
    assert {"conversation", "tools.hosted"} & decoded(**{field: ["x"]}).uses.keys()


def test_a_thread_that_another_provider_would_hold_is_one_to_send_whole() -> None:
    with pytest.raises(Refusal) as caught:
        decoded(thread={"type": "continue", "previous_message_id": "msg_1"})
    assert (caught.value.status, caught.value.code) == (404, "thread_not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": True}, "top_k"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"stop_sequences": "END"}, "stop_sequences"),
    ],
)
def test_what_makes_no_sense_is_a_400_at_its_place(fields: Any, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        decoded(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


# -- out: the conversation ------------------------------------------------------------------------


def test_neighbours_of_one_role_become_one_message_with_the_results_first() -> None:
    call = ToolCall("c1", "f", '{"a": 1}')
    body = encoded(
        user("a"),
        user("b"),
        assistant("c"),
        assistant(call, ToolCall("c2", "f", "")),
        user("late"),
        Turn("tool", [ToolResult("c1", [Text("1")])]),
        Turn("tool", [ToolResult("c2", [Text("2"), Image(url="u")], is_error=True)]),
    )
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "c"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "1"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [
                        {"type": "text", "text": "2"},
                        {"type": "image", "source": {"type": "url", "url": "u"}},
                    ],
                    "is_error": True,
                },
                {"type": "text", "text": "late"},
            ],
        },
    ]


def test_text_without_a_word_is_left_out() -> None:
    body = encoded(Turn("system", [Text("")]), user(" \n"), assistant(""), user("x"))
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_turns_at_the_start_are_the_system_prompt(role: Any) -> None:
    cache = {"type": "ephemeral"}
    body = encoded(Turn(role, [Text("a")]), Turn(role, [Text("b", cache)]), user("x"))
    assert body["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": cache},
    ]
    assert encoded(Turn(role, [Text("a")]), user("x"))["system"] == "a"


def test_system_turns_within_stay_where_the_model_takes_them() -> None:
    turns = [
        user("a"),
        Turn("system", [Text("s1")]),
        Turn("developer", [Text("s2")]),
        user("b"),
        assistant("c"),
        Turn("system", [Text("s3")]),
        user("d"),
        Turn("system", [Text("s4")]),
    ]
    body = encoded(*turns, model="claude-opus-4-8")
    assert [
        (m["role"], m["content"] if isinstance(m["content"], str) else len(m["content"]))
        for m in body["messages"]
    ] == [
        ("user", 2),
        ("system", 2),
        ("assistant", "c"),
        ("user", "d"),
        ("system", 2),
    ]
    older = encoded(*turns, model="claude-sonnet-4-6")
    assert [block["text"] for block in older["system"]] == ["s1", "s2", "s3", "s4"]
    assert [m["role"] for m in older["messages"]] == ["user", "assistant", "user"]


def test_a_system_turn_after_the_last_answer_joins_the_system_prompt() -> None:
    body = encoded(user("a"), assistant("b"), Turn("system", [Text("s")]), model="claude-opus-4-8")
    assert body["system"] == "s"
    assert [m["role"] for m in body["messages"]] == ["user", "assistant"]


def test_thoughts_without_a_signature_are_left_out() -> None:
    body = encoded(
        user("a"), assistant(Reasoning("x"), Reasoning("y", "s"), Reasoning(encrypted="e"), "b"), user("c")
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "y", "signature": "s"},
        {"type": "redacted_thinking", "data": "e"},
        {"type": "text", "text": "b"},
    ]


def test_citations_are_sent_back_where_this_api_wrote_them() -> None:
    own = {"type": "char_location", "cited_text": "x"}
    part = Text("b", citations=[own, {"type": "url_citation"}, "https://x"])
    body = encoded(user(Text("a", citations=[own])), assistant(part), user("c"))
    assert body["messages"][0]["content"] == "a"
    assert body["messages"][1]["content"] == [{"type": "text", "text": "b", "citations": [own]}]


@pytest.mark.parametrize(
    ("id", "written"),
    [("call_1", "call_1"), ("functions.get:0", "functions_2e_get_3a_0"), ("", "call"), ("é", "_e9_")],
)
def test_ids_of_calls_are_written_in_the_letters_that_the_api_takes(id: str, written: str) -> None:
    body = encoded(user("a"), assistant(ToolCall(id, "f", "{}")), Turn("tool", [ToolResult(id, [Text("r")])]))
    assert body["messages"][1]["content"][0]["id"] == written
    assert body["messages"][2]["content"][0]["tool_use_id"] == written


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ('{"a": [1]}', {"a": [1]}),
        ("{broken", {"INVALID_JSON": "{broken"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_arguments_are_written_as_an_object(arguments: str, given: Any) -> None:
    body = encoded(user("a"), assistant(ToolCall("c", "f", arguments)))
    assert body["messages"][1]["content"][0]["input"] == given


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (
            Image(data="aa", media_type="image/jpg"),
            {"type": "base64", "media_type": "image/jpeg", "data": "aa"},
        ),
        (
            Document(data=base64.b64encode("Grüße".encode()).decode(), media_type="text/markdown"),
            {"type": "text", "media_type": "text/plain", "data": "Grüße"},
        ),
        (Document(text="x"), {"type": "text", "media_type": "text/plain", "data": "x"}),
        (Document(file_id="f"), {"type": "file", "file_id": "f"}),
        (Image(file_id="f"), {"type": "file", "file_id": "f"}),
    ],
)
def test_data_is_written_as_the_api_takes_it(part: Any, source: Any) -> None:
    assert encoded(user(part))["messages"][0]["content"][0]["source"] == source


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (Image(data="aa", media_type="image/tiff"), "image.base64"),
        (Document(data="aa", media_type="application/msword"), "document.base64"),
        (Document(data="/w==", media_type="text/plain"), "document.base64"),
    ],
)
def test_data_that_the_api_does_not_take_is_unsupported(part: Any, feature: str) -> None:
    with pytest.raises(Unsupported) as caught:
        encoded(user(part))
    assert caught.value.feature == feature


# -- out: settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, 8192),
        ({"output_limit": 64000}, 64000),
        ({"max_output_tokens": 100, "output_limit": 64000}, 100),
        ({"max_output_tokens": 0}, 0),
    ],
)
def test_the_longest_answer_is_always_said(fields: Any, limit: int) -> None:
    assert encoded(**fields)["max_tokens"] == limit


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {"temperature": 0.2, "top_k": 5}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
    ],
)
def test_sampling_is_written_as_older_models_take_it(fields: Any, written: Any) -> None:
    body = encoded(model="claude-sonnet-4-5", **fields)
    assert {k: body[k] for k in ("temperature", "top_p", "top_k") if k in body} == written


def test_sampling_is_left_out_by_name_where_the_model_or_the_version_has_none() -> None:
    chat = Chat("claude-opus-5-5", [user("x")], temperature=0.2, top_p=0.5, top_k=3)
    for name in ("temperature", "top_p", "top_k"):
        chat.use(name, name)
    wire = wire_for("claude-opus-5-5")
    assert set(admit(wire, chat)) == {"temperature", "top_p", "top_k"}
    assert not {"temperature", "top_p", "top_k"} & wire.encode_request(chat).keys()
    assert admit(wire_for("claude-sonnet-4-5"), chat) == ()
    assert set(admit(wire_for("claude-sonnet-4-5", sampling=False), chat)) == {
        "temperature",
        "top_p",
        "top_k",
    }


def test_a_stop_without_a_word_is_unsupported() -> None:
    assert encoded(stop=["END"])["stop_sequences"] == ["END"]
    with pytest.raises(Unsupported) as caught:
        encoded(stop=["\n\n"])
    assert caught.value.feature == "stop"


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "priority"}, {"service_tier": "auto"}),
        ({"service_tier": "flex"}, {}),
        ({"stream": True}, {"stream": True}),
        ({"extra": {"cache_control": {"type": "ephemeral"}}}, {"cache_control": {"type": "ephemeral"}}),
        ({"extra": {"x": 1}, "seed": 7, "metadata": {"a": "b"}, "verbosity": "low", "store": True}, {}),
        ({"tool_choice": ToolChoice("required"), "parallel_tool_calls": False}, {}),
        (
            {"tools": [TOOL], "tool_choice": ToolChoice("required"), "parallel_tool_calls": False},
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        ),
        (
            {"tools": [TOOL], "parallel_tool_calls": True},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
        ),
        (
            {"tools": [TOOL], "tool_choice": ToolChoice("none"), "parallel_tool_calls": False},
            {"tool_choice": {"type": "none"}},
        ),
        (
            {"tools": [TOOL], "tool_choice": ToolChoice("named", "get_weather")},
            {"tool_choice": {"type": "tool", "name": "get_weather"}},
        ),
    ],
)
def test_a_setting_is_written(fields: Any, written: Any) -> None:
    body = encoded(**fields)
    for key in ("model", "max_tokens", "messages", "tools"):
        body.pop(key, None)
    assert body == written


@pytest.mark.parametrize(
    ("tool", "schema"),
    [
        (Tool("f"), {"type": "object", "properties": {}}),
        (Tool("f", schema={"properties": {"a": {}}}), {"type": "object", "properties": {"a": {}}}),
        (Tool("f", schema={"type": "object", "x-new": 1}), {"type": "object", "x-new": 1}),
    ],
)
def test_a_tool_always_has_a_schema_of_an_object(tool: Tool, schema: Any) -> None:
    assert encoded(tools=[tool])["tools"] == [{"name": "f", "input_schema": schema}]


# -- out: reasoning -------------------------------------------------------------------------------

ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "ask", "thinking", "effort"),
    [
        ("claude-opus-5-5", ReasoningAsk("high"), ADAPTIVE, "high"),
        ("claude-opus-5-5", ReasoningAsk("minimal"), ADAPTIVE, "low"),
        (
            "claude-opus-5-5",
            ReasoningAsk("xhigh", summary="auto"),
            {**ADAPTIVE, "display": "summarized"},
            "xhigh",
        ),
        ("claude-opus-4-6", ReasoningAsk("xhigh"), ADAPTIVE, "high"),
        ("claude-opus-4-6", ReasoningAsk("max"), ADAPTIVE, "max"),
        ("claude-opus-5-5", ReasoningAsk(budget_tokens=2000), ADAPTIVE, "low"),
        ("claude-opus-5-5", ReasoningAsk(budget_tokens=30000), ADAPTIVE, "high"),
        ("claude-opus-5-5", ReasoningAsk(), ADAPTIVE, None),
        ("claude-opus-5-5", ReasoningAsk(enabled=False), None, "low"),
        ("claude-fable-5-1", ReasoningAsk(enabled=False), None, "low"),
        ("claude-sonnet-5-5", ReasoningAsk(enabled=False), {"type": "between_tools"}, None),
        ("claude-haiku-5-5", ReasoningAsk(enabled=False), {"type": "disabled"}, None),
        ("claude-sonnet-4-5", ReasoningAsk("low"), {"type": "enabled", "budget_tokens": 2048}, None),
        (
            "claude-3-7-sonnet-20250219",
            ReasoningAsk(budget_tokens=500),
            {"type": "enabled", "budget_tokens": 1024},
            None,
        ),
        ("claude-sonnet-4-5", ReasoningAsk(enabled=False), {"type": "disabled"}, None),
        ("claude-3-opus", ReasoningAsk("high"), None, None),
        ("deepseek-chat", ReasoningAsk("high"), {"type": "enabled", "budget_tokens": 16384}, None),
    ],
)
def test_reasoning_is_asked_for_as_the_model_takes_it(
    model: str, ask: ReasoningAsk, thinking: Any, effort: str | None
) -> None:
    body = encoded(model=model, reasoning=ask)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("fields", "budget", "limit"),
    [
        ({}, 8192, 16384),
        ({"max_output_tokens": 20000}, 8192, 20000),
        ({"max_output_tokens": 4000}, 2000, 4000),
        ({"max_output_tokens": 1500}, None, 1500),
        ({"output_limit": 64000}, 8192, 64000),
    ],
)
def test_a_budget_leaves_room_for_the_answer(fields: Any, budget: int | None, limit: int) -> None:
    body = encoded(model="claude-sonnet-4-5", reasoning=ReasoningAsk("medium"), **fields)
    assert body.get("thinking", {}).get("budget_tokens") == budget
    assert body["max_tokens"] == limit


def test_a_tool_that_must_be_called_goes_before_thinking() -> None:
    forced = {"tools": [TOOL], "tool_choice": ToolChoice("required"), "reasoning": ReasoningAsk("high")}
    assert "thinking" not in encoded(model="claude-sonnet-4-5", **forced)
    adaptive = encoded(model="claude-opus-4-8", **forced)
    assert "thinking" not in adaptive
    assert adaptive["output_config"] == {"effort": "high"}


def test_calls_without_the_thoughts_before_them_end_thinking_with_a_budget() -> None:
    result = Turn("tool", [ToolResult("c", [Text("r")])])
    bare = [user("a"), assistant(ToolCall("c", "f", "{}")), result]
    kept = [user("a"), assistant(Reasoning("t", "s"), ToolCall("c", "f", "{}")), result]
    ask = {"reasoning": ReasoningAsk("low"), "model": "claude-sonnet-4-5", "tools": [TOOL]}
    assert "thinking" not in encoded(*bare, **ask)
    assert "thinking" in encoded(*kept, **ask)
    assert "thinking" in encoded(*bare, assistant("done"), user("next"), **ask)


def test_a_refusal_of_an_earlier_turn_is_its_text() -> None:
    assert encoded(user("a"), assistant(Refused("No.")), user("b"))["messages"][1]["content"] == "No."


@pytest.mark.parametrize(
    ("model", "feature", "how"),
    [
        ("claude-sonnet-4-5", "prefill", "carried"),
        ("claude-sonnet-4-6", "prefill", "refused"),
        ("claude-haiku-5-5", "tool_choice.named", "carried"),
        ("claude-sonnet-5-5", "tool_choice.named", "refused"),
        ("claude-fable-5-1", "tool_choice.required", "refused"),
        ("claude-fable-5", "tool_choice.required", "carried"),
        ("claude-mythos-preview", "temperature", "ignored"),
        ("claude-opus-4-6", "temperature", "carried"),
        ("claude-sonnet-5", "temperature", "ignored"),
        ("kimi-k2", "temperature", "carried"),
    ],
)
def test_no_more_is_promised_than_the_model_takes(model: str, feature: str, how: str) -> None:
    assert wire_for(model).support[feature] == how


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("claude-3-5-haiku-20241022", "claude-haiku-3-5"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("us.anthropic.claude-opus-4-6-v1:0", "claude-opus-4-6"),
        ("anthropic/claude-sonnet-5.5", "claude-sonnet-5-5"),
        ("claude-3-opus", "claude-3-opus-20240229"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
    ],
)
def test_a_model_is_known_by_any_of_its_names(name: str, like: str) -> None:
    assert traits_of(name) == traits_of(like)


def test_a_claude_of_no_version_is_taken_for_the_newest() -> None:
    assert traits_of("claude-latest").thinks == "adaptive"
    assert not traits_of("claude-latest").samples


# -- schemas --------------------------------------------------------------------------------------


def test_a_schema_is_brought_within_what_the_api_knows() -> None:
    schema = {
        "$schema": "x",
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "In years."},
            "mail": {"type": "string", "format": "email", "maxLength": 9},
            "zip": {"type": "string", "format": "zip", "pattern": "^[0-9]+$"},
            "id": {"type": "string", "pattern": "(?=a)b"},
            "tags": {"type": "array", "items": {"type": "object"}, "minItems": 1, "uniqueItems": True},
            "any": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/A"}]},
        },
        "required": ["age"],
        "$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": True}},
    }
    before = repr(schema)
    assert strict_schema(schema) == {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "description": "In years.\n\n{minimum: 0}"},
            "mail": {"type": "string", "format": "email", "description": "{maxLength: 9}"},
            "zip": {"type": "string", "pattern": "^[0-9]+$", "description": '{format: "zip"}'},
            "id": {"type": "string", "description": '{pattern: "(?=a)b"}'},
            "tags": {
                "type": "array",
                "items": {"type": "object", "additionalProperties": False},
                "minItems": 1,
                "description": "{uniqueItems: true}",
            },
            "any": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/A"}]},
        },
        "required": ["age"],
        "$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": False}},
        "additionalProperties": False,
    }
    assert repr(schema) == before


def test_an_answer_s_schema_is_written_and_a_strict_tool_s_too() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    body = encoded(format=Format("json_schema", schema=schema), tools=[Tool("f", schema=schema, strict=True)])
    written = {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
        "additionalProperties": False,
    }
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": written}}
    assert body["tools"] == [{"name": "f", "input_schema": written, "strict": True}]
