"""The official client's images, audio and embeddings against a gateway, over real sockets."""

from __future__ import annotations

import base64
import email.policy
import io
import json
import math
import struct
import wave
from email.parser import BytesParser
from typing import Any

import pytest

from lmg import Component
from lmg.testing import Harness, Received, sse
from lmg_openai import OpenAI

openai = pytest.importorskip("openai")
types = pytest.importorskip("openai.types")

KEY = "sk-proj-0123456789abcdef"
MODELS = ["gpt-image-1", "gpt-4o-mini-tts", "gpt-4o-transcribe", "whisper-1", "text-embedding-3-small"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
USAGE = {"input_tokens": 9, "output_tokens": 99, "total_tokens": 108, "input_tokens_details": {"image_tokens": 0, "text_tokens": 9}}  # fmt: skip
IMAGES = {"created": 1, "data": [{"b64_json": base64.b64encode(PNG).decode()}], "usage": USAGE}


def wav(seconds: float = 0.1, rate: int = 8000) -> bytes:
    """A small sound."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = (int(9000 * math.sin(n / 3)) for n in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


def fields(request: Received) -> dict[str, Any]:
    """A form as the standard library reads it: texts as str, files as (file name, bytes), ``x[]`` as lists."""
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode()
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    assert message.get_content_type() == "multipart/form-data" and not message.defects
    out: dict[str, Any] = {}
    for part in message.iter_parts():  # type: ignore[attr-defined]
        assert not part.defects
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        value = content.decode() if part.get_filename() is None else (part.get_filename(), content)
        if name.endswith("[]"):
            out.setdefault(name, []).append(value)
        else:
            assert name not in out
            out[name] = value
    return out


class Shouts(Component):
    """Changes every prompt and every transcript, so that the client's own parts are spliced."""

    requires = {"on_request": ("body",)}

    def on_request(self, exchange: Any) -> None:
        for segment in exchange.request.segments():
            if segment.format != "opaque":
                exchange.request.replace(segment, segment.text.upper() + " ✓")

    def on_response(self, exchange: Any, response: Any) -> None:
        for segment in response.segments():
            if segment.format != "opaque":
                response.replace(segment, segment.text.upper())


class OperationsHarness(Harness):
    def __init__(self, *listed: Any) -> None:
        super().__init__(
            {"pipeline": list(listed)}, classes={"openai": OpenAI, "shouts": Shouts}, models=MODELS
        )

    def read(self, mesh: Any) -> Any:
        settings = {"endpoint": self.upstream.url, "api_key": KEY, "models": MODELS}
        return super().read({**mesh, "providers": {"openai": settings}})

    @property
    def client(self) -> Any:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="sk-caller-0123456789", max_retries=0)


@pytest.mark.parametrize("guarded", [False, True])
async def test_images_are_made(guarded: bool) -> None:
    async with OperationsHarness(*(["shouts"] if guarded else [])) as gateway, gateway.client as client:
        gateway.upstream.reply(IMAGES)
        made = await client.images.generate(model="gpt-image-1", prompt="a cat", n=1, size="1024x1024")
        (request,) = gateway.upstream.received
    assert base64.b64decode(made.data[0].b64_json) == PNG
    assert made.usage.output_tokens == 99
    assert request.path == "/v1/images/generations"
    assert request.json["prompt"] == ("A CAT ✓" if guarded else "a cat")
    assert request.header("authorization") == f"Bearer {KEY}"


async def test_a_streamed_image_comes_in_the_client_s_events() -> None:
    shape = {
        "background": "auto",
        "created_at": 1,
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
    }
    events: list[Any] = [
        {"type": "image_generation.partial_image", "b64_json": "AA==", "partial_image_index": 0, **shape},
        {
            "type": "image_generation.completed",
            "b64_json": IMAGES["data"][0]["b64_json"],
            "usage": USAGE,
            **shape,
        },  # type: ignore[index]
    ]
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.stream(
            *(f"event: {e['type']}\n".encode() + raw for e, raw in zip(events, sse(*events), strict=True))
        )
        stream = await client.images.generate(
            model="gpt-image-1", prompt="a cat", stream=True, partial_images=1
        )
        got = [event async for event in stream]
    assert [type(event).__name__ for event in got] == ["ImageGenPartialImageEvent", "ImageGenCompletedEvent"]
    assert base64.b64decode(got[-1].b64_json) == PNG


@pytest.mark.parametrize("guarded", [False, True])
async def test_images_are_edited_with_their_bytes_intact(guarded: bool) -> None:
    async with OperationsHarness(*(["shouts"] if guarded else [])) as gateway, gateway.client as client:
        gateway.upstream.reply(IMAGES)
        images = [("a.png", PNG, "image/png"), ("ü.png", PNG + b"\r\n--", "image/png")]
        await client.images.edit(model="gpt-image-1", image=images, mask=("m.png", PNG), prompt="a hat", n=1)
        (request,) = gateway.upstream.received
    sent = fields(request)
    assert request.path == "/v1/images/edits"
    assert sent.pop("mask") == ("m.png", PNG)
    assert [content for _, content in sent.pop("image[]")] == [PNG, PNG + b"\r\n--"]
    assert sent == {"model": "gpt-image-1", "prompt": "A HAT ✓" if guarded else "a hat", "n": "1"}


async def test_speech_is_heard_whole_and_as_events() -> None:
    sound = bytes(range(256)) * 64
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.reply(sound, headers=[("content-type", "audio/mpeg")])
        heard = await client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="alloy", input="Hello.", instructions="Slowly."
        )
        assert (heard.content, heard.response.headers["content-type"]) == (sound, "audio/mpeg")
        deltas: list[Any] = [{"type": "speech.audio.delta", "audio": base64.b64encode(sound[n : n + 4096]).decode()} for n in range(0, len(sound), 4096)]  # fmt: skip
        gateway.upstream.stream(
            *sse(
                *deltas,
                {
                    "type": "speech.audio.done",
                    "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
                },
            )
        )
        heard = await client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="alloy", input="Hello.", stream_format="sse"
        )
        events = [json.loads(line[6:]) for line in heard.text.split("\n") if line.startswith("data: ")]
        assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == sound
        await gateway.ended(2)
        assert (gateway.receipts[1].input_tokens, gateway.receipts[1].output_tokens) == (2, 3)
        first = gateway.upstream.received[0]
    assert first.json == {
        "model": "gpt-4o-mini-tts",
        "voice": "alloy",
        "input": "Hello.",
        "instructions": "Slowly.",
    }


@pytest.mark.parametrize("guarded", [False, True])
async def test_speech_is_transcribed_from_an_upload(guarded: bool) -> None:
    sound = wav()
    async with OperationsHarness(*(["shouts"] if guarded else [])) as gateway, gateway.client as client:
        usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}
        gateway.upstream.reply({"text": "hello there", "usage": usage})
        heard = await client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("talk.wav", sound, "audio/wav"), prompt="greetings", language="en",
            include=["logprobs"], temperature=0.25, extra_body={"x_new": "kept"},
        )  # fmt: skip
        (request,) = gateway.upstream.received
        await gateway.ended()
        receipt = gateway.receipts[0]
    sent = fields(request)
    assert request.path == "/v1/audio/transcriptions"
    assert sent.pop("file") == ("talk.wav", sound)
    assert sent.pop("prompt") == ("GREETINGS ✓" if guarded else "greetings")
    assert sent.pop("x_new") == ("KEPT ✓" if guarded else "kept")
    assert sent == {
        "model": "gpt-4o-transcribe",
        "language": "en",
        "include[]": ["logprobs"],
        "temperature": "0.25",
    }
    assert heard.text == ("HELLO THERE" if guarded else "hello there")
    assert (receipt.input_tokens, receipt.output_tokens, receipt.estimated) == (14, 3, False)


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_transcript_in_plain_text_reaches_the_client_as_text(guarded: bool) -> None:
    async with OperationsHarness(*(["shouts"] if guarded else [])) as gateway, gateway.client as client:
        gateway.upstream.reply(b"hello\n", headers=[("content-type", "text/plain; charset=utf-8")])
        heard = await client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", wav()), response_format="text"
        )
    assert heard == ("HELLO\n" if guarded else "hello\n")


async def test_a_transcript_is_streamed() -> None:
    events: list[Any] = [
        {"type": "transcript.text.delta", "delta": "hello "}, {"type": "transcript.text.delta", "delta": "there"},
        {"type": "transcript.text.done", "text": "hello there", "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}},
    ]  # fmt: skip
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.stream(*sse(*events))
        stream = await client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("a.wav", wav()), stream=True
        )
        got = [event async for event in stream]
        sent = fields(gateway.upstream.received[0])
    assert "".join(event.delta for event in got[:-1]) == got[-1].text == "hello there"
    assert sent["stream"] == "true"


async def test_timestamps_are_asked_for_and_understood() -> None:
    said = {
        "task": "transcribe", "language": "english", "duration": 1.0, "text": "hello", "words": [{"word": "hello", "start": 0.0, "end": 0.5}],
        "usage": {"type": "duration", "seconds": 1},
    }  # fmt: skip
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.reply(said)
        heard = await client.audio.transcriptions.create(
            model="whisper-1",
            file=("a.wav", wav()),
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        sent = fields(gateway.upstream.received[0])
    assert (heard.words[0].word, heard.duration) == ("hello", 1.0)
    assert sent["timestamp_granularities[]"] == ["word", "segment"]


async def test_speech_is_translated() -> None:
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.reply({"text": "hello"})
        heard = await client.audio.translations.create(model="whisper-1", file=("a.wav", wav()), prompt="p")
        (request,) = gateway.upstream.received
    assert (heard.text, request.path, fields(request)["prompt"]) == ("hello", "/v1/audio/translations", "p")


async def test_embeddings_keep_their_vectors() -> None:
    vector = base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode()
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.reply({"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": vector}], "usage": {"prompt_tokens": 2, "total_tokens": 2}})  # fmt: skip
        found = await client.embeddings.create(model="text-embedding-3-small", input=["a"])
        assert gateway.upstream.received[0].path == "/v1/embeddings"
    assert found.data[0].embedding == [0.5, -0.25]


async def test_errors_are_the_client_s_own() -> None:
    async with OperationsHarness() as gateway, gateway.client as client:
        gateway.upstream.reply(
            {
                "error": {
                    "message": "too short",
                    "type": "invalid_request_error",
                    "code": "audio_too_short",
                    "param": "file",
                }
            },
            status=400,
        )
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b""))
        assert (refused.value.code, refused.value.param) == ("audio_too_short", "file")
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.images.generate(model="no-such-model", prompt="x")
        assert unknown.value.code == "model_not_found"
        gateway.upstream.stream(*sse({"type": "transcript.text.delta", "delta": "x"}))  # and no more
        with pytest.raises(openai.APIError):
            async for _ in await client.audio.transcriptions.create(
                model="whisper-1", file=("a.wav", wav()), stream=True
            ):
                pass
