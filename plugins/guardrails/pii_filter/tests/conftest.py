"""What the tests share: callers by name, gateways with the filter, and the three chat dialects as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from lmg import Component, Exchange, HttpProvider, HttpProviderConfig, Principal
from lmg.component import Facts
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.testing import Harness, sse
from lmg_pii_filter import PiiFilter

SECRET = "a-secret-of-the-tests"
EMAIL = "ada@acme.example"
CARD = "4111 1111 1111 1111"


class Caller(Component):
    """Whoever calls is of the tenant that the header ``x-caller`` names."""

    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    modes = frozenset({"enforce", "off"})

    def on_request(self, exchange: Exchange) -> None:
        tenant = (exchange.head.get(b"x-caller") or b"acme").decode()
        exchange.set_fact("principal", Principal("someone", tenant))


class Policy(Component):
    """Obliges what is below to what the header ``x-oblige`` names."""

    def on_request(self, exchange: Exchange) -> None:
        name = exchange.head.get(b"x-oblige")
        if name is not None:
            exchange.oblige(self, name.decode())


class Told(Component):
    """Keeps the fact ``pii``, as somebody further down sees it."""

    uses: ClassVar[Facts] = {"on_request": ("pii", "signals")}
    facts: ClassVar[list[Any]] = []

    def on_request(self, exchange: Exchange) -> None:
        self.facts.append(exchange.fact("pii"))


class Native(HttpProvider):
    """An upstream that speaks every dialect itself, so that nothing is translated."""

    Config = HttpProviderConfig
    wires: ClassVar[Any] = {
        "chat": (OpenAIChat(), AnthropicMessages(), OpenAIResponses()), "embeddings": (OpenAIEmbeddings(),),
    }  # fmt: skip
    operations = frozenset({"chat", "embeddings"})


CLASSES: dict[str, type[Any]] = {
    "caller": Caller, "policy": Policy, "pii_filter": PiiFilter, "told": Told,
}  # fmt: skip


def filtered(settings: Mapping[str, Any] | None = None, *, native: bool = False, **more: Any) -> Harness:
    """A gateway with the filter and the kit's scripted upstream."""
    mesh = {"pipeline": ["caller", "policy", {"pii_filter": {"secret": SECRET, **(settings or {})}}, "told"]}
    return Harness(mesh, classes={**CLASSES, **({"scripted": Native} if native else {})}, **more)


def sent(gateway: Harness, n: int = -1) -> str:
    """The text of all messages that the upstream was sent, as JSON."""
    return json.dumps(gateway.upstream.received[n].json, ensure_ascii=False)


def whole(text: str | None, arguments: str | None = None) -> dict[str, Any]:
    """A chat completion that says ``text``, or calls a tool with ``arguments``."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if arguments is not None:
        call = {"id": "call_1", "type": "function", "function": {"name": "mail", "arguments": arguments}}
        message["tool_calls"] = [call]
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "test-model",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> list[bytes]:
    """One event of a chat stream."""
    return sse({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test-model",
        "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish}],
    })  # fmt: skip
