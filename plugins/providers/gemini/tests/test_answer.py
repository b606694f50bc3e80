"""Answers of the API, whole and streamed, as the intermediate form."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Start,
    Text,
    ToolCall,
    completion_of,
)
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.wire import StreamFault
from lmg.errors import UpstreamError
from lmg.exchange import Usage
from lmg.sse import SseEvent
from lmg.testing import sse
from lmg.testing.wires import check_split_points, decoded
from lmg_gemini import GeminiWire
from lmg_gemini.signatures import call_id, marked, unpacked

WIRE = GeminiWire()
MODEL = "gemini-3.1-pro-preview"


def parts_of(*parts: dict[str, Any], **more: Any) -> list[Any]:
    """The parts of the form that a whole answer of ``parts`` becomes."""
    body = {
        "candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **more}],
        "responseId": "r",
    }
    (choice,) = WIRE.decode_answer(body).choices
    return choice.parts


# Whole answers


def test_a_whole_answer(candidate: Any, response: Any) -> None:
    usage = {
        "promptTokenCount": 100, "toolUsePromptTokenCount": 5, "cachedContentTokenCount": 60, "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30, "totalTokenCount": 155,
    }  # fmt: skip
    assert WIRE.decode_answer(response(candidate({"text": "Hello."}), usage=usage)) == Completion(
        "resp-1", MODEL, [Choice([Text("Hello.")])], Usage(105, 50, 60, 30, False)
    )


def test_candidates_are_choices(candidate: Any, response: Any) -> None:
    body = response(candidate({"text": "b"}, index=1, finish="MAX_TOKENS"), candidate({"text": "a"}))
    assert WIRE.decode_answer(body).choices == [Choice([Text("a")]), Choice([Text("b")], "length", index=1)]


def test_pieces_of_one_text_are_one_part() -> None:
    thought = {"text": "Hm", "thought": True}
    assert parts_of(thought, thought, {"text": "a"}, {"text": ""}, {"text": "b"}) == [
        Reasoning("HmHm"),
        Text("ab"),
    ]


def test_signatures_stay_with_what_they_sign() -> None:
    parts = parts_of(
        {"text": "Hm.", "thought": True, "thoughtSignature": "dGg="},
        {"text": "Hm?", "thought": True},
        {"text": "Yes.", "thoughtSignature": "dHg="},
        {"text": "No."},
        {"text": "", "thoughtSignature": "bGFzdA=="},
    )
    assert parts == [
        Reasoning("Hm.", marked("dGg=")),
        Reasoning("Hm?"),
        Text("Yes."),
        Reasoning(signature=marked("dHg=")),
        Text("No."),
        Reasoning(signature=marked("bGFzdA==")),
    ]


def test_calls_carry_their_signature_and_id_in_the_id_of_the_client() -> None:
    first, second, third = parts_of(
        {"functionCall": {"name": "f", "args": {"b": 1, "a": "ü"}}, "thoughtSignature": "c2ln/+8="},
        {"functionCall": {"name": "f", "args": {"b": 1, "a": "ü"}}},
        {"functionCall": {"id": "own id: 7", "name": "g"}},
    )
    assert [first.name, first.arguments] == ["f", '{"b":1,"a":"ü"}']
    assert [third.name, third.arguments] == ["g", "{}"]
    assert [unpacked(call.id) for call in (first, second, third)] == [
        ("", "c2ln/+8="),
        ("", ""),
        ("own id: 7", ""),
    ]
    assert len({first.id, second.id, third.id}) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", call.id) for call in (first, second, third))


def test_ids_of_calls_are_the_same_each_time_and_differ_between_answers() -> None:
    def ids(response_id: str) -> list[str]:
        part = {"functionCall": {"name": "f", "args": {}}}
        body = {
            "candidates": [{"content": {"parts": [part, part]}, "finishReason": "STOP"}],
            "responseId": response_id,
        }
        return [part.id for part in WIRE.decode_answer(body).choices[0].parts if isinstance(part, ToolCall)]

    assert ids("r1") == ids("r1")
    assert len({*ids("r1"), *ids("r2")}) == 4


@given(st.binary(min_size=1), st.text(max_size=40), st.integers(0, 200))
def test_every_id_unpacks_to_what_was_packed(signature: bytes, own_id: str, n: int) -> None:
    written = base64.b64encode(signature).decode()
    packed = call_id(n, ("r", "0", "f", "{}"), own_id, written)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", packed)
    assert unpacked(packed) == (own_id, written)


@given(
    st.one_of(
        st.text(), st.from_regex(r"call_[0-9]+_[0-9a-f]{10,14}(-id-|-sig-)?[-_0-9a-zA-Z]*", fullmatch=True)
    )
)
def test_every_id_of_a_client_can_be_read(packed: str) -> None:
    own_id, signature = unpacked(packed)
    assert packed.startswith("call_") or (own_id, signature) == ("", "")


@pytest.mark.parametrize(
    ("stated", "calls", "reason"),
    [
        ("STOP", False, "stop"),
        ("STOP", True, "tool_calls"),
        ("MAX_TOKENS", False, "length"),
        ("MAX_TOKENS", True, "length"),
        ("CONTINUATION", False, "length"),
        *(
            (name, False, "content_filter")
            for name in (
                "SAFETY",
                "RECITATION",
                "LANGUAGE",
                "BLOCKLIST",
                "PROHIBITED_CONTENT",
                "SPII",
                "IMAGE_SAFETY",
            )
        ),
        ("A_REASON_OF_TOMORROW", False, "stop"),
    ],
)
def test_reasons_to_end(stated: str, calls: bool, reason: str) -> None:
    part = {"functionCall": {"name": "f"}} if calls else {"text": "a"}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": stated}]}
    assert WIRE.decode_answer(body).choices[0].finish == reason


def test_every_reason_of_the_sdk_is_decided() -> None:
    from google.genai.types import FinishReason

    from lmg_gemini.answer import _FAILURES, _FINISHES

    assert {*_FINISHES, *_FAILURES} == {one.value for one in FinishReason} - {"FINISH_REASON_UNSPECIFIED"}


def test_a_filtered_answer_without_a_word_is_an_empty_choice() -> None:
    assert WIRE.decode_answer({"candidates": [{"finishReason": "SAFETY"}]}).choices == [
        Choice([], "content_filter")
    ]


@pytest.mark.parametrize(
    ("stated", "status", "kind"),
    [
        ("MALFORMED_FUNCTION_CALL", 502, ""),
        ("UNEXPECTED_TOOL_CALL", 502, ""),
        ("TOO_MANY_TOOL_CALLS", 502, ""),
        ("MALFORMED_RESPONSE", 502, ""),
        ("OTHER", 502, ""),
        ("NO_IMAGE", 502, ""),
        ("MISSING_THOUGHT_SIGNATURE", 400, ""),
        ("PUP_LIMITED_DISABLED", 403, "credential"),
    ],
)
def test_an_answer_that_the_model_failed_to_give_is_a_fault(stated: str, status: int, kind: str) -> None:
    body: dict[str, Any] = {"candidates": [{"finishReason": stated, "finishMessage": "Malformed: f("}]}
    with pytest.raises(StreamFault) as caught:
        WIRE.decode_answer(body)
    fault = caught.value.fault
    assert (caught.value.status, fault.kind, fault.code) == (status, kind, stated.lower())
    assert fault.message == "Malformed: f("


@pytest.mark.parametrize(
    ("feedback", "message"),
    [
        ({"blockReason": "PROHIBITED_CONTENT"}, "The prompt was blocked: PROHIBITED_CONTENT."),
        ({"blockReason": "OTHER", "blockReasonMessage": "Not so."}, "Not so."),
    ],
)
def test_a_blocked_prompt_is_a_content_filter_s_fault(feedback: dict[str, Any], message: str) -> None:
    with pytest.raises(StreamFault) as caught:
        WIRE.decode_answer({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}})
    assert (caught.value.status, caught.value.fault.kind) == (400, "content_filter")
    assert (caught.value.fault.message, caught.value.fault.code) == (message, "content_filter")


def test_feedback_that_blocks_nothing_is_no_fault() -> None:
    body = {"promptFeedback": {"safetyRatings": []}, "candidates": [{"finishReason": "STOP"}]}
    assert WIRE.decode_answer(body).choices == [Choice()]


def test_log_probabilities_are_in_the_form_s_shape() -> None:
    def token(text: str, probability: float) -> dict[str, Any]:
        return {"token": text, "tokenId": 7, "logProbability": probability}

    result = {
        "chosenCandidates": [token("Hé", -0.1), token("!", 0)],
        "topCandidates": [{"candidates": [token("Hé", -0.1), token("Ha", -2.5)]}, {}],
    }
    (text,) = parts_of({"text": "Hé!"}, logprobsResult=result)
    assert text.logprobs == [
        {
            "token": "Hé",
            "logprob": -0.1,
            "bytes": [72, 195, 169],
            "top_logprobs": [
                {"token": "Hé", "logprob": -0.1, "bytes": [72, 195, 169]},
                {"token": "Ha", "logprob": -2.5, "bytes": [72, 97]},
            ],
        },
        {"token": "!", "logprob": 0, "bytes": [33], "top_logprobs": []},
    ]


def test_citations_are_kept_as_they_were_written() -> None:
    source = {"startIndex": 0, "endIndex": 5, "uri": "https://x.example/a"}
    grounding = {"webSearchQueries": ["q"], "groundingChunks": [{"web": {"uri": "https://x.example/b"}}]}
    for member in ("citationSources", "citations"):
        more = {"citationMetadata": {member: [source]}, "groundingMetadata": grounding}
        (text,) = parts_of({"text": "Once"}, **more)
        assert text.citations == [source, {"groundingMetadata": grounding}]


def test_what_is_not_known_of_an_answer_is_passed_over(candidate: Any) -> None:
    parts = parts_of(
        {"executableCode": {"code": "1"}},
        {"text": "a", "partMetadata": {"x": 1}, "y": 2},
        safetyRatings=[],
        tokenCount=3,
    )
    assert parts == [Text("a")]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"candidates": []},
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
        {"candidates": [{"finishReason": "STOP"}, {"index": 1}]},
        {"candidates": [{"finishReason": "STOP", "index": "first"}]},
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": [1]},
        {"candidates": [{"content": {"parts": [{"text": 1}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": 1}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}]},
    ],
)
def test_what_is_no_answer_is_an_upstream_s_fault(body: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        WIRE.decode_answer(body)
    assert (caught.value.stage, caught.value.kind) == ("answer", "protocol")


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": {"a": 1}},
        {"candidates": [1]},
        {"candidates": [{"content": []}, {"content": {"parts": [1]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": "abc"}, "finishReason": "STOP"}]},
    ],
)
def test_what_is_shaped_like_no_answer_raises_what_the_kernel_expects(body: Any) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError, IndexError)):
        WIRE.decode_answer(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in items for place in places(item, (*at, key)))]


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_an_answer_with_anything_anywhere_raises_only_what_the_kernel_expects(data: st.DataObject) -> None:
    result = {"chosenCandidates": [{"token": "a"}], "topCandidates": [{"candidates": [{"token": "b"}]}]}
    parts = [
        {"text": "a", "thought": True},
        {"text": "b"},
        {"functionCall": {"id": "i", "name": "f", "args": {"a": 1}}},
    ]
    candidate = candidate_(
        *parts, finishReason="STOP", index=0, logprobsResult=result, citationMetadata={"citations": []}
    )
    body: Any = event(candidate, usageMetadata=dict(USAGE), promptFeedback={"blockReason": ""})
    *above, last = data.draw(st.sampled_from([place for place in places(body) if place]))
    holder = body
    for key in above:
        holder = holder[key]
    holder[last] = data.draw(JSON)
    with contextlib.suppress(StreamFault, UpstreamError, KeyError, TypeError, AttributeError, IndexError):
        WIRE.decode_answer(body)
    WIRE.fault(400, json.dumps(body).encode())


# Streams


def stream_of(*values: dict[str, Any]) -> bytes:
    return b"".join(piece.replace(b"\n", b"\r\n") for piece in sse(*values))


def event(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), "modelVersion": MODEL, "responseId": "resp-1", **more}


def candidate_(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": list(parts)}, **more}


USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 6, "thoughtsTokenCount": 3, "totalTokenCount": 19}
STREAM = [
    event(
        candidate_({"text": "Häm", "thought": True}),
        usageMetadata={"promptTokenCount": 10, "thoughtsTokenCount": 3, "totalTokenCount": 13},
    ),
    event(candidate_({"text": "m.", "thought": True})),
    event(candidate_({"text": "I "}), usageMetadata=USAGE | {"candidatesTokenCount": 2}),
    event(candidate_({"text": "go.", "thoughtSignature": "dHg="}), candidate_({"text": "Zwei"}, index=1)),
    event(
        candidate_(
            {"functionCall": {"name": "f", "args": {"x": "é"}}, "thoughtSignature": "c2ln/+8="},
            {"functionCall": {"id": "own", "name": "g", "args": {}}},
        )
    ),
    event(candidate_({"text": ""}, finishReason="MAX_TOKENS", index=1)),
    event({"finishReason": "STOP"}, usageMetadata=USAGE),
]


def test_a_stream_s_parts_begin_and_end() -> None:
    events = decoded(WIRE, [stream_of(*STREAM)])
    first, second = (e.id for e in events if isinstance(e, PartBegin) and e.kind == "tool_call")
    assert events == [
        Start("resp-1", MODEL, usage=Usage(10, 0, 0, 0, False)),
        PartBegin(0, 0, "reasoning"),
        PartDelta(0, 0, "Häm"),
        PartDelta(0, 0, "m."),
        PartEnd(0, 0),
        PartBegin(0, 1, "text"),
        PartDelta(0, 1, "I "),
        Counted(Usage(10, 5, 0, 3, False)),
        PartDelta(0, 1, "go."),
        PartEnd(0, 1),
        PartBegin(0, 2, "reasoning"),
        PartDelta(0, 2, signature=marked("dHg=")),
        PartEnd(0, 2),
        PartBegin(1, 0, "text"),
        PartDelta(1, 0, "Zwei"),
        PartBegin(0, 3, "tool_call", first, "f"),
        PartDelta(0, 3, '{"x":"é"}'),
        PartEnd(0, 3),
        PartBegin(0, 4, "tool_call", second, "g"),
        PartDelta(0, 4, "{}"),
        PartEnd(0, 4),
        Counted(Usage(10, 9, 0, 3, False)),
        Finish(0, "tool_calls"),
        PartEnd(1, 0),
        Finish(1, "length"),
        Counted(Usage(10, 9, 0, 3, False)),
        End(),
    ]


def test_a_stream_cut_anywhere_says_the_same() -> None:
    assert check_split_points(WIRE, stream_of(*STREAM), [OpenAIChat()]) == completion_of(
        decoded(WIRE, [stream_of(*STREAM)])
    )


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_stream_cut_into_any_pieces_says_the_same(data: st.DataObject) -> None:
    stream = stream_of(*STREAM)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decoded(WIRE, pieces) == decoded(WIRE, [stream])


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_cut_into_any_events_is_the_whole_one(data: st.DataObject) -> None:
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    call = {"functionCall": {"name": "f", "args": {"a": text}}}
    parts = [{"text": piece} for piece in pieces] + [call]
    ending = {"finishReason": "STOP"}
    whole = WIRE.decode_answer(event(candidate_({"text": text}, call, **ending), usageMetadata=USAGE))
    events = [event(candidate_(part)) for part in parts] + [event(ending, usageMetadata=USAGE)]
    streamed = completion_of(decoded(WIRE, [stream_of(*events)]))
    assert streamed.choices == whole.choices
    assert (streamed.id, streamed.model, streamed.usage) == (whole.id, whole.model, whole.usage)


@pytest.mark.parametrize("count", range(len(STREAM)))
def test_a_stream_that_ended_before_every_candidate_had_its_reason_has_no_ending(count: int) -> None:
    events = decoded(WIRE, [stream_of(*STREAM[:count])])
    assert not any(isinstance(one, Finish | End) for one in events)


def test_a_stream_cut_within_its_last_event_has_no_ending() -> None:
    stream = stream_of(*STREAM)
    last = len(stream_of(STREAM[-1]))
    for n in range(len(stream) - last, len(stream) - 3):
        assert not any(isinstance(one, Finish | End) for one in decoded(WIRE, [stream[:n]]))


def test_an_error_within_a_stream_is_a_fault_with_its_status() -> None:
    error = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
    decoder = WIRE.decoder()
    decoder.feed(SseEvent(b"", json.dumps(STREAM[0]).encode()))
    with pytest.raises(StreamFault) as caught:
        decoder.feed(SseEvent(b"", json.dumps({"error": error}).encode()))
    assert caught.value.status == 503
    assert (caught.value.fault.message, caught.value.fault.code) == (
        "The model is overloaded.",
        "unavailable",
    )


@pytest.mark.parametrize("data", [b"", b"[DONE]", b"nonsense", b"[]", b'"a"'])
def test_an_event_that_the_api_does_not_send_is_an_upstream_s_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        WIRE.decoder().feed(SseEvent(data, data))
    assert (caught.value.stage, caught.value.kind) == ("stream", "protocol")


def test_comments_say_nothing() -> None:
    assert WIRE.decoder().feed(SseEvent(b": ping\n\n", None)) == ()


def test_log_probabilities_of_a_stream_come_with_their_text() -> None:
    def told(text: str) -> dict[str, Any]:
        return {"chosenCandidates": [{"token": text, "logProbability": -1.0}]}

    stream = stream_of(
        event(candidate_({"text": "a"}, logprobsResult=told("a"))),
        event(candidate_({"text": "b"}, logprobsResult=told("b"))),
        event(candidate_({"text": ""}, logprobsResult=told("c"), finishReason="STOP")),
    )
    ((text,),) = (choice.parts for choice in completion_of(decoded(WIRE, [stream])).choices)
    assert text.text == "ab"
    assert [token["token"] for token in text.logprobs] == ["a", "b", "c"]


def test_citations_of_a_stream_come_once_and_before_their_text_ends() -> None:
    sources = [{"uri": f"https://x.example/{n}"} for n in range(3)]
    stream = stream_of(
        event(candidate_({"text": "a"}, citationMetadata={"citationSources": sources[:1]})),
        event(candidate_({"text": "b"}, citationMetadata={"citationSources": sources[:2]})),
        event(
            candidate_(
                {"text": "c", "thoughtSignature": "dHg="}, citationMetadata={"citationSources": sources}
            )
        ),
        event({"finishReason": "STOP"}),
    )
    (choice,) = completion_of(decoded(WIRE, [stream])).choices
    assert choice.parts[0].citations == sources
    check_split_points(WIRE, stream, [OpenAIChat()])


# Errors


def error_of(message: str, status: str = "INVALID_ARGUMENT", *details: dict[str, Any]) -> bytes:
    return json.dumps(
        {"error": {"code": 400, "message": message, "status": status, "details": list(details)}}
    ).encode()


INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "googleapis.com"}


@pytest.mark.parametrize(
    ("status", "body", "code", "kind"),
    [
        (400, error_of("API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", INFO | {"reason": "API_KEY_INVALID"}), "invalid_argument", "credential"),
        (400, error_of("Renew it.", "INVALID_ARGUMENT", INFO | {"reason": "API_KEY_EXPIRED"}), "invalid_argument", "credential"),
        (400, error_of("API key expired. Please renew the API key."), "invalid_argument", "credential"),
        (400, error_of("User location is not supported for the API use.", "FAILED_PRECONDITION"), "failed_precondition", "credential"),
        (401, error_of("Request had invalid authentication credentials.", "UNAUTHENTICATED"), "unauthenticated", "credential"),
        (403, error_of("Generative Language API has not been used", "PERMISSION_DENIED"), "permission_denied", "credential"),
        (400, error_of("The input token count (1048600) exceeds the maximum number of tokens allowed (1048576)."), "invalid_argument", "context_length"),
        (400, error_of("Invalid value at 'generation_config.temperature'", "INVALID_ARGUMENT", INFO | {"reason": "OTHER"}), "invalid_argument", ""),
        (404, error_of("models/x is not found for API version v1beta", "NOT_FOUND"), "not_found", ""),
        (429, error_of("You exceeded your current quota", "RESOURCE_EXHAUSTED"), "resource_exhausted", ""),
        (503, error_of("The model is overloaded.", "UNAVAILABLE"), "unavailable", ""),
        (400, b"[" + error_of("API key not valid") + b"]", "invalid_argument", "credential"),
        (502, b"<html>Bad gateway</html>", None, ""),
        (500, b"", None, ""),
        (500, b"[]", None, ""),
        (500, b'{"error": "text"}', None, ""),
        (500, b'{"error": {"code": 500, "message": 7, "status": [], "details": {}}}', None, ""),
        (400, b'{"error": {"details": [1, null, {"reason": 3}]}}', None, ""),
    ],
)  # fmt: skip
def test_errors(status: int, body: bytes, code: str | None, kind: str) -> None:
    fault = WIRE.fault(status, body)
    assert (fault.code, fault.kind) == (code, kind)
    if code is not None:
        assert fault.message
