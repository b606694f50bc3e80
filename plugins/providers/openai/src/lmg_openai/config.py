"""The configuration of `openai`."""

from __future__ import annotations

from pydantic import Field, SecretStr

from lmg import HttpProviderConfig

__all__ = ["OpenAIConfig"]


class OpenAIConfig(HttpProviderConfig):
    """The OpenAI API."""

    endpoint: str = Field("https://api.openai.com", description="Base URL without the `/v1`.")
    api_key: SecretStr = Field(..., description="The account's key; never shown.")
    models: list[str] = Field(
        ..., min_length=1, description="Models that clients may ask for, in order of preference."
    )
    organization: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]+$", description="Sent as `OpenAI-Organization`."
    )
    project: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$", description="Sent as `OpenAI-Project`.")
