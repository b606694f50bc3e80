"""Streams of responses under filters: what is new in an event, what repeats, and that a guard that masked has masked all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg import StreamEvent, StreamFilter, UpstreamError
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.dialects.openai_responses.frames import item_events, response_events
from lmg.dialects.openai_responses.rebuild import ResponseRebuilder
from lmg.sse import EventSplitter, encode_event

DIALECT = OpenAIResponses()
SECRET = "swordfish"
MASK = "[hidden]"


def event_of(value: Any, *, named: bool = True) -> StreamEvent:
    """The event with this value, as it is cut out of an upstream's stream."""
    raw = encode_event(json.dumps(value).encode(), value["type"].encode() if named else b"")
    (sse,) = EventSplitter().feed(raw)
    return StreamEvent(DIALECT, sse, DIALECT.kind(sse, opened=True))


def numbered(values: Any, start: int = 0) -> list[dict[str, Any]]:
    return [value | {"sequence_number": n} for n, value in enumerate(values, start)]


def value_of(event: StreamEvent) -> Any:
    (sse,) = EventSplitter().feed(event.raw)
    return json.loads(sse.data or b"null")


def text_item(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []} | more
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def response(*output: Any, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": list(output)} | more  # fmt: skip


# -- filters --------------------------------------------------------------------------------------


class Mask(StreamFilter):
    """Replaces a word, however it is cut into deltas: what may be its beginning is held until more is known."""

    def __init__(self, word: str = SECRET, mask: str = MASK) -> None:
        self._word, self._mask = word, mask
        self._held: dict[str, tuple[Any, str, StreamEvent]] = {}

    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        ends = event.ends
        for delta in event.deltas:
            _, held, _ = self._held.pop(delta.id, (None, "", None))
            text = (held + delta.text).replace(self._word, self._mask)
            keep = 0 if delta.id.startswith(ends or "\0") else self._open(text)
            if keep:
                self._held[delta.id] = (delta, text[-keep:], event)
                text = text[:-keep]
            if text != delta.text:
                event = event.replace(delta, text)
        ready = [id_ for id_ in self._held if id_.startswith(ends or "\0")]
        out = [event.only(delta, text) for delta, text, event in map(self._held.pop, ready)]
        return [*out, event]

    def _open(self, text: str) -> int:
        sizes = range(min(len(text), len(self._word) - 1), 0, -1)
        return next((size for size in sizes if self._word.startswith(text[-size:])), 0)

    def finish(self) -> list[StreamEvent]:
        return [event.only(delta, text) for delta, text, event in self._held.values()]


class Drop(StreamFilter):
    """Lets no delta that comes alone pass."""

    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        return [] if event.kind == "delta" else [event]


def through(
    values: list[dict[str, Any]], *filters: StreamFilter, into: bool = True, named: bool = True
) -> list[StreamEvent]:
    """What leaves where ``values`` arrive: the terminal event passes the rebuilder alone."""
    rebuilder = ResponseRebuilder(DIALECT)
    out: list[StreamEvent] = []

    def passed(events: list[StreamEvent], start: int) -> None:
        for filter_ in filters[start:]:
            events = [one for event in events for one in filter_.feed(event)]
        out.extend(rebuilder.out(event) for event in events)

    for value in values:
        event = event_of(value, named=named)
        arrived = list(rebuilder.into(event)) if into else [event]
        if event.kind == "done":
            *before, event = arrived
            passed(before, 0)
            for n, filter_ in enumerate(filters):
                passed(list(filter_.finish()), n + 1)
            out.append(rebuilder.out(event))
        else:
            passed(arrived, 0)
    return out


def streamed(value: dict[str, Any], sizes: list[int] | None = None) -> list[dict[str, Any]]:
    """The events of a whole answer, its deltas cut into pieces of ``sizes`` (of one character, where there are none)."""
    out: list[dict[str, Any]] = []
    left = list(sizes or [])
    for one in response_events(value):
        text = one.get("delta")
        while isinstance(text, str) and text:
            size = left.pop(0) if left else 1
            tokens = [{"token": text[:size], "logprob": -1}] if one.get("logprobs") else []
            out.append(one | {"delta": text[:size]} | ({"logprobs": tokens} if "logprobs" in one else {}))
            text = text[size:]
        if "delta" not in one:
            out.append(one)
    return numbered(out)


def everywhere(text: str) -> dict[str, Any]:
    """An answer that says ``text`` wherever a model's text can stand."""
    token = {"token": text, "logprob": -1, "bytes": [], "top_logprobs": []}
    return response(
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": f"S {text}."}, {"type": "summary_text", "text": text}], "encrypted_content": "E"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": f"T {text}."}]},
        text_item(f"It is {text}.", annotations=[{"type": "url_citation", "title": text, "url": f"https://{text}", "start_index": 0, "end_index": 2}], logprobs=[token]),
        {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}, {"type": "refusal", "refusal": f"No {text}."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": f"f_{text}", "arguments": f'{{"a":"{text}"}}', "status": "completed"},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "g", "input": f"run {text}"},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "h", "arguments": f'"{text}"', "output": f"out {text}", "status": "completed"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "k", "code": f"print('{text}')", "outputs": [{"type": "logs", "logs": text}], "status": "completed"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": f"what is {text}"}},
        {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": [text], "results": [{"text": text, "filename": "f"}]},
        {"type": "x_new", "id": "x_1", "said": {"deep": [text]}},
        output_text=f"It is {text}.{text}",
    )  # fmt: skip


@pytest.mark.parametrize("into", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_masked_word_leaves_no_trace_in_any_event(named: bool, into: bool) -> None:
    out = through(streamed(everywhere(SECRET)), Mask(), into=into, named=named)
    raw = b"".join(event.raw for event in out)
    assert SECRET.encode() not in raw
    assert b"swordf" not in raw
    expected = json.loads(json.dumps(everywhere(SECRET)).replace(SECRET, MASK))
    expected["output"][2]["content"][0]["logprobs"] = []
    assert value_of(out[-1])["response"] == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["sword", "fish", SECRET, "sw", "ordfish", " ", "é😀"]), max_size=6).map(
        "".join
    ),
    st.lists(st.integers(1, 7), max_size=30),
)
def test_wherever_a_text_is_cut_what_repeats_it_says_what_has_left(text: str, sizes: list[int]) -> None:
    value = everywhere(text)
    out = through(streamed(value, sizes), Mask())
    values = [value_of(event) for event in out]
    if SECRET in text:
        assert SECRET not in json.dumps(values)
    said: dict[str, str] = {}
    for one in values:
        for delta in DIALECT.deltas(one):
            said[delta.id] = said.get(delta.id, "") + delta.text
    for segment in DIALECT.response_segments(values[-1]["response"]):
        if segment.format != "opaque" and segment.path[0] == "output":
            assert said.get(segment.id, "") == segment.text
    assert [one["sequence_number"] for one in values] == list(range(len(values)))


def test_events_that_no_filter_changed_leave_as_the_bytes_they_came_in() -> None:
    arrived = streamed(everywhere("nothing of note"))
    out = through(arrived, StreamFilter())
    assert [event.raw for event in out] == [event_of(value).raw for value in arrived]


def test_two_filters_leave_what_the_second_let_pass() -> None:
    out = through(streamed(everywhere("swordfish")), Mask(), Mask("hidden", "h"))
    raw = b"".join(event.raw for event in out)
    assert b"hidden" not in raw
    assert value_of(out[-1])["response"]["output"][2]["content"][0]["text"] == "It is [h]."


def test_what_a_filter_dropped_is_nowhere() -> None:
    values = [value_of(event) for event in through(streamed(response(text_item("gone"))), Drop())]
    assert "gone" not in json.dumps(values)
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    assert values[-1]["response"]["output"] == [text_item("")]


def test_numbers_go_on_from_where_they_began_and_are_not_invented() -> None:
    plain = list(response_events(response(text_item(SECRET))))
    out = [value_of(event) for event in through(numbered(plain, 7), Drop())]
    assert [value["sequence_number"] for value in out] == list(range(7, 7 + len(out)))
    assert all("sequence_number" not in value_of(event) for event in through(plain, Mask()))


def test_an_answer_of_many_texts_is_rebuilt_in_one_pass() -> None:
    value = response(*(text_item(f"{n} {SECRET}") | {"id": f"msg_{n}"} for n in range(300)), big=10**30)
    (last,) = through(streamed(value, [99] * 999), Mask())[-1:]
    whole = value_of(last)["response"]
    assert [item["content"][0]["text"] for item in whole["output"]] == [f"{n} {MASK}" for n in range(300)]
    assert whole["big"] == 10**30


def only_said(value: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    """The stream of an answer by an upstream that sends no other events than these between the first and the last."""
    begun, _, *between, last = response_events(value)
    return numbered([begun, *(one for one in between if one["type"].endswith(kinds)), last])


@pytest.mark.parametrize(
    "kinds",
    [
        ("nothing",),
        ("output_item.done",),
        ("output_item.added", "output_item.done"),
        ("output_item.added", "part.added", "text.done", "part.done", "output_item.done"),
        ("output_item.added", "part.added", "refusal.done", "arguments.done", "output_item.done"),
    ],
)
def test_text_that_comes_in_no_deltas_passes_the_filters_as_deltas(kinds: tuple[str, ...]) -> None:
    arrived = only_said(everywhere(SECRET), *kinds)
    out = through(arrived, Mask())
    assert SECRET.encode() not in b"".join(event.raw for event in out)
    expected = json.loads(json.dumps(everywhere(SECRET)).replace(SECRET, MASK))
    expected["output"][2]["content"][0]["logprobs"] = []
    assert value_of(out[-1])["response"] == expected
    # Before the filters nothing is said twice, and where nothing was missing nothing is added.
    said: dict[str, str] = {}
    for event in through(arrived):
        for delta in event.deltas:
            said[delta.id] = said.get(delta.id, "") + delta.text
    for segment in DIALECT.response_segments(everywhere(SECRET)):
        if segment.format != "opaque" and segment.path[0] == "output":
            assert said[segment.id] == segment.text


def test_text_that_no_filter_has_seen_does_not_leave() -> None:
    out = through(only_said(response(text_item(SECRET), output_text=SECRET), "output_item.done"), Mask(), into=False)  # fmt: skip
    assert SECRET.encode() not in b"".join(event.raw for event in out)
    out = through(only_said(response(text_item(SECRET)), "nothing"), Mask(), into=False)
    assert value_of(out[-1])["response"]["output"] == []


def test_items_that_a_filter_put_in_the_place_of_others_are_those_of_the_last_event() -> None:
    class Other(StreamFilter):
        def feed(self, event: StreamEvent) -> list[StreamEvent]:
            return [event] if event.kind == "open" else []

        def finish(self) -> list[StreamEvent]:
            made = [*item_events(text_item("Instead."), 0), *item_events(text_item("And more."), 1)]
            return [DIALECT.make_event(value, "finish") for value in made]

    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    out = through(streamed(response(call)), Other())
    assert value_of(out[-1])["response"]["output"] == [text_item("Instead."), text_item("And more.")]


@pytest.mark.parametrize(
    "data", [b'{"type":"response.completed","type":"x"}', b'{"type":"response.completed",']
)
def test_an_event_that_parsers_read_differently_breaks_the_stream(data: bytes) -> None:
    (sse,) = EventSplitter().feed(encode_event(data))
    with pytest.raises(UpstreamError):
        ResponseRebuilder(DIALECT).out(StreamEvent(DIALECT, sse, "finish"))


def test_comments_pass_a_rebuilder() -> None:
    (sse,) = EventSplitter().feed(b": keep-alive\n\n")
    event = StreamEvent(DIALECT, sse, "other")
    rebuilder = ResponseRebuilder(DIALECT)
    assert list(rebuilder.into(event)) == [event]
    assert rebuilder.out(event) is event


# -- whole answers of streams ---------------------------------------------------------------------


def test_a_finished_stream_amounts_to_its_answer() -> None:
    value = everywhere("swordfish")
    *most, last = [event_of(one) for one in streamed(value)]
    assert DIALECT.assemble([*most, last]) == value
    whole = DIALECT.assemble(most)
    assert isinstance(whole, dict)
    assert whole["output"] == value["output"]
    assert whole["status"] == "completed"


def test_the_texts_of_a_stream_are_those_of_its_deltas() -> None:
    masked = Mask()
    *most, _ = [out for one in streamed(everywhere(SECRET)) for out in masked.feed(event_of(one))]
    assert SECRET not in json.dumps(DIALECT.assemble(most)["output"])  # type: ignore[index, call-overload]


def test_an_error_event_is_what_the_reference_has_and_what_sdks_raise_for() -> None:
    (sse,) = EventSplitter().feed(DIALECT.error_event(502, "c", "m", "server_error", "p", "req"))
    assert sse.name == b"error"
    value = json.loads(sse.data or b"")
    assert value["error"] == {"type": "server_error", "code": "c", "message": "m", "param": "p", "request_id": "req"}  # fmt: skip
    assert (value["type"], value["code"], value["message"], value["param"]) == ("error", "c", "m", "p")
    assert type(value["sequence_number"]) is int
    assert DIALECT.kind(sse, opened=True) == "error"
