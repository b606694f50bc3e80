"""What two dialects can both say survives the way from one over the other and back, whatever it is."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg.dialects.form import Chat, Completion, Image, Text, Tool, ToolCall, ToolChoice, ToolResult, Turn
from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec, admit
from lmg.testing.samples import ANSWERS, PIXEL

CODECS = [one for one in DIALECTS.values() if isinstance(one, Codec)]
PAIRS = list(itertools.permutations(CODECS, 2))
pairs = pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda codec: codec.name)

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
).filter(lambda text: text.strip() != "")
names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
texts = words.map(Text)
images = st.just(Image(data=PIXEL, media_type="image/png"))
schemas = st.dictionaries(names, st.sampled_from([{"type": "string"}, {"type": "integer"}]), max_size=3).map(
    lambda properties: {"type": "object", "properties": properties}
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """A conversation with calls of tools, each answered, that ends with the user or with a result."""
    chat = Chat(draw(names))
    if draw(st.booleans()):
        chat.turns.append(Turn("system", [draw(texts)]))
    count = 0
    for _ in range(draw(st.integers(1, 3))):
        chat.turns.append(Turn("user", [draw(texts), *draw(st.lists(images, max_size=1))]))
        calls = draw(st.integers(0, 2))
        if not calls:
            chat.turns.append(Turn("assistant", [draw(texts)]))
            continue
        made: list[Any] = []
        results: list[Any] = []
        for _ in range(calls):
            count += 1
            arguments = json.dumps(draw(st.dictionaries(names, words, max_size=2)), separators=(",", ":"))
            made.append(ToolCall(f"call_{count}", "look", arguments))
            results.append(ToolResult(f"call_{count}", [draw(texts)]))
        chat.turns.append(Turn("assistant", [*draw(st.lists(texts, max_size=1)), *made]))
        chat.turns.append(Turn("tool", results))
    chat.turns.append(Turn("user", [draw(texts)]))
    chat.tools = [Tool("look", draw(words), draw(schemas), draw(st.sampled_from([True, False])))]
    mode = draw(st.sampled_from(["auto", "required", "named", "none"]))
    chat.tool_choice = ToolChoice(mode, "look" if mode == "named" else "")
    chat.parallel_tool_calls = draw(st.booleans()) if mode != "none" else None
    chat.max_output_tokens = draw(st.integers(16, 4096))
    return chat


def said(chat: Chat) -> Any:
    """What a request says in the words that all dialects have: which messages stand together is each one's own."""
    parts: list[Any] = []
    for turn in chat.turns:
        for part in turn.parts:
            if isinstance(part, ToolCall):
                parts.append((turn.role, part.id, part.name, json.loads(part.arguments)))
            elif isinstance(part, ToolResult):
                parts.append(
                    (turn.role, part.call_id, [getattr(inner, "text", None) for inner in part.parts])
                )
            elif isinstance(part, Image):
                parts.append((turn.role, part.media_type, part.data))
            else:
                parts.append((turn.role, getattr(part, "text", "")))
    tools = [(tool.name, tool.description, tool.strict) for tool in chat.tools]
    choice = (chat.tool_choice.mode, chat.tool_choice.name) if chat.tool_choice is not None else ("auto", "")
    return parts, tools, choice, chat.parallel_tool_calls, chat.max_output_tokens


@pairs
@given(chat=chats())
def test_a_request_over_another_dialect_and_back_says_the_same(a: Codec, b: Codec, chat: Chat) -> None:
    first = a.decode_request(a.encode_request(chat))
    # What Responses sends of itself: that the provider shall keep nothing.
    assert set(admit(b, first)) <= {"store"}
    over = b.decode_request(b.encode_request(first))
    back = a.decode_request(a.encode_request(over))
    assert said(back) == said(first) == said(chat)


@pairs
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_over_another_dialect_and_back_says_the_same(a: Codec, b: Codec, name: str) -> None:
    # Anthropic has no words for a refusal but its text.
    def told(completion: Completion) -> Any:
        (choice,) = completion.choices
        usage = completion.usage
        assert usage is not None
        kinds = [
            (
                type(part).__name__.replace("Refused", "Text"),
                getattr(part, "text", None) or getattr(part, "arguments", ""),
            )
            for part in choice.parts
        ]
        return kinds, (usage.input_tokens, usage.output_tokens, usage.cached_tokens)

    once = b.decode_answer(b.encode_answer(ANSWERS[name]))
    back = b.decode_answer(b.encode_answer(a.decode_answer(a.encode_answer(once))))
    assert told(back) == told(once)
