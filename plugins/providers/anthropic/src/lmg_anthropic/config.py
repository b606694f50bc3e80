"""The configuration of `anthropic`."""

from __future__ import annotations

import datetime
import re

from pydantic import Field, SecretStr, field_validator

from lmg import HttpProviderConfig

__all__ = ["BETA", "AnthropicConfig"]

BETA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_OURS = {"anthropic-version": "version", "anthropic-beta": "beta", "x-api-key": "api_key"}


class AnthropicConfig(HttpProviderConfig):
    """The Anthropic API."""

    endpoint: str = Field("https://api.anthropic.com", description="Base URL without the `/v1`.")
    api_key: SecretStr = Field(..., description="The account's key, sent as `x-api-key`; never shown.")
    models: list[str] = Field(
        ..., min_length=1, description="Models that clients may ask for, in order of preference."
    )
    version: str = Field(
        "2023-06-01",
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        description="Sent as `anthropic-version` where the caller does not name one.",
    )
    beta: list[str] = Field(
        default_factory=list, description="Sent as `anthropic-beta`, with those that the caller names."
    )

    @field_validator("version", mode="before")
    @classmethod
    def _bare_dates_are_text(cls, value: object) -> object:
        # YAML reads 2023-06-01 without quotes as a date.
        return value.isoformat() if isinstance(value, datetime.date) else value

    @field_validator("beta")
    @classmethod
    def _betas_are_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not BETA.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a beta, as in files-api-2025-04-14")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_have_settings(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in value:
            if name.lower() in _OURS:
                raise ValueError(f"{name!r} is set by `{_OURS[name.lower()]}`")
        return value
