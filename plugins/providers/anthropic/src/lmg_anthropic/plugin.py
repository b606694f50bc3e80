"""`anthropic`: messages and their tokens at api.anthropic.com.

Source: Claude API reference, "Authentication", "Versions", "Beta headers".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from lmg import HttpProvider
from lmg.dialects.anthropic_count_tokens import AnthropicCountTokens
from lmg.dialects.anthropic_messages import AnthropicMessages, wire_for
from lmg.exchange import Attempt, Exchange, Operation
from lmg.provider import Reply, Spoken

from .config import BETA, AnthropicConfig

__all__ = ["Anthropic"]

DEFAULT_MODELS = [
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-fable-5-1",
    "claude-opus-5",
    "claude-sonnet-5",
    "claude-opus-4-8",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
]
_WITHOUT_SAMPLING: Final = "2026-10-21"
"""The first version of the API that knows no temperature, top_p and top_k."""

_DATE: Final = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAX_BETAS: Final = 32


class Anthropic(HttpProvider):
    """The Anthropic API."""

    Config = AnthropicConfig
    summary = "messages and token counts of the Anthropic API"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "count_tokens"})
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        "chat": (AnthropicMessages(),),
        "count_tokens": (AnthropicCountTokens(),),
    }
    probe_headers = ((b"anthropic-version", b"2023-06-01"),)
    config: AnthropicConfig

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where ``ANTHROPIC_API_KEY`` is set."""
        key = environ.get("ANTHROPIC_API_KEY")
        return {"api_key": key, "models": DEFAULT_MODELS, "priority": 20} if key else None

    def wire(self, operation: Operation, dialect: str, model: str) -> Spoken | None:
        """Messages, as ``model`` takes them where they come in another dialect."""
        if operation == "chat" and dialect != AnthropicMessages.name:
            return wire_for(model, sampling=self.config.version < _WITHOUT_SAMPLING)
        return super().wire(operation, dialect, model)

    def credentials(self) -> list[tuple[bytes, bytes]]:
        """The account's key."""
        return [(b"x-api-key", self.config.api_key.get_secret_value().encode())]

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One HTTP exchange, in the version and with the betas of a caller who speaks this API."""
        speaks = exchange.dialect.name.startswith("anthropic.")
        asked = exchange.head.get(b"anthropic-version") if speaks else None
        plain = asked is not None and _DATE.fullmatch(asked) is not None
        version = asked if asked is not None and plain else self.config.version.encode()
        attempt.headers.append((b"anthropic-version", version))
        betas = self._betas(exchange.head.all(b"anthropic-beta") if speaks else [])
        if betas:
            attempt.headers.append((b"anthropic-beta", b",".join(betas)))
        return await super().call(exchange, attempt)

    def _betas(self, asked: list[bytes]) -> list[bytes]:
        named = [one.strip() for line in asked for one in line.decode("latin-1").split(",")]
        kept = [one for one in named if BETA.fullmatch(one)][:_MAX_BETAS]
        return [one.encode() for one in dict.fromkeys([*self.config.beta, *kept])]
