"""The configuration of `catalogue`: the operator's own facts, which win over the table's."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from lmg import ComponentConfig

from .money import parse_usd

__all__ = ["CatalogueConfig", "ModelFacts", "PriceFacts", "Tier"]

MAX_ENTRIES = 10_000
MAX_TOKENS = 1_000_000_000


class _Priced(ComponentConfig):
    input: Decimal | None = Field(None, description="USD per million input tokens; 0 is a price.")
    output: Decimal | None = Field(None, description="USD per million output tokens.")
    cache_read: Decimal | None = Field(None, description="USD per million input tokens read from a cache.")
    cache_write: Decimal | None = Field(None, description="USD per million input tokens written to one.")

    @field_validator("input", "output", "cache_read", "cache_write", mode="before")
    @classmethod
    def _exactly(cls, value: object) -> object:
        return None if value is None else parse_usd(value)


class Tier(_Priced):
    """Prices of large requests; what is left out costs what it costs below."""

    above_input_tokens: int = Field(
        ..., gt=0, le=MAX_TOKENS, description="Requests with more input tokens than this."
    )


class PriceFacts(_Priced):
    """USD per million tokens, as numbers or quoted decimals."""

    tiers: list[Tier] | None = Field(
        None, max_length=16, description="Prices of large requests; `[]` says that there are none."
    )

    @field_validator("tiers")
    @classmethod
    def _each_once(cls, tiers: list[Tier] | None) -> list[Tier] | None:
        if tiers is not None and len({tier.above_input_tokens for tier in tiers}) < len(tiers):
            raise ValueError("two tiers begin at the same number of tokens")
        return tiers


class ModelFacts(ComponentConfig):
    """What you know of the models that a name or pattern matches; what is left out stays as the table has it."""

    same_as: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Look the model up under this name (an Azure deployment, a fine-tune, an alias).",
    )
    prices: PriceFacts = PriceFacts()
    context_tokens: int | None = Field(
        None, gt=0, le=MAX_TOKENS, description="The most input that the model takes."
    )
    max_output_tokens: int | None = Field(
        None, gt=0, le=MAX_TOKENS, description="The most output that it writes."
    )
    tools: bool | None = Field(None, description="It calls tools.")
    vision: bool | None = Field(None, description="It sees images.")
    json_schema: bool | None = Field(None, description="It can be held to a JSON schema.")
    reasoning: bool | None = Field(None, description="It reasons before it answers.")
    embeddings: bool | None = Field(
        None, description="It makes embeddings and nothing else, or it makes none."
    )


class CatalogueConfig(ComponentConfig):
    """What models can do and cost."""

    models: dict[str, ModelFacts] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Your own facts, by model or `provider:model`; `*` matches any run of characters. Of several entries that match, the later one wins, setting by setting.",
    )
    on_prem_is_free: bool = Field(
        True, description="Targets with `on_prem: true` have the stated price 0; `false` leaves it unknown."
    )
    vendors: dict[str, str] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Whose prices a provider has, where its type does not say: `{openai/fw: fireworks}`.",
    )
    data_dir: Path | None = Field(
        None,
        description="Tables of your own, made by `python -m lmg_catalogue.refresh`, instead of the bundled ones.",
    )

    @model_validator(mode="after")
    def _names_are_names(self) -> CatalogueConfig:
        for key in self.models:
            if not key.strip() or len(key) > 256:
                raise ValueError("models: a key is a model's name or a pattern of at most 256 characters")
        return self
