"""The configuration of `router`."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from lmg import ComponentConfig

from .aliases import Aliases

__all__ = ["ResidencyRule", "RouterConfig", "Strategy"]

Strategy = Literal["priority", "cost", "latency", "weighted"]
MAX_ENTRIES = 1_000
_HEADER = re.compile(r"header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_STICKY = ("none", "user", "conversation", "tenant")


class ResidencyRule(ComponentConfig):
    """Where the requests of some tenants may be processed. Every rule that matches a tenant holds."""

    tenant: str = Field(
        "*", min_length=1, max_length=256, description="The tenants, as a pattern: `acme-*`; `*` is all."
    )
    regions: list[str] = Field(
        ...,
        min_length=1,
        max_length=MAX_ENTRIES,
        description="The regions that their requests may go to, as the providers' `region` names them.",
    )


class RouterConfig(ComponentConfig):
    """Which model serves a request."""

    strategy: Strategy = Field(
        "priority",
        description="What ranks the targets that can serve a request: their `priority`, the price of this request, the time it will take, or `weights`.",
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="For `strategy: weighted`: shares by model or `provider:model` (patterns; the first that matches counts). What none matches has 1; what has 0 is tried last.",
    )
    hints: Literal["allow", "ignore"] = Field(
        "allow",
        description="Whether a request's `routing_hint` may change the strategy. `on_prem` is obeyed in either case.",
    )
    quality: dict[str, float] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Scores by model or `provider:model` (patterns) for the hint `high_quality`, the highest first; what none matches has 0. Without scores the hint means `priority`.",
    )
    aliases: dict[str, str | list[str]] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Models behind other names: `{fast: grok-4, best: [grok-4, gpt-4o], gpt-3*: llama-3.3-70b}`. A name wins over a model of that name, a pattern only over nothing.",
    )
    strict_model: bool = Field(
        False, description="Never answer with another model than the one that was asked for."
    )
    model_map: dict[str, dict[str, str | None]] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Which model a provider answers with in the place of another, by the asked one (patterns): `{gpt-4*: {groq: llama-3.3-70b, vllm: null}}`. `null` is never.",
    )
    substitute_unknown: bool = Field(
        False, description="Answer with a substitute also where nobody names the model; else that is a 404."
    )
    unknown: Literal["allow", "last", "drop"] = Field(
        "allow",
        description="Targets of which it is not known whether they can do what a request needs: tried like the others, after them, or not at all.",
    )
    residency: list[ResidencyRule] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        description="Where the requests of some tenants may be processed. Every rule that matches a tenant holds.",
    )
    sticky: str = Field(
        "none",
        description="What keeps to one of several targets of equal rank, so that the provider's prompt cache is hit: `user`, `conversation`, `tenant` or `header:<name>`.",
    )
    announce: bool = Field(
        True, description="Name the target in the answer's header `x-lmg-target: provider:model`."
    )
    expected_output_tokens: int = Field(
        512,
        gt=0,
        le=1_000_000,
        description="How long an answer is taken to be while a model has not given any yet.",
    )
    latency_decay_s: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="After this time a measured latency counts for a third (1/e); a target that was slow is then tried again.",
    )
    failure_penalty_s: float = Field(
        10.0, ge=0, le=3_600, description="The time to a first token that a failed attempt counts as."
    )

    @field_validator("weights", "quality")
    @classmethod
    def _numbers_are_numbers(cls, table: dict[str, float]) -> dict[str, float]:
        for pattern, number in table.items():
            if not math.isfinite(number):
                raise ValueError(f"{pattern!r} has no number that can be compared")
        return table

    @model_validator(mode="after")
    def _settings_fit_together(self) -> RouterConfig:
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("`weights` are shares: 0 or more")
        if self.strategy == "weighted" and not any(self.weights.values()):
            raise ValueError("strategy: weighted needs `weights`, and one above 0")
        if self.weights and self.strategy != "weighted":
            raise ValueError("`weights` are for strategy: weighted; leave them out, or change the strategy")
        if self.strict_model and (self.model_map or self.substitute_unknown):
            raise ValueError("strict_model: true leaves nothing to `model_map` and `substitute_unknown`")
        if self.sticky not in _STICKY and not _HEADER.fullmatch(self.sticky):
            raise ValueError(f"sticky: one of {', '.join(_STICKY)}, header:<name>")
        if self.sticky != "none" and self.strategy == "latency":
            raise ValueError(
                "strategy: latency ranks no two targets alike: `sticky` has nothing to choose from"
            )
        return self

    @model_validator(mode="after")
    def _aliases_lead_somewhere(self) -> RouterConfig:
        Aliases(self.aliases)
        return self
