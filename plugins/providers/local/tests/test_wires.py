"""What each vendor's chat completions take: every feature is carried in its own words, or refused, or said to be ignored."""

from __future__ import annotations

from typing import Any

import pytest

from lmg.dialects.form import (
    FEATURES,
    Audio,
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
from lmg.testing.samples import SAMPLES
from lmg_local import wires
from lmg_local.wires import (
    DeepSeekChat,
    GroqChat,
    LlamaCppChat,
    LMStudioChat,
    MistralChat,
    OllamaChat,
    OpenRouterChat,
    ServerChat,
    TogetherChat,
    VllmChat,
    XaiChat,
)

SHARED = (
    "model messages temperature top_p frequency_penalty presence_penalty stop stream tools response_format"
)
# The members of a request that each vendor's reference lists, beside those that all have.
TAKEN: dict[type[ServerChat], str] = {
    XaiChat: """max_completion_tokens n seed logprobs top_logprobs parallel_tool_calls reasoning_effort stream_options tool_choice
        user""",
    GroqChat: "max_completion_tokens seed parallel_tool_calls reasoning_effort stream_options tool_choice user",
    DeepSeekChat: "max_tokens thinking reasoning_effort stream_options tool_choice logprobs top_logprobs",
    TogetherChat: "max_tokens top_k min_p seed n logit_bias reasoning_effort stream_options tool_choice",
    OpenRouterChat: """max_tokens top_k min_p seed n logit_bias logprobs top_logprobs parallel_tool_calls reasoning stream_options
        tool_choice verbosity prediction user""",
    OllamaChat: "max_tokens seed reasoning_effort stream_options logprobs top_logprobs",
    VllmChat: """max_tokens top_k min_p seed n logit_bias logprobs top_logprobs parallel_tool_calls reasoning_effort stream_options
        tool_choice continue_final_message add_generation_prompt""",
    LlamaCppChat: """max_tokens top_k min_p seed n logit_bias logprobs top_logprobs parallel_tool_calls reasoning_effort
        stream_options tool_choice""",
    LMStudioChat: "max_tokens top_k seed logit_bias stream_options tool_choice",
    MistralChat: "max_tokens random_seed n parallel_tool_calls tool_choice metadata prediction prompt_cache_key reasoning_effort",
}
VENDORS = list(TAKEN)


def user(*parts: Any, **more: Any) -> Chat:
    return Chat("m", [Turn("user", list(parts) or [Text("Hello")])], **more)


def sent(wire: ServerChat, chat: Chat) -> dict[str, Any]:
    return wire.encode_request(chat)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("feature", SAMPLES)
def test_no_request_holds_a_member_that_the_vendor_does_not_take(
    vendor: type[ServerChat], feature: str
) -> None:
    wire = vendor()
    if wire.support[feature] == "refused":
        return
    chat = SAMPLES[feature]
    for stream in (False, True):
        chat.stream = stream
        body = wire.encode_request(chat)
        chat.stream = False
        assert set(body) <= {*SHARED.split(), *TAKEN[vendor].split()}
        known = {
            "role",
            "content",
            "tool_calls",
            "tool_call_id",
            *([] if wire.support["names"] != "carried" else ["name"]),
        }
        extra = {"reasoning", "reasoning_content", "reasoning_details", "prefix"}
        assert all(set(message) <= known | extra for message in body["messages"])
        assert all(message["content"] is not None or "tool_calls" in message for message in body["messages"])


@pytest.mark.parametrize("vendor", [ServerChat, *VENDORS])
def test_every_feature_is_decided(vendor: type[ServerChat]) -> None:
    assert set(vendor.support) == set(FEATURES)
    assert set(vendor.support.values()) == {"carried", "ignored", "refused"}


def test_a_table_cannot_name_a_feature_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        wires.differs(ignored="telepathy")


@pytest.mark.parametrize("vendor", [ServerChat, *VENDORS])
def test_the_developer_s_messages_have_a_role_that_the_vendor_knows(vendor: type[ServerChat]) -> None:
    role = "developer" if vendor in (XaiChat, GroqChat, OpenRouterChat) else "system"
    chat = Chat("m", [Turn("developer", [Text("Be brief.")]), Turn("user", [Text("Hi")])])
    assert sent(vendor(), chat)["messages"][0] == {"role": role, "content": "Be brief."}


@pytest.mark.parametrize("vendor", [ServerChat, *VENDORS])
def test_an_earlier_refusal_is_what_the_assistant_said(vendor: type[ServerChat]) -> None:
    chat = Chat(
        "m",
        [
            Turn("user", [Text("Do harm.")]),
            Turn("assistant", [Refused("I will not.")]),
            Turn("user", [Text("?")]),
        ],
    )
    assert sent(vendor(), chat)["messages"][1] == {"role": "assistant", "content": "I will not."}


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_is_not_carried_is_not_written_into_messages_either(vendor: type[ServerChat]) -> None:
    wire = vendor()
    chat = user(
        Text("a", cache={"type": "ephemeral"}), Image(data="AA", media_type="image/png", detail="low")
    )
    chat.turns[0].name = "ann"
    chat.tools = [Tool("f", schema={}, strict=True, cache={"type": "ephemeral"})]
    body = sent(wire, chat)
    text, image = body["messages"][0]["content"]
    assert ("cache_control" in text, "cache_control" in body["tools"][0]) == (
        (wire.support["cache_control"] == "carried"),
    ) * 2
    assert ("detail" in image["image_url"]) == (wire.support["image.detail"] == "carried")
    assert ("name" in body["messages"][0]) == (wire.support["names"] == "carried")
    assert ("strict" in body["tools"][0]["function"]) == (wire.support["tools.strict"] == "carried")


HISTORY = Chat(
    "m",
    [
        Turn("user", [Text("?")]),
        Turn("assistant", [Reasoning("Hm.", "c2ln"), Text("Yes.")]),
        Turn("user", [Text("!")]),
    ],
)


@pytest.mark.parametrize(
    ("vendor", "kept"),
    [
        (DeepSeekChat, {"reasoning_content": "Hm."}), (VllmChat, {"reasoning_content": "Hm."}),
        (LlamaCppChat, {"reasoning_content": "Hm."}), (OllamaChat, {"reasoning": "Hm."}), (XaiChat, {}), (GroqChat, {}),
        (TogetherChat, {}), (LMStudioChat, {}), (MistralChat, {}),
        (OpenRouterChat, {"reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0, "signature": "c2ln"}]}),
    ],
)  # fmt: skip
def test_earlier_reasoning_goes_back_as_the_vendor_reads_it(
    vendor: type[ServerChat], kept: dict[str, Any]
) -> None:
    assert sent(vendor(), HISTORY)["messages"][1] == {"role": "assistant", "content": "Yes.", **kept}


@pytest.mark.parametrize(
    ("vendor", "ask", "written"),
    [
        (
            DeepSeekChat,
            ReasoningAsk("medium"),
            {"thinking": {"type": "enabled"}, "reasoning_effort": "medium"},
        ),
        (DeepSeekChat, ReasoningAsk(enabled=False), {"thinking": {"type": "disabled"}}),
        (OpenRouterChat, ReasoningAsk("low"), {"reasoning": {"effort": "low"}}),
        (OpenRouterChat, ReasoningAsk(budget_tokens=2000), {"reasoning": {"max_tokens": 2000}}),
        (OpenRouterChat, ReasoningAsk(), {"reasoning": {"enabled": True}}),
        (OpenRouterChat, ReasoningAsk(enabled=False), {"reasoning": {"enabled": False}}),
        (MistralChat, ReasoningAsk("low"), {"reasoning_effort": "high"}),
        (MistralChat, ReasoningAsk(enabled=False), {"reasoning_effort": "none"}),
        (LMStudioChat, ReasoningAsk("low"), {}),
        (OllamaChat, ReasoningAsk("low"), {"reasoning_effort": "low"}),
    ],
)
def test_reasoning_is_asked_for_in_the_vendor_s_words(
    vendor: type[ServerChat], ask: ReasoningAsk, written: dict[str, Any]
) -> None:
    body = sent(vendor(), user(reasoning=ask))
    assert {key: item for key, item in body.items() if key not in ("model", "messages")} == written


@pytest.mark.parametrize(
    ("vendor", "written", "flags"),
    [
        (MistralChat, {"role": "assistant", "content": "It is", "prefix": True}, {}),
        (VllmChat, {"role": "assistant", "content": "It is"}, {"continue_final_message": True, "add_generation_prompt": False}),
        (LlamaCppChat, {"role": "assistant", "content": "It is"}, {}),
    ],
)  # fmt: skip
def test_an_answer_that_is_begun_goes_on_where_the_vendor_can(
    vendor: type[ServerChat], written: dict[str, Any], flags: dict[str, Any]
) -> None:
    chat = user()
    chat.turns.append(Turn("assistant", [Text("It is")]))
    body = sent(vendor(), chat)
    assert body["messages"][-1] == written
    assert {key: body[key] for key in flags} == flags
    assert vendor.support["prefill"] == "carried"
    assert "continue_final_message" not in sent(vendor(), user())


@pytest.mark.parametrize(
    ("vendor", "none", "required", "named"),
    [
        (OllamaChat, "carried", "refused", "refused"), (LlamaCppChat, "carried", "carried", "refused"),
        (LMStudioChat, "carried", "carried", "refused"), (MistralChat, "carried", "carried", "carried"),
    ],
)  # fmt: skip
def test_a_choice_of_tools_is_carried_or_refused(
    vendor: type[ServerChat], none: str, required: str, named: str
) -> None:
    support = vendor.support
    assert (support["tool_choice.none"], support["tool_choice.required"], support["tool_choice.named"]) == (
        none,
        required,
        named,
    )


def test_where_no_tool_may_be_called_ollama_is_offered_none() -> None:
    chat = user(tools=[Tool("f", schema={})], tool_choice=ToolChoice("none"))
    assert {"tools", "tool_choice"} & set(sent(OllamaChat(), chat)) == set()
    chat.tool_choice = ToolChoice("auto")
    body = sent(OllamaChat(), chat)
    assert ("tools" in body, "tool_choice" in body) == (True, False)


def test_any_json_object_is_a_schema_to_lm_studio() -> None:
    body = sent(LMStudioChat(), user(format=Format("json_object")))
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    schema = Format("json_schema", "city", {"type": "object", "properties": {}})
    assert sent(LMStudioChat(), user(format=schema))["response_format"]["json_schema"]["name"] == "city"


# -- Mistral --------------------------------------------------------------------------------------


def test_mistral_s_seed_is_random_and_usage_comes_unasked() -> None:
    assert sent(MistralChat(), user(seed=7, stream=True)) == {
        "model": "m", "messages": [{"role": "user", "content": "Hello"}], "random_seed": 7, "stream": True,
    }  # fmt: skip


def test_mistral_s_ids_of_calls_have_nine_letters_and_digits_and_still_meet() -> None:
    def turns(id: str) -> list[Turn]:
        return [Turn("assistant", [ToolCall(id, "f", "{}")]), Turn("tool", [ToolResult(id, [Text("1")])])]

    chat = Chat(
        "m",
        [Turn("user", [Text("?")]), *turns("call_0123456789abcdef"), *turns("toolu_1"), *turns("a1B2c3D4e")],
    )
    messages = sent(MistralChat(), chat)["messages"]
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert ids == [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert len(set(ids)) == 3
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert ids[2] == "a1B2c3D4e", "its own ids come back as they were"


def test_mistral_s_documents_and_sound_are_parts_of_its_own() -> None:
    pdf = Document(data="JVBERg==", media_type="application/pdf", title="a.pdf")
    chat = user(Text("?"), pdf, Document(file_id="f-1"), Audio("UklGRg==", "wav"))
    assert sent(MistralChat(), chat)["messages"][0]["content"] == [
        {"type": "text", "text": "?"},
        {
            "type": "document_url",
            "document_url": "data:application/pdf;base64,JVBERg==",
            "document_name": "a.pdf",
        },
        {"type": "file", "file_id": "f-1"},
        {"type": "input_audio", "input_audio": "UklGRg=="},
    ]
