"""A chat as the body of generateContent, each read by the SDK's types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmg.dialects.form import (
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
from lmg.dialects.wire import Unsupported
from lmg.testing.samples import PIXEL, SAMPLES
from lmg_gemini import GeminiWire
from lmg_gemini.signatures import SKIP, call_id, marked

WIRE = GeminiWire()
MODEL = "gemini-3.1-pro-preview"
PNG = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
SCHEMA = {
    "$defs": {"city": {"type": "string", "pattern": "^[A-Z]"}},
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": ["integer", "null"], "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


def chat(*turns: Turn, model: str = MODEL, **more: Any) -> Chat:
    return Chat(model, list(turns) or [Turn("user", [Text("Hi")])], **more)


def user(*parts: Any) -> Turn:
    return Turn("user", list(parts))


def model(*parts: Any) -> Turn:
    return Turn("assistant", list(parts))


def results(*parts: Any) -> Turn:
    return Turn("tool", list(parts))


# Every feature that is carried is something that the API takes


@pytest.mark.parametrize("feature", [name for name in SAMPLES if WIRE.support[name] == "carried"])
def test_what_is_carried_is_what_the_api_takes(feature: str, strict: Any) -> None:
    strict(WIRE.encode_request(SAMPLES[feature]))


# Settings


@pytest.mark.parametrize(
    ("asked", "config"),
    [
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.9}, {"topP": 0.9}),
        ({"top_k": 40}, {"topK": 40}),
        ({"max_output_tokens": 100}, {"maxOutputTokens": 100}),
        ({"stop": ["A", "B"]}, {"stopSequences": ["A", "B"]}),
        ({"presence_penalty": 0.1}, {"presencePenalty": 0.1}),
        ({"frequency_penalty": -0.1}, {"frequencyPenalty": -0.1}),
        ({"n": 3}, {"candidateCount": 3}),
        ({"seed": -7}, {"seed": -7}),
        ({"seed": 2**31 + 5}, {"seed": 5}),
        ({"seed": 12345678901234567890}, {"seed": 12345678901234567890 % 2**31}),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": True, "top_logprobs": 5}, {"responseLogprobs": True, "logprobs": 5}),
        ({"logprobs": True, "top_logprobs": 0}, {"responseLogprobs": True}),
        ({"format": Format("json_object")}, {"responseMimeType": "application/json"}),
        (
            {"format": Format("json_schema", "x", SCHEMA, True)},
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
    ],
)
def test_settings_are_those_of_generation_config(
    asked: dict[str, Any], config: dict[str, Any], strict: Any
) -> None:
    body = WIRE.encode_request(chat(**asked))
    assert body["generationConfig"] == config
    strict(body)


def test_what_was_not_asked_for_is_not_said() -> None:
    assert WIRE.encode_request(chat(n=1)) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("auto", None),
        ("default", "standard"),
        ("standard_only", "standard"),
        ("flex", "flex"),
        ("priority", "priority"),
    ],
)
def test_service_tiers_are_named_as_the_api_names_them(asked: str, sent: str | None, strict: Any) -> None:
    body = WIRE.encode_request(chat(service_tier=asked, store=True))
    assert (body.get("serviceTier"), body["store"]) == (sent, True)
    strict(body)


def test_a_service_tier_that_the_api_has_not_is_refused_at_the_caller_s_place() -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(chat(service_tier="scale", uses={"service_tier": "service_tier"}))
    assert caught.value.param == "service_tier"


@pytest.mark.parametrize(
    ("name", "ask", "config"),
    [
        ("gemini-2.5-flash", ReasoningAsk("low"), {"thinkingBudget": 1024}),
        ("gemini-2.5-flash", ReasoningAsk("medium"), {"thinkingBudget": 8192}),
        ("gemini-2.5-flash", ReasoningAsk("high"), {"thinkingBudget": 24576}),
        ("gemini-2.5-flash", ReasoningAsk("xhigh"), {"thinkingBudget": 24576}),
        ("gemini-2.5-flash", ReasoningAsk(budget_tokens=2000), {"thinkingBudget": 2000}),
        ("gemini-2.5-flash", ReasoningAsk(budget_tokens=64000), {"thinkingBudget": 24576}),
        ("gemini-2.5-pro", ReasoningAsk(budget_tokens=64000), {"thinkingBudget": 32768}),
        ("gemini-2.5-pro", ReasoningAsk(budget_tokens=1), {"thinkingBudget": 128}),
        ("gemini-2.5-flash-lite-preview-09-2025", ReasoningAsk(budget_tokens=100), {"thinkingBudget": 512}),
        ("gemini-2.5-flash", ReasoningAsk(), {}),
        ("gemini-3-flash-preview", ReasoningAsk("minimal"), {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.6-flash", ReasoningAsk("minimal"), {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.7-flash", ReasoningAsk("minimal"), {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", ReasoningAsk("minimal"), {"thinkingLevel": "LOW"}),
        ("gemini-3.1-pro-preview", ReasoningAsk("minimal"), {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", ReasoningAsk("medium"), {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.8-flash", ReasoningAsk("max"), {"thinkingLevel": "HIGH"}),
        ("gemini-3.8-flash", ReasoningAsk(budget_tokens=1024), {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", ReasoningAsk(budget_tokens=10000), {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.8-flash", ReasoningAsk(budget_tokens=32000), {"thinkingLevel": "HIGH"}),
        ("gemini-3.8-flash", ReasoningAsk("low", 32000), {"thinkingLevel": "LOW"}),
        ("gemini-flash-latest", ReasoningAsk("high"), {"thinkingLevel": "HIGH"}),
    ],
)
def test_reasoning_is_asked_for_in_the_terms_of_the_model_s_generation(
    name: str, ask: ReasoningAsk, config: dict[str, Any], strict: Any
) -> None:
    body = WIRE.encode_request(chat(model=name, reasoning=ask))
    assert body["generationConfig"] == {"thinkingConfig": {**config, "includeThoughts": True}}
    strict(body)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gemini-2.5-flash", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"thinkingBudget": 128}),
        ("gemini-3-flash-preview", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", {"thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", {"thinkingLevel": "LOW"}),
        ("gemini-2.0-flash", None),
        ("gemini-1.5-pro", None),
    ],
)
def test_reasoning_is_off_or_as_little_as_the_model_can(
    name: str, config: dict[str, Any] | None, strict: Any
) -> None:
    body = WIRE.encode_request(chat(model=name, reasoning=ReasoningAsk("none", enabled=False)))
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    strict(body)


def test_an_effort_in_no_known_word_is_refused_at_the_caller_s_place() -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(chat(reasoning=ReasoningAsk("much"), uses={"reasoning": "reasoning_effort"}))
    assert caught.value.param == "reasoning_effort"


# Messages


def test_instructions_come_together_in_their_one_place(strict: Any) -> None:
    turns = [
        Turn("system", [Text("Be brief."), Text("")]),
        user(Text("Hi")),
        Turn("developer", [Text("And polite.")]),
        model(Text("Hello.")),
        user(Text("Bye")),
    ]
    body = WIRE.encode_request(chat(*turns))
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "And polite."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    strict(body)


def test_a_request_of_instructions_alone_has_something_to_answer(strict: Any) -> None:
    body = WIRE.encode_request(chat(Turn("system", [Text("Say hello.")])))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
    strict(body)


def test_an_image_among_the_instructions_is_refused() -> None:
    turn = Turn("system", [Image(data=PIXEL, media_type="image/png")])
    with pytest.raises(Unsupported, match=r"messages\[0\]"):
        WIRE.encode_request(chat(turn, uses={"system": "messages[0]"}))


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (Text("a"), [{"text": "a"}]),
        (Text(""), [{"text": ""}]),
        (Image(data=PIXEL, media_type="image/png", detail="high"), [PNG]),
        (
            Image(url="https://x.example/a/b.JPEG?w=1.png#c.gif"),
            [{"fileData": {"fileUri": "https://x.example/a/b.JPEG?w=1.png#c.gif", "mimeType": "image/jpeg"}}],
        ),
        (Image(url="https://x.example/cat"), [{"fileData": {"fileUri": "https://x.example/cat"}}]),
        (
            Image(url="https://x.example/cat", media_type="image/webp"),
            [{"fileData": {"fileUri": "https://x.example/cat", "mimeType": "image/webp"}}],
        ),
        (
            Document(url="https://x.example/a"),
            [{"fileData": {"fileUri": "https://x.example/a", "mimeType": "application/pdf"}}],
        ),
        (
            Document(data="JVBERi0=", media_type="application/pdf"),
            [{"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}],
        ),
        (
            Document(text="Once", title="A tale", context="for children"),
            [
                {"text": "A tale\nfor children"},
                {"inlineData": {"mimeType": "text/plain", "data": "T25jZQ=="}},
            ],
        ),
        (Audio("UklGRg==", "mp3"), [{"inlineData": {"mimeType": "audio/mp3", "data": "UklGRg=="}}]),
        (Refused("I will not."), [{"text": "I will not."}]),
    ],
)
def test_parts_are_those_of_the_api(part: Any, sent: list[dict[str, Any]], strict: Any) -> None:
    body = WIRE.encode_request(chat(user(part)))
    assert body["contents"] == [{"role": "user", "parts": sent}]
    strict(body)


@pytest.mark.parametrize("part", [Image(file_id="file-1"), Document(file_id="file-1")])
def test_files_of_another_provider_are_refused(part: Any) -> None:
    with pytest.raises(Unsupported):
        WIRE.encode_request(chat(user(part)))


# Tools


def test_schemas_of_tools_and_answers_go_along_as_they_are(strict: Any) -> None:
    tools = [
        Tool("weather", "The weather", SCHEMA),
        Tool("now", schema={"type": "object", "properties": {}}),
        Tool("ping"),
    ]
    body = WIRE.encode_request(chat(tools=tools, format=Format("json_schema", schema=SCHEMA)))
    declared = body["tools"][0]["functionDeclarations"]
    assert declared == [
        {"name": "weather", "description": "The weather", "parametersJsonSchema": SCHEMA},
        {"name": "now", "parametersJsonSchema": {"type": "object", "properties": {}}},
        {"name": "ping"},
    ]
    assert "toolConfig" not in body
    strict(body)


@pytest.mark.parametrize(
    ("choice", "strict_schema", "calling"),
    [
        (ToolChoice("auto"), None, {"mode": "AUTO"}),
        (ToolChoice("auto"), True, {"mode": "VALIDATED"}),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("none"), True, {"mode": "NONE"}),
        (ToolChoice("required"), True, {"mode": "ANY"}),
        (ToolChoice("named", "f"), None, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choices_are_modes(
    choice: ToolChoice | None, strict_schema: bool | None, calling: dict[str, Any], strict: Any
) -> None:
    tools = [Tool("g"), Tool("f", schema=SCHEMA, strict=strict_schema)]
    body = WIRE.encode_request(chat(tools=tools, tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": calling}
    strict(body)


def two_calls(signature: str = "c2ln/+8=") -> tuple[ToolCall, ToolCall]:
    first = call_id(0, ("r", "0", "f"), "own-1", signature)
    second = call_id(1, ("r", "0", "f"), "", "")
    return ToolCall(first, "f", '{"a": 1}'), ToolCall(second, "f", "")


def test_calls_and_results_of_one_step_stand_in_one_content_each(strict: Any) -> None:
    first, second = two_calls()
    body = WIRE.encode_request(
        chat(
            user(Text("Go")),
            model(Text("I go."), first),
            model(second),
            results(ToolResult(second.id, [Text("b"), Text("c")])),
            results(ToolResult(first.id, [Text("a")], is_error=True)),
            user(Text("And now?")),
        )
    )
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user", "user"]
    assert body["contents"][1]["parts"] == [
        {"text": "I go."},
        {"functionCall": {"id": "own-1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln/+8="},
        {"functionCall": {"name": "f", "args": {}}},
    ]
    # In the order of the calls, whatever order the results came in: without an id there is nothing else to tell them by.
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"id": "own-1", "name": "f", "response": {"error": "a"}}},
        {"functionResponse": {"name": "f", "response": {"output": "b\nc"}}},
    ]
    strict(body)


@pytest.mark.parametrize(
    ("name", "signed"),
    [
        ("gemini-3.8-flash", True),
        ("gemini-3-pro-preview", True),
        ("gemini-flash-latest", True),
        ("gemini-2.5-pro", False),
        ("gemini-1.5-flash-002", False),
        ("gemma-4-31b-it", False),
        ("tunedModels/mine", False),
    ],
)
def test_a_call_of_another_model_s_is_signed_as_such_where_signatures_are_wanted(
    name: str, signed: bool, strict: Any
) -> None:
    calls = [ToolCall("call_abc", "f", "{}"), ToolCall("toolu_1", "f", "{}")]
    body = WIRE.encode_request(chat(user(Text("Go")), model(*calls), model=name))
    first, second = body["contents"][1]["parts"]
    assert first.get("thoughtSignature") == (SKIP if signed else None)
    assert "thoughtSignature" not in second  # those in parallel to a signed one have none
    assert "id" not in first["functionCall"]
    strict(body)


def test_images_in_results_stand_beside_them(strict: Any) -> None:
    result = ToolResult(
        "1", [Text("A map:"), Image(data=PIXEL, media_type="image/png"), Document(text="Legend")]
    )
    body = WIRE.encode_request(chat(user(Text("Go")), model(ToolCall("1", "f", "{}")), results(result)))
    assert body["contents"][2]["parts"][0]["functionResponse"] == {
        "name": "f",
        "response": {"output": "A map:"},
        "parts": [PNG, {"inlineData": {"mimeType": "text/plain", "data": "TGVnZW5k"}}],
    }
    strict(body)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("gemini-2.5-pro", Image(data=PIXEL, media_type="image/png")),
        (MODEL, Image(url="https://x.example/a.png")),
        (MODEL, Document(url="https://x.example/a.pdf")),
    ],
)
def test_images_in_results_are_refused_where_the_model_cannot_take_them(name: str, part: Any) -> None:
    turns = [user(Text("Go")), model(ToolCall("1", "f", "{}")), results(ToolResult("1", [part]))]
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(chat(*turns, model=name, uses={"tool_results.images": "messages[2].content[0]"}))
    assert caught.value.param == "messages[2].content[0]"


@pytest.mark.parametrize(
    "arguments",
    [
        "{",
        "[]",
        '"a"',
        "1",
        "null",
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
)
def test_arguments_that_are_no_json_object_are_refused_by_the_call_s_name(arguments: str) -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(chat(user(Text("Go")), model(ToolCall("1", "weather", arguments))))
    assert "weather" in caught.value.param
    assert arguments[:3] not in caught.value.param or len(arguments) < 3


def test_a_result_without_its_call_is_refused_by_its_id() -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(chat(user(Text("Go")), results(ToolResult("call_9", [Text("a")]))))
    assert "call_9" in caught.value.param


# Reasoning of earlier turns


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        (  # as the API wrote it
            [Reasoning("Hm.", marked("dGg=")), Text("Yes."), Reasoning(signature=marked("dHg="))],
            [
                {"text": "Hm.", "thought": True, "thoughtSignature": "dGg="},
                {"text": "Yes.", "thoughtSignature": "dHg="},
            ],
        ),
        (  # as dialects write it that keep reasoning apart
            [Reasoning("Hm."), Reasoning(signature=marked("dHg=")), Text("Yes.")],
            [{"text": "Hm.", "thought": True}, {"text": "Yes.", "thoughtSignature": "dHg="}],
        ),
        (  # as dialects write it that have one member for what is sealed
            [Reasoning("Hm.", marked("dGg=")), Reasoning(encrypted=marked("dHg=")), Text("Yes.")],
            [
                {"text": "Hm.", "thought": True, "thoughtSignature": "dGg="},
                {"text": "Yes.", "thoughtSignature": "dHg="},
            ],
        ),
        (
            [Reasoning(signature=marked("YQ==")), Reasoning(signature=marked("Yg==")), Text("Yes.")],
            [{"text": "Yes.", "thoughtSignature": "YQ=="}, {"text": "", "thoughtSignature": "Yg=="}],
        ),
        ([Reasoning(signature=marked("YQ=="))], [{"text": "", "thoughtSignature": "YQ=="}]),
        # Another provider's signature would be refused, its thought is one all the same.
        (
            [Reasoning("Hm.", "EqoBCkgIAR"), Text("Yes.")],
            [{"text": "Hm.", "thought": True}, {"text": "Yes."}],
        ),
        ([Reasoning(encrypted="gAAAAAB"), Text("Yes.")], [{"text": "Yes."}]),
    ],
)
def test_signatures_return_to_the_part_that_they_came_with(
    parts: list[Any], sent: list[dict[str, Any]], strict: Any
) -> None:
    body = WIRE.encode_request(chat(user(Text("?")), model(*parts), user(Text("Sure?"))))
    assert body["contents"][1] == {"role": "model", "parts": sent}
    strict(body)


def test_a_signature_without_a_text_stands_before_the_calls(strict: Any) -> None:
    first, _ = two_calls()
    turn = model(Reasoning(signature=marked("YQ==")), first)
    body = WIRE.encode_request(chat(user(Text("?")), turn, results(ToolResult(first.id, [Text("a")]))))
    assert [*body["contents"][1]["parts"][0]] == ["text", "thoughtSignature"]
    assert "functionCall" in body["contents"][1]["parts"][1]
    strict(body)


def test_a_turn_in_which_a_model_wrote_nothing_is_left_out(strict: Any) -> None:
    body = WIRE.encode_request(chat(user(Text("a")), model(Text("")), user(Text("b"))))
    assert [content["role"] for content in body["contents"]] == ["user", "user"]
    strict(body)


def test_the_body_is_json_and_nothing_else() -> None:
    first, second = two_calls()
    turns = [
        user(Text("Go")),
        model(first, second),
        results(ToolResult(first.id, []), ToolResult(second.id, [])),
    ]
    body = WIRE.encode_request(chat(*turns))
    assert json.loads(json.dumps(body)) == body
    assert " place" not in json.dumps(body)


# The reader itself


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "x"},
        {"generationConfig": {"max_output_tokens": 1}},
        {"generationConfig": {"maxTokens": 1}},
        {"generationConfig": {"audioTimestamp": True}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "MUCH"}}},
        {"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]},
        {"contents": [{"role": "user", "parts": []}]},
        {"contents": [{"role": "user", "parts": [{"text": "a", "thought_signature": "YQ=="}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "a", "functionCall": {"name": "f"}}]}]},
        {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "willContinue": True}}]}]},
        {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": "{}"}}]}]},
        {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "a/b", "data": "?"}}]}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "strict": True}]}]},
        {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
    ],
)
def test_a_wrong_request_would_fail_these_tests(wrong: dict[str, Any], strict: Any) -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    strict(body)
    with pytest.raises((AssertionError, ValueError, UserWarning)):
        strict(body | wrong)
