"""The configuration of `openai` and `azure`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator, model_validator

from lmg import HttpProviderConfig

__all__ = ["AzureConfig", "OpenAIConfig"]

_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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


class AzureConfig(HttpProviderConfig):
    """Azure OpenAI."""

    endpoint: str = Field(..., description="The resource, as in `https://example.openai.azure.com`.")
    api_key: SecretStr | None = Field(None, description="A key of the resource; never shown.")
    token_file: Path | None = Field(
        None,
        description="A file with an Entra ID access token, in place of a key; read again whenever it changes.",
    )
    api_version: str | None = Field(
        None,
        pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$",
        description="Call the deployments of this dated API; without it the v1 API is called.",
    )
    models: list[str] = Field(
        ...,
        min_length=1,
        description="Deployments, or names that `model_map` leads to one, in order of preference.",
    )

    @field_validator("endpoint")
    @classmethod
    def _resource_alone(cls, value: str) -> str:
        # What the portal shows may go on with the path of either API.
        return re.sub(r"/openai(/v1)?$", "", value.rstrip("/"))

    @model_validator(mode="after")
    def _complete(self) -> AzureConfig:
        if (self.api_key is None) == (self.token_file is None):
            raise ValueError("give api_key, or token_file, and not both")
        for model in self.models:
            deployment = self.model_map.get(model, model)
            # A deployment's name is a part of the path.
            if not _DEPLOYMENT.fullmatch(deployment):
                raise ValueError(f"{deployment!r} is no name of a deployment: see model_map")
        return self
