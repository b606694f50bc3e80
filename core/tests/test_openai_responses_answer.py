"""Answers as responses, whole and streamed, into and out of the intermediate form."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg import UpstreamError
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
    completion_of,
    events_of,
)
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.dialects.registry import DIALECTS
from lmg.dialects.wire import Codec, StreamFault
from lmg.exchange import Usage
from lmg.sse import EventSplitter
from lmg.testing.wires import check_split_points, decoded

DIALECT = OpenAIResponses()
USAGE = Usage(120, 30, 100, 10, False, 8)
URL = {"type": "url_citation", "url": "https://a/b", "title": "A", "start_index": 0, "end_index": 2}


def answer(*parts: Any, finish: Any = "stop", usage: Usage | None = USAGE) -> Completion:
    return Completion("resp_1", "m", [Choice(list(parts), finish)], usage, 1760000000)


def stream_of(completion: Completion) -> bytes:
    encoder = DIALECT.encoder()
    return b"".join(raw for event in events_of(completion) for raw in encoder.feed(event))


def values(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in EventSplitter().feed(stream) if event.data]


def told(*events: Any) -> list[Any]:
    """What a decoder makes of events with these values."""
    decoder = DIALECT.decoder()
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return [said for event in EventSplitter().feed(stream) for said in decoder.feed(event)]


@cache
def adapter(name: str) -> Any:
    pytest.importorskip("openai")
    from openai.types import responses
    from pydantic import TypeAdapter

    return TypeAdapter(getattr(responses, name))


# -- what a client gets ---------------------------------------------------------------------------

ANSWERS: dict[str, Completion] = {
    "text": answer(Text("It is 18 degrees.")),
    "no usage": answer(Text("Hello"), usage=None),
    "several texts": answer(Text("One."), Text("Two.", citations=[URL])),
    "length": answer(Text("It is"), finish="length"),
    "content filter": answer(Text("It"), finish="content_filter"),
    "refusal": answer(Refused("I will not."), finish="refusal"),
    "calls": answer(
        Text("I shall look."), ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "f", "{}"), finish="tool_calls"
    ),
    "custom call": answer(ToolCall("c1", "run", "print(1)", True), finish="tool_calls"),
    "reasoning": answer(
        Reasoning("Paris is warm.", "SIG", id="rs_1"), Reasoning(encrypted="ENC", id="rs_2"), Text("Yes.")
    ),
    "interleaved": answer(
        Reasoning("a", "S", id="rs_1"),
        Text("b"),
        ToolCall("c", "f", "{}"),
        Reasoning("d", "T", id="rs_2"),
        Text("e"),
        finish="tool_calls",
    ),
    "probabilities": answer(
        Text("Hi", logprobs=[{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}])
    ),
    "nothing": answer(),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_comes_back_as_it_went(name: str) -> None:
    completion = ANSWERS[name]
    assert DIALECT.decode_answer(DIALECT.encode_answer(completion)) == completion


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_what_the_whole_answer_says(name: str) -> None:
    completion = ANSWERS[name]
    stream = stream_of(completion)
    assert completion_of(decoded(DIALECT, [stream])) == completion
    assert values(stream)[-1]["response"] == DIALECT.encode_answer(completion)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_event_is_one_that_the_published_types_allow(name: str) -> None:
    stream = stream_of(ANSWERS[name])
    for event in EventSplitter().feed(stream):
        value = json.loads(event.data or b"")
        assert event.name.decode() == value["type"]
        adapter("ResponseStreamEvent").validate_python(value)
    adapter("Response").validate_python(DIALECT.encode_answer(ANSWERS[name]))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_cut_anywhere_is_the_same_answer_in_every_dialect(name: str) -> None:
    dialects = [one for one in DIALECTS.values() if isinstance(one, Codec)]
    assert len(dialects) > 2
    assert check_split_points(DIALECT, stream_of(ANSWERS[name]), dialects) == ANSWERS[name]


def test_the_events_of_a_text_are_those_of_the_api_in_its_order() -> None:
    encoder = DIALECT.encoder()
    made: list[list[str]] = []
    for event in (
        Start("resp_1", "m", 1),
        PartBegin(0, 0, "text"),
        PartDelta(0, 0, "He"),
        PartDelta(0, 0, "llo"),
        PartEnd(0, 0),
        Finish(0, "stop"),
        Counted(USAGE),
        End(),
    ):
        made.append([value["type"] for value in values(b"".join(encoder.feed(event)))])
    assert made == [
        ["response.created"],
        ["response.in_progress", "response.output_item.added", "response.content_part.added"],
        ["response.output_text.delta"],
        ["response.output_text.delta"],
        ["response.output_text.done", "response.content_part.done"],
        ["response.output_item.done"],
        [],
        ["response.completed"],
    ]


@pytest.mark.parametrize("name", ANSWERS)
def test_events_are_numbered_and_indexes_lead_to_their_items(name: str) -> None:
    events = values(stream_of(ANSWERS[name]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    output = events[-1]["response"]["output"]
    for event in events:
        if "item_id" in event:
            assert output[event["output_index"]]["id"] == event["item_id"]
        if event["type"] == "response.output_item.done":
            assert output[event["output_index"]] == event["item"]


@pytest.mark.parametrize(
    ("finish", "status", "reason", "item"),
    [
        ("stop", "completed", None, "completed"),
        ("stop_sequence", "completed", None, "completed"),
        ("pause", "completed", None, "completed"),
        ("length", "incomplete", "max_output_tokens", "incomplete"),
        ("content_filter", "incomplete", "content_filter", "incomplete"),
        ("refusal", "incomplete", "content_filter", "incomplete"),
    ],
)
def test_an_answer_that_was_cut_says_so(finish: Any, status: str, reason: str | None, item: str) -> None:
    value = DIALECT.encode_answer(answer(Text("a"), ToolCall("c", "f", "{}"), Text("b"), finish=finish))
    assert value["status"] == status
    assert value["incomplete_details"] == ({"reason": reason} if reason else None)
    assert [one["status"] for one in value["output"]] == ["completed", "completed", item]


def test_ids_depend_on_the_answer_alone() -> None:
    one, other = (DIALECT.encode_answer(ANSWERS["calls"]) for _ in range(2))
    assert one == other
    ids = [item["id"] for item in one["output"]]
    assert len(set(ids)) == len(ids)
    assert [id_.partition("_")[0] for id_ in ids] == ["msg", "fc", "fc"]
    assert all(len(id_) <= 64 for id_ in ids)


def test_calls_that_come_side_by_side_are_items_of_their_own() -> None:
    events = [
        Start("resp_1", "m", 1),
        PartBegin(0, 0, "tool_call", "a", "f"),
        PartBegin(0, 1, "tool_call", "b", "g"),
        PartDelta(0, 0, "{}"),
        PartDelta(0, 1, "[]"),
        PartEnd(0, 1),
        PartEnd(0, 0),
        Finish(0, "tool_calls"),
        End(),
    ]
    encoder = DIALECT.encoder()
    stream = b"".join(raw for event in events for raw in encoder.feed(event))
    (choice,) = completion_of(decoded(DIALECT, [stream])).choices
    assert choice.parts == [ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]")]


def test_a_part_that_goes_on_after_its_end_is_a_broken_stream() -> None:
    encoder = DIALECT.encoder()
    for event in (Start("r", "m"), PartBegin(0, 0, "text"), PartEnd(0, 0)):
        encoder.feed(event)
    with pytest.raises(UpstreamError):
        encoder.feed(PartDelta(0, 0, "more"))


def test_of_several_choices_the_first_is_the_answer() -> None:
    completion = answer(Text("first"))
    completion.choices.append(Choice([Text("second")], index=1))
    (item,) = DIALECT.encode_answer(completion)["output"]
    assert item["content"][0]["text"] == "first"


@pytest.mark.parametrize(
    ("citation", "annotation"),
    [
        (URL, URL),
        (
            {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}},
            {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1},
        ),
        ("https://a", {"type": "url_citation", "url": "https://a", "title": "https://a", "start_index": 0, "end_index": 4}),
        (
            {"type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "x"},
            {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 4},
        ),
        (
            {"type": "char_location", "document_index": 2, "document_title": "A tale", "cited_text": "x"},
            {"type": "file_citation", "file_id": "", "filename": "A tale", "index": 2},
        ),
        ({"type": "other"}, None),
        (1, None),
    ],
)  # fmt: skip
def test_citations_of_any_api_are_annotations(citation: Any, annotation: Any) -> None:
    value = DIALECT.encode_answer(answer(Text("Text", citations=[citation])))
    assert value["output"][0]["content"][0]["annotations"] == ([annotation] if annotation else [])


# -- what an upstream says ------------------------------------------------------------------------


def response(*output: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "created_at": 5.0,
        "model": "m",
        "status": "completed",
        "output": list(output),
    } | more


MESSAGE = {
    "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Hi", "annotations": [URL], "logprobs": []}],
}  # fmt: skip
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "E"}  # fmt: skip
PARTS = [Reasoning("Hm.", "E", id="rs_1"), Text("Hi", citations=[URL]), ToolCall("c", "f", "{}")]


def test_a_response_whose_stream_holds_only_its_last_event_is_read() -> None:
    (choice,) = completion_of(
        told({"type": "response.completed", "response": response(THOUGHT, MESSAGE, CALL)})
    ).choices
    assert (choice.parts, choice.finish) == (PARTS, "tool_calls")


def test_a_response_whose_items_come_whole_is_read_once() -> None:
    items = [THOUGHT, MESSAGE, CALL]
    events = [
        {"type": "response.output_item.done", "output_index": n, "item": item} for n, item in enumerate(items)
    ]
    said = told(*events, {"type": "response.completed", "response": response(*items)})
    (choice,) = completion_of(said).choices
    assert choice.parts == PARTS
    assert [event for event in said if isinstance(event, PartEnd)] == [PartEnd(0, n) for n in range(3)]


def test_thoughts_and_summaries_in_pieces_are_one_reasoning() -> None:
    at = {"item_id": "rs_1", "output_index": 0}
    said = told(
        {"type": "response.output_item.added", "output_index": 0, "item": THOUGHT | {"summary": []}},
        {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0, "delta": "Fir"},
        {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0, "delta": "st"},
        {"type": "response.reasoning_summary_text.done", **at, "summary_index": 0, "text": "First"},
        {"type": "response.reasoning_summary_text.done", **at, "summary_index": 1, "text": "Second"},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
        {"type": "response.completed", "response": response(THOUGHT)},
    )
    assert completion_of(said).choices[0].parts == [Reasoning("First\n\nSecond", "E", id="rs_1")]


def test_events_that_say_nothing_for_other_apis_are_passed_over() -> None:
    said = told(
        {"type": "response.queued", "response": response()},
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"},
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "web_search_call"}},
        {"type": "response.x_new", "y": 1},
        {"type": "response.completed", "response": response({"type": "web_search_call"}, MESSAGE)},
    )
    assert completion_of(said).choices[0].parts == [PARTS[1]]
    assert said[0] == Start("resp_1", "m", 5)
    assert told({"type": "keepalive"}) == []


@pytest.mark.parametrize(
    ("value", "status", "code", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None}, 429, "rate_limit_exceeded", ""),
        ({"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "m"}}, 500, "server_error", ""),
        ({"error": {"message": "m", "type": "invalid_request_error", "code": None}}, 400, None, ""),
        ({"type": "response.failed", "response": {"error": {"code": "invalid_image", "message": "m"}}}, 400, "invalid_image", ""),
        ({"type": "response.failed", "response": {"error": {"code": "bio_policy", "message": "m"}}}, 400, "bio_policy", "content_filter"),
        (
            {"type": "error", "error": {"message": "m: exceeds the context window", "code": "context_length_exceeded"}},
            400, "context_length_exceeded", "context_length",
        ),
        ({"type": "error", "status": 503, "error": {"code": "x", "message": "m"}}, 503, "x", ""),
        ({"type": "response.failed", "response": {"error": None}}, 502, None, ""),
        ({"type": "response.cancelled", "response": {}}, 502, None, ""),
        ({"type": "error", "code": {"a": 1}, "message": ["m"]}, 502, "{'a': 1}", ""),
    ],
)  # fmt: skip
def test_an_error_in_a_stream_has_the_status_that_it_would_have_had_before(
    value: Any, status: int, code: str | None, kind: str
) -> None:
    with pytest.raises(StreamFault) as caught:
        told(value)
    fault = caught.value.fault
    assert (caught.value.status, fault.code, fault.kind) == (status, code, kind)
    if code is not None and type(fault.message) is str and fault.message:
        assert fault.message[0] == "m"


@pytest.mark.parametrize(
    "events",
    [
        [[]],
        [{"kind": "x"}],
        [{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}],
    ],
)
def test_what_the_api_does_not_send_is_a_broken_stream(events: list[Any]) -> None:
    with pytest.raises(UpstreamError):
        told(*events)


def test_a_stream_without_its_last_event_has_no_end() -> None:
    stream = stream_of(ANSWERS["calls"])
    *most, _ = stream.split(b"event: ")
    said = decoded(DIALECT, [b"event: ".join(most)])
    assert not any(isinstance(event, End | Finish) for event in said)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_whole_answer_that_failed_is_a_fault(status: str) -> None:
    with pytest.raises(StreamFault) as caught:
        DIALECT.decode_answer(response(status=status, error={"code": "server_error", "message": "It broke."}))
    assert (caught.value.status, caught.value.fault.message) == (500, "It broke.")


@pytest.mark.parametrize(
    "value", [[], {}, {"output": 1}, response(status="in_progress"), response(status="queued")]
)
def test_what_is_no_response_is_a_broken_answer(value: Any) -> None:
    with pytest.raises(UpstreamError):
        DIALECT.decode_answer(value)


@pytest.mark.parametrize(
    ("status", "details", "finish"),
    [
        ("completed", None, "stop"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", None, "length"),
    ],
)
def test_why_an_answer_ended_is_told(status: str, details: Any, finish: str) -> None:
    value = response(MESSAGE, status=status, incomplete_details=details)
    assert DIALECT.decode_answer(value).choices[0].finish == finish


def test_a_body_of_an_error_is_read_whatever_it_is() -> None:
    fault = DIALECT.fault(
        400, b'{"error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": null}}'
    )
    assert (fault.message, fault.type, fault.param, fault.code) == (
        "No.",
        "invalid_request_error",
        "input",
        None,
    )
    assert DIALECT.fault(500, b'{"error": "gone"}').message == "gone"
    for body in (b"", b"<html>", b"[]", b'{"error": 1}', b"null"):
        assert DIALECT.fault(500, body).message == ""


# -- whole answers as streams, and streams as whole answers ---------------------------------------

HOSTED = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"query": "q"},
    "x_new": 1,
}


def test_a_whole_answer_is_replayed_with_all_that_it_holds() -> None:
    value = response(THOUGHT, MESSAGE, HOSTED, CALL, object="response", x_new=2, usage={"input_tokens": 1})
    stream = b"".join(DIALECT.replay(value, usage=True))
    events = values(stream)
    assert events[-1]["response"] == value
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    splitter = EventSplitter()
    found = splitter.feed(stream)
    assert all(event.name.decode() == value["type"] for event, value in zip(found, events, strict=True))
    kinds = [DIALECT.kind(event, opened=n > 1) for n, event in enumerate(found)]
    assert kinds[:2] == ["open", "open"]
    assert kinds[-1] == "done"
    assert {*kinds[2:-1]} == {"delta", "finish"}
    assert completion_of(decoded(DIALECT, [stream])).choices[0].parts == PARTS
    assert values(b"".join(DIALECT.replay(value, usage=False)))[-1]["response"]["usage"] is None


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_a_replay_ends_as_the_answer_did(status: str) -> None:
    *_, last = DIALECT.replay(response(MESSAGE, status=status), usage=True)
    assert values(last)[0]["type"] == f"response.{status}"


PART = (
    st.builds(Text, st.text(min_size=1, max_size=8))
    | st.builds(Refused, st.text(min_size=1, max_size=8))
    | st.builds(
        ToolCall,
        st.text(min_size=1, max_size=4),
        st.text(max_size=4),
        st.text(max_size=8),
        st.booleans(),
    )
    | st.builds(
        Reasoning,
        st.text(min_size=1, max_size=8),
        st.text(max_size=4),
        id=st.text(max_size=3).map("rs_".__add__),
    )
    | st.builds(
        Reasoning, encrypted=st.text(min_size=1, max_size=4), id=st.text(max_size=3).map("rs_".__add__)
    )
)


@settings(max_examples=200)
@given(st.lists(PART, max_size=6), st.booleans(), st.booleans())
def test_any_answer_comes_back_whole_and_streamed(parts: list[Any], cut: bool, counted: bool) -> None:
    called = any(isinstance(part, ToolCall) for part in parts)
    refused = any(isinstance(part, Refused) for part in parts)
    finish = "length" if cut else "tool_calls" if called else "refusal" if refused else "stop"
    completion = answer(*parts, finish=finish, usage=USAGE if counted else None)
    assert DIALECT.decode_answer(DIALECT.encode_answer(completion)) == completion
    stream = stream_of(completion)
    assert completion_of(decoded(DIALECT, [stream])) == completion
    assert values(stream)[-1]["response"] == DIALECT.encode_answer(completion)
