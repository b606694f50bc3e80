"""What the tests share: who asks, a guard that masks and unmasks, and gateways with a cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from lmg import Component, Deny, Exchange, HttpProvider, Principal, Response, Slot, StreamEvent, StreamFilter
from lmg.component import Facts
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.openai_audio import OpenAITranscription
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.testing import ChatAnswer, Harness, chat_body, chat_events
from lmg_cache import Cache, Idempotency


class Native(HttpProvider):
    """An upstream that speaks every dialect itself, so that nothing is translated."""

    wires: ClassVar[Any] = {
        **HttpProvider.wires,
        "chat": (OpenAIChat(), AnthropicMessages(), OpenAIResponses()),
        "transcription": (OpenAITranscription(),),
    }
    operations = frozenset({"chat", "embeddings", "transcription"})
    forwarded = frozenset({b"x-variant"})


class Who(Component):
    """Believes what the headers say: ``x-tenant``, ``x-user``, ``x-roles``, ``x-models``, ``x-scopes``."""

    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    modes = frozenset({"enforce"})

    def on_request(self, exchange: Exchange) -> None:
        def said(name: bytes) -> str:
            return (exchange.head.get(name) or b"").decode()

        models = said(b"x-models")
        exchange.set_fact(
            "principal",
            Principal(
                said(b"x-user") or "somebody",
                said(b"x-tenant") or "acme",
                roles=frozenset(filter(None, said(b"x-roles").split(","))),
                scopes=frozenset(filter(None, said(b"x-scopes").split(","))),
                models=frozenset(models.split(",")) if models else None,
            ),
        )


class Within(Component):
    """Narrows the bounds to the region that the header ``x-region`` names."""

    def on_request(self, exchange: Exchange) -> None:
        region = exchange.head.get(b"x-region")
        if region is not None:
            exchange.narrow(regions=frozenset({region.decode(), ""}))


class Masked(StreamFilter):
    """Puts the secret back in the place of its mask; a mask may be cut anywhere between two events."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def feed(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        for delta in event.deltas:
            if delta.format != "opaque" and not delta.signed and "<NAME>" in delta.text:
                event = event.replace(delta, delta.text.replace("<NAME>", self.secret))
        return (event,)


class Mask(Component):
    """Hides the name in the header ``x-name`` from the model, and puts it back into the answer."""

    requires: ClassVar[Facts] = {"on_request": ("body",)}
    secret = Slot[str]("mask")

    def on_request(self, exchange: Exchange) -> None:
        name = (exchange.head.get(b"x-name") or b"").decode()
        if name:
            exchange[self.secret] = name
            for segment in list(exchange.request.segments()):
                if name in segment.text:
                    exchange.request.replace(segment, segment.text.replace(name, "<NAME>"))

    def on_response(self, exchange: Exchange, response: Response) -> None:
        name = exchange.get(self.secret)
        for segment in list(response.segments()) if name else ():
            if "<NAME>" in segment.text:
                response.replace(segment, segment.text.replace("<NAME>", name or ""))

    def on_stream(self, exchange: Exchange) -> Masked | None:
        name = exchange.get(self.secret)
        return Masked(name) if name else None


class Forbid(Component):
    """Withholds answers that hold the word in the header ``x-forbid``."""

    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        word = (exchange.head.get(b"x-forbid") or b"").decode()
        if word and any(word in segment.text for segment in response.segments()):
            return Deny(403, "withheld")
        return None


CLASSES: dict[str, Any] = {
    "scripted": Native,
    "who": Who, "within": Within, "mask": Mask, "forbid": Forbid, "cache": Cache, "idempotency": Idempotency,
}  # fmt: skip
ROUTE = {"model": "*"}
ADMIN = {"x-tenant": "acme", "x-scopes": "admin"}
CUT = {"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": "length"}
"""A choice that ended at its limit of tokens."""


def cached(*above: Any, **settings: Any) -> dict[str, Any]:
    """A pipeline that ends in a cache that keeps everything, or what ``settings`` say."""
    return {"pipeline": ["who", *above, {"cache": {"routes": [ROUTE], **settings}}]}


def idempotent(*above: Any, **settings: Any) -> dict[str, Any]:
    return {"pipeline": ["who", *above, {"idempotency": settings}]}


def gateway_of(mesh: dict[str, Any], **more: Any) -> Harness:
    return Harness(mesh, classes=CLASSES, **more)


def said(answer: ChatAnswer) -> str:
    """What the cache has done."""
    return answer.headers.get("x-lmg-cache", "")


def control(value: str) -> dict[str, str]:
    return {"cache-control": value}


def key(name: str = "k1") -> dict[str, str]:
    return {"idempotency-key": name}


def replayed(answer: ChatAnswer) -> bool:
    """Whether a repeat was given the first answer."""
    return answer.headers.get("idempotent-replayed") == "true"


def told(gateway: Harness, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric."""
    family: Any = next(one for one in gateway.host.metrics.families() if one.name == name)
    return dict(family.series)


def component(gateway: Harness, name: str) -> Any:
    """The listed component of that name."""
    return next(one for listed, one in gateway.process.gateway.pipeline.listed if listed.name == name)


def raw(body: Any) -> bytes:
    return json.dumps(body).encode()


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that happens on a socket or in a task."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def of(tenant: str, **more: str) -> dict[str, str]:
    """The headers of a caller."""
    return {"x-tenant": tenant} | {f"x-{name}": value for name, value in more.items()}


# -- the three dialects ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoken:
    """One dialect: how it is asked, what its upstream answers, and what of an answer a client reads."""

    path: str
    ask: dict[str, Any]
    body: Callable[..., dict[str, Any]]
    events: Callable[..., list[bytes]]
    headers: dict[str, str] = field(default_factory=dict)

    async def request(
        self, gateway: Harness, *, stream: bool = False, headers: Any = None, **extra: Any
    ) -> ChatAnswer:
        asked = {"model": "test-model", **self.ask, **extra} | ({"stream": True} if stream else {})
        if stream and self is CHAT:
            asked["stream_options"] = {"include_usage": True}
        return await gateway.request(asked, path=self.path, headers=self.headers | dict(headers or {}))

    def text(self, answer: ChatAnswer) -> str:
        """What the model has said, streamed or not."""
        if not answer.headers["content-type"].startswith("text/event-stream"):
            return _whole_text(answer.json)
        return "".join(_event_text(event) for event in answer.events if isinstance(event, dict))

    def usage(self, answer: ChatAnswer) -> tuple[int, int]:
        """The tokens that the client is told: input and output."""
        told: dict[str, Any] = {}
        streamed = answer.headers["content-type"].startswith("text/event-stream")
        for event in answer.events if streamed else [answer.json]:
            if isinstance(event, dict):
                told |= (event.get("message") or event.get("response") or event).get("usage") or {}
        names = ("prompt_tokens", "completion_tokens") if self is CHAT else ("input_tokens", "output_tokens")
        return told[names[0]], told[names[1]]


def _whole_text(body: dict[str, Any]) -> str:
    if "choices" in body:
        return str(body["choices"][0]["message"]["content"])
    content = body["content"] if "content" in body else body["output"][0]["content"]
    return "".join(part["text"] for part in content)


def _event_text(event: dict[str, Any]) -> str:
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    delta = event.get("delta")
    if isinstance(delta, dict):
        return str(delta.get("text") or "")
    return delta or "" if event["type"] == "response.output_text.delta" else ""


def messages_body(text: str = "Hello!", **extra: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test-model",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    } | extra  # fmt: skip


def named(values: list[dict[str, Any]]) -> list[bytes]:
    """Events that have their type as their name."""
    return [
        b"event: " + value["type"].encode() + b"\ndata: " + json.dumps(value).encode() + b"\n\n"
        for value in values
    ]


def messages_events(*texts: str, stop_reason: str = "end_turn", done: bool = True) -> list[bytes]:
    shell = messages_body() | {
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 5, "output_tokens": 0},
    }
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": shell},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
    ]  # fmt: skip
    return named([*values, *([{"type": "message_stop"}] if done else [])])


def responses_body(text: str = "Hello!", **extra: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "test-model",
        "output": [item], "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
    } | extra  # fmt: skip


def responses_events(*texts: str, status: str = "completed", done: bool = True) -> list[bytes]:
    whole = responses_body("".join(texts), status=status)
    whole["output"][0]["status"] = status
    if status == "incomplete":
        whole["incomplete_details"] = {"reason": "max_output_tokens"}
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    item = whole["output"][0]
    part = item["content"][0]
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    values: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": text, "logprobs": []} for text in texts),
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        *([{"type": f"response.{status}", "response": whole}] if done else []),
    ]  # fmt: skip
    return named([value | {"sequence_number": n} for n, value in enumerate(values)])


HI: Any = [{"role": "user", "content": "hi"}]
CHAT = Spoken("/v1/chat/completions", {"messages": HI}, chat_body, chat_events)
MESSAGES = Spoken(
    "/v1/messages",
    {"messages": HI, "max_tokens": 9},
    messages_body,
    messages_events,
    {"anthropic-version": "2023-06-01"},
)
RESPONSES = Spoken("/v1/responses", {"input": "hi"}, responses_body, responses_events)
every_dialect = pytest.mark.parametrize(
    "spoken", [CHAT, MESSAGES, RESPONSES], ids=["chat", "messages", "responses"]
)


def calls(gateway: Harness) -> int:
    """How often the upstream was called."""
    return len(gateway.upstream.received)
