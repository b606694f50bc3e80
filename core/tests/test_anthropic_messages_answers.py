"""Anthropic messages into the intermediate form and out of it: answers, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lmg.dialects import StreamEvent
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.form import (
    Choice,
    Completion,
    Counted,
    End,
    Finish,
    PartBegin,
    PartDelta,
    PartEnd,
    Reasoning,
    Refused,
    Start,
    Text,
    ToolCall,
    events_of,
)
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec, StreamFault
from lmg.errors import UpstreamError
from lmg.records import Usage
from lmg.sse import EventSplitter, SseEvent
from lmg.testing.samples import ANSWERS
from lmg.testing.wires import check_split_points, decoded

WIRE = AnthropicMessages()
CODECS = [dialect for dialect in DIALECTS.values() if isinstance(dialect, Codec)]
EVENT: Any = TypeAdapter(RawMessageStreamEvent)
CITATION = {
    "type": "char_location",
    "cited_text": "18",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 2,
}
SERVER_CALL = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srv_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "A page",
            "url": "https://x",
            "encrypted_content": "e",
            "page_age": None,
        }
    ],
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "enc"},
        SERVER_CALL,
        FOUND,
        {"type": "text", "text": "It is 18.", "citations": [CITATION]},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "cache_creation_input_tokens": 8,
        "cache_read_input_tokens": 100,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 10},
        "service_tier": "priority",
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    },
}
USAGE = Usage(120, 30, 100, 10, False, 8)


def sse(*values: Any) -> bytes:
    """Each value as a named event."""
    return b"".join(
        b"event: " + str(value["type"]).encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
        for value in values
    )


def block(index: int, shell: Any, *deltas: Any) -> list[Any]:
    """The events of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": shell},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


STREAM: list[Any] = [
    {
        "type": "message_start",
        "message": {
            **MESSAGE,
            "content": [],
            "stop_reason": None,
            "usage": {**MESSAGE["usage"], "output_tokens": 2, "output_tokens_details": None},
        },
    },
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "H"},
        {"type": "thinking_delta", "thinking": "m."},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "enc"}),
    *block(2, {**SERVER_CALL, "input": {}}, {"type": "input_json_delta", "partial_json": '{"query": "x"}'}),
    *block(3, FOUND),
    *block(
        4,
        {"type": "text", "text": "", "citations": []},
        {"type": "text_delta", "text": "It is "},
        {"type": "text_delta", "text": "18."},
        {"type": "citations_delta", "citation": CITATION},
    ),
    *block(
        5,
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"a"'},
        {"type": "input_json_delta", "partial_json": ": 1}"},
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 10}},
    },
    {"type": "message_stop"},
]
SAID = [
    Reasoning("Hm.", "c2ln"),
    Reasoning(encrypted="enc"),
    Text("It is 18.", citations=[CITATION]),
    ToolCall("c1", "f", '{"a":1}'),
]


def stream_events(raw: bytes) -> list[StreamEvent]:
    """The events of a stream as filters see them."""
    out = []
    opened = False
    for one in EventSplitter().feed(raw):
        kind = WIRE.kind(one, opened=opened)
        opened = opened or kind == "delta"
        out.append(StreamEvent(WIRE, one, kind))
    return out


# -- whole answers --------------------------------------------------------------------------------


def test_a_message_is_read() -> None:
    assert WIRE.decode_answer(MESSAGE) == Completion(
        "msg_1", "claude-x", [Choice(SAID, "tool_calls")], USAGE, service_tier="priority"
    )


@pytest.mark.parametrize("value", [None, [], {}, {"content": "x"}, {"type": "error", "error": {}}])
def test_what_is_no_message_is_an_upstream_fault(value: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        WIRE.decode_answer(value)
    assert (caught.value.stage, caught.value.kind) == ("answer", "protocol")


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_the_reason_of_the_end_is_read(stated: Any, reason: str) -> None:
    found = WIRE.decode_answer({**MESSAGE, "stop_reason": stated, "stop_sequence": "END"})
    assert (found.choices[0].finish, found.choices[0].stop_sequence) == (reason, "END")


def test_a_message_is_written_as_it_was_read() -> None:
    written = WIRE.encode_answer(WIRE.decode_answer(MESSAGE))
    assert Message.model_validate(written).stop_reason == "tool_use"
    assert written["content"] == [
        one for one in MESSAGE["content"] if "server" not in one["type"] and "search" not in one["type"]
    ]
    assert written["usage"] == {k: v for k, v in MESSAGE["usage"].items() if k != "server_tool_use"}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_kind_of_answer_is_one_that_the_official_client_reads(name: str) -> None:
    completion = ANSWERS[name]
    Message.model_validate(WIRE.encode_answer(completion), strict=True)
    encoder = WIRE.encoder()
    raw = b"".join(one for event in events_of(completion) for one in encoder.feed(event))
    found = EventSplitter().feed(raw)
    for one in found:
        value = json.loads(one.data or b"")
        EVENT.validate_python(value)
        assert one.name.decode() == value["type"]
    assert [one.name for one in found][-2:] == [b"message_delta", b"message_stop"]


@pytest.mark.parametrize(
    ("parts", "finish", "reason"),
    [
        ([Text("x")], "content_filter", "refusal"),
        ([Refused("No.")], "stop", "refusal"),
        ([ToolCall("c", "f", "{}")], "stop", "tool_use"),
        ([ToolCall("c", "f", "{}")], "length", "max_tokens"),
        ([], "pause", "pause_turn"),
    ],
)
def test_clients_are_told_what_they_act_on(parts: Any, finish: Any, reason: str) -> None:
    completion = Completion("i", "m", [Choice(parts, finish)])
    assert WIRE.encode_answer(completion)["stop_reason"] == reason
    encoder = WIRE.encoder()
    raw = b"".join(one for event in events_of(completion) for one in encoder.feed(event))
    assert f'"stop_reason":"{reason}"'.encode() in raw


def test_pages_that_others_cite_are_cited_in_this_api_s_words() -> None:
    cited: list[Any] = [
        "https://a",
        {"type": "url_citation", "url_citation": {"url": "https://b", "title": "B"}},
        {"type": "file_citation", "file_id": "f"},
        CITATION,
    ]
    written = WIRE.encode_answer(Completion("i", "m", [Choice([Text("x", citations=cited)])]))
    assert Message.model_validate(written)
    found = written["content"][0]["citations"]
    assert [(one["type"], one.get("url")) for one in found] == [
        ("char_location", None),
        ("web_search_result_location", "https://a"),
        ("web_search_result_location", "https://b"),
    ]


def test_free_text_for_a_tool_is_given_as_one_member() -> None:
    completion = Completion(
        "i", "m", [Choice([ToolCall("c", "run", 'print("x")', custom=True)], "tool_calls")]
    )
    assert WIRE.encode_answer(completion)["content"][0]["input"] == {"input": 'print("x")'}
    encoder = WIRE.encoder()
    raw = b"".join(one for event in events_of(completion) for one in encoder.feed(event))
    assert decoded(WIRE, [raw])[2] == PartDelta(0, 0, '{"input":"print(\\"x\\")"}')


def test_an_answer_without_choices_is_an_empty_message() -> None:
    assert WIRE.encode_answer(Completion("i", "m", []))["content"] == []


# -- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "before", "usage"),
    [
        (MESSAGE, None, USAGE),
        (STREAM[0], None, Usage(120, 2, 100, 0, True, 8)),
        (STREAM[-2], Usage(120, 2, 100, 0, True, 8), USAGE),
        (
            {"type": "message_delta", "usage": {"input_tokens": 5, "output_tokens": 9}},
            Usage(120, 2, 100, 0, True, 8),
            Usage(113, 9, 100, 0, False, 8),
        ),
        ({"type": "message_delta"}, None, None),
        ({"type": "message_start", "message": {}}, None, None),
        ({"type": "message_start", "message": 1}, None, None),
        ([], None, None),
        ({"usage": {"input_tokens": "x", "output_tokens": -1}}, None, Usage(estimated=False)),
    ],
)
def test_usage_counts_what_a_cache_gave_and_took(value: Any, before: Any, usage: Any) -> None:
    assert WIRE.usage(value, before) == usage


# -- streams --------------------------------------------------------------------------------------


def test_a_stream_is_read() -> None:
    found = decoded(WIRE, [sse(*STREAM)])
    assert found == [
        Start("msg_1", "claude-x", usage=Usage(120, 2, 100, 0, False, 8)),
        PartBegin(0, 0, "reasoning"),
        PartDelta(0, 0, "H"),
        PartDelta(0, 0, "m."),
        PartDelta(0, 0, signature="c2ln"),
        PartEnd(0, 0),
        PartBegin(0, 1, "reasoning"),
        PartDelta(0, 1, encrypted="enc"),
        PartEnd(0, 1),
        PartBegin(0, 2, "text"),
        PartDelta(0, 2, "It is "),
        PartDelta(0, 2, "18."),
        PartDelta(0, 2, citation=CITATION),
        PartEnd(0, 2),
        PartBegin(0, 3, "tool_call", "c1", "f"),
        PartDelta(0, 3, '{"a"'),
        PartDelta(0, 3, ": 1}"),
        PartEnd(0, 3),
        Finish(0, "tool_calls"),
        Counted(USAGE),
        End(),
    ]


def test_a_stream_cut_anywhere_is_the_same_in_every_dialect() -> None:
    answer = check_split_points(WIRE, sse(*STREAM), CODECS)
    assert [type(part) for part in answer.choices[0].parts] == [type(part) for part in SAID]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3000), max_size=8))
def test_a_stream_in_pieces_of_any_size_leaves_as_the_same_events(sizes: list[int]) -> None:
    raw = sse(*STREAM)
    cuts = sorted({0, len(raw), *(size % len(raw) for size in sizes)})
    pieces = [raw[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    for dialect in CODECS:
        whole, parts = dialect.encoder(), dialect.encoder()
        at_once = [one for event in decoded(WIRE, [raw]) for one in whole.feed(event)]
        piecewise = [one for event in decoded(WIRE, pieces) for one in parts.feed(event)]
        assert [value(one) for one in piecewise] == [value(one) for one in at_once]


def value(raw: bytes) -> Any:
    """An event's JSON, without the time at which it was written."""
    (event,) = EventSplitter().feed(raw)
    data = event.data or b""
    if data == b"[DONE]":
        return data
    found = json.loads(data)
    for one in (found, found.get("response") or {}):
        for key in ("created", "created_at", "completed_at"):
            one.pop(key, None)
    return event.name, found


def test_a_call_without_input_gets_an_empty_object() -> None:
    shell = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert decoded(WIRE, [sse(*block(0, shell))])[:3] == [
        PartBegin(0, 0, "tool_call", "c", "f"),
        PartDelta(0, 0, "{}"),
        PartEnd(0, 0),
    ]
    whole = {**shell, "input": {"a": 1}}
    assert decoded(WIRE, [sse(*block(0, whole))])[1] == PartDelta(0, 0, '{"a":1}')


def test_text_in_the_start_of_a_block_is_not_lost() -> None:
    shell = {"type": "text", "text": "Hel", "citations": [CITATION]}
    assert decoded(WIRE, [sse(*block(0, shell, {"type": "text_delta", "text": "lo"}))])[:4] == [
        PartBegin(0, 0, "text"),
        PartDelta(0, 0, "Hel"),
        PartDelta(0, 0, citation=CITATION),
        PartDelta(0, 0, "lo"),
    ]


@pytest.mark.parametrize(
    ("type_", "status"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("invalid_request_error", 400),
        ("new_error", 502),
    ],
)
def test_an_error_in_a_stream_has_the_status_that_it_would_have_had_before(type_: str, status: int) -> None:
    with pytest.raises(StreamFault) as caught:
        decoded(WIRE, [sse({"type": "error", "error": {"type": type_, "message": "Sorry."}})])
    assert (caught.value.status, caught.value.fault.type, caught.value.fault.message) == (
        status,
        type_,
        "Sorry.",
    )


@pytest.mark.parametrize("raw", [b"data: {\n\n", b"data: 1\n\n", b'data: {"error": "x"}\n\n'])
def test_what_is_no_event_of_the_api_is_a_fault(raw: bytes) -> None:
    with pytest.raises((UpstreamError, StreamFault)):
        decoded(WIRE, [raw])


def test_what_comes_later_is_passed_over() -> None:
    odd = [
        {"type": "new_event", "x": 1},
        *block(0, {"type": "new_block"}, {"type": "new_delta", "x": "y"}),
        *block(1, {"type": "text", "text": ""}, {"type": "new_delta", "x": "y"}),
    ]
    assert decoded(WIRE, [sse(*odd), b": comment\n\n"]) == [PartBegin(0, 0, "text"), PartEnd(0, 0)]


def test_a_message_without_its_end_has_none() -> None:
    assert not any(isinstance(event, End) for event in decoded(WIRE, [sse(*STREAM[:-1])]))


def test_what_ends_the_message_is_written_once_all_is_known() -> None:
    encoder = WIRE.encoder()
    assert [*encoder.feed(Start("i", "m"))] != []
    assert [*encoder.feed(Finish(0, "stop_sequence", "END"))] == []
    assert [*encoder.feed(Counted(USAGE))] == []
    delta, stop = encoder.feed(End())
    assert value(delta)[1] == {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 8,
            "cache_read_input_tokens": 100,
            "output_tokens": 30,
            "output_tokens_details": {"thinking_tokens": 10},
        },
    }
    assert value(stop) == (b"message_stop", {"type": "message_stop"})


def test_blocks_are_written_one_after_the_other() -> None:
    encoder = WIRE.encoder()
    events = [
        Start("i", "m"),
        PartBegin(0, 0, "text"),
        PartDelta(0, 0, "a"),
        PartBegin(1, 0, "text"),
        PartDelta(1, 0, "another answer"),
        PartBegin(0, 1, "reasoning"),
        PartDelta(0, 1, "t"),
        PartDelta(0, 1, encrypted="e"),
        PartEnd(0, 1),
        PartBegin(0, 2, "tool_call", "c", "f"),
        End(),
    ]
    found = [value(one)[1] for event in events for one in encoder.feed(event)]
    assert [(one["type"], one.get("index")) for one in found[1:-2]] == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_stop", 2),
        ("content_block_start", 3),
        ("content_block_stop", 3),
    ]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    with pytest.raises(UpstreamError):
        encoder.feed(PartDelta(0, 0, "late"))


def test_a_chat_completion_s_stream_comes_out_in_this_dialect_s_order() -> None:
    chunks = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "It is."},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]
    base = {"id": "i", "model": "m", "created": 1}
    values: list[Any] = [{**base, "choices": [{"index": 0, "delta": delta}]} for delta in chunks]
    values.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    values.append({**base, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    raw = b"".join(b"data: " + orjson.dumps(one) + b"\n\n" for one in values) + b"data: [DONE]\n\n"
    encoder = WIRE.encoder()
    found = [value(one) for event in decoded(OpenAIChat(), [raw]) for one in encoder.feed(event)]
    assert [name.decode() for name, _ in found] == [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_stop"] * 3,
        "message_delta",
        "message_stop",
    ]


# -- the same dialect on both sides ---------------------------------------------------------------


def test_a_stream_is_assembled_with_all_its_blocks() -> None:
    whole: Any = WIRE.assemble(stream_events(sse(*STREAM)))
    assert whole["content"] == MESSAGE["content"]
    assert whole["usage"] == MESSAGE["usage"]
    assert {k: whole[k] for k in ("id", "model", "stop_reason")} == {
        "id": "msg_1",
        "model": "claude-x",
        "stop_reason": "tool_use",
    }


def test_a_message_is_replayed_with_all_its_blocks() -> None:
    raw = b"".join(WIRE.replay({**MESSAGE, "stop_details": {"type": "refusal"}, "x_new": 1}, usage=True))
    for one in EventSplitter().feed(raw):
        EVENT.validate_python(json.loads(one.data or b""))
    again: Any = WIRE.assemble(stream_events(raw))
    assert again == {**MESSAGE, "stop_details": {"type": "refusal"}, "x_new": 1}
    assert decoded(WIRE, [raw])[-1] == End()


BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=20)),
    st.builds(
        lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign},
        st.text(max_size=20),
        st.text(max_size=5),
    ),
    st.builds(
        lambda given: {"type": "tool_use", "id": "c", "name": "f", "input": given},
        st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5), max_size=3),
    ),
    st.just(SERVER_CALL),
    st.just(FOUND),
    st.just({"type": "new_block", "text": "x"}),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(BLOCKS, max_size=5))
def test_replay_and_assemble_undo_each_other(blocks: list[Any]) -> None:
    message = {**MESSAGE, "content": blocks}
    assert WIRE.assemble(stream_events(b"".join(WIRE.replay(message, usage=True)))) == message


def test_an_event_of_a_type_that_came_later_is_seen_by_whoever_reviews_the_whole() -> None:
    odd = {"type": "new_event", "text": "secret"}
    whole: Any = WIRE.assemble(stream_events(sse(STREAM[0], odd, *STREAM[1:])))
    assert whole["events"] == [odd]
    assert "secret" in [segment.text for segment in WIRE.response_segments(whole)]


@pytest.mark.parametrize(
    ("event", "opened", "kind"),
    [
        (SseEvent(b"", None), True, "other"),
        (SseEvent(b"", b'{"type":"ping"}', b"ping"), True, "other"),
        (SseEvent(b"", b'{"type":"ping"}'), False, "other"),
        (SseEvent(b"", b'{"type":"message_start"}', b"message_start"), False, "open"),
        (SseEvent(b"", b'{"type":"content_block_start"}'), False, "open"),
        (SseEvent(b"", b"not read", b"content_block_delta"), True, "delta"),
        (SseEvent(b"", b"not read", b"content_block_delta"), False, "error"),
        (SseEvent(b"", b'{"type":"content_block_delta"}'), True, "delta"),
        (SseEvent(b"", b'{"type":"content_block_stop"}', b"content_block_stop"), True, "delta"),
        (SseEvent(b"", b'{"type":"message_delta"}', b"message_delta"), True, "finish"),
        (SseEvent(b"", b'{"type":"message_stop"}', b"message_stop"), True, "done"),
        (SseEvent(b"", b'{"type":"error"}', b"error"), True, "error"),
        (SseEvent(b"", b'{"error":{}}'), False, "error"),
        (SseEvent(b"", b'{"type":"new"}', b"new"), True, "delta"),
        (SseEvent(b"", b"{}"), True, "delta"),
        (SseEvent(b"", b"[]"), True, "error"),
        (SseEvent(b"", b"[DONE]"), True, "error"),
        (SseEvent(b"", b" "), True, "other"),
    ],
)
def test_the_kind_of_an_event(event: SseEvent, opened: bool, kind: str) -> None:
    assert WIRE.kind(event, opened=opened) == kind
