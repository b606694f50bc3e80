"""The configuration of `canary`: experiments, the stages of their plans, and the limits that end them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from lmg import ComponentConfig

__all__ = ["CanaryConfig", "Experiment", "Limits", "Mirror", "Stage"]

MAX_EXPERIMENTS = 50
NANO = 10**9
"""Nano-dollars of a dollar."""
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_RESERVED = frozenset({"on", "off"})  # what the request's header says where it names no experiment
_BY = ("user", "tenant", "conversation")
_HEADER = re.compile(r"header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


class Stage(ComponentConfig):
    """One share of the traffic, and what it takes to get to the next one. A number alone is its `percent`."""

    percent: float = Field(
        ...,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="The share that gets the canary; 0 is mirror only.",
    )
    minutes: float = Field(
        10, ge=0, le=525_600, allow_inf_nan=False, description="How long the stage lasts at least."
    )
    min_samples: int = Field(
        200, ge=1, le=10**9, description="How many requests of each arm must have been measured in it."
    )

    def __repr__(self) -> str:
        """The stage as one may write it: by its percentage alone, where that says it all."""
        return f"{self.percent:g}" if self == Stage(percent=self.percent) else super().__repr__()


class Limits(ComponentConfig):
    """How much worse than the baseline the canary may be; `null` watches a measure no longer."""

    max_error_rate_increase: float | None = Field(
        0.02,
        ge=0,
        lt=1,
        description="By how much the share of failed attempts may rise: 0.02 is two in a hundred.",
    )
    max_first_token_ratio: float | None = Field(
        1.5, ge=1, le=1000, description="How many times as long a stream's first token may take."
    )
    max_latency_ratio: float | None = Field(
        1.5, ge=1, le=1000, description="How many times as long a complete answer may take."
    )
    max_cost_ratio: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="How many times as much an answer may cost, by the catalogue's prices.",
    )
    max_signal_increase: float | None = Field(
        None, ge=0, lt=1, description="By how much the mean risk of an answer (0 to 1, from the guards' signals) may rise."
    )  # fmt: skip


class Mirror(ComponentConfig):
    """Copies of the baseline's requests for the canary, whose answers nobody gets."""

    share: float = Field(..., gt=0, le=1, description="The share of the baseline's requests that is copied.")
    max_cost_usd_per_hour: Decimal = Field(
        ..., gt=0, le=1_000_000, description="What all copies may cost within any hour, in US dollars."
    )
    purpose: str = Field(
        "mirror",
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="The purpose that the copies' receipts state.",
    )
    max_concurrent: int = Field(16, ge=1, le=1000, description="How many copies a worker makes at once.")
    allow_unpriced: bool = Field(
        False, description="Also copy to a model whose price is unknown; the cap cannot hold then."
    )
    assumed_output_tokens: int = Field(
        2048, ge=1, le=1_000_000, description="How long an answer is taken to be where the request states no cap."
    )  # fmt: skip

    @field_validator("max_cost_usd_per_hour", mode="before")
    @classmethod
    def _as_it_was_written(cls, value: object) -> object:
        # A float's own decimal expansion has digits that nobody wrote.
        return repr(value) if isinstance(value, float) else value

    @property
    def nano_per_hour(self) -> int:
        """The cap in nano-dollars."""
        return int(self.max_cost_usd_per_hour * NANO)


class Experiment(ComponentConfig):
    """One model (the canary) on its way into the place of another (the baseline)."""

    name: str = Field(..., pattern=_NAME, description="Its name in headers, metrics and commands.")
    model: str = Field(
        ...,
        min_length=1,
        max_length=256,
        description="The models that clients ask for, as a pattern: `gpt-4*`.",
    )
    baseline: str | None = Field(
        None, min_length=1, max_length=512, description="What the others get: a model or `provider:model`. Default: what the router gave."
    )  # fmt: skip
    canary: str = Field(
        ..., min_length=1, max_length=512, description="What is tried: a model or `provider:model`."
    )
    by: str = Field(
        "user",
        description="What stays with an arm: `user`, `tenant`, `conversation` or `header:<name>`. Whoever is in stays in as the share grows.",
    )
    plan: list[Stage] = Field(
        default_factory=lambda: [Stage(percent=percent) for percent in (1, 5, 25, 100)],
        min_length=1,
        max_length=20,
        description="The stages, as tables or as percentages alone. At 100 the canary is promoted and the experiment over.",
    )
    limits: Limits = Limits()
    on_fail: Literal["rollback", "pause"] = Field(
        "rollback",
        description="What happens beyond a limit: nobody gets the canary any more, or the share stays and an operator decides.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="The chance, over all stages and limits together, that a canary within its limits is rolled back."
    )  # fmt: skip
    beta: float = Field(
        0.1, gt=0, lt=0.5, description="The chance that a canary beyond a limit passes a stage."
    )
    requests_per_observation: float = Field(
        1.0,
        ge=1,
        le=1000,
        allow_inf_nan=False,
        description="How many requests tell as much as one that is independent (the design effect): above 1 where a few users send most of them.",
    )
    mirror: Mirror | None = None

    @field_validator("plan", mode="before")
    @classmethod
    def _numbers_are_stages(cls, plan: Any) -> Any:
        if not isinstance(plan, list):
            return plan
        return [
            {"percent": one} if isinstance(one, int | float) and not isinstance(one, bool) else one
            for one in plan
        ]

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Experiment:
        if self.name in _RESERVED:
            raise ValueError(f"name: '{self.name}' is what callers write for any experiment; choose another")
        if self.by not in _BY and not _HEADER.fullmatch(self.by):
            raise ValueError(f"by: one of {', '.join(_BY)}, header:<name>")
        if self.canary == self.baseline:
            raise ValueError("canary and baseline are the same")
        percents = [stage.percent for stage in self.plan]
        if sorted(set(percents)) != percents:
            raise ValueError("plan: each stage's percent must be above that of the one before")
        if percents[0] == 0 and self.mirror is None:
            raise ValueError("plan: nothing is measured at 0 percent without `mirror`")
        return self


class CanaryConfig(ComponentConfig):
    """Models that are tried on a growing share of the traffic."""

    experiments: list[Experiment] = Field(
        ...,
        min_length=1,
        max_length=MAX_EXPERIMENTS,
        description="The experiments; the first that is running and fits a request decides.",
    )
    allow_header: bool = Field(
        False,
        description="Whether a request may choose its arm with `x-lmg-canary: on`, `off` or an experiment's name. It is not measured then.",
    )
    header_roles: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Only callers with one of these roles or scopes may; empty: every caller.",
    )
    announce: bool = Field(
        True, description="Name the arm in the answer's header: `x-lmg-canary: <experiment>=<arm>`."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> CanaryConfig:
        names = [experiment.name for experiment in self.experiments]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"experiments: two are called '{name}'")
        if self.header_roles and not self.allow_header:
            raise ValueError("header_roles is for allow_header: true")
        return self
