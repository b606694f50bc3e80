"""Services and servers that speak OpenAI's API, one row each: a row is a provider.

What a row says, and a provider that needs no more than that: where it is, where its key is, what it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr, create_model

from lmg import Attempt, ComponentConfig, Exchange, HttpProvider, HttpProviderConfig, Reply
from lmg.dialects import Dialect
from lmg.dialects.anthropic_messages import AnthropicMessages
from lmg.dialects.openai_audio import OpenAISpeech, OpenAITranscription, OpenAITranslation
from lmg.dialects.openai_embeddings import OpenAIEmbeddings
from lmg.dialects.openai_images import OpenAIImages
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.dialects.rerank import Rerank
from lmg.dialects.wire import Wire
from lmg.exchange import Operation
from lmg.provider import Spoken

from .wires import (
    DeepSeekChat,
    GroqChat,
    LlamaCppChat,
    LMStudioChat,
    MistralChat,
    OllamaChat,
    OpenRouterChat,
    TogetherChat,
    VllmChat,
    XaiChat,
)

__all__ = ["PRESETS", "PROVIDERS", "Preset", "PresetProvider", "provider_of"]

PRIORITY: Final = 20
Besides = dict[Operation, tuple[Dialect, ...]]

EMBEDDINGS: Final[Besides] = {"embeddings": (OpenAIEmbeddings(),)}
RERANK: Final[Besides] = {"rerank": (Rerank(),)}
IMAGES: Final[Besides] = {"images": (OpenAIImages(),)}
SPEECH: Final[Besides] = {"speech": (OpenAISpeech(),)}
TRANSCRIPTIONS: Final[Besides] = {"transcription": (OpenAITranscription(),)}
AUDIO: Final[Besides] = {"transcription": (OpenAITranscription(), OpenAITranslation())}


@dataclass(frozen=True, slots=True)
class Preset:
    """One row. ``endpoint`` stands before the ``/v1``; ``key`` is the environment variable of the account's key, empty for
    a server of the operator's own.
    """

    title: str
    endpoint: str
    chat: Wire
    key: str = ""
    models: tuple[str, ...] = ()
    besides: Besides = field(default_factory=dict)
    """What it serves besides chat."""
    not_sent: tuple[str, ...] = ()
    """Members that the gateway adds to a request, or forwards, and that the service would refuse."""


PRESETS: Final[dict[str, Preset]] = {
    "xai": Preset(
        "xAI (Grok)", "https://api.x.ai", XaiChat(), "XAI_API_KEY", ("grok-4.7", "grok-4.5"), IMAGES,
    ),
    "groq": Preset(
        "Groq", "https://api.groq.com/openai", GroqChat(), "GROQ_API_KEY",
        ("openai/gpt-oss-120b", "openai/gpt-oss-20b", "whisper-large-v3", "whisper-large-v3-turbo"), SPEECH | AUDIO,
    ),
    "mistral": Preset(
        "Mistral", "https://api.mistral.ai", MistralChat(), "MISTRAL_API_KEY",
        ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest", "mistral-embed"), EMBEDDINGS | TRANSCRIPTIONS,
        not_sent=("stream_options",),  # its own answer: "extra_forbidden"; usage comes without it
    ),
    "deepseek": Preset(
        "DeepSeek", "https://api.deepseek.com", DeepSeekChat(), "DEEPSEEK_API_KEY", ("deepseek-flash", "deepseek-v4-pro"),
    ),
    "together": Preset(
        "Together", "https://api.together.ai", TogetherChat(), "TOGETHER_API_KEY",
        ("openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V4.1-Flash", "zai-org/GLM-5.3-Flash"),
        EMBEDDINGS | RERANK | IMAGES | SPEECH | AUDIO,
    ),
    "openrouter": Preset(
        "OpenRouter", "https://openrouter.ai/api", OpenRouterChat(), "OPENROUTER_API_KEY", ("openrouter/auto",), EMBEDDINGS,
    ),
    "ollama": Preset("Ollama", "http://127.0.0.1:11434", OllamaChat(), besides=EMBEDDINGS | IMAGES),
    "vllm": Preset("vLLM", "http://127.0.0.1:8000", VllmChat(), besides=EMBEDDINGS | RERANK | AUDIO),
    "llamacpp": Preset("llama.cpp", "http://127.0.0.1:8080", LlamaCppChat(), besides=EMBEDDINGS | RERANK),
    "lmstudio": Preset("LM Studio", "http://127.0.0.1:1234", LMStudioChat(), besides=EMBEDDINGS),
}  # fmt: skip


NATIVE: Final[dict[str, Spoken]] = {"messages": AnthropicMessages(), "responses": OpenAIResponses()}
"""APIs for chat that some servers speak beside chat completions."""


class ServiceConfig(HttpProviderConfig):
    """A service behind an account."""

    endpoint: str = Field("", description="Base URL without the `/v1`.")
    api_key: SecretStr = Field(..., description="The account's key; never shown.")
    models: list[str] = Field(
        default_factory=list,
        min_length=1,
        description="Models that clients may ask for, in order of preference.",
    )


class ServerConfig(HttpProviderConfig):
    """A server of the operator's own."""

    endpoint: str = Field("", description="Base URL without the `/v1`.")
    models: list[str] = Field(
        ..., min_length=1, description="Models that the server has and that clients may ask for."
    )
    on_prem: bool = Field(True, description="The upstream runs on the operator's own premises.")
    native: list[Literal["messages", "responses"]] = Field(
        default_factory=list,
        description="Further APIs that the server itself speaks: their requests reach it untranslated.",
    )


class PresetProvider(HttpProvider):
    """A provider that is a row of the table."""

    preset: ClassVar[Preset]
    stability = "beta"
    config: ServiceConfig | ServerConfig

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where the account's key is in the environment."""
        key = environ.get(cls.preset.key) if cls.preset.key else None
        return {"api_key": key, "priority": PRIORITY} if key else None

    def wire(self, operation: Operation, dialect: str, model: str) -> Spoken | None:
        """As the row says, or the client's own dialect where the server is said to speak it."""
        native = self.config.native if operation == "chat" and isinstance(self.config, ServerConfig) else ()
        for name in native:
            if NATIVE[name].name == dialect:
                return NATIVE[name]
        return super().wire(operation, dialect, model)

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One call, without what the service would refuse."""
        for name in self.preset.not_sent:
            attempt.payload = attempt.payload.remove((name,))
        return await super().call(exchange, attempt)


def provider_of(name: str, row: Preset) -> type[PresetProvider]:
    """The component ``name`` that ``row`` describes."""
    fields: dict[str, Any] = {
        "endpoint": (str, Field(row.endpoint, description="Base URL without the `/v1`."))
    }
    if row.key:
        what = ServiceConfig.model_fields["models"].description
        fields["models"] = (list[str], Field(list(row.models), min_length=1, description=what))
    base: type[HttpProviderConfig] = ServiceConfig if row.key else ServerConfig

    class Provider(PresetProvider):
        Config: ClassVar[type[ComponentConfig]] = create_model(
            f"{name}_config", __base__=base, __doc__=f"{row.title}.", **fields
        )
        preset = row
        summary = f"the OpenAI-compatible API of {row.title}"
        operations: ClassVar[frozenset[Operation]] = frozenset({"chat", *row.besides})
        wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {"chat": (row.chat,), **row.besides}

    Provider.__name__ = Provider.__qualname__ = name
    return Provider


PROVIDERS: Final = SimpleNamespace(**{name: provider_of(name, row) for name, row in PRESETS.items()})
"""What the entry points name: ``PROVIDERS.groq`` is the component ``groq``."""
