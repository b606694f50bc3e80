"""No route is a side door: a guard sees and can replace each text of each operation, however the answer travels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lmg import Component, Deny, HttpProvider, HttpProviderConfig, StreamEvent, StreamFilter
from lmg.dialects.registry import DIALECTS
from lmg.testing import ChatAnswer, Harness, chat_body, chat_events, sse

MODEL = "test-model"
BOUNDARY = "----guarded-0123456789abcdef"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def form(**fields: str | bytes) -> bytes:
    """A form of texts, and of files where the value is bytes."""
    out = b""
    for name, value in fields.items():
        shown = f'; filename="{name}.bin"' if isinstance(value, bytes) else ""
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode()
        out += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Case:
    """One operation. Every text holds the word ``secret`` and a number, and none is anywhere else."""

    request: Any
    answer: Any
    events: list[bytes] = field(default_factory=list)
    streamed: Any = None
    sent_as: str = JSON
    answered_as: str = JSON
    texts: int = 1
    opaque: int = 0
    answer_texts: int = 0
    answer_opaque: int = 0
    event_texts: int = 0
    event_opaque: int = 0

    def body(self, stream: bool) -> bytes:
        request = self.streamed if stream else self.request
        return request if isinstance(request, bytes) else json.dumps(request).encode()


def content(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


CHAT = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "secret 1"},
        {"role": "user", "content": [*content("secret 2"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
    ],
    "x_new": {"deep": ["secret 3"]},
}  # fmt: skip
SPEECH = {
    "model": MODEL,
    "input": "secret 1",
    "instructions": "secret 2",
    "voice": "alloy",
    "x_new": "secret 3",
}
DRAWN = {"model": MODEL, "prompt": "secret 1", "x_new": ["secret 2"]}
MESSAGES = {
    "model": MODEL,
    "max_tokens": 9,
    "system": "secret 1",
    "messages": [{"role": "user", "content": "secret 2"}],
}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content("secret 3"), "stop_reason": "end_turn",
    "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 4},
}  # fmt: skip
PART = {"type": "output_text", "text": "secret 3", "annotations": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [PART]}
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": MODEL, "status": "completed", "output": [ITEM], "error": None,
    "usage": {**USAGE, "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
}  # fmt: skip
HEARD = form(model=MODEL, file=b"RIFF\x00\xff", prompt="secret 1", x_new="secret 2")


def typed(*values: Any) -> list[bytes]:
    return [f"event: {v['type']}\n".encode() + raw for v, raw in zip(values, sse(*values), strict=True)]


def message_events() -> list[bytes]:
    start = {**MESSAGE, "content": [], "stop_reason": None}
    return typed(
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "secret 4"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    )  # fmt: skip


def response_events() -> list[bytes]:
    part, item = {**PART, "text": "secret 4"}, {**ITEM, "content": [{**PART, "text": "secret 4"}]}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    begun = {**RESPONSE, "status": "in_progress", "output": []}
    events = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": {**PART, "text": ""}},
        {"type": "response.output_text.delta", **at, "delta": "secret 4"},
        {"type": "response.output_text.done", **at, "text": "secret 4"},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**RESPONSE, "output": [item]}},
    ]  # fmt: skip
    return typed(*({**event, "sequence_number": n} for n, event in enumerate(events)))


def transcript_case() -> Case:
    return Case(
        HEARD, {"text": "secret 3", "segments": [{"id": 0, "text": "secret 4", "tokens": [1, 2]}], "x_new": "secret 5"},
        sse(
            {"type": "transcript.text.delta", "delta": "secret 6"}, {"type": "transcript.text.delta", "delta": " secret 7"},
            {"type": "transcript.text.segment", "id": "s1", "text": "secret 8"},
            {"type": "transcript.text.done", "text": "secret 6 secret 7", "usage": USAGE},
        ),
        HEARD.replace(b"secret 2", b'secret 2\r\n--%b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue' % BOUNDARY.encode()),
        sent_as=FORM, texts=2, opaque=1, answer_texts=3, event_texts=3,
    )  # fmt: skip


DRAWN_EVENTS = [
    {
        "type": "image_generation.partial_image",
        "b64_json": "AAAA",
        "partial_image_index": 0,
        "note": "secret 5",
    },
    {"type": "image_generation.completed", "b64_json": "BBBB", "usage": USAGE},
]
DRAWN_ANSWER = {
    "created": 1, "data": [{"b64_json": "AAAA", "revised_prompt": "secret 3"}, {"url": "https://x.test/i", "x": "secret 4"}],
    "usage": USAGE,
}  # fmt: skip

CASES: dict[str, Case] = {
    "/v1/chat/completions": Case(
        CHAT, chat_body("secret 4"), chat_events("secret 5 ", "secret 6"), CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        texts=3, opaque=1, answer_texts=1, event_texts=2,
    ),
    "/v1/embeddings": Case(
        {"model": MODEL, "input": ["secret 1", "secret 2"]},
        {"object": "list", "model": MODEL, "data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 3}}, texts=2,
    ),
    "/v1/messages": Case(
        MESSAGES, MESSAGE, message_events(), MESSAGES | {"stream": True}, texts=2, answer_texts=1, event_texts=1,
    ),
    "/v1/messages/count_tokens": Case(
        {key: item for key, item in MESSAGES.items() if key != "max_tokens"}, {"input_tokens": 7}, texts=2,
    ),
    "/v1/responses": Case(
        {"model": MODEL, "instructions": "secret 1", "input": "secret 2"}, RESPONSE, response_events(),
        {"model": MODEL, "instructions": "secret 1", "input": "secret 2", "stream": True}, texts=2, answer_texts=1, event_texts=1,
    ),
    "/v1/rerank": Case(
        {"model": MODEL, "query": "secret 1", "documents": ["secret 2", {"text": "secret 3"}, {"image": "AAAA"}]},
        {"results": [{"index": 0, "relevance_score": 1, "document": {"text": "secret 4"}}, {"index": 1, "document": "secret 5"}]},
        texts=3, opaque=1, answer_texts=2,
    ),
    "/v1/images/generations": Case(
        DRAWN, DRAWN_ANSWER, typed(*DRAWN_EVENTS), DRAWN | {"stream": True},
        texts=2, answer_texts=2, answer_opaque=2, event_texts=1, event_opaque=2,
    ),
    "/v1/images/edits": Case(
        form(model=MODEL, prompt="secret 1", image=b"\x89PNG\x00", mask=b"\xff"), DRAWN_ANSWER, typed(*DRAWN_EVENTS),
        form(model=MODEL, prompt="secret 1", image=b"\x89PNG\x00", mask=b"\xff", stream="true"), sent_as=FORM,
        opaque=2, answer_texts=2, answer_opaque=2, event_texts=1, event_opaque=2,
    ),
    "/v1/audio/speech": Case(
        SPEECH, b"\x00\xffsound", sse(
            {"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done", "usage": USAGE},
        ), SPEECH | {"stream_format": "sse"}, answered_as="audio/mpeg", texts=3, answer_opaque=1, event_opaque=1,
    ),
    "/v1/audio/transcriptions": transcript_case(),
    "/v1/audio/translations": transcript_case(),
}  # fmt: skip
PLAIN = Case(
    HEARD,
    b"1\n00:00 --> 00:01\nsecret 3\n",
    sent_as=FORM,
    answered_as="text/plain",
    texts=2,
    opaque=1,
    answer_texts=1,
)


class Everything(HttpProvider):
    """Speaks each dialect that there is, as it is."""

    Config = HttpProviderConfig
    operations = frozenset(dialect.operation for dialect in DIALECTS.values())
    wires = {
        operation: tuple(dialect for dialect in DIALECTS.values() if dialect.operation == operation)
        for operation in operations
    }

    def path(self, operation: Any, attempt: Any) -> str:
        return "/somewhere"


@dataclass
class Seen:
    """What was seen of a request or an answer: texts, and the ids of what cannot be read."""

    texts: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)

    def look(self, id: str, text: str, format: str) -> str | None:
        """What is to stand in the place of a text; None where it may stay."""
        if format == "opaque":
            assert text == ""
            self.opaque.append(id)
        elif "secret" in text:
            self.texts.append(text)
            return text.replace("secret", "masked")
        return None


class Guard(Component):
    """Masks a word wherever it stands."""

    requires = {"on_request": ("body",)}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked, self.answered = Seen(), Seen()

    def on_request(self, exchange: Any) -> None:
        for segment in exchange.request.segments():
            masked = self.asked.look(segment.id, segment.text, segment.format)
            if masked is not None:
                exchange.request.replace(segment, masked)


class Whole(Guard):
    def on_response(self, exchange: Any, response: Any) -> None:
        for segment in response.segments():
            masked = self.answered.look(segment.id, segment.text, segment.format)
            if masked is not None:
                response.replace(segment, masked)


class Masks(StreamFilter):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent]:
        for delta in event.deltas:
            masked = self.seen.look(delta.id, delta.text, delta.format)
            if masked is not None:
                event = event.replace(delta, masked)
        return (event,)


class Streamed(Guard):
    def on_stream(self, exchange: Any) -> StreamFilter:
        return Masks(self.answered)


class Both(Whole, Streamed):
    pass


GUARDS: dict[str, type[Guard]] = {"whole": Whole, "streamed": Streamed, "both": Both}


async def guarded(path: str, case: Case, guard: str, stream: bool) -> tuple[ChatAnswer, Guard, bytes]:
    """The answer, the guard with what it saw, and what went upstream."""
    classes: Any = {"scripted": Everything, "guard": GUARDS[guard]}
    async with Harness({"pipeline": ["guard"]}, classes=classes, models=[MODEL]) as gateway:
        if stream:
            gateway.upstream.stream(*case.events)
        else:
            gateway.upstream.reply(case.answer, headers=[("content-type", case.answered_as)])
        answer = await gateway.request(case.body(stream), path=path, headers={"content-type": case.sent_as})
        component = next(c for listed, c in gateway.process.gateway.pipeline.listed if listed.name == "guard")
        assert isinstance(component, Guard)
        sent = gateway.upstream.received[0].body if gateway.upstream.received else b""
    return answer, component, sent


def test_every_route_that_reaches_a_model_has_a_case() -> None:
    assert {path.decode() for path in DIALECTS} <= set(CASES), "a new route needs its texts written down here"


ROUTES = [path for path in CASES if path.encode() in DIALECTS]
WALKS = [
    (path, guard, stream)
    for path in ROUTES
    for guard in GUARDS
    for stream in (False, True)
    if CASES[path].events or not stream
]


@pytest.mark.parametrize(("path", "guard", "stream"), WALKS)
async def test_a_guard_sees_and_replaces_each_text_of_each_operation(
    path: str, guard: str, stream: bool
) -> None:
    case = CASES[path]
    answer, seen, sent = await guarded(path, case, guard, stream)
    assert answer.status == 200, answer.raw
    assert answer.headers["content-type"].startswith("text/event-stream" if stream else case.answered_as)
    assert (len(seen.asked.texts), len(seen.asked.opaque)) == (case.texts, case.opaque)
    assert (sent.count(b"masked"), sent.count(b"secret")) == (case.texts, 0)
    assert b"secret" not in answer.raw
    for text in seen.answered.texts:
        assert text.replace("secret", "masked").encode() in answer.raw
    texts, opaque = len(seen.answered.texts), len(seen.answered.opaque)
    if not stream:
        assert (texts, opaque) == (case.answer_texts, case.answer_opaque)
    elif guard != "whole":
        assert (texts, opaque) == (case.event_texts, case.event_opaque)
    else:  # one that reviews whole answers sees the stream put together
        assert (texts > 0, opaque > 0) == (case.event_texts > 0, case.event_opaque > 0)


@pytest.mark.parametrize("guard", GUARDS)
async def test_a_transcript_in_plain_text_is_a_text_like_any_other(guard: str) -> None:
    answer, seen, _ = await guarded("/v1/audio/transcriptions", PLAIN, guard, False)
    assert seen.answered.texts == [PLAIN.answer.decode()]
    assert (answer.raw, answer.headers["content-type"]) == (
        PLAIN.answer.replace(b"secret", b"masked"),
        "text/plain",
    )


@pytest.mark.parametrize(
    ("path", "guard", "stream"), [walk for walk in WALKS if CASES[walk[0]].answered_as == JSON]
)
async def test_what_no_guard_changes_leaves_as_it_came(path: str, guard: str, stream: bool) -> None:
    case = CASES[path]
    events = [event.replace(b"secret", b"plain") for event in case.events]
    said = json.dumps(case.answer, indent=3).replace("secret", "plain").encode()
    answer, *_ = await guarded(path, replace(case, events=events, answer=said), guard, stream)
    assert answer.raw == (b"".join(events) if stream else said)


LAST_ALONE = {
    "/v1/audio/transcriptions": sse({"type": "transcript.text.done", "text": "secret 6", "usage": USAGE}),
    "/v1/images/generations": typed({**DRAWN_EVENTS[1], "note": "secret 6"}),
}


@pytest.mark.parametrize("guard", ["streamed", "both"])
@pytest.mark.parametrize("path", LAST_ALONE)
async def test_a_text_that_the_last_event_alone_holds_is_seen_and_replaced(path: str, guard: str) -> None:
    answer, seen, _ = await guarded(path, replace(CASES[path], events=LAST_ALONE[path]), guard, True)
    assert seen.answered.texts == ["secret 6"]
    assert (answer.raw.count(b"secret"), b"masked 6" in answer.raw, answer.error) == (0, True, None)


@pytest.mark.parametrize("path", LAST_ALONE)
async def test_a_text_of_the_last_event_that_was_reviewed_whole_leaves_as_it_was_left(path: str) -> None:
    answer, seen, _ = await guarded(path, replace(CASES[path], events=LAST_ALONE[path]), "whole", True)
    assert (seen.answered.texts, answer.raw.count(b"secret"), answer.error) == (["secret 6"], 0, None)


class Fails(Component):
    def on_stream(self, exchange: Any) -> StreamFilter:
        class Raises(StreamFilter):
            def feed(self, event: StreamEvent) -> Iterable[StreamEvent]:
                raise RuntimeError("told to")

        return Raises()


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"])
async def test_a_filter_that_fails_under_allow_loses_neither_text_nor_image(path: str) -> None:
    case = CASES[path]
    classes: Any = {"scripted": Everything, "fails": Fails}
    async with Harness(
        {"pipeline": [{"fails": {"on_error": "allow"}}]}, classes=classes, models=[MODEL]
    ) as gateway:
        gateway.upstream.stream(*case.events)
        answer = await gateway.request(case.body(True), path=path, headers={"content-type": case.sent_as})
    told = [{key: item for key, item in event.items() if item != ""} for event in answer.events]
    for event in case.events:
        value = json.loads(event[event.index(b"{") :])
        # The text of the event in which it failed comes in one of its own, before what else that event holds.
        assert any(value.items() >= one.items() and len(one) > 1 for one in told)
        for name in ("b64_json", "audio", "delta", "text", "note"):
            assert name not in value or any(one.get(name) == value[name] for one in told)


class NothingOpaque(Component):
    """What ``uninspected: deny`` means: what cannot be read does not pass."""

    def on_response(self, exchange: Any, response: Any) -> Deny | None:
        hidden = [segment for segment in response.segments() if segment.format == "opaque"]
        return Deny(403, "uninspected", "The answer cannot be inspected.") if hidden else None

    def on_stream(self, exchange: Any) -> StreamFilter:
        class Denies(StreamFilter):
            def feed(self, event: StreamEvent) -> Any:
                hidden = [delta for delta in event.deltas if delta.format == "opaque"]
                return Deny(403, "uninspected", "The answer cannot be inspected.") if hidden else (event,)

        return Denies()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits", "/v1/audio/speech"])
async def test_what_cannot_be_inspected_can_be_kept_from_the_client(path: str, stream: bool) -> None:
    case = CASES[path]
    classes: Any = {"scripted": Everything, "deny": NothingOpaque}
    async with Harness({"pipeline": ["deny"]}, classes=classes, models=[MODEL]) as gateway:
        # The last event alone: an image that comes without partial ones.
        gateway.upstream.stream(*case.events[:1]) if path.endswith("speech") else gateway.upstream.stream(
            case.events[-1]
        )
        if not stream:
            gateway.upstream._scripts.clear()
            gateway.upstream.reply(case.answer, headers=[("content-type", case.answered_as)])
        answer = await gateway.request(case.body(stream), path=path, headers={"content-type": case.sent_as})
    assert (answer.status, answer.error["code"]) == (403, "uninspected")
    assert b"AAAA" not in answer.raw and b"BBBB" not in answer.raw and b"sound" not in answer.raw
