"""Requests for responses as they go to an upstream: what the published types allow, and what is lost on the way."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from lmg.dialects.wire import Unsupported, admit
from lmg.jsontext import JsonText

DIALECT = OpenAIResponses()
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}


# -- what goes upstream ---------------------------------------------------------------------------


def exhaust(value: Any) -> Any:
    """Arrays that pydantic checks only when they are read are read."""
    if isinstance(value, dict):
        return {key: exhaust(item) for key, item in value.items()}
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return value
    return [exhaust(item) for item in value]


@cache
def published() -> tuple[Any, set[str]]:
    """What reads a request with the published types, and the members that these know."""
    pytest.importorskip("openai")
    from openai.types.responses.response_create_params import ResponseCreateParams
    from pydantic import TypeAdapter

    known = set().union(*(get_type_hints(one).keys() for one in get_args(ResponseCreateParams)))
    return TypeAdapter(ResponseCreateParams), known


def valid(body: dict[str, Any]) -> dict[str, Any]:
    """``body``, which the published types allow."""
    adapter, known = published()
    exhaust(adapter.validate_python(body))
    assert body.keys() <= known
    return body


def written(chat: Chat) -> dict[str, Any]:
    return valid(DIALECT.encode_request(chat))


def hello(**more: Any) -> Chat:
    return Chat("m", more.pop("turns", [Turn("user", [Text("Hello")])]), **more)


def test_nothing_is_kept_by_the_provider_unless_the_caller_says_so() -> None:
    assert written(hello())["store"] is False
    assert written(hello(store=True))["store"] is True


def test_tools_of_other_apis_are_not_made_strict() -> None:
    assert written(hello(tools=[Tool("f", "d", SCHEMA)]))["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": False}
    ]


def test_the_first_system_text_is_the_instructions() -> None:
    turns = [Turn("system", [Text("Be brief.")]), Turn("user", [Text("Hello")]), Turn("system", [Text("x")])]
    body = written(hello(turns=turns))
    assert body["instructions"] == "Be brief."
    assert [one["role"] for one in body["input"]] == ["user", "system"]
    alone = written(hello(turns=turns[:1]))
    assert "instructions" not in alone
    assert alone["input"] == [{"type": "message", "role": "system", "content": "Be brief."}]


@pytest.mark.parametrize(
    ("ask", "sent"),
    [
        (ReasoningAsk("low"), {"effort": "low"}),
        (ReasoningAsk(enabled=False), {"effort": "none"}),
        (ReasoningAsk(budget_tokens=1024), {"effort": "low"}),
        (ReasoningAsk(budget_tokens=9000), {"effort": "medium"}),
        (ReasoningAsk(budget_tokens=30000), {"effort": "high"}),
        (ReasoningAsk(), {"effort": "medium"}),
        (ReasoningAsk(summary="auto"), {"summary": "auto"}),
    ],
)
def test_how_much_to_reason_is_an_effort(ask: ReasoningAsk, sent: dict[str, str]) -> None:
    body = written(hello(reasoning=ask))
    assert body["reasoning"] == sent
    assert (body.get("include") == ["reasoning.encrypted_content"]) is ask.enabled


def test_reasoning_goes_back_where_it_is_sealed_and_only_there() -> None:
    parts: list[Any] = [
        Reasoning("thought", "SIG"),
        Reasoning(encrypted="ENC", id="rs_9"),
        Reasoning("unsealed"),
        Text("Yes."),
    ]
    body = written(hello(turns=[Turn("user", [Text("?")]), Turn("assistant", parts)]))
    first, second, text = body["input"][1:]
    assert first["summary"] == [{"type": "summary_text", "text": "thought"}]
    assert first["encrypted_content"] == "SIG"
    assert first["id"].startswith("rs_")
    assert first["id"] == written(hello(turns=[Turn("assistant", parts)]))["input"][0]["id"]
    assert (second["id"], second["summary"], second["encrypted_content"]) == ("rs_9", [], "ENC")
    assert text == {"type": "message", "role": "assistant", "content": "Yes."}


def test_documents_of_text_are_files_of_text() -> None:
    part = Document(text="Once.", title="tale.txt", context="From a book.")
    (sent,) = written(hello(turns=[Turn("user", [part])]))["input"][0]["content"]
    assert sent["filename"] == "tale.txt"
    assert base64.b64decode(sent["file_data"].partition(",")[2]) == b"From a book.\n\nOnce."


@pytest.mark.parametrize(
    ("feature", "how"),
    [
        ("stop", "refused"),
        ("n", "refused"),
        ("logit_bias", "refused"),
        ("audio", "refused"),
        ("tools.hosted", "refused"),
        ("seed", "ignored"),
        ("frequency_penalty", "ignored"),
        ("presence_penalty", "ignored"),
        ("top_k", "ignored"),
        ("names", "ignored"),
        ("prefill", "ignored"),
        ("cache_control", "ignored"),
    ],
)
def test_what_this_api_cannot_say_is_refused_or_named(feature: str, how: str) -> None:
    chat = hello()
    chat.use(feature, "there")
    if how == "refused":
        with pytest.raises(Unsupported):
            admit(DIALECT, chat)
    else:
        assert admit(DIALECT, chat) == ("there",)


def test_the_cap_of_a_policy_is_sent_and_never_raised() -> None:
    body = JsonText.of({"model": "m", "input": "x"})
    assert DIALECT.prepare(body, max_output_tokens=None) is body
    assert DIALECT.prepare(body, max_output_tokens=5).get("max_output_tokens") == 5
    for asked, capped in ((3, 3), (9, 5), (None, 5)):
        body = JsonText.of({"model": "m", "input": "x", "max_output_tokens": asked})
        assert DIALECT.prepare(body, max_output_tokens=5).get("max_output_tokens") == capped


# -- there and back -------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=12)
BASE64 = st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())
TEXTS = st.builds(Text, WORDS)
IMAGES = st.builds(
    Image, url=st.just("https://a/b.png"), detail=st.sampled_from(["auto", "low"])
) | st.builds(Image, data=BASE64, media_type=st.just("image/png"), detail=st.just("auto"))
FILES = st.builds(Document, data=BASE64, media_type=st.just("application/pdf"), title=WORDS) | st.builds(
    Document, text=WORDS, title=WORDS
)
PARTS = st.lists(TEXTS | IMAGES | FILES, min_size=1, max_size=3)
# What is marked with the name of another provider stays behind.
SEALS = WORDS.filter(lambda seal: ":" not in seal)
THOUGHTS = st.builds(Reasoning, WORDS, SEALS, id=WORDS.map("rs_".__add__)) | st.builds(
    Reasoning, encrypted=SEALS, id=WORDS.map("rs_".__add__)
)
CALLS = st.builds(ToolCall, WORDS, WORDS, WORDS, st.booleans())
RESULTS = st.builds(ToolResult, WORDS, PARTS, custom=st.booleans())
GIVEN = st.builds(Turn, st.sampled_from(["user", "system", "developer"]), PARTS)
ASSISTANT = st.builds(
    Turn,
    st.just("assistant"),
    st.lists(TEXTS | THOUGHTS | CALLS | st.builds(Refused, WORDS), min_size=1, max_size=4),
)
RESULT_TURN = st.builds(Turn, st.just("tool"), st.lists(RESULTS, min_size=1, max_size=2))
TURNS = st.lists(st.tuples(GIVEN, ASSISTANT, RESULT_TURN, GIVEN), min_size=1, max_size=2).map(
    lambda groups: [turn for group in groups for turn in group]
)
TOOLS = st.lists(
    st.builds(Tool, WORDS, WORDS, st.just(SCHEMA), st.booleans())
    | st.builds(Tool, WORDS, WORDS, custom=st.just({"type": "text"})),
    max_size=2,
)
CHATS = st.builds(
    Chat,
    st.just("m"),
    TURNS,
    TOOLS,
    st.none() | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"])),
    st.none() | st.booleans(),
    st.none()
    | st.just(Format("json_object"))
    | st.builds(Format, st.just("json_schema"), WORDS, st.just(SCHEMA), st.none() | st.booleans(), WORDS),
    st.none() | st.builds(ReasoningAsk, st.sampled_from(["low", "high"]), summary=st.sampled_from(["", "auto"])),
    st.none() | st.integers(1, 9),
    st.none() | st.floats(0, 2),
    user=st.just("") | WORDS,
    store=st.booleans(),
    verbosity=st.sampled_from(["", "low"]),
    truncation=st.sampled_from(["", "auto"]),
    prompt_cache_key=st.just("") | WORDS,
    stream=st.booleans(),
    logprobs=st.booleans(),
)  # fmt: skip


@given(CHATS)
def test_a_request_comes_back_as_it_went(chat: Chat) -> None:
    again = DIALECT.decode_request(DIALECT.encode_request(chat))
    again.uses = {}
    assert again == chat


@given(CHATS)
def test_every_request_is_one_that_the_published_types_allow(chat: Chat) -> None:
    written(chat)
