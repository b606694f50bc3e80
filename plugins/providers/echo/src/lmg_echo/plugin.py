"""`echo`: the model that every test and every first request can rely on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import orjson
from pydantic import ValidationError

from lmg import Attempt, Exchange, Provider, Reply, UpstreamError
from lmg.exchange import Operation

from .config import Behaviour, EchoConfig

__all__ = ["Echo"]

DIMENSIONS = 16
_JSON = [(b"content-type", b"application/json")]
_FAILED = {"error": {"message": "told to fail", "type": "server_error", "code": "echo_failed"}}
# Pieces are words with the white space before them, as most models' tokens are.
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")


class Echo(Provider):
    """A deterministic provider without a network."""

    Config = EchoConfig
    summary = "answers with what it was sent; can be told to be slow or to fail"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "embeddings"})
    config: EchoConfig

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Always part of the embedded default."""
        return {"priority": 900}

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """The answer to ``attempt.payload``, in OpenAI's wire format."""
        body: Any = attempt.payload.value
        try:
            behaviour = self._behaviour(body)
        except ValidationError:
            return _error(400, "The field 'echo' is not a behaviour.", "echo")
        if behaviour.fail == "connect":
            raise UpstreamError("connect", "connect_error", "told to")
        if behaviour.fail == "timeout":
            await asyncio.Event().wait()
        if behaviour.delay_ms:
            await self.host.clock.sleep(behaviour.delay_ms / 1000)
        if behaviour.fail_status is not None:
            return _error(behaviour.fail_status, "The echo provider was told to fail.", None)
        if exchange.operation == "embeddings":
            return _embeddings(body)
        text = behaviour.text if behaviour.text is not None else _last_user_text(body)
        usage = {"prompt_tokens": _words(body), "completion_tokens": len(text.split())}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        base = {
            "id": f"chatcmpl-{hashlib.sha256(text.encode()).hexdigest()[:24]}",
            "created": 0,
            "model": body["model"],
        }
        if body.get("stream") is True:
            return Reply(
                200,
                [(b"content-type", b"text/event-stream")],
                chunks=self._stream(base, text, usage, behaviour),
            )
        if behaviour.fail == "cut":
            raise UpstreamError("answer", "closed", "told to")
        if behaviour.fail == "error_event":
            return Reply(200, list(_JSON), orjson.dumps(_FAILED))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        return Reply(200, list(_JSON), orjson.dumps(whole))

    def _behaviour(self, body: dict[str, Any]) -> Behaviour:
        told = body.get("echo")
        if told is None or not self.config.controlled:
            return self.config.behaviour
        return Behaviour.model_validate(
            {**self.config.behaviour.model_dump(), **told} if isinstance(told, dict) else told
        )

    async def _stream(
        self, base: dict[str, Any], text: str, usage: dict[str, int], behaviour: Behaviour
    ) -> AsyncIterator[bytes]:
        def event(delta: dict[str, str], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event({**base, "object": "chat.completion.chunk", "choices": [choice]})

        yield event({"role": "assistant", "content": ""})
        pieces = _WORD_ENDS.split(text) if text else []
        for n, piece in enumerate([*pieces, None]):
            # A text of fewer words than `cut_after` breaks off at its end: it must not look complete.
            if behaviour.fail in ("cut", "error_event") and (n == behaviour.cut_after or piece is None):
                if behaviour.fail == "cut":
                    raise UpstreamError("stream", "closed", "told to")
                yield _event(_FAILED)
                return
            if piece is not None:
                if behaviour.chunk_delay_ms:
                    await self.host.clock.sleep(behaviour.chunk_delay_ms / 1000)
                yield event({"content": piece})
        yield event({}, "stop")
        yield _event({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _last_user_text(body: dict[str, Any]) -> str:
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user":
            return _text(message.get("content"))
    return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def _words(body: dict[str, Any]) -> int:
    return sum(len(_text(message.get("content")).split()) for message in body.get("messages") or [])


def _embeddings(body: dict[str, Any]) -> Reply:
    asked = body["input"]
    inputs = [asked] if isinstance(asked, str) or _is_tokens(asked) else asked
    if not all(isinstance(item, str) or _is_tokens(item) for item in inputs):
        return _error(400, "'input' must be a string, an array of strings, or token ids.", "input")
    data = []
    for n, item in enumerate(inputs):
        digest = hashlib.sha256(item.encode() if isinstance(item, str) else orjson.dumps(item)).digest()
        vector: list[float] | str = [byte / 127.5 - 1.0 for byte in digest[:DIMENSIONS]]
        if body.get("encoding_format") == "base64":  # what OpenAI's SDKs ask for by themselves
            vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
        data.append({"object": "embedding", "index": n, "embedding": vector})
    tokens = sum(len(item.split()) if isinstance(item, str) else len(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "model": body["model"], "data": data, "usage": usage}
    return Reply(200, list(_JSON), orjson.dumps(answer))


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _error(status: int, message: str, param: str | None) -> Reply:
    error = {
        "message": message,
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "param": param,
        "code": "echo_failed",
    }
    return Reply(status, list(_JSON), orjson.dumps({"error": error}))
