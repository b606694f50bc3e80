"""`openai`: the models at api.openai.com.

Source: OpenAI API reference, "Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lmg import HttpProvider
from lmg.dialects.openai_audio import OpenAISpeech, OpenAITranscription, OpenAITranslation
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.openai_images import OpenAIImageEdits, OpenAIImages
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.exchange import Operation
from lmg.provider import Spoken

from .config import OpenAIConfig

__all__ = ["OpenAI"]

DEFAULT_MODELS = [
    "gpt-5",
    "gpt-5-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gpt-image-1",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "whisper-1",
]


class OpenAI(HttpProvider):
    """The OpenAI API."""

    Config = OpenAIConfig
    summary = "chat, embeddings, images and audio of the OpenAI API"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = frozenset(
        {"chat", "embeddings", "images", "speech", "transcription"}
    )
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        **HttpProvider.wires,
        "chat": (OpenAIChat(), OpenAIResponses()),
        "images": (OpenAIImages(), OpenAIImageEdits()),
        "speech": (OpenAISpeech(),),
        "transcription": (OpenAITranscription(), OpenAITranslation()),
    }
    """A client of either API gets its own; what has to be translated goes over chat completions."""
    config: OpenAIConfig

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where ``OPENAI_API_KEY`` is set."""
        key = environ.get("OPENAI_API_KEY")
        return {"api_key": key, "models": DEFAULT_MODELS, "priority": 10} if key else None

    def credentials(self) -> list[tuple[bytes, bytes]]:
        """The key, and the organization and project that it is used for."""
        headers = super().credentials()
        if self.config.organization is not None:
            headers.append((b"openai-organization", self.config.organization.encode()))
        if self.config.project is not None:
            headers.append((b"openai-project", self.config.project.encode()))
        return headers
