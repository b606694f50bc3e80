"""Answers on their way out of the Converse API, whole and in frames cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lmg.dialects.form import (
    Choice,
    Completion,
    Counted,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    completion_of,
)
from lmg.dialects.wire import StreamFault
from lmg.errors import UpstreamError
from lmg.records import Usage
from lmg.testing.wires import decoded
from lmg_bedrock import ConverseWire
from lmg_bedrock.citations import citation_of
from lmg_bedrock.families import CLAUDE, family_of
from lmg_bedrock.frames import FrameReader

WIRE = ConverseWire(CLAUDE)


def sse_of(frames: Sequence[bytes]) -> list[bytes]:
    """The server-sent events that frames become."""
    events, fault = FrameReader().feed(b"".join(frames))
    if fault is not None:
        raise fault
    return events


# Whole answers


def test_an_answer_of_every_kind_of_block(kit: Any) -> None:
    value = kit.answer(
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "b3BhcXVl"}},
        {"text": "Look: "},
        {"text": ""},
        {
            "citationsContent": {
                "content": [{"text": "cited"}, {"text": "."}],
                "citations": [
                    {"title": "t", "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 1}}}
                ],
            }
        },
        {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": [1, 2.5]}}},
        {"toolUse": {"toolUseId": "c2", "name": "g", "input": {}}},
        {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
        {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
        {"hologram": {"new": True}},
        reason="tool_use",
        serviceTier={"type": "flex"},
        requestId="r-1",
        modelId="m",
        created=1_800_000_000,
        unknown={"x": 1},
    )
    completion = WIRE.decode_answer(value)
    citation = {
        "type": "char_location",
        "cited_text": "",
        "document_index": 0,
        "document_title": "t",
        "start_char_index": 0,
        "end_char_index": 1,
    }
    assert completion == Completion(
        "r-1",
        "m",
        [
            Choice(
                [
                    Reasoning("Hm.", "c2ln"),
                    Reasoning(encrypted="b3BhcXVl"),
                    Text("Look: "),
                    Text("cited.", citations=[citation]),
                    ToolCall("c1", "f", '{"a":[1,2.5]}'),
                    ToolCall("c2", "g", "{}"),
                ],
                "tool_calls",
            )
        ],
        Usage(12, 7, 0, 0, False, 0),
        1_800_000_000,
        service_tier="flex",
    )


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("end_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_why_an_answer_ended(kit: Any, stated: Any, reason: str) -> None:
    assert WIRE.decode_answer(kit.answer(reason=stated)).choices[0].finish == reason
    events = decoded(WIRE, sse_of(kit.text_stream("Hi", reason=stated)))
    assert Finish(0, reason) in events  # type: ignore[arg-type]


def test_every_reason_of_the_published_model_is_known(kit: Any) -> None:
    enum = kit.service_model().shape_for("StopReason").enum
    known = {"malformed_model_output", "malformed_tool_use"}
    assert {one for one in enum if one not in known and finish_of(kit, one) == "stop"} == {"end_turn"}


def finish_of(kit: Any, reason: str) -> str:
    return WIRE.decode_answer(kit.answer(reason=reason)).choices[0].finish


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_what_the_api_could_not_read_is_no_answer(kit: Any, reason: str) -> None:
    with pytest.raises(UpstreamError):
        WIRE.decode_answer(kit.answer(reason=reason))
    with pytest.raises(UpstreamError):
        decoded(WIRE, sse_of(kit.text_stream("Hi", reason=reason)))


def test_which_stop_sequence_it_was_is_known_where_the_model_says_it(kit: Any) -> None:
    said = {"additionalModelResponseFields": {"stop_sequence": "END"}}
    whole = WIRE.decode_answer(kit.answer(reason="stop_sequence", **said))
    assert (whole.choices[0].finish, whole.choices[0].stop_sequence) == ("stop_sequence", "END")
    frames = [*kit.text_stream("Hi")[:-2], *kit.ending("stop_sequence", **said)]
    assert Finish(0, "stop_sequence", "END") in decoded(WIRE, sse_of(frames))
    assert WIRE.decode_answer(kit.answer(reason="stop_sequence")).choices[0].stop_sequence == ""


PLACE = {"documentIndex": 1, "start": 2, "end": 3}
IN_A_DOCUMENT = {"cited_text": "ab", "document_index": 1, "document_title": "T"}


@pytest.mark.parametrize(
    ("location", "written"),
    [
        ({"documentChar": PLACE}, {"type": "char_location", **IN_A_DOCUMENT, "start_char_index": 2, "end_char_index": 3}),
        ({"documentPage": PLACE}, {"type": "page_location", **IN_A_DOCUMENT, "start_page_number": 2, "end_page_number": 3}),
        ({"documentChunk": PLACE}, {"type": "content_block_location", **IN_A_DOCUMENT, "start_block_index": 2, "end_block_index": 3}),
        (
            {"searchResultLocation": {"searchResultIndex": 1, "start": 2, "end": 3}},
            {
                "type": "search_result_location",
                "cited_text": "ab",
                "search_result_index": 1,
                "source": "S",
                "title": "T",
                "start_block_index": 2,
                "end_block_index": 3,
            },
        ),
        ({"web": {"url": "https://example.com/", "domain": "example.com"}}, {"url": "https://example.com/", "title": "T"}),
        ({"moon": {}}, None),
    ],
)  # fmt: skip
def test_citations_are_in_words_that_clients_know(location: Any, written: Any) -> None:
    stated = {
        "title": "T",
        "source": "S",
        "sourceContent": [{"text": "a"}, {"text": "b"}],
        "location": location,
    }
    assert citation_of(stated) == (written or stated)


@pytest.mark.parametrize("stated", [None, "x", {}, {"location": "x"}, {"title": "t"}])
def test_a_citation_of_no_place_stays_as_it_is(stated: Any) -> None:
    assert citation_of(stated) == stated


CACHED = {
    "inputTokens": 4,
    "outputTokens": 9,
    "totalTokens": 1477,
    "cacheReadInputTokens": 1400,
    "cacheWriteInputTokens": 64,
}


def test_input_tokens_include_those_read_from_a_cache_and_written_to_one(kit: Any) -> None:
    assert WIRE.decode_answer(kit.answer(usage=CACHED)).usage == Usage(1468, 9, 1400, 0, False, 64)
    events = decoded(WIRE, sse_of(kit.text_stream("Hi", usage=CACHED)))
    assert Counted(Usage(1468, 9, 1400, 0, False, 64)) in events


def test_streams_of_gpt_count_cached_tokens_among_the_others(kit: Any) -> None:
    gpt = ConverseWire(family_of("us.openai.gpt-5.6-sol"))
    usage = {"inputTokens": 4995, "outputTokens": 19, "totalTokens": 10007, "cacheWriteInputTokens": 4993}
    events = decoded(gpt, sse_of(kit.text_stream("Hi", usage=usage)))
    assert Counted(Usage(4995, 19, 0, 0, False, 4993)) in events
    whole = {**usage, "inputTokens": 2, "totalTokens": 5014}
    assert gpt.decode_answer(kit.answer(usage=whole)).usage == Usage(4995, 19, 0, 0, False, 4993)


def test_an_answer_without_usage_is_an_answer(kit: Any) -> None:
    assert WIRE.decode_answer(kit.answer(usage=None)).usage is None


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"output": {}},
        {"output": {"message": {"content": "text"}}},
        {"output": {"message": {"content": ["text"]}}},
        {"output": {"message": {"content": [{"text": 7}]}}},
        {"output": {"message": {"content": [{"toolUse": {"name": 1, "toolUseId": "x"}}]}}},
    ],
)
def test_what_is_no_answer_is_an_upstream_s_fault(value: Any) -> None:
    with pytest.raises(UpstreamError):
        WIRE.decode_answer(value)


# Exceptions in a stream


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("throttlingException", 429, ""),
        ("validationException", 400, ""),
        ("internalServerException", 502, ""),
        ("modelStreamErrorException", 502, ""),
        ("serviceUnavailableException", 503, ""),
        ("modelTimeoutException", 408, ""),
        ("accessDeniedException", 403, "credential"),
        ("somethingNewException", 502, ""),
    ],
)
def test_an_exception_is_what_it_would_have_been_before_the_stream(
    kit: Any, name: str, status: int, kind: str
) -> None:
    frames = [*kit.text_stream("Hi")[:2], kit.exception(name, "It did not work.")]
    with pytest.raises(StreamFault) as caught:
        decoded(WIRE, sse_of(frames))
    assert caught.value.status == status
    assert (caught.value.fault.message, caught.value.fault.kind) == ("It did not work.", kind)


def test_an_error_of_the_framing_is_an_exception_too(kit: Any) -> None:
    headers = {
        ":message-type": "error",
        ":error-code": "InternalFailure",
        ":error-message": "An internal server error occurred",
    }
    with pytest.raises(StreamFault) as caught:
        decoded(WIRE, sse_of([kit.frame(headers, b"")]))
    assert (caught.value.status, caught.value.fault.code) == (502, "internal_server")


def test_too_long_an_input_is_known_as_such_in_a_stream(kit: Any) -> None:
    frame = kit.exception("validationException", "Input is too long for requested model.")
    with pytest.raises(StreamFault) as caught:
        decoded(WIRE, sse_of([frame]))
    assert caught.value.fault.kind == "context_length"


def test_an_answer_s_own_names_are_those_that_the_provider_states(kit: Any) -> None:
    opening = b'event: response\ndata: {"requestId":"r","modelId":"m","created":7}\n\n'
    completion = completion_of(decoded(WIRE, [opening, *sse_of(kit.text_stream("Hi"))]))
    assert (completion.id, completion.model, completion.created) == ("r", "m", 7)
    assert replace(completion, id="", model="", created=0) == completion_of(
        decoded(WIRE, sse_of(kit.text_stream("Hi")))
    )
