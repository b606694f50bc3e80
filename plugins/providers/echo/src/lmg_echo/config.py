"""The configuration of `echo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lmg import ComponentConfig, ProviderConfig

__all__ = ["Behaviour", "EchoConfig"]


class Behaviour(ComponentConfig):
    """How an answer behaves. A request may carry the same keys in its own field `echo`."""

    delay_ms: int = Field(0, ge=0, le=600_000, description="Wait before the first byte.")
    chunk_delay_ms: int = Field(0, ge=0, le=60_000, description="Wait between two events of a stream.")
    fail_status: int | None = Field(None, ge=400, le=599, description="Answer with this error status.")
    fail: Literal["connect", "timeout", "cut", "error_event"] | None = Field(
        None,
        description="Fail as an upstream can: no connection, no answer, a stream cut in the middle, an error event in it.",
    )
    cut_after: int = Field(2, ge=0, le=100_000, description="Events before `cut` and `error_event`.")
    text: str | None = Field(
        None, max_length=1_000_000, description="Answer with this text instead of the last user message."
    )


class EchoConfig(ProviderConfig):
    """Answers with the last user message, word by word where a stream is asked for."""

    models: list[str] = Field(
        default_factory=lambda: ["echo"], description="Models that clients may ask for."
    )
    behaviour: Behaviour = Behaviour()
    controlled: bool = Field(True, description="Let a request's own field `echo` change the behaviour.")
