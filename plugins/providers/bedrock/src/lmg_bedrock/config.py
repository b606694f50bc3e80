"""The configuration of `bedrock`."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import Field, JsonValue, SecretStr, field_validator, model_validator

from lmg import HttpProviderConfig

__all__ = ["MODEL", "REGION", "BedrockConfig"]

REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}")
"""What a region of AWS looks like, as in `eu-central-1`."""

# The letters of ids and ARNs. A name of dots alone would be a step in a path.
MODEL: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:/-]{1,2048}")

_ANYWHERE: Final = re.compile(r"(?:^|/)global\.")
_OWN_HEADERS: Final = ("authorization", "date", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")


class BedrockConfig(HttpProviderConfig):
    """Models behind Amazon Bedrock's Converse API."""

    endpoint: str = Field(
        "", description="Base URL; by default `https://bedrock-runtime.{aws_region}.amazonaws.com`."
    )
    models: list[str] = Field(
        ...,
        min_length=1,
        description="Models that clients may ask for: ids of models or inference profiles, or names that `model_map` maps to ids or ARNs.",
    )
    aws_region: str | None = Field(
        None,
        description="The AWS region that is called; by default `region` where that is one, else that of the endpoint or the environment.",
    )
    credential_source: Literal["auto", "config", "chain"] = Field(
        "auto",
        description="`config`: the keys below; `chain`: what the AWS SDKs find (environment, profile, web identity, container, instance); `auto`: the keys where some are given.",
    )
    api_key: SecretStr | None = Field(
        None, description="A Bedrock API key, sent as the bearer token; never shown."
    )
    access_key_id: SecretStr | None = Field(
        None, description="Signs requests together with `secret_access_key`; never shown."
    )
    secret_access_key: SecretStr | None = Field(
        None, description="The secret of `access_key_id`; never shown."
    )
    session_token: SecretStr | None = Field(
        None, description="For temporary keys, which the gateway cannot renew; never shown."
    )
    aws_profile: str | None = Field(
        None, description="The profile of the AWS configuration files that the chain uses."
    )
    base_models: dict[str, str] = Field(
        default_factory=dict,
        description="The foundation model behind a model whose name does not tell it (ARNs of application profiles, provisioned throughput): by it a request is written.",
    )
    guardrail_id: str | None = Field(
        None, description="A guardrail of Bedrock's that every request passes; needs `guardrail_version`."
    )
    guardrail_version: str | None = Field(None, description="Its version, or `DRAFT`.")
    request_fields: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="By model, fields for `additionalModelRequestFields`, as in `anthropic_beta`; what a request asks for goes first.",
    )

    @field_validator("aws_region")
    @classmethod
    def _is_a_region(cls, value: str | None) -> str | None:
        if value is not None and not REGION.fullmatch(value):
            raise ValueError("that is no AWS region, as in eu-central-1")
        return value

    @field_validator("access_key_id", "secret_access_key", "session_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else "-"
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(
                "the key is empty or holds characters that no key has (a line break at its end?)"
            )
        return value

    @field_validator("headers")
    @classmethod
    def _headers_are_not_the_signature_s(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in value:
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is written by the signature")
        return value

    @model_validator(mode="after")
    def _models_are_names(self) -> BedrockConfig:
        for model in self.models:
            name = self.model_map.get(model, model)
            if not MODEL.fullmatch(name):
                raise ValueError(f"{name!r} is no id or ARN of a model")
            if self.region and _ANYWHERE.search(name):
                raise ValueError(
                    f"{name!r} is served from any region, so {self.region!r} is no promise that can be kept: "
                    "leave `region` out and set `aws_region`"
                )
        known = {*self.models, *self.model_map.values()}
        for setting in ("base_models", "request_fields"):
            strange = sorted(getattr(self, setting).keys() - known)
            if strange:
                raise ValueError(f"{setting}: {strange[0]!r} is none of the models")
        return self

    @model_validator(mode="after")
    def _credentials_are_one(self) -> BedrockConfig:
        keys = (self.access_key_id, self.secret_access_key)
        if any(keys) != all(keys):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.session_token is not None and not any(keys):
            raise ValueError("session_token belongs to access_key_id and secret_access_key")
        if self.api_key is not None and any(keys):
            raise ValueError("give api_key or access_key_id, not both")
        given = self.api_key is not None or any(keys)
        if self.credential_source == "config" and not given:
            raise ValueError("credential_source is config, but no key is given")
        if given and (self.credential_source == "chain" or self.aws_profile is not None):
            raise ValueError("a key is given, and the chain is asked for as well")
        if (self.guardrail_id is None) != (self.guardrail_version is None):
            raise ValueError("guardrail_id and guardrail_version belong together")
        return self
