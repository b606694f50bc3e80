"""What the models behind the API differ in: what each takes, and in whose words it is asked to reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lmg.dialects.form import (
    FEATURES,
    Chat,
    Reasoning,
    ReasoningAsk,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.wire import Unsupported, admit
from lmg.testing.samples import SAMPLES, WRITTEN
from lmg_bedrock import ConverseWire
from lmg_bedrock.families import family_of

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
MODELS = [
    CLAUDE,
    "anthropic.claude-3-haiku-20240307-v1:0",
    "anthropic.claude-3-7-sonnet-20250219-v1:0",
    "us.anthropic.claude-sonnet-4-20250514-v1:0",
    "global.anthropic.claude-opus-4-6-v1",
    "eu.anthropic.claude-opus-4-7",
    "anthropic.claude-opus-5",
    "anthropic.claude-fable-5",
    "us.amazon.nova-pro-v1:0",
    "amazon.nova-2-lite-v1:0",
    "openai.gpt-oss-120b-1:0",
    "us.openai.gpt-5.6-sol",
    "cohere.command-r-plus-v1:0",
    "meta.llama3-3-70b-instruct-v1:0",
    "mistral.mistral-large-2407-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
]


def wire_of(model: str) -> ConverseWire:
    return ConverseWire(family_of(model))


def user(*parts: Any, **more: Any) -> Chat:
    return Chat("m", [Turn("user", list(parts) or [Text("Hi")])], **more)


WEATHER = Tool("get_weather", "The weather", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = Turn("assistant", [ToolCall("call_1", "get_weather", '{"city":"Paris"}')])
RESULT = Turn("tool", [ToolResult("call_1", [Text("18")])])
QUESTION = Turn("user", [Text("How warm is it?")])


# Every feature for every family


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("feature", SAMPLES)
def test_what_is_carried_is_a_request_that_the_published_model_allows(
    sent: Any, model: str, feature: str
) -> None:
    wire = wire_of(model)
    chat = replace(SAMPLES[feature], uses={feature: "here"})
    if wire.support[feature] == "refused":
        with pytest.raises(Unsupported) as caught:
            admit(wire, chat)
        assert (caught.value.feature, caught.value.param) == (feature, "here")
        return
    assert admit(wire, chat) == (("here",) if wire.support[feature] == "ignored" else ())
    if feature != "image.detail":  # whose sample is an image by URL
        sent(chat, model)


@pytest.mark.parametrize("model", MODELS)
def test_every_feature_is_decided_for_every_family(model: str) -> None:
    assert wire_of(model).support.keys() == FEATURES.keys()


@pytest.mark.parametrize("body", WRITTEN["openai.chat"].values(), ids=WRITTEN["openai.chat"])
def test_what_only_a_dialect_can_say_is_decided_too(sent: Any, body: Any) -> None:
    chat = OpenAIChat().decode_request(body)
    try:
        admit(wire_of(CLAUDE), chat)
    except Unsupported:
        return
    sent(chat)


# Reasoning, in the words of each maker

LOW, HIGH, MAX = ReasoningAsk("low"), ReasoningAsk("high"), ReasoningAsk("max")
MINIMAL, OFF = ReasoningAsk("minimal"), ReasoningAsk("none", enabled=False)
BUDGET = ReasoningAsk(budget_tokens=5000)
OPUS_46, OPUS_47, OPUS_5 = (
    "anthropic.claude-opus-4-6-v1",
    "anthropic.claude-opus-4-7",
    "anthropic.claude-opus-5",
)
OSS, GPT, NOVA_2 = "openai.gpt-oss-20b-1:0", "us.openai.gpt-5.6-sol", "amazon.nova-2-lite-v1:0"


def adaptive(effort: str = "", **more: Any) -> dict[str, Any]:
    fields = {"additionalModelRequestFields": {"thinking": {"type": "adaptive", **more}}}
    return fields | ({"outputConfig": {"effort": effort}} if effort else {})


def thinking(budget: int) -> dict[str, Any]:
    return {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": budget}}}


@pytest.mark.parametrize(
    ("model", "ask", "written"),
    [
        (CLAUDE, LOW, thinking(2048)),
        (CLAUDE, MINIMAL, thinking(1024)),
        (CLAUDE, BUDGET, thinking(5000)),
        (CLAUDE, ReasoningAsk(budget_tokens=10), thinking(1024)),
        (CLAUDE, OFF, {}),
        (OPUS_46, HIGH, adaptive("high")),
        (OPUS_46, ReasoningAsk("xhigh"), adaptive("high")),
        (OPUS_46, ReasoningAsk(), adaptive()),
        (OPUS_46, OFF, {}),
        (OPUS_47, BUDGET, adaptive("medium")),
        (OPUS_47, MINIMAL, adaptive("low")),
        (OPUS_47, ReasoningAsk("xhigh", summary="auto"), adaptive("xhigh", display="summarized")),
        (OPUS_47, OFF, {}),
        (OPUS_5, OFF, {"additionalModelRequestFields": {"thinking": {"type": "disabled"}}}),
        ("anthropic.claude-fable-5", OFF, {"outputConfig": {"effort": "low"}}),
        ("anthropic.claude-3-haiku-20240307-v1:0", HIGH, {}),
        (OSS, HIGH, {"additionalModelRequestFields": {"reasoning_effort": "high"}}),
        (OSS, MAX, {"additionalModelRequestFields": {"reasoning_effort": "high"}}),
        (OSS, OFF, {"additionalModelRequestFields": {"reasoning_effort": "low"}}),
        (GPT, MAX, {"additionalModelRequestFields": {"reasoning": {"effort": "max"}}}),
        (GPT, MINIMAL, {"additionalModelRequestFields": {"reasoning": {"effort": "low"}}}),
        (GPT, OFF, {"additionalModelRequestFields": {"reasoning": {"effort": "none"}}}),
        (
            NOVA_2,
            HIGH,
            {
                "additionalModelRequestFields": {
                    "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}
                }
            },
        ),
        (NOVA_2, OFF, {"additionalModelRequestFields": {"reasoningConfig": {"type": "disabled"}}}),
        ("us.amazon.nova-pro-v1:0", HIGH, {}),
        ("meta.llama3-3-70b-instruct-v1:0", HIGH, {}),
    ],
)
def test_reasoning_in_the_words_of_each_maker(sent: Any, model: str, ask: Any, written: Any) -> None:
    body = sent(user(reasoning=ask), model)
    del body["messages"]
    assert body == written


def test_a_budget_leaves_room_for_the_answer(sent: Any) -> None:
    def budget(**more: Any) -> Any:
        body = sent(user(reasoning=HIGH, **more))
        return body.get("additionalModelRequestFields", {}).get("thinking", {}).get("budget_tokens")

    assert budget(max_output_tokens=20_000) == 16_384
    assert budget(max_output_tokens=4_096) == 2_048
    assert budget(max_output_tokens=1_500) is None
    assert budget(output_limit=8_192) == 4_096


def test_claude_does_not_sample_while_it_thinks(sent: Any) -> None:
    body = sent(user(reasoning=HIGH, temperature=0.2, top_p=0.5, top_k=3, max_output_tokens=20_000))
    assert body["inferenceConfig"] == {"maxTokens": 20_000}
    assert "top_k" not in body["additionalModelRequestFields"]


@pytest.mark.parametrize("model", [CLAUDE, OPUS_46])
def test_a_tool_that_must_be_called_and_thinking_exclude_each_other(sent: Any, model: str) -> None:
    body = sent(user(reasoning=MAX, tools=[WEATHER], tool_choice=ToolChoice("required")), model)
    assert "additionalModelRequestFields" not in body
    assert body.get("outputConfig") in (None, {"effort": "high"})


def test_a_call_whose_thoughts_were_not_kept_goes_on_without_thinking(sent: Any) -> None:
    chat = Chat("m", [QUESTION, CALL, RESULT], tools=[WEATHER], reasoning=HIGH)
    assert "additionalModelRequestFields" not in sent(chat)
    kept = Turn("assistant", [Reasoning("Hm.", "c2lnbmVk"), *CALL.parts])
    assert sent(replace(chat, turns=[QUESTION, kept, RESULT])) | thinking(16_384) == sent(
        replace(chat, turns=[QUESTION, kept, RESULT])
    )


def test_nova_s_highest_effort_gives_way_to_a_cap(sent: Any) -> None:
    body = sent(user(reasoning=HIGH, max_output_tokens=100), NOVA_2)
    assert body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == "medium"


# Families


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "claude"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-6-v1", "claude"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0", "nova"),
        ("global.amazon.nova-2-lite-v1:0", "nova_reasoning"),
        ("openai.gpt-oss-20b-1:0", "gpt_oss"),
        ("openai.gpt-6-astra", "gpt"),
        ("cohere.command-r-v1:0", "cohere"),
        ("deepseek.r1-v1:0", "unstructured"),
        ("deepseek.v3-v1:0", "any"),
        ("qwen.qwen3-32b-v1:0", "any"),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl", "any"),
        ("my-anthropic-claude", "any"),
    ],
)
def test_the_name_of_a_model_tells_its_family(model: str, family: str) -> None:
    assert family_of(model).name == family


@pytest.mark.parametrize(
    ("feature", "decided"),
    [
        ("temperature", {OPUS_46: "carried", OPUS_47: "ignored"}),
        ("json_schema", {CLAUDE: "carried", "anthropic.claude-sonnet-4-20250514-v1:0": "refused"}),
        ("prefill", {CLAUDE: "carried", OPUS_46: "refused"}),
        ("tool_choice.required", {OPUS_5: "carried", "anthropic.claude-opus-5-5": "refused"}),
        ("reasoning", {OPUS_5: "carried", "anthropic.claude-3-5-haiku-20241022-v1:0": "ignored"}),
        ("cache_control", {CLAUDE: "carried", "us.amazon.nova-pro-v1:0": "carried", GPT: "ignored"}),
    ],
)
def test_what_a_model_takes_depends_on_its_family(feature: str, decided: dict[str, str]) -> None:
    assert {model: wire_of(model).support[feature] for model in decided} == decided
