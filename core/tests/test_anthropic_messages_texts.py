"""Every text of an Anthropic request, answer or event: what guards see, and what becomes of what they change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.dialects import Delta, StreamEvent
from lmg.dialects.anthropic_count_tokens import AnthropicCountTokens
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.jsontext import JsonText
from lmg.sse import EventSplitter, SseEvent

WIRE = AnthropicMessages()
REQUEST: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "SYSTEM", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "thinking": {"type": "adaptive"},
    "stop_sequences": ["STOP"],
    "metadata": {"user_id": "USER-ID"},
    "output_config": {
        "effort": "high",
        "format": {
            "type": "json_schema",
            "schema": {"type": "object", "properties": {"type": {"description": "FORMAT", "enum": ["ENUM"]}}},
        },
    },
    "tools": [
        {
            "name": "TOOL",
            "description": "DESCRIPTION",
            "input_schema": {
                "type": "object",
                "properties": {"id": {"type": "string", "description": "PROPERTY", "$ref": "#/x"}},
            },
            "input_examples": [{"id": "EXAMPLE"}],
        },
        {"type": "web_search_20260318", "name": "web_search", "user_location": {"type": "approximate", "city": "CITY"}},
    ],
    "messages": [
        {"role": "user", "content": "USER"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "THOUGHT", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZW5j"},
                {"type": "text", "text": "ANSWER", "citations": [{"type": "char_location", "cited_text": "CITED"}]},
                {"type": "tool_use", "id": "c1", "name": "TOOL", "input": {"type": "ARGUMENT", "n": [{"id": "DEEP"}]}},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "QUERY"}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s1",
                    "content": [{"type": "web_search_result", "title": "TITLE", "url": "URL", "encrypted_content": "x"}],
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "RESULT"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [
                        {"type": "text", "text": "PART"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
                        {"type": "search_result", "source": "SOURCE", "title": "HIT", "content": [{"type": "text", "text": "FOUND"}]},
                    ],
                },
                {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
                {
                    "type": "document",
                    "title": "DOCUMENT",
                    "context": "CONTEXT",
                    "source": {"type": "text", "media_type": "text/plain", "data": "PLAIN"},
                },
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aaaa"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "PIECE"}]}},
                {"type": "new_block", "words": ["NEW"]},
            ],
        },
        {"role": "system", "content": "LATER"},
    ],
    "x_new": {"deep": ["UNKNOWN"]},
}  # fmt: skip


def test_every_text_of_a_request_is_seen_with_its_role() -> None:
    found = [(s.text, s.role) for s in WIRE.request_segments(REQUEST) if s.format == "text"]
    assert found == [
        ("SYSTEM", "system"),
        ("STOP", "unknown"),
        ("USER-ID", "unknown"),
        ("FORMAT", "tool_definition"),
        ("ENUM", "tool_definition"),
        ("TOOL", "tool_definition"),
        ("DESCRIPTION", "tool_definition"),
        ("PROPERTY", "tool_definition"),
        ("EXAMPLE", "tool_definition"),
        ("web_search", "tool_definition"),
        ("approximate", "tool_definition"),
        ("CITY", "tool_definition"),
        ("USER", "user"),
        ("THOUGHT", "reasoning"),
        ("ANSWER", "assistant"),
        ("CITED", "assistant"),
        ("TOOL", "assistant"),
        ("ARGUMENT", "tool_arguments"),
        ("DEEP", "tool_arguments"),
        ("web_search", "assistant"),
        ("QUERY", "tool_arguments"),
        ("TITLE", "tool"),
        ("URL", "tool"),
        ("RESULT", "tool"),
        ("PART", "tool"),
        ("SOURCE", "tool"),
        ("HIT", "tool"),
        ("FOUND", "tool"),
        ("DOCUMENT", "user"),
        ("CONTEXT", "user"),
        ("PLAIN", "user"),
        ("PIECE", "user"),
        ("NEW", "user"),
        ("LATER", "system"),
        ("UNKNOWN", "unknown"),
    ]


def test_what_cannot_be_read_is_said_to_be_opaque() -> None:
    found = [".".join(map(str, s.path)) for s in WIRE.request_segments(REQUEST) if s.format == "opaque"]
    assert found == [
        "messages.1.content.1.data",
        "messages.1.content.5.content.0.encrypted_content",
        "messages.2.content.1.content.1.source",
        "messages.2.content.2.source",
        "messages.2.content.4.source",
    ]


def test_signed_thoughts_cannot_be_replaced_and_others_can() -> None:
    signed = [s.text for s in WIRE.request_segments(REQUEST) if s.signed]
    assert signed == ["THOUGHT"]
    bare = {"content": [{"type": "thinking", "thinking": "x", "signature": ""}]}
    assert [s.signed for s in WIRE.response_segments(bare)] == [False]


def test_a_count_of_tokens_has_the_same_texts() -> None:
    counted = AnthropicCountTokens()
    assert list(counted.request_segments(REQUEST)) == list(WIRE.request_segments(REQUEST))
    assert list(counted.response_segments({"input_tokens": 5})) == []


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_whatever_replaces_a_text_leaves_a_request_that_differs_there_alone(text: str) -> None:
    raw = json.dumps(REQUEST).encode()
    for segment in WIRE.request_segments(REQUEST):
        if segment.format != "text" or segment.signed:
            continue
        changed = json.loads(JsonText.parse(raw).set(segment.path, text).render())
        again = {s.path: s.text for s in WIRE.request_segments(changed)}
        before = {s.path: s.text for s in WIRE.request_segments(REQUEST)}
        if segment.path[-1] not in ("type",):  # a schema's own words are no text again
            assert again == {**before, segment.path: text}


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [{"type": "text", "text": "ANSWER"}],
                "stop_reason": "refusal",
                "stop_sequence": "END",
                "stop_details": {"type": "refusal", "explanation": "WHY"},
                "usage": {"service_tier": "standard"},
                "x_new": "NEW",
            },
            [("ANSWER", "assistant"), ("WHY", "refusal"), ("NEW", "unknown")],
        ),
        (
            {
                "type": "error",
                "error": {
                    "type": "api_error",
                    "message": "SORRY",
                    "details": {"error_code": "c", "hint": "HINT"},
                },
                "request_id": "req_1",
            },
            [("SORRY", "error"), ("HINT", "error")],
        ),
        ([], []),
    ],
)
def test_every_text_of_an_answer_is_seen(value: Any, texts: Any) -> None:
    assert [(s.text, s.role) for s in WIRE.response_segments(value)] == texts


# -- events ---------------------------------------------------------------------------------------


def delta(kind: str, key: str, text: str, index: int = 2) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: text}}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (
            delta("text_delta", "text", "T"),
            Delta("content.2.text", "assistant", "T", ("delta", "text")),
        ),
        (
            delta("thinking_delta", "thinking", "T"),
            Delta("content.2.thinking", "reasoning", "T", ("delta", "thinking"), signed=True),
        ),
        (
            delta("input_json_delta", "partial_json", '{"a'),
            Delta("content.2.input", "tool_arguments", '{"a', ("delta", "partial_json"), "json"),
        ),
        (
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": "T"},
            },
            Delta("content.0.text", "assistant", "T", ("content_block", "text")),
        ),
    ],
)
def test_text_that_grows_has_one_id_in_a_stream(value: Any, found: Delta) -> None:
    assert list(WIRE.deltas(value)) == [found]
    assert list(WIRE.ends(value)) == []


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": [{"type": "web_search_result", "title": "T", "encrypted_content": "x"}],
                },
            },
            ["content.1.content.0.title"],
        ),
        (
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "c", "name": "f", "input": {"a": "b"}},
            },
            ["content.1.name", "content.1.input.a"],
        ),
        (
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {
                    "type": "citations_delta",
                    "citation": {"type": "char_location", "cited_text": "T"},
                },
            },
            ["content.1.citation.cited_text"],
        ),
        (
            {"type": "content_block_delta", "index": 1, "delta": {"type": "new_delta", "words": "T"}},
            ["content.1.words"],
        ),
        (
            {"type": "message_start", "message": {"content": [{"type": "text", "text": "T"}], "id": "m"}},
            ["message.content.0.text"],
        ),
        ({"type": "new_event", "deep": {"words": "T"}}, ["deep.words"]),
    ],
)
def test_text_that_comes_whole_ends_with_its_event(value: Any, ids: list[str]) -> None:
    assert [one.id for one in WIRE.deltas(value)] == ids
    assert list(WIRE.ends(value)) == ids


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        ({"type": "content_block_stop", "index": 3}, ["content.3."]),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, ["content."]),
        (
            {
                "type": "message_delta",
                "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "WHY"}},
            },
            ["content.", "delta.stop_details.explanation"],
        ),
        ({"type": "message_stop"}, []),
        (delta("signature_delta", "signature", "c2ln"), []),
        ([], []),
    ],
)
def test_what_ends_is_said(value: Any, ends: list[str]) -> None:
    assert list(WIRE.ends(value)) == ends
    assert all(one.text == "WHY" for one in WIRE.deltas(value))


def stream_event(value: Any) -> StreamEvent:
    return WIRE.make_event(value, "delta")


@pytest.mark.parametrize(
    ("kind", "key"),
    [("text_delta", "text"), ("thinking_delta", "thinking"), ("input_json_delta", "partial_json")],
)
def test_text_that_was_held_leaves_in_an_event_of_its_own(kind: str, key: str) -> None:
    event = stream_event(delta(kind, key, "secret"))
    (found,) = event.deltas
    out = event.only(found, "held")
    (sse,) = EventSplitter().feed(out.raw)
    assert sse.name == b"content_block_delta"
    assert json.loads(sse.data or b"") == delta(kind, key, "held")
    assert out.deltas[0].id == found.id


def test_text_of_a_whole_block_is_replaced_where_it_stands() -> None:
    value = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "web_search_tool_result", "content": [{"title": "secret", "url": "u"}]},
    }
    event = stream_event(value)
    changed = event.replace(event.deltas[0], "[removed]")
    (sse,) = EventSplitter().feed(changed.raw)
    assert sse.name == b"content_block_start"
    assert json.loads(sse.data or b"")["content_block"]["content"] == [{"title": "[removed]", "url": "u"}]
    again = event.only(event.deltas[0], "held")
    assert [one.text for one in again.deltas] == ["held", "u"]


def test_an_event_that_nobody_changed_leaves_as_it_came() -> None:
    raw = b'event: content_block_delta\r\ndata: {"type": "content_block_delta", "delta": {}}\r\n\r\n'
    (sse,) = EventSplitter().feed(raw)
    assert StreamEvent(WIRE, sse, "delta").raw == raw
    assert StreamEvent(WIRE, SseEvent(raw, b"{}", b"x"), "delta").deltas == ()
