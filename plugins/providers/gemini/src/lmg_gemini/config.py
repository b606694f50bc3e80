"""The configuration of `gemini`."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from lmg import HttpProviderConfig
from lmg.jsontext import Json

__all__ = ["MODEL", "GeminiConfig", "Safety", "Threshold"]

MODEL: Final = re.compile(r"(?:tunedModels/)?[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A name that can stand in the path of a call without changing it."""

Threshold = Literal[
    "DEFAULT", "OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"
]


class Safety(BaseModel):
    """From which probability of harm on the API blocks; `DEFAULT` is as the API has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    harassment: Threshold = Field("DEFAULT", description="Harassment.")
    hate_speech: Threshold = Field("DEFAULT", description="Hate speech.")
    sexually_explicit: Threshold = Field("DEFAULT", description="Sexually explicit content.")
    dangerous_content: Threshold = Field("DEFAULT", description="Dangerous content.")

    def settings(self) -> list[Json]:
        """The thresholds that are set, as the API's ``safetySettings``."""
        stated = self.model_dump(exclude_defaults=True).items()
        return [
            {"category": f"HARM_CATEGORY_{name.upper()}", "threshold": threshold}
            for name, threshold in stated
        ]


class GeminiConfig(HttpProviderConfig):
    """The Gemini API."""

    endpoint: str = Field(
        "https://generativelanguage.googleapis.com", description="Base URL, with or without the version."
    )
    api_key: SecretStr = Field(..., description="The account's key; never shown.")
    models: list[str] = Field(
        ..., min_length=1, description="Models that clients may ask for, in order of preference."
    )
    api_version: str = Field(
        "v1beta", pattern=r"^v[0-9]{1,3}(?:(?:alpha|beta)[0-9]{0,3})?$", description="The API's version."
    )
    safety: Safety = Field(default_factory=Safety)

    @field_validator("models")
    @classmethod
    def _names_fit_a_path(cls, value: list[str]) -> list[str]:
        for name in value:
            _check(name)
        return value

    @field_validator("model_map")
    @classmethod
    def _mapped_names_fit_a_path(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            _check(name)
        return value


def _check(name: str) -> None:
    if not MODEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a model: letters, digits, '.', '_' and '-', as in gemini-2.5-flash"
        )
