"""The operations besides chat: passed on as they came, through the same pipeline, with every text seen."""

from __future__ import annotations

import email.policy
import json
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest

from lmg import Component, HttpProvider, HttpProviderConfig
from lmg.dialects.openai_audio import OpenAISpeech, OpenAITranscription, OpenAITranslation
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.dialects.openai_images import OpenAIImageEdits, OpenAIImages
from lmg.dialects.rerank import Rerank
from lmg.testing import ChatAnswer, Cut, Harness, Received, sse

MODEL = "test-model"
BOUNDARY = "----client-boundary-0123456789"
SOUND = b"RIFF\x00\x01\xfe\xff\r\n\x00WAVE"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00"


class Everything(HttpProvider):
    """A provider that speaks every operation."""

    Config = HttpProviderConfig
    operations = frozenset({"chat", "embeddings", "rerank", "images", "speech", "transcription"})
    wires = {
        **HttpProvider.wires,
        "embeddings": (OpenAIEmbeddings(),),
        "rerank": (Rerank(),),
        "images": (OpenAIImages(), OpenAIImageEdits()),
        "speech": (OpenAISpeech(),),
        "transcription": (OpenAITranscription(), OpenAITranslation()),
    }


def everything(*listed: Any, classes: Any = None, **more: Any) -> Harness:
    return Harness({"pipeline": list(listed)}, classes={"scripted": Everything, **(classes or {})}, **more)


def form(*fields: tuple[str, str | tuple[str, str, bytes]]) -> bytes:
    """A multipart form: text fields, and files as (file name, type, content)."""
    out = b""
    for name, value in fields:
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, str):
            out += b"\r\n\r\n" + value.encode()
        else:
            out += f'; filename="{value[0]}"\r\nContent-Type: {value[1]}\r\n\r\n'.encode() + value[2]
        out += b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
WAV = ("a.wav", "audio/wav", SOUND)


def parsed(request: Received) -> dict[str, Any]:
    """The fields of a form as the standard library reads them: texts, and files as bytes."""
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode()
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    out: dict[str, Any] = {}
    for part in message.iter_parts():
        assert isinstance(part, EmailMessage)
        name = str(part.get_param("name", header="content-disposition"))
        content: Any = part.get_payload(decode=True)
        if part.get_filename() is None:
            content = content.decode()
        if name.endswith("[]"):
            out.setdefault(name, []).append(content)
        else:
            assert name not in out
            out[name] = content
    return out


async def transcribe(gateway: Harness, *fields: Any, path: str = "/v1/audio/transcriptions") -> ChatAnswer:
    body = form(("model", MODEL), *fields, ("file", WAV))
    return await gateway.request(body, path=path, headers=FORM)


# -- passed on as they came -----------------------------------------------------------------------

RERANK = {
    "model": MODEL,
    "query": "q",
    "documents": ["a", {"text": "b"}],
    "top_n": 1,
    "x_new": 12345678901234567890123,
}
RANKED = {
    "id": "r1", "results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}], "usage": {"total_tokens": 7},
}  # fmt: skip
IMAGE = {"created": 1, "data": [{"b64_json": "aW1hZ2U=", "revised_prompt": "A cat."}], "usage": {"input_tokens": 5, "output_tokens": 90}}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "answer", "tokens"),
    [
        ("/v1/rerank", RERANK, RANKED, (7, 0)),
        ("/v1/rerank", RERANK, {"results": [], "meta": {"tokens": {"input_tokens": 3, "output_tokens": 0}}}, (3, 0)),
        ("/v1/images/generations", {"model": MODEL, "prompt": "a cat", "n": 2, "x": {"y": 1.0}}, IMAGE, (5, 90)),
        ("/v1/images/edits", {"model": MODEL, "prompt": "a cat", "images": [{"file_id": "f"}]}, IMAGE, (5, 90)),
    ],
)  # fmt: skip
async def test_json_passes_byte_for_byte_both_ways(path: str, body: Any, answer: Any, tokens: Any) -> None:
    sent, said = json.dumps(body, indent=1).encode(), json.dumps(answer, indent=2).encode()
    async with everything() as gateway:
        gateway.upstream.reply(said)
        got = await gateway.request(sent, path=path)
        (request,) = gateway.upstream.received
        await gateway.ended()
        (receipt,) = gateway.receipts
    assert (got.status, got.raw) == (200, said)
    assert (request.path, request.body, request.header("content-type")) == (path, sent, "application/json")
    assert (receipt.input_tokens, receipt.output_tokens, receipt.estimated) == (*tokens, False)


async def test_speech_is_sound_that_nobody_parses() -> None:
    body = {"model": MODEL, "input": "Hello.", "voice": "alloy", "response_format": "mp3"}
    async with everything() as gateway:
        gateway.upstream.reply(SOUND, headers=[("content-type", "audio/mpeg")])
        got = await gateway.request(body, path="/v1/audio/speech")
        assert (got.status, got.raw, got.headers["content-type"]) == (200, SOUND, "audio/mpeg")
        await gateway.ended()
        (receipt,) = gateway.receipts
    assert (receipt.operation, receipt.dialect, receipt.estimated) == ("speech", "openai.speech", True)
    assert receipt.input_tokens > 0


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "image/png", "application/json", ""])
async def test_what_is_no_sound_is_an_upstream_error(kind: str) -> None:
    body = {"model": MODEL, "input": "Hello.", "voice": "alloy"}
    async with everything() as gateway:
        gateway.upstream.reply(b"{}", headers=[("content-type", kind)])
        got = await gateway.request(body, path="/v1/audio/speech")
    assert (got.status, got.error["code"]) == (502, "upstream_error")


async def test_an_error_that_calls_itself_an_answer_is_told_from_sound() -> None:
    async with everything() as gateway:
        gateway.upstream.reply({"error": {"message": "no such voice"}})
        got = await gateway.request({"model": MODEL, "input": "Hello."}, path="/v1/audio/speech")
    assert got.status == 502


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
async def test_a_form_passes_byte_for_byte_with_its_own_boundary(path: str) -> None:
    body = form(
        ("model", MODEL), ("file", WAV), ("prompt", "Grüße"), ("include[]", "logprobs"), ("x_new", " 1.50 ")
    )
    async with everything() as gateway:
        gateway.upstream.reply(
            {"text": "hello", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 4}}
        )
        got = await gateway.request(body, path=path, headers=FORM)
        (request,) = gateway.upstream.received
        await gateway.ended()
        (receipt,) = gateway.receipts
    assert got.json["text"] == "hello"
    assert (request.path, request.body, request.header("content-type")) == (path, body, FORM["content-type"])
    assert parsed(request)["file"] == SOUND
    assert (receipt.operation, receipt.input_tokens, receipt.output_tokens) == ("transcription", 14, 4)


async def test_an_edited_form_keeps_its_files_and_every_other_field() -> None:
    body = form(("routing_hint", "fast"), ("model", MODEL), ("file", WAV), ("prompt", "p"))
    async with everything(provider={"model_map": {MODEL: "whisper-1"}}) as gateway:
        gateway.upstream.reply({"text": "hello"})
        assert (await gateway.request(body, path="/v1/audio/transcriptions", headers=FORM)).status == 200
        (request,) = gateway.upstream.received
        assert (await gateway.ended()).fact("routing_hint") == "fast"
    assert request.body == form(("model", "whisper-1"), ("file", WAV), ("prompt", "p"))
    assert parsed(request) == {"model": "whisper-1", "file": SOUND, "prompt": "p"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/plain; charset=utf-8", "Grüße aus Köln.\n"),
        ("text/plain", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n"),
        ("text/vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nHello.\n"),
        ("application/x-subrip", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n"),
    ],
)
async def test_a_transcript_in_plain_text_stays_one(kind: str, said: str) -> None:
    async with everything() as gateway:
        gateway.upstream.reply(said.encode(), headers=[("content-type", kind)])
        got = await transcribe(gateway, ("response_format", "text"))
    assert (got.status, got.raw.decode(), got.headers["content-type"]) == (200, said, kind)


@pytest.mark.parametrize(
    ("kind", "said"), [("text/html", b"<html>"), ("text/plain", b"\xff\xfe"), ("application/json", b'"x"')]
)
async def test_what_is_no_transcript_is_an_upstream_error(kind: str, said: bytes) -> None:
    async with everything() as gateway:
        gateway.upstream.reply(said, headers=[("content-type", kind)])
        assert (await transcribe(gateway)).status == 502


async def test_images_go_along_with_their_prompt() -> None:
    png = ("a.png", "image/png", PNG)
    fields: Any = [
        ("model", MODEL),
        ("prompt", "a hat"),
        ("image[]", png),
        ("image[]", png),
        ("mask", png),
        ("n", "2"),
    ]
    async with everything() as gateway:
        gateway.upstream.reply(IMAGE)
        got = await gateway.request(form(*fields), path="/v1/images/edits", headers=FORM)
        (request,) = gateway.upstream.received
    assert got.json == IMAGE
    assert parsed(request) == {
        "model": MODEL,
        "prompt": "a hat",
        "image[]": [PNG, PNG],
        "mask": PNG,
        "n": "2",
    }


async def test_an_upstream_s_refusal_is_the_caller_s() -> None:
    error = {
        "message": "Audio file is too short.",
        "type": "invalid_request_error",
        "param": "file",
        "code": "audio_too_short",
    }
    async with everything() as gateway:
        gateway.upstream.reply({"error": error}, status=400)
        got = await transcribe(gateway)
    assert (got.status, {k: v for k, v in got.error.items() if k != "request_id"}) == (400, error)


# -- what is refused at the door ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/v1/chat/completions", FORM["content-type"], 415),
        ("/v1/rerank", FORM["content-type"], 415),
        ("/v1/images/generations", FORM["content-type"], 415),
        ("/v1/audio/speech", "text/plain", 415),
        ("/v1/audio/transcriptions", "application/json", 415),
        ("/v1/audio/transcriptions", "application/x-www-form-urlencoded", 415),
        ("/v1/audio/translations", "multipart/mixed; boundary=a", 415),
        ("/v1/images/edits", "multipart/form-data", 400),
        ("/v1/images/edits", "application/x-www-form-urlencoded", 415),
        ("/v1/images/edits", "application/merge-patch+json", 400),
    ],
)
async def test_each_route_takes_what_its_api_takes(path: str, kind: str, status: int) -> None:
    async with everything() as gateway:
        got = await gateway.request(b"{}", path=path, headers={"content-type": kind})
        assert gateway.upstream.received == []
    assert got.status == status
    assert set(got.error) == {"message", "type", "param", "code", "request_id"}


async def test_a_body_without_a_type_is_json_where_json_is_taken() -> None:
    async with everything() as gateway:
        client = await gateway.connect()
        for path, status in (("/v1/rerank", 200), ("/v1/audio/transcriptions", 415)):
            gateway.upstream.reply(RANKED)
            raw = gateway.encode(RERANK, path=path).replace(b"content-type: application/json\r\n", b"")
            await client.send(raw)
            assert (await client.answer()).status == status


PROMPT = {"model": MODEL, "prompt": "x"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {**RERANK, "model": 1}, "model"),
        ("/v1/rerank", {**RERANK, "query": ""}, "query"),
        ("/v1/rerank", {**RERANK, "documents": []}, "documents"),
        ("/v1/rerank", {**RERANK, "documents": "a"}, "documents"),
        ("/v1/rerank", {**RERANK, "stream": True}, "stream"),
        ("/v1/images/generations", {"prompt": "x"}, "model"),
        ("/v1/images/generations", {"model": MODEL}, "prompt"),
        ("/v1/images/generations", {**PROMPT, "stream": "yes"}, "stream"),
        ("/v1/images/generations", {**PROMPT, "stream": True, "n": 2}, "n"),
        ("/v1/audio/speech", {"model": MODEL, "input": ""}, "input"),
        ("/v1/audio/speech", {"model": MODEL, "input": "x", "stream_format": "mp3"}, "stream_format"),
        ("/v1/audio/transcriptions", form(("model", MODEL)), "file"),
        ("/v1/audio/transcriptions", form(("model", MODEL), ("file", "no file")), "file"),
        ("/v1/audio/transcriptions", form(("file", WAV)), "model"),
        ("/v1/audio/transcriptions", form(("model", WAV), ("file", WAV)), "model"),
        ("/v1/audio/transcriptions", form(("model", MODEL), ("file", WAV), ("prompt", WAV)), "prompt"),
        ("/v1/audio/transcriptions", form(("model", MODEL), ("file", WAV), ("stream", "1")), "stream"),
        ("/v1/images/edits", form(("model", MODEL), ("image", WAV), ("prompt", WAV)), "prompt"),
        ("/v1/images/edits", form(("model", MODEL), ("model", "b"), ("prompt", "x")), "model"),
        ("/v1/images/edits", form(("model", MODEL), ("prompt", "x"), ("stream", "True"), ("n", "2")), "n"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_a_400_with_its_place(path: str, body: Any, param: str) -> None:
    async with everything() as gateway:
        got = await gateway.request(body, path=path, headers=FORM if isinstance(body, bytes) else None)
        assert gateway.upstream.received == []
    assert (got.status, got.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", RERANK), ("/v1/images/generations", PROMPT), ("/v1/images/edits", PROMPT),
        ("/v1/audio/speech", {"model": MODEL, "input": "x"}),
        ("/v1/audio/transcriptions", form(("model", MODEL), ("file", WAV))),
        ("/v1/audio/translations", form(("model", MODEL), ("file", WAV))),
    ],
)  # fmt: skip
async def test_a_provider_without_the_operation_is_no_candidate(path: str, body: Any) -> None:
    async with Harness() as gateway:  # chat and embeddings alone
        got = await gateway.request(body, path=path, headers=FORM if isinstance(body, bytes) else None)
        assert gateway.upstream.received == []
    assert (got.status, got.error["code"]) == (404, "model_not_found")


class NoTranslations(Everything):
    wires = {**Everything.wires, "transcription": (OpenAITranscription(),), "images": (OpenAIImages(),)}


async def test_a_provider_with_half_of_an_operation_is_a_candidate_for_that_half_alone() -> None:
    async with everything(classes={"scripted": NoTranslations}) as gateway:
        gateway.upstream.reply({"text": "hello"})
        assert (await transcribe(gateway)).status == 200
        got = await transcribe(gateway, path="/v1/audio/translations")
        assert (got.status, got.error["code"]) == (404, "model_not_found")
        edited = await gateway.request(PROMPT, path="/v1/images/edits")
        assert (edited.status, len(gateway.upstream.received)) == (404, 1)


# -- events ---------------------------------------------------------------------------------------

USAGE = {"input_tokens": 11, "output_tokens": 22, "total_tokens": 33}


def named(*values: Any) -> list[bytes]:
    return [
        f"event: {value['type']}\n".encode() + event
        for value, event in zip(values, sse(*values), strict=True)
    ]


SPEECH = sse(
    {"type": "speech.audio.delta", "audio": "UklG"}, {"type": "speech.audio.delta", "audio": "Rg=="},
    {"type": "speech.audio.done", "usage": USAGE},
)  # fmt: skip
TRANSCRIPT = sse(
    {"type": "transcript.text.delta", "delta": "Hello"}, {"type": "transcript.text.delta", "delta": " there."},
    {"type": "transcript.text.done", "text": "Hello there.", "usage": {"type": "tokens", **USAGE}},
)  # fmt: skip
IMAGES = named(
    {"type": "image_generation.partial_image", "b64_json": "cGFydA==", "partial_image_index": 0},
    {"type": "image_generation.completed", "b64_json": "d2hvbGU=", "usage": USAGE},
)
# As other servers write them: with blanks, another order of members, chunks like those of a chat, or a last [DONE].
SPACED = [
    b'data: { "type" : "transcript.text.delta", "delta": "Hi" }\n\n',
    b'data: {"text": "Hi", "usage": {"input_tokens": 11, "output_tokens": 22}, "type": "transcript.text.done"}\n\n',
]
CHUNKS = sse(
    {"object": "transcription.chunk", "choices": [{"delta": {"content": "Hi"}, "finish_reason": None}]},
    {"object": "transcription.chunk", "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]},
    {"object": "transcription.chunk", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 22}},
    "[DONE]",
)
STREAMED = [
    ("/v1/audio/speech", {"model": MODEL, "input": "Hello.", "stream_format": "sse"}, SPEECH),
    ("/v1/audio/transcriptions", form(("model", MODEL), ("stream", "true"), ("file", WAV)), TRANSCRIPT),
    ("/v1/audio/transcriptions", form(("model", MODEL), ("stream", "True"), ("file", WAV)), SPACED),
    ("/v1/audio/transcriptions", form(("model", MODEL), ("stream", "true"), ("file", WAV)), CHUNKS),
    ("/v1/images/generations", {**PROMPT, "stream": True, "partial_images": 1}, IMAGES),
    ("/v1/images/edits", form(("model", MODEL), ("prompt", "x"), ("stream", "true"), ("image", WAV)), IMAGES),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "events"), STREAMED)
async def test_events_pass_as_they_came_and_usage_is_read(path: str, body: Any, events: list[bytes]) -> None:
    async with everything() as gateway:
        gateway.upstream.stream(*events)
        got = await gateway.request(body, path=path, headers=FORM if isinstance(body, bytes) else None)
        await gateway.ended()
        (receipt,) = gateway.receipts
    assert (got.status, got.raw, got.broken) == (200, b"".join(events), False)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert (receipt.input_tokens, receipt.output_tokens, receipt.streamed) == (11, 22, True)


@pytest.mark.parametrize(("path", "body", "events"), STREAMED)
async def test_a_stream_that_broke_never_looks_finished(path: str, body: Any, events: list[bytes]) -> None:
    headers = FORM if isinstance(body, bytes) else None
    async with everything() as gateway:
        gateway.upstream.stream(*events[:-1], Cut())
        got = await gateway.request(body, path=path, headers=headers)
        assert got.status in (200, 502)
        assert got.error["code"] == "upstream_error"
        assert events[-1] not in got.raw
        gateway.upstream.stream(Cut())
        first = await gateway.request(body, path=path, headers=headers)
    assert first.status == 502, "a failure before the first event is a real status"


@pytest.mark.parametrize(("path", "body", "events"), STREAMED)
async def test_an_error_among_the_events_ends_the_stream(path: str, body: Any, events: list[bytes]) -> None:
    error = sse({"type": "error", "error": {"message": "moderation_blocked", "code": "moderation_blocked"}})
    async with everything() as gateway:
        gateway.upstream.stream(events[0], *error, *events[1:])
        got = await gateway.request(body, path=path, headers=FORM if isinstance(body, bytes) else None)
    assert events[-1] not in got.raw
    assert got.error["code"] == "moderation_blocked"


async def test_a_whole_answer_where_events_were_asked_for_becomes_events() -> None:
    async with everything() as gateway:
        gateway.upstream.reply({"text": "Hello.", "usage": {"type": "duration", "seconds": 1}})
        got = await transcribe(gateway, ("stream", "true"))
        assert got.events == [
            {"type": "transcript.text.delta", "delta": "Hello."},
            {"type": "transcript.text.done", "text": "Hello.", "usage": {"type": "duration", "seconds": 1}},
        ]
        gateway.upstream.reply(IMAGE)
        got = await gateway.request({**PROMPT, "stream": True}, path="/v1/images/generations")
        assert got.raw.startswith(b"event: image_generation.completed\n")
        assert got.events[0]["b64_json"] == "aW1hZ2U="
        gateway.upstream.reply(SOUND, headers=[("content-type", "audio/mpeg")])
        got = await gateway.request(
            {"model": MODEL, "input": "x", "stream_format": "sse"}, path="/v1/audio/speech"
        )
        assert (got.raw, got.headers["content-type"]) == (SOUND, "audio/mpeg")


async def test_an_image_of_many_megabytes_is_one_event() -> None:
    big = named({"type": "image_generation.completed", "b64_json": "A" * 12_000_000, "usage": USAGE})
    async with everything() as gateway:
        gateway.upstream.stream(*big)
        got = await gateway.request({**PROMPT, "stream": True}, path="/v1/images/generations")
    assert got.raw == big[0]


# -- what cannot be edited, and what goes with an edit --------------------------------------------


class Masks(Component):
    """Replaces every transcript."""

    def on_response(self, exchange: Any, response: Any) -> None:
        for segment in response.segments():
            if segment.format != "opaque" and "Ann" in segment.text:
                response.replace(segment, segment.text.replace("Ann", "[name]"))


async def test_what_repeats_a_transcript_in_pieces_goes_when_the_transcript_is_changed() -> None:
    said = {
        "text": "I am Ann.", "language": "english", "duration": 1.5, "logprobs": [{"token": "Ann", "logprob": -1}],
        "words": [{"word": "Ann", "start": 0, "end": 1}],
        "segments": [{"id": 0, "text": "I am Ann.", "tokens": [1, 2, 3], "start": 0}],
    }  # fmt: skip
    async with everything("masks", classes={"masks": Masks}) as gateway:
        gateway.upstream.reply(said)
        got = await transcribe(gateway, ("response_format", "verbose_json"))
        assert got.json == {
            "text": "I am [name].", "language": "english", "duration": 1.5,
            "segments": [{"id": 0, "text": "I am [name].", "start": 0}],
        }  # fmt: skip
        gateway.upstream.reply({**said, "text": "I am Bob.", "segments": [], "words": []})
        assert (await transcribe(gateway)).json["logprobs"] == said["logprobs"], (
            "an unchanged one stays whole"
        )


class Forks(Component):
    """Asks the model the same once more, as a judge would."""

    async def on_response(self, exchange: Any, response: Any) -> None:
        again = await exchange.fork(exchange.attempts[0].target, "again")
        exchange.reply_header(b"x-again", again.response.body.render())


async def test_a_fork_of_a_form_is_a_form() -> None:
    async with everything(
        "forks", classes={"forks": Forks}, provider={"model_map": {MODEL: "whisper-1"}}
    ) as gateway:
        gateway.upstream.reply(b"hello", headers=[("content-type", "text/plain")])
        got = await transcribe(gateway, ("stream", "false"))
        first, second = gateway.upstream.received
    assert (got.status, got.headers["x-again"]) == (200, "hello")
    assert parsed(first) == {"model": "whisper-1", "stream": "false", "file": SOUND}
    assert parsed(second) == {"model": "whisper-1", "file": SOUND}


async def test_a_file_may_be_as_large_as_the_server_s_limit() -> None:
    sound = bytes(range(256)) * 4096 * 30  # 30 MiB of the 32 that a body may have
    async with everything() as gateway:
        gateway.upstream.reply({"text": "long"})
        body = form(("model", MODEL), ("file", ("a.wav", "audio/wav", sound)))
        assert (
            await gateway.request(body, path="/v1/audio/transcriptions", headers=FORM, seconds=30)
        ).status == 200
        assert gateway.upstream.received[0].body == body
        more = form(("model", MODEL), ("file", ("a.wav", "audio/wav", sound + sound[: 2**21])))
        refused = await gateway.request(more, path="/v1/audio/transcriptions", headers=FORM, seconds=30)
    assert refused.status == 413
