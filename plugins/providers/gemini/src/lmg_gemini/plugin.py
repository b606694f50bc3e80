"""`gemini`: chat and embeddings at generativelanguage.googleapis.com.

Source: Gemini API reference, "All methods", generateContent and streamGenerateContent; "OpenAI compatibility",
embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from lmg import Attempt, Exchange, HttpProvider, Refusal, Reply
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.exchange import Operation
from lmg.provider import Spoken

from .config import MODEL, GeminiConfig
from .faults import retry_delay_s
from .wire import GeminiWire

__all__ = ["Gemini"]

DEFAULT_MODELS = [
    "gemini-3.8-flash",
    "gemini-3.5-flash-lite",
    "gemini-3.1-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-embedding-001",
]


class Gemini(HttpProvider):
    """The Gemini API."""

    Config = GeminiConfig
    summary = "chat and embeddings of the Gemini API"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "embeddings"})
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        "chat": (GeminiWire(),),
        "embeddings": (OpenAIEmbeddings(),),
    }
    config: GeminiConfig

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where ``GEMINI_API_KEY`` or ``GOOGLE_API_KEY`` is set."""
        key = environ.get("GEMINI_API_KEY") or environ.get("GOOGLE_API_KEY")
        return {"api_key": key, "models": DEFAULT_MODELS, "priority": 10} if key else None

    def path(self, operation: Operation, attempt: Attempt) -> str:
        """The path of a call; raises ``Refusal`` (404) for a model whose name would change it."""
        version = self.config.api_version
        if operation == "embeddings":
            return f"/{version}/openai/embeddings"
        model = attempt.target.upstream_model
        if not MODEL.fullmatch(model):
            raise Refusal(404, "model_not_found", "The model does not exist.", param="model")
        name = model if model.startswith("tunedModels/") else f"models/{model}"
        method = "streamGenerateContent?alt=sse" if attempt.stream else "generateContent"
        return f"/{version}/{name}:{method}"

    def credentials(self) -> list[tuple[bytes, bytes]]:
        """None for every call alike: which header carries the key depends on the operation."""
        return []

    async def start(self) -> None:
        """Parses the endpoint and opens the connection pool; connects to nothing."""
        await self.connect(self.config.endpoint.rstrip("/").removesuffix(f"/{self.config.api_version}"))
        key = self.config.api_key.get_secret_value().encode()
        self._secrets.append(key)
        # The API refuses a request that carries a key in two headers.
        self._key: Mapping[Operation, tuple[bytes, bytes]] = {
            "chat": (b"x-goog-api-key", key),
            "embeddings": (b"authorization", b"Bearer " + key),
        }
        self.probe_path = f"/{self.config.api_version}/models"
        self.probe_headers = (self._key["chat"],)
        self._safety = self.config.safety.settings()

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One HTTP exchange. A pause that the body of an error asks for becomes its ``Retry-After``."""
        if self._safety and exchange.operation == "chat":
            attempt.payload = attempt.payload.set(("safetySettings",), self._safety)
        given = attempt.headers
        attempt.headers = [*given, self._key[exchange.operation]]
        try:
            reply = await super().call(exchange, attempt)
        finally:
            attempt.headers = given  # whoever looks at the attempt later finds no key
        if reply.status >= 400 and reply.header(b"retry-after") is None:
            delay_s = retry_delay_s(reply.body or b"")
            if delay_s is not None:
                reply.headers.append((b"retry-after", b"%d" % math.ceil(delay_s)))
        return reply
