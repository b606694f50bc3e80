"""Requests on their way into the Converse API: each is held against the service model that botocore ships."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from lmg.dialects.form import (
    Audio,
    Chat,
    Document,
    Format,
    Image,
    Reasoning,
    Refused,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.wire import Unsupported, admit
from lmg.testing.samples import PIXEL
from lmg_bedrock import ConverseWire
from lmg_bedrock.families import family_of

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"


def wire_of(model: str) -> ConverseWire:
    return ConverseWire(family_of(model))


def user(*parts: Any, **more: Any) -> Chat:
    return Chat("m", [Turn("user", list(parts) or [Text("Hi")])], **more)


WEATHER = Tool("get_weather", "The weather", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = Turn("assistant", [ToolCall("call_1", "get_weather", '{"city":"Paris"}')])
RESULT = Turn("tool", [ToolResult("call_1", [Text("18")])])
QUESTION = Turn("user", [Text("How warm is it?")])


# Messages


def test_every_system_message_joins_the_system_prompt(sent: Any) -> None:
    chat = Chat(
        "m",
        [
            Turn("system", [Text("Be brief.")]),
            QUESTION,
            Turn("developer", [Text("And kind."), Text("  ")]),
            Turn("user", [Text("Please.")]),
        ],
    )
    assert sent(chat) == {
        "system": [{"text": "Be brief."}, {"text": "And kind."}],
        "messages": [{"role": "user", "content": [{"text": "How warm is it?"}, {"text": "Please."}]}],
    }


def test_results_of_calls_stand_first_in_the_user_s_message_that_follows(sent: Any) -> None:
    chat = Chat(
        "m",
        [
            QUESTION,
            Turn(
                "assistant",
                [Text("I look."), ToolCall("a", "get_weather", "{}"), ToolCall("b", "get_weather", "")],
            ),
            Turn("tool", [ToolResult("a", [Text("18")], cache={"type": "ephemeral"})]),
            Turn("user", [Text("Hurry.")]),
            Turn("tool", [ToolResult("b", [Text("20")])]),
        ],
        tools=[WEATHER],
    )
    assert sent(chat)["messages"] == [
        {"role": "user", "content": [{"text": "How warm is it?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "a", "name": "get_weather", "input": {}}},
                {"toolUse": {"toolUseId": "b", "name": "get_weather", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "18"}]}},
                {"cachePoint": {"type": "default"}},
                {"toolResult": {"toolUseId": "b", "content": [{"text": "20"}]}},
                {"text": "Hurry."},
            ],
        },
    ]


def test_text_without_a_word_is_left_out_and_so_is_a_message_of_nothing_else(sent: Any) -> None:
    chat = Chat(
        "m",
        [
            QUESTION,
            Turn("assistant", [Text("\n\n"), *CALL.parts]),
            RESULT,
            Turn("assistant", [Text("")]),
            Turn("user", [Text("So?")]),
        ],
        tools=[WEATHER],
    )
    roles = [(m["role"], [next(iter(block)) for block in m["content"]]) for m in sent(chat)["messages"]]
    assert roles == [("user", ["text"]), ("assistant", ["toolUse"]), ("user", ["toolResult", "text"])]


def test_an_empty_result_of_a_call_stays_a_result(sent: Any) -> None:
    chat = Chat("m", [QUESTION, CALL, Turn("tool", [ToolResult("call_1", [])])], tools=[WEATHER])
    assert sent(chat)["messages"][-1]["content"] == [{"toolResult": {"toolUseId": "call_1", "content": []}}]


def test_a_refusal_of_an_earlier_turn_is_the_assistant_s_text(sent: Any) -> None:
    chat = Chat("m", [QUESTION, Turn("assistant", [Refused("I will not.")]), QUESTION])
    assert sent(chat)["messages"][1] == {"role": "assistant", "content": [{"text": "I will not."}]}


@pytest.mark.parametrize("id_", ["", "call|1", "x" * 65, "toolu_ü", "a b"])
def test_ids_of_calls_that_the_api_refuses_are_exchanged_for_others_call_and_result_alike(
    sent: Any, id_: str
) -> None:
    chat = Chat(
        "m",
        [
            QUESTION,
            Turn("assistant", [ToolCall(id_, "get_weather", "{}"), ToolCall("ok-1", "get_weather", "{}")]),
            Turn("tool", [ToolResult(id_, [Text("18")]), ToolResult("ok-1", [Text("19")])]),
        ],
        tools=[WEATHER],
    )
    messages = sent(chat)["messages"]
    calls = [block["toolUse"]["toolUseId"] for block in messages[1]["content"]]
    results = [block["toolResult"]["toolUseId"] for block in messages[2]["content"]]
    assert calls == results
    assert calls[0].startswith("call_") and calls[1] == "ok-1"


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"a', {"INVALID_JSON": '{"a'}),
        ("null", {"INVALID_JSON": "null"}),
    ],
)
def test_arguments_that_are_no_object_are_shown_to_the_model_as_it_wrote_them(
    sent: Any, arguments: str, input_: Any
) -> None:
    chat = Chat(
        "m",
        [QUESTION, Turn("assistant", [ToolCall("c", "get_weather", arguments)]), RESULT],
        tools=[WEATHER],
    )
    assert sent(chat)["messages"][1]["content"][0]["toolUse"]["input"] == input_


# Images, documents, sound


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("image/png", "png"),
        ("image/jpeg", "jpeg"),
        ("image/jpg", "jpeg"),
        ("image/GIF", "gif"),
        ("image/webp", "webp"),
    ],
)
def test_images_go_as_bytes_with_their_format(sent: Any, media_type: str, kind: str) -> None:
    body = sent(user(Text("?"), Image(data=PIXEL, media_type=media_type)))
    assert body["messages"][0]["content"][1] == {"image": {"format": kind, "source": {"bytes": PIXEL}}}


@pytest.mark.parametrize("media_type", ["image/tiff", "", "text/plain"])
def test_an_image_of_another_format_is_refused_at_its_place(media_type: str) -> None:
    chat = user(Image(data=PIXEL, media_type=media_type), uses={"image.base64": "messages[0].content[0]"})
    with pytest.raises(Unsupported) as caught:
        wire_of(CLAUDE).encode_request(chat)
    assert (caught.value.feature, caught.value.param) == ("image.base64", "messages[0].content[0]")


@pytest.mark.parametrize("url", ["https://example.com/a.png", "s3://secret-bucket/key.png"])
def test_no_image_is_fetched_with_the_gateway_s_rights(url: str) -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        ],
    }
    chat = OpenAIChat().decode_request(body)
    with pytest.raises(Unsupported) as caught:
        admit(wire_of(CLAUDE), chat)
    assert caught.value.feature == "image.url"


@pytest.mark.parametrize(
    ("media_type", "title", "kind"),
    [
        ("application/pdf", "", "pdf"),
        ("text/csv; charset=utf-8", "", "csv"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "", "docx"),
        ("application/octet-stream", "Report.XLSX", "xlsx"),
        ("", "notes.md", "md"),
        ("text/x-python", "a.py", "txt"),
        ("application/json", "a.json", "txt"),
    ],
)
def test_documents_go_as_bytes_with_their_format(sent: Any, media_type: str, title: str, kind: str) -> None:
    body = sent(user(Text("?"), Document(data="JVBERi0xLjQK", media_type=media_type, title=title)))
    document = body["messages"][0]["content"][1]["document"]
    assert (document["format"], document["source"]) == (kind, {"bytes": "JVBERi0xLjQK"})


def test_a_document_of_another_format_is_refused() -> None:
    chat = user(Document(data="AAAA", media_type="application/zip", title="a.zip"))
    with pytest.raises(Unsupported) as caught:
        wire_of(CLAUDE).encode_request(chat)
    assert caught.value.feature == "document.base64"


def test_names_of_documents_have_the_letters_of_the_api_and_differ(sent: Any) -> None:
    titles = [
        "q3.report (final).pdf",
        "q3 report (final) pdf",
        "  ",
        "日本.pdf",
        "x" * 500,
        "x" * 400,
        "a--b  [c]",
    ]
    chat = user(
        Text("?"), *(Document(data="AAAA", media_type="application/pdf", title=title) for title in titles)
    )
    chat.turns.append(Turn("assistant", [Text("Well.")]))
    chat.turns.append(Turn("user", [Text("And?"), Document(text="x", title="a--b [c]")]))
    messages = sent(chat)["messages"]
    names = [block["document"]["name"] for m in messages for block in m["content"] if "document" in block]
    assert names[:4] == ["q3 report (final) pdf", "q3 report (final) pdf 2", "document", "pdf"]
    assert names[4] == "x" * 192 and names[5] == "x" * 192 + " 2"
    assert names[6:] == ["a--b [c]", "a--b [c] 2"]


def test_a_document_alone_gets_the_text_that_the_api_wants_beside_it(sent: Any) -> None:
    content = sent(user(Document(data="AAAA", media_type="application/pdf", title="a.pdf")))["messages"][0]
    assert content["content"][1:] == [{"text": "a pdf"}]


def test_citations_are_asked_for_where_the_model_has_them(sent: Any) -> None:
    chat = user(Text("?"), Document(text="Once.", title="Tale", context="Old.", citations=True))
    cited = sent(chat)["messages"][0]["content"][1]["document"]
    assert cited == {
        "format": "txt",
        "name": "Tale",
        "source": {"text": "Once."},
        "context": "Old.",
        "citations": {"enabled": True},
    }
    plain = sent(chat, "us.amazon.nova-pro-v1:0")["messages"][0]["content"][1]["document"]
    assert base64.b64decode(plain["source"]["bytes"]) == b"Once."
    assert "citations" not in plain


def test_sound_goes_as_bytes_with_its_format(sent: Any) -> None:
    body = sent(user(Text("?"), Audio("UklGRg==", "pcm16")))
    assert body["messages"][0]["content"][1] == {"audio": {"format": "pcm", "source": {"bytes": "UklGRg=="}}}


def test_images_and_documents_of_a_result_stay_in_it(sent: Any) -> None:
    result = ToolResult(
        "call_1",
        [Text(""), Image(data=PIXEL, media_type="image/png"), Document(text="x", title="t")],
        is_error=True,
    )
    chat = Chat("m", [QUESTION, CALL, Turn("tool", [result])], tools=[WEATHER])
    block = sent(chat)["messages"][-1]["content"][0]["toolResult"]
    assert [next(iter(one)) for one in block["content"]] == ["text", "image", "document"]
    assert block["status"] == "error"
    assert "status" not in sent(chat, "mistral.m")["messages"][-1]["content"][0]["toolResult"]


# Reasoning of earlier turns, caching


def test_thoughts_go_back_where_the_model_can_verify_them(sent: Any) -> None:
    thoughts: list[Any] = [
        Reasoning("It is.", "c2lnbmVk"),
        Reasoning(encrypted="b3BhcXVl"),
        Reasoning("unsigned"),
        Reasoning(encrypted="not base64!"),
    ]
    chat = Chat("m", [QUESTION, Turn("assistant", [*thoughts, Text("Yes.")]), QUESTION])
    assert sent(chat)["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "It is.", "signature": "c2lnbmVk"}}},
        {"reasoningContent": {"redactedContent": "b3BhcXVl"}},
        {"text": "Yes."},
    ]
    assert sent(chat, "meta.llama3-3-70b-instruct-v1:0")["messages"][1]["content"] == [{"text": "Yes."}]


def test_a_cache_point_follows_what_is_marked(sent: Any) -> None:
    mark, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    chat = Chat(
        "m",
        [
            Turn("system", [Text("Long.", cache=long)]),
            Turn("user", [Text("Text.", cache=mark), Text("More.")]),
            Turn("assistant", [ToolCall("c", "get_weather", "{}", cache=mark)]),
            Turn("tool", [ToolResult("c", [Text("18", cache=mark)])]),
        ],
        tools=[replace(WEATHER, cache=mark)],
    )
    point = {"cachePoint": {"type": "default"}}
    body = sent(chat)
    assert body["system"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["messages"][0]["content"] == [{"text": "Text."}, point, {"text": "More."}]
    assert body["messages"][1]["content"][1] == body["messages"][2]["content"][1] == point
    assert body["toolConfig"]["tools"][1] == point
    nova = sent(chat, "us.amazon.nova-pro-v1:0")
    assert nova["system"][1] == point and len(nova["toolConfig"]["tools"]) == 1
    assert "cachePoint" not in json.dumps(sent(chat, "meta.llama3-3-70b-instruct-v1:0"))


# Tools


def test_a_tool_is_specified_and_what_it_lacks_is_left_out(sent: Any) -> None:
    tools = [
        WEATHER,
        Tool("now"),
        Tool("find", schema={"properties": {}}, strict=True),
        Tool("on", strict=False),
    ]
    assert sent(user(tools=tools))["toolConfig"] == {
        "tools": [
            {
                "toolSpec": {
                    "name": "get_weather",
                    "description": "The weather",
                    "inputSchema": {"json": WEATHER.schema},
                }
            },
            {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
            {
                "toolSpec": {
                    "name": "find",
                    "inputSchema": {
                        "json": {"type": "object", "properties": {}, "additionalProperties": False}
                    },
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "on", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ]
    }
    assert "strict" not in json.dumps(sent(user(tools=tools), "us.amazon.nova-pro-v1:0"))


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, None),
        (ToolChoice("auto"), None),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("named", "get_weather"), {"tool": {"name": "get_weather"}}),
    ],
)
def test_choices_of_tools(sent: Any, choice: Any, written: Any) -> None:
    body = sent(user(tools=[WEATHER], tool_choice=choice))
    assert body["toolConfig"].get("toolChoice") == written


def test_no_tool_may_be_called_where_no_tool_is_told_of(sent: Any) -> None:
    assert "toolConfig" not in sent(user(tools=[WEATHER], tool_choice=ToolChoice("none")))


def test_no_more_calls_after_calls_is_more_than_the_api_can_be_told() -> None:
    chat = Chat(
        "m",
        [QUESTION, CALL, RESULT],
        tools=[WEATHER],
        tool_choice=ToolChoice("none"),
        uses={"tool_choice.none": "tool_choice"},
    )
    with pytest.raises(Unsupported) as caught:
        wire_of(CLAUDE).encode_request(chat)
    assert (caught.value.feature, caught.value.param) == ("tool_choice.none", "tool_choice")


def test_tools_that_were_called_are_told_of_by_name_where_the_caller_sends_none(sent: Any) -> None:
    tools = sent(Chat("m", [QUESTION, CALL, RESULT]))["toolConfig"]["tools"]
    assert [tool["toolSpec"]["name"] for tool in tools] == ["get_weather"]
    orphan = sent(Chat("m", [QUESTION, RESULT]))["toolConfig"]["tools"]
    assert [tool["toolSpec"]["name"] for tool in orphan] == ["tool"]


def test_calls_one_at_a_time_are_asked_for_where_the_model_has_a_word_for_it(sent: Any) -> None:
    chat = user(tools=[WEATHER], parallel_tool_calls=False)
    field = sent(chat)["additionalModelRequestFields"]["tool_choice"]
    assert field == {"type": "auto", "disable_parallel_tool_use": True}
    forced = sent(replace(chat, tool_choice=ToolChoice("required")))
    assert forced["additionalModelRequestFields"]["tool_choice"] == {"disable_parallel_tool_use": True}
    assert "additionalModelRequestFields" not in sent(replace(chat, tools=[]))
    assert "additionalModelRequestFields" not in sent(chat, "us.amazon.nova-pro-v1:0")


# Settings


def test_settings_have_their_places(sent: Any) -> None:
    body = sent(
        user(
            max_output_tokens=9,
            temperature=1.7,
            stop=["END"],
            metadata={"team": "a", "emoji": "é!", "n": 7, "": "x"},
            service_tier="priority",
        )
    )
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 1, "stopSequences": ["END"]}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert body["requestMetadata"] == {"team": "a", "emoji": "__", "n": "7"}
    assert body["serviceTier"] == {"type": "priority"}


@pytest.mark.parametrize("tier", ["auto", "default", "standard_only", ""])
def test_the_ordinary_tier_need_not_be_asked_for(sent: Any, tier: str) -> None:
    assert "serviceTier" not in sent(user(service_tier=tier))


def test_metadata_keeps_to_the_limits_of_the_logs(sent: Any) -> None:
    body = sent(user(metadata={f"k{n}" + "x" * 300: "v" * 600 for n in range(20)}))
    assert len(body["requestMetadata"]) == 16
    assert all(len(k) == len(v) == 256 for k, v in body["requestMetadata"].items())


def test_a_schema_goes_as_text_within_what_the_model_takes(sent: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3}},
        "additionalProperties": True,
    }
    form = Format("json_schema", "count", schema, True, "A count")
    written = sent(user(format=form))["outputConfig"]["textFormat"]
    stated = written["structure"]["jsonSchema"]
    assert (written["type"], stated["name"], stated["description"]) == ("json_schema", "count", "A count")
    assert json.loads(stated["schema"])["additionalProperties"] is False
    elsewhere = sent(user(format=form), "mistral.mistral-large-3")["outputConfig"]["textFormat"]
    assert json.loads(elsewhere["structure"]["jsonSchema"]["schema"]) == schema


def test_a_stop_that_claude_cannot_be_told_is_refused(sent: Any) -> None:
    chat = user(stop=["\n"], uses={"stop": "stop"})
    with pytest.raises(Unsupported) as caught:
        wire_of(CLAUDE).encode_request(chat)
    assert (caught.value.feature, caught.value.param) == ("stop", "stop")
    assert sent(chat, "meta.llama3-3-70b-instruct-v1:0")["inferenceConfig"]["stopSequences"] == ["\n"]


@pytest.mark.parametrize(
    ("model", "written"),
    [
        (CLAUDE, {"top_k": 5}),
        ("us.amazon.nova-pro-v1:0", {"inferenceConfig": {"topK": 5}}),
        (
            "cohere.command-r-v1:0",
            {"k": 5, "seed": 7, "frequency_penalty": 0.1, "presence_penalty": 0.2},
        ),
        ("meta.llama3-3-70b-instruct-v1:0", None),
    ],
)
def test_settings_that_the_api_has_no_place_for_go_where_the_maker_wants_them(
    sent: Any, model: str, written: Any
) -> None:
    chat = user(top_k=5, seed=7, frequency_penalty=0.1, presence_penalty=0.2)
    assert sent(chat, model).get("additionalModelRequestFields") == written


def test_claude_takes_one_of_temperature_and_top_p(sent: Any) -> None:
    chat = user(temperature=0.5, top_p=0.9)
    assert sent(chat)["inferenceConfig"] == {"temperature": 0.5}
    assert sent(chat, "anthropic.claude-3-haiku-20240307-v1:0")["inferenceConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
    }
    assert "inferenceConfig" not in sent(chat, "anthropic.claude-opus-4-7")
