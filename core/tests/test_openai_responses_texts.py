"""What an event of a streamed response is, and where the texts of requests, answers and events stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmg import StreamEvent
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.exchange import Usage
from lmg.jsontext import JsonText
from lmg.sse import EventSplitter, encode_event

DIALECT = OpenAIResponses()
SECRET = "swordfish"


def event_of(value: Any, *, named: bool = True) -> StreamEvent:
    """The event with this value, as it is cut out of an upstream's stream."""
    raw = encode_event(json.dumps(value).encode(), value["type"].encode() if named else b"")
    (sse,) = EventSplitter().feed(raw)
    return StreamEvent(DIALECT, sse, DIALECT.kind(sse, opened=True))


def value_of(event: StreamEvent) -> Any:
    (sse,) = EventSplitter().feed(event.raw)
    return json.loads(sse.data or b"null")


def text_item(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []} | more
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def response(*output: Any, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": list(output)} | more  # fmt: skip


# -- what an event is -----------------------------------------------------------------------------


def kind(data: bytes, name: bytes = b"", *, opened: bool = True) -> str:
    (sse,) = EventSplitter().feed(encode_event(data, name))
    return DIALECT.kind(sse, opened=opened)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("response.created", "open"),
        ("response.queued", "open"),
        ("response.in_progress", "open"),
        ("response.output_item.added", "finish"),
        ("response.content_part.added", "finish"),
        ("response.output_text.delta", "delta"),
        ("response.x_new.delta", "delta"),
        ("response.output_text.done", "finish"),
        ("response.output_item.done", "finish"),
        ("response.x_new", "finish"),
        ("response.completed", "done"),
        ("response.incomplete", "done"),
        ("response.failed", "error"),
        ("response.cancelled", "error"),
        ("error", "error"),
    ],
)
def test_the_type_says_what_an_event_is(type_: str, expected: str, opened: bool) -> None:
    for value in ({"type": type_, "a": 1}, {"a": 1, "type": type_}):
        for data in (json.dumps(value), json.dumps(value, separators=(",", ":"))):
            for name in (b"", type_.encode()):
                assert kind(data.encode(), name, opened=opened) == expected


def test_a_name_that_the_data_does_not_bear_out_says_nothing() -> None:
    text = json.dumps({"text": '"response.output_text.delta"', "type": "response.completed"}).encode()
    assert kind(text, b"response.output_text.delta") == "done"


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("data", [b"[DONE]", b"{", b"[]", b"1", b"{}", b'{"error":{"message":"x"}}'])
def test_what_the_api_does_not_send_never_looks_like_an_ending(data: bytes, opened: bool) -> None:
    assert kind(data, opened=opened) == "error"


def test_what_holds_no_data_has_no_meaning() -> None:
    (comment,) = EventSplitter().feed(b": keep-alive\n\n")
    assert DIALECT.kind(comment, opened=True) == "other"
    assert kind(b"  ") == "other"


def test_usage_is_read_from_the_last_event_and_from_a_whole_answer() -> None:
    usage = {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14,
    }  # fmt: skip
    expected = Usage(9, 5, 4, 2, False, 1)
    assert DIALECT.usage(response(usage=usage)) == expected
    assert DIALECT.usage({"type": "response.completed", "response": response(usage=usage)}) == expected
    for nothing in (None, [], response(), response(usage=None), {"type": "response.output_text.done"}):
        assert DIALECT.usage(nothing) is None


# -- texts of an event ----------------------------------------------------------------------------

AT = {"item_id": "i", "output_index": 3}
TEXTS: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"type": "response.output_text.delta", **AT, "content_index": 1, "delta": "a"}, [("output.3.content.1.text", "assistant", "text")]),
    ({"type": "response.refusal.delta", **AT, "content_index": 1, "delta": "a"}, [("output.3.content.1.refusal", "refusal", "text")]),
    ({"type": "response.reasoning_text.delta", **AT, "content_index": 0, "delta": "a"}, [("output.3.content.0.text", "reasoning", "text")]),
    ({"type": "response.reasoning_summary_text.delta", **AT, "summary_index": 2, "delta": "a"}, [("output.3.summary.2.text", "reasoning", "text")]),
    ({"type": "response.function_call_arguments.delta", **AT, "delta": "a"}, [("output.3.arguments", "tool_arguments", "json")]),
    ({"type": "response.mcp_call_arguments.delta", **AT, "delta": "a"}, [("output.3.arguments", "tool_arguments", "json")]),
    ({"type": "response.custom_tool_call_input.delta", **AT, "delta": "a"}, [("output.3.input", "tool_arguments", "text")]),
    ({"type": "response.code_interpreter_call_code.delta", **AT, "delta": "a"}, [("output.3.code", "tool_arguments", "text")]),
    ({"type": "response.x_new.delta", **AT, "delta": {"stdout": "a"}}, [("response.x_new.delta.3.i.delta.stdout", "assistant", "text")]),
    (
        {"type": "response.output_text.annotation.added", **AT, "content_index": 0, "annotation_index": 1, "annotation": {"type": "url_citation", "title": "T", "url": "U"}},
        [("output.3.content.0.annotations.1.title", "assistant", "text"), ("output.3.content.0.annotations.1.url", "assistant", "text")],
    ),
    (
        {"type": "response.output_item.added", "output_index": 3, "item": {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": "", "status": "in_progress"}},
        [("output.3.name", "assistant", "text"), ("output.3.arguments", "tool_arguments", "json")],
    ),
    ({"type": "response.output_item.added", "output_index": 3, "item": {"type": "web_search_call", "id": "i", "action": {"query": "q"}}}, [("opening.3.action.query", "assistant", "text")]),
    ({"type": "response.output_item.done", "output_index": 3, "item": {"type": "web_search_call", "id": "i", "action": {"query": "q"}}}, [("output.3.action.query", "assistant", "text")]),
    ({"type": "response.output_item.done", "output_index": 3, "item": {"type": "mcp_call", "id": "i", "name": "f", "arguments": "{}", "output": "o"}}, [("output.3.output", "assistant", "text")]),
    ({"type": "response.output_item.done", "output_index": 3, "item": {"type": "image_generation_call", "id": "i", "result": "AAAA"}}, []),
    ({"type": "response.output_item.done", "output_index": 3, "item": text_item("a")}, []),
    ({"type": "response.content_part.added", **AT, "content_index": 0, "part": {"type": "output_text", "text": "a"}}, [("output.3.content.0.text", "assistant", "text")]),
    ({"type": "response.output_text.done", **AT, "content_index": 0, "text": "a"}, []),
    ({"type": "response.audio.delta", "delta": "AAAA"}, []),
    ({"type": "response.created", "response": response(instructions="a")}, []),
    ({"type": "response.completed", "response": response(text_item("a"))}, []),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), TEXTS, ids=[str(one[0])[:70] for one in TEXTS])
def test_an_event_holds_the_texts_that_no_event_before_has_held(value: Any, expected: Any) -> None:
    found = list(DIALECT.deltas(value))
    assert [(delta.id, delta.role, delta.format) for delta in found] == expected
    body = JsonText.of(value)
    assert all(body.get(*delta.path) == delta.text for delta in found)


@pytest.mark.parametrize(
    ("value", "ended"),
    [
        ({"type": "response.output_text.done", **AT, "content_index": 1}, ["output.3.content.1.text"]),
        ({"type": "response.content_part.done", **AT, "content_index": 1}, ["output.3.content.1."]),
        ({"type": "response.function_call_arguments.done", **AT}, ["output.3.arguments"]),
        ({"type": "response.output_item.done", "output_index": 3}, ["output.3."]),
        ({"type": "response.completed"}, [""]),
        ({"type": "response.output_text.delta", **AT, "content_index": 1}, []),
        ({"type": "response.content_part.added", **AT, "content_index": 1}, []),
        ({"type": "response.created"}, []),
    ],
)
def test_an_event_ends_the_texts_that_it_closes(value: Any, ended: list[str]) -> None:
    assert list(DIALECT.ends(value)) == ended


@pytest.mark.parametrize("value", [one[0] for one in TEXTS if one[0]["type"].endswith("delta") and one[1]])
def test_text_that_was_held_back_leaves_in_an_event_like_its_own(value: Any) -> None:
    event = event_of(value | {"sequence_number": 4})
    (delta,) = event.deltas
    made = event.only(delta, "later")
    assert [(one.id, one.text) for one in made.deltas] == [(delta.id, "later")]
    assert made.sse.name.decode() == value["type"]
    assert value_of(made).keys() >= value.keys()


def test_text_held_back_leaves_before_the_event_that_ends_it() -> None:
    (delta,) = event_of({"type": "response.refusal.delta", **AT, "content_index": 1, "delta": "a"}).deltas
    closing = event_of({"type": "response.refusal.done", **AT, "content_index": 1, "refusal": "ab"})
    assert value_of(closing.only(delta, "b")) == {"type": "response.refusal.delta", **AT, "content_index": 1, "delta": "b"}  # fmt: skip
    of_item = event_of({"type": "response.output_item.done", "output_index": 3, "item": {"id": "i", "type": "message"}})  # fmt: skip
    assert value_of(of_item.only(delta, "b"))["item_id"] == "i"


def test_text_of_an_item_that_comes_whole_leaves_in_an_item_like_it() -> None:
    value = {"type": "response.output_item.done", "output_index": 3, "sequence_number": 1, "item": {"type": "web_search_call", "id": "i", "action": {"type": "search", "query": "q"}, "x": "y"}}  # fmt: skip
    event = event_of(value)
    query = event.deltas[0]
    made = event.only(query, "later")
    assert [(one.id, one.text) for one in made.deltas] == [(query.id, "later")]


def test_probabilities_of_a_text_that_was_replaced_are_gone() -> None:
    token = {"token": SECRET, "logprob": -1}
    event = event_of({"type": "response.output_text.delta", **AT, "content_index": 1, "delta": SECRET, "logprobs": [token]})  # fmt: skip
    assert value_of(event.replace(event.deltas[0], "x"))["logprobs"] == []
    path = ("output", 0, "content", 0, "text")
    body = JsonText.of(response(text_item(SECRET, logprobs=[token])))
    assert SECRET.encode() not in DIALECT.after_edit(body.set(path, "x"), path).render()


# -- texts of requests and answers ----------------------------------------------------------------


def test_every_text_of_a_request_is_a_segment() -> None:
    value = {
        "model": "m",
        "instructions": "S",
        "input": [
            {"role": "user", "content": "U"},
            {"role": "developer", "content": [{"type": "input_text", "text": "D"}]},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                    {"type": "input_file", "filename": "N", "file_data": "AAAA"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                ],
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "R"}],
                "encrypted_content": "E",
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c", "output": "T"},
            {"type": "custom_tool_call", "call_id": "c", "name": "g", "input": "I"},
            {"type": "x_new", "text": "X"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "F", "parameters": {"description": "P"}}],
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {"title": "Q"}},
        },
        "prompt": {"id": "p", "variables": {"v": "V"}},
        "reasoning": {"effort": "high"},
        "x_new": "Y",
    }
    found = {(segment.text, segment.role, segment.format) for segment in DIALECT.request_segments(value)}
    expected = {
        ("S", "system", "text"), ("U", "user", "text"), ("D", "system", "text"), ("N", "user", "text"),
        ("", "user", "opaque"), ("R", "reasoning", "text"), ("", "reasoning", "opaque"), ("f", "assistant", "text"),
        ('{"a":1}', "tool_arguments", "json"), ("T", "tool", "text"), ("g", "assistant", "text"), ("I", "tool_arguments", "text"),
        ("X", "assistant", "text"), ("f", "tool_definition", "text"), ("F", "tool_definition", "text"),
        ("P", "tool_definition", "text"), ("n", "tool_definition", "text"), ("Q", "tool_definition", "text"),
        ("V", "user", "text"), ("Y", "unknown", "text"),
    }  # fmt: skip
    assert found == expected
    opaque = [segment for segment in DIALECT.request_segments(value) if segment.format == "opaque"]
    assert [segment.path[-1] for segment in opaque] == [
        "image_url",
        "file_data",
        "input_audio",
        "encrypted_content",
    ]
    assert [segment.signed for segment in opaque] == [False, False, False, True]
    body = JsonText.of(value)
    for segment in DIALECT.request_segments(value):
        assert segment.format == "opaque" or body.get(*segment.path) == segment.text


def test_a_plain_input_is_a_segment() -> None:
    (segment,) = DIALECT.request_segments({"model": "m", "input": "U"})
    assert (segment.text, segment.role, segment.path) == ("U", "user", ("input",))


def test_every_text_of_an_answer_is_a_segment_and_what_repeats_the_request_is_none() -> None:
    value = response(
        {
            "type": "reasoning",
            "id": "r",
            "summary": [{"type": "summary_text", "text": "R"}],
            "encrypted_content": "E",
        },
        text_item("T", annotations=[{"type": "url_citation", "title": "A", "url": "B"}]),
        {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "web_search_call", "id": "i", "status": "completed", "action": {"type": "search", "query": "Q"}},
        {"type": "image_generation_call", "id": "i", "status": "completed", "result": "AAAA"},
        instructions="S", tools=[{"name": "t"}], metadata={"a": "b"}, output_text="O",
    )  # fmt: skip
    texts = [(segment.id, segment.text) for segment in DIALECT.response_segments(value)]
    assert texts == [
        ("output.0.summary.0.text", "R"),
        ("output.0.encrypted_content", ""),
        ("output.1.content.0.text", "T"),
        ("output.1.content.0.annotations.0.title", "A"),
        ("output.1.content.0.annotations.0.url", "B"),
        ("output.2.name", "f"),
        ("output.2.arguments", "{}"),
        ("output.3.action.query", "Q"),
        ("output.4.result", ""),
        ("output_text", "O"),
    ]
    (error,) = DIALECT.response_segments({"error": {"message": "M", "type": "t", "code": None}})
    assert (error.text, error.role) == ("M", "error")
