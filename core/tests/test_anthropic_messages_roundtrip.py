"""What an Anthropic request can say survives the way out of the intermediate form and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from anthropic.types import message_create_params
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.form import (
    Chat,
    Choice,
    Completion,
    Document,
    Format,
    Image,
    Reasoning,
    ReasoningAsk,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    completion_of,
    events_of,
)
from lmg.records import Usage
from lmg.testing.wires import decoded

WIRE = AnthropicMessages()
PARAMS: Any = TypeAdapter(message_create_params.MessageCreateParams, config={"extra": "forbid"})
BUDGETED, ADAPTIVE = "claude-sonnet-4-5", "claude-opus-4-8"
# Models of a later API take no sampling, and the client's types none either.
SAMPLING = ("temperature", "top_p", "top_k")

# What is marked with the name of another provider stays behind.
seals = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() != "" and ":" not in text)
words = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() != "")
ids = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
caches = st.none() | st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
arguments = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
texts = st.builds(Text, words, caches)
images = st.one_of(
    st.builds(lambda url, cache: Image(url=url, cache=cache), words, caches),
    st.builds(lambda data: Image(data=data, media_type="image/png"), words),
    st.builds(lambda ref: Image(file_id=ref), ids),
)
documents = st.builds(
    lambda source, title, context, citations, cache: replace(
        source, title=title, context=context, citations=citations, cache=cache
    ),
    st.one_of(
        st.builds(lambda data: Document(data=data, media_type="application/pdf"), words),
        st.builds(lambda url: Document(url=url), words),
        st.builds(lambda text: Document(text=text), words),
        st.builds(lambda ref: Document(file_id=ref), ids),
    ),
    st.text(max_size=5),
    st.text(max_size=5),
    st.booleans(),
    caches,
)
thoughts = st.one_of(
    st.builds(Reasoning, st.text(max_size=9), seals),
    st.builds(lambda data: Reasoning(encrypted=data), seals),
)
calls = st.builds(
    lambda ref, name, text, cache: ToolCall(ref, name, text, cache=cache), ids, ids, arguments, caches
)
results = st.builds(
    lambda ref, parts, failed, cache: ToolResult(ref, parts, failed, cache=cache),
    ids,
    st.lists(texts | images | documents, max_size=3),
    st.booleans(),
    caches,
)
said = st.lists(texts | images | documents, min_size=1, max_size=3)
answered = st.lists(texts | thoughts | calls, min_size=1, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Turns as this API's messages come apart: results before what a user says, and no two neighbours of a role."""
    turns: list[Turn] = []
    system = draw(st.lists(texts, max_size=2))
    if system:
        turns.append(Turn("system", system))
    for n in range(draw(st.integers(1, 3))):
        if n:
            turns.append(Turn("assistant", draw(answered)))
        brought = draw(st.lists(results, max_size=2)) if n else []
        if brought:
            turns.append(Turn("tool", brought))
        if not brought or draw(st.booleans()):
            turns.append(Turn("user", draw(said)))
        if draw(st.booleans()):
            turns.append(Turn("system", draw(st.lists(texts, min_size=1, max_size=2))))
    return turns


tools = st.lists(
    st.builds(
        lambda name, what, schema, cache: Tool(name, what, {"type": "object", **schema}, cache=cache),
        ids,
        st.text(max_size=9),
        st.dictionaries(st.sampled_from(["properties", "title", "x"]), st.just({}), max_size=2),
        caches,
    )
    | st.builds(
        lambda name: Tool(name, schema={"type": "object", "additionalProperties": False}, strict=True), ids
    ),
    min_size=1,
    max_size=2,
)
choices = st.none() | st.sampled_from([ToolChoice("auto"), ToolChoice("required"), ToolChoice("named", "f")])


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    budgeted = draw(st.booleans())
    chat = Chat(BUDGETED if budgeted else ADAPTIVE, draw(conversations()))
    chat.max_output_tokens = draw(st.integers(0, 99_999))
    chat.stop = draw(st.lists(words, max_size=2))
    chat.user = draw(st.text(max_size=5))
    chat.service_tier = draw(st.sampled_from(["", "auto", "default"]))
    chat.stream = draw(st.booleans())
    if draw(st.booleans()):
        chat.tools = draw(tools)
        chat.tool_choice = draw(choices)
        chat.parallel_tool_calls = draw(st.sampled_from([None, True, False]))
        if chat.parallel_tool_calls is not None and chat.tool_choice is None:
            chat.tool_choice = ToolChoice("auto")  # where this API says whether calls may be parallel
    if draw(st.booleans()):
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
        chat.format = Format("json_schema", schema=schema, strict=True)
    asked = draw(st.sampled_from(["", "off", "on", "sampling"]))
    forced = chat.tool_choice is not None and chat.tool_choice.mode != "auto"
    if asked == "off":
        chat.reasoning = ReasoningAsk(enabled=False)
    elif asked == "on" and not forced:
        chat.reasoning = ReasoningAsk(
            effort=draw(st.sampled_from(["low", "max"])), summary=draw(st.sampled_from(["", "auto"]))
        )
        if budgeted:
            chat.turns = [turn for turn in chat.turns if turn.role != "tool"]
            chat.max_output_tokens = 50_000
            chat.reasoning = ReasoningAsk(
                budget_tokens=draw(st.integers(1024, 40_000)), summary=chat.reasoning.summary
            )
            if chat.turns[-1].role != "user":
                chat.turns.append(Turn("user", [Text("x")]))
    elif asked == "sampling" and budgeted:
        chat.temperature = draw(st.none() | st.floats(0, 1))
        chat.top_p = None if chat.temperature is not None else draw(st.none() | st.floats(0, 1))
        chat.top_k = draw(st.none() | st.integers(0, 99))
    return chat


def neighbours_joined(turns: list[Turn]) -> list[Turn]:
    """What cannot be told apart on this wire: neighbours of one role, and where a model has no system turns, those."""
    out: list[Turn] = []
    for turn in turns:
        if out and out[-1].role == turn.role:
            out[-1] = Turn(turn.role, [*out[-1].parts, *turn.parts])
        else:
            out.append(turn)
    return out


def consumed(value: Any) -> None:
    """Reads what pydantic validates only when it is asked for."""
    if isinstance(value, dict):
        for item in value.values():
            consumed(item)
    elif not isinstance(value, str | bytes | int | float | None):
        for item in value:
            consumed(item)


@settings(max_examples=200, deadline=None)
@given(chats())
def test_a_request_survives_the_way_out_and_back(chat: Chat) -> None:
    body = WIRE.encode_request(chat)
    WIRE.check(body)
    consumed(PARAMS.validate_python({key: item for key, item in body.items() if key not in SAMPLING}))
    back = WIRE.decode_request(json.loads(json.dumps(body)))
    expected = chat
    if chat.model == BUDGETED:
        system = [part for turn in chat.turns if turn.role == "system" for part in turn.parts]
        others = [turn for turn in chat.turns if turn.role != "system"]
        expected = replace(chat, turns=[*([Turn("system", system)] if system else []), *others])
    assert back.turns == neighbours_joined(expected.turns)
    assert replace(back, turns=[], uses={}) == replace(chat, turns=[], uses={})


usages = st.builds(
    lambda fresh, read, wrote, out, thought: Usage(
        fresh + read + wrote, out + thought, read, thought, False, wrote
    ),
    *[st.integers(0, 999)] * 5,
)
completions = st.builds(
    lambda ref, model, parts, finish, stop, usage, tier: Completion(
        ref,
        model,
        [Choice(parts, finish, stop if finish == "stop_sequence" else "")],
        usage,
        service_tier=tier,
    ),
    ids,
    ids,
    st.lists(
        st.builds(
            Text, words, citations=st.lists(st.just({"type": "char_location", "cited_text": "x"}), max_size=2)
        )
        | thoughts
        | st.builds(ToolCall, ids, ids, arguments),
        max_size=4,
    ),
    st.sampled_from(["length", "stop_sequence", "tool_calls", "refusal", "pause"]),
    words,
    usages,
    st.sampled_from(["", "default", "priority"]),
)


@settings(max_examples=200, deadline=None)
@given(completions)
def test_an_answer_survives_the_way_out_and_back_whole_and_streamed(completion: Completion) -> None:
    assert WIRE.decode_answer(json.loads(json.dumps(WIRE.encode_answer(completion)))) == completion
    encoder = WIRE.encoder()
    raw = b"".join(one for event in events_of(completion) for one in encoder.feed(event))
    streamed = completion_of(decoded(WIRE, [raw]))
    # A stream says the tier nowhere, and an answer without a word has no part.
    assert replace(streamed, service_tier=completion.service_tier) == completion
