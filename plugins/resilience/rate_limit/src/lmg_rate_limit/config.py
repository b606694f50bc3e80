"""The configuration of `rate_limit`: one limit in short, or a list of them, and what happens at a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from lmg import ComponentConfig

from .rates import Rate, amount_of, rate_of

__all__ = [
    "KINDS", "Dimension", "Kind", "LimitConfig", "OnStoreLoss", "QueueConfig", "RateLimitConfig", "Rates", "WeightedTokens",
]  # fmt: skip

Dimension = Literal["tenant", "principal", "key", "model", "global"]
Kind = Literal["requests", "input_tokens", "output_tokens", "tokens", "weighted_tokens", "concurrency"]
OnStoreLoss = Literal["deny", "local", "allow"]
KINDS: Final[tuple[Kind, ...]] = (
    "requests", "input_tokens", "output_tokens", "tokens", "weighted_tokens", "concurrency",
)  # fmt: skip
DIMENSIONS: Final[tuple[Dimension, ...]] = ("tenant", "principal", "key", "model", "global")
_PER: Final = {
    "anyOf": [
        {"enum": [*DIMENSIONS]},
        {"type": "array", "items": {"enum": [*DIMENSIONS[:-1]]}, "minItems": 1, "uniqueItems": True},
    ]
}
MAX_LIMITS: Final = 100
SHORT: Final = "default"
"""What the limit of the short form is called."""


class WeightedTokens(ComponentConfig):
    """Tokens that weigh as much as they cost: cached input little, output more."""

    limit: str = Field(..., description="The rate of weighted tokens, as in `1M/min`.")
    input: float = Field(1.0, ge=0, le=1e6, description="What an input token weighs.")
    cached: float | None = Field(
        None, ge=0, le=1e6, description="What an input token weighs that was read from a cache; as `input` by default."
    )  # fmt: skip
    output: float = Field(1.0, ge=0, le=1e6, description="What an output token weighs.")

    @field_validator("limit", mode="before")
    @classmethod
    def _is_a_rate(cls, value: object) -> object:
        return _checked_rate(value)

    @model_validator(mode="after")
    def _weighs(self) -> WeightedTokens:
        if not self.input and not self.output:
            raise ValueError("weighted_tokens: one of input and output must weigh something")
        if self.cached is not None and self.cached > self.input:
            raise ValueError("weighted_tokens: a cached token cannot weigh more than any other input")
        return self


class Rates(ComponentConfig):
    """Whom a limit is for, what it counts, and how much of it there is."""

    per: Annotated[str | list[str], WithJsonSchema(_PER)] = Field(
        "tenant",
        description="Whose limit it is: each `tenant`, `principal` (a subject), `key` or `model` has its own, or each combination of a list (`[tenant, model]`); `global` is one for all.",
    )
    requests: str | None = Field(None, description="Requests that may go upstream, as in `600/min`.")
    input_tokens: str | None = Field(None, description="Input tokens, as in `100k/min`.")
    output_tokens: str | None = Field(None, description="Output tokens, as in `20k/min`.")
    tokens: str | None = Field(None, description="Input and output tokens together, as in `200k/min`.")
    weighted_tokens: WeightedTokens | None = Field(
        None, description="Tokens by weight, as in `{input: 1, cached: 0.1, output: 4, limit: 1M/min}`."
    )
    concurrency: int | None = Field(None, ge=1, le=10**9, description="Requests at a time.")
    burst: str | int | None = Field(
        None,
        description="How much may be used at once, where that is not the rate's own amount: `{requests: 600/min, burst: 50}`. Only where one rate is stated.",
    )
    tenant: str | None = Field(
        None, description="Only for tenants that this pattern matches; `*` matches any run of characters."
    )
    model: str | None = Field(
        None, description="Only for models that this pattern matches, as the client asks for them."
    )
    on_store_loss: OnStoreLoss = Field(
        "local",
        description="While the counter store is gone: `deny` refuses with 503, `local` counts in this process (`local_share` of the limit), `allow` lets everything pass.",
    )

    @field_validator("requests", "input_tokens", "output_tokens", "tokens", mode="before")
    @classmethod
    def _is_a_rate(cls, value: object) -> object:
        return None if value is None else _checked_rate(value)

    @field_validator("burst")
    @classmethod
    def _is_an_amount(cls, value: str | int | None) -> str | int | None:
        if value is not None:
            amount_of(value)
        return value

    @field_validator("per")
    @classmethod
    def _names_dimensions(cls, value: str | list[str]) -> str | list[str]:
        names = value if isinstance(value, list) else [value]
        for name in names:
            if name not in DIMENSIONS:
                raise ValueError(f"per: '{name}' is none of {', '.join(DIMENSIONS)}")
        if not names or len(set(names)) < len(names):
            raise ValueError("per: list each dimension once")
        if "global" in names and len(names) > 1:
            raise ValueError("per: `global` is one limit for all and stands alone")
        return value

    @model_validator(mode="after")
    def _bursts_one_rate(self) -> Rates:
        if self.burst is not None and len(self.rates()) != 1:
            raise ValueError(
                "burst belongs to one rate: state it where there is exactly one, others in entries of their own"
            )
        return self

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What ``per`` says; nothing for ``global``."""
        per = self.per if isinstance(self.per, list) else [self.per]
        return tuple(one for one in DIMENSIONS if one in per and one != "global")

    def rates(self) -> dict[Kind, Rate]:
        """The stated rates, by kind."""
        found: dict[Kind, Rate] = {}
        for kind in KINDS:
            stated = getattr(self, kind)
            if kind == "weighted_tokens" and stated is not None:
                found[kind] = rate_of(stated.limit)
            elif kind != "concurrency" and stated is not None:
                found[kind] = rate_of(stated)
        return found

    def kinds(self) -> tuple[Kind, ...]:
        """What is counted."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def limits_something(self) -> bool:
        """Whether anything is stated."""
        return bool(self.kinds())


class LimitConfig(Rates):
    """One limit of the list, or several of the same scope."""

    name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]{0,64}$",
        description="Its name in metrics, in the admin API and in the store: a limit that keeps its name keeps its counters. By default what `per` says, as in `tenant-model`.",
    )

    @model_validator(mode="after")
    def _limits(self) -> LimitConfig:
        if not self.limits_something:
            raise ValueError(f"the limit states nothing: give it one of {', '.join(KINDS)}")
        return self

    @property
    def known_as(self) -> str:
        """Its name, or what ``per`` says."""
        return self.name or "-".join(self.dimensions) or "global"


class QueueConfig(ComponentConfig):
    """Waiting for a turn instead of being refused at once: fair between tenants, first come first served within one."""

    max_wait_ms: int = Field(
        ..., gt=0, le=600_000, description="The longest that a request waits; then it is refused."
    )
    max_size: int = Field(
        1000, ge=1, le=100_000, description="Requests that wait in this process; further ones are refused."
    )
    max_per_tenant: int | None = Field(
        None, ge=1, description="Requests of one tenant that wait; `max_size` by default."
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        max_length=1000,
        description="Larger shares, by tenant or pattern: `{acme: 3}` gets three turns to one of the others.",
    )

    @model_validator(mode="after")
    def _fits(self) -> QueueConfig:
        if self.max_per_tenant is not None and self.max_per_tenant > self.max_size:
            raise ValueError("queue: max_per_tenant is larger than max_size")
        for tenant, weight in self.weights.items():
            if not (math.isfinite(weight) and 0.001 <= weight <= 1000):
                raise ValueError(f"queue: the weight of '{tenant}' must be from 0.001 to 1000")
        return self


class RateLimitConfig(Rates):
    """Limits on requests, tokens and concurrency. Give one in short (`per`, `requests`, …), a list in `limits`, or both."""

    limits: list[LimitConfig] = Field(
        default_factory=list,
        max_length=MAX_LIMITS,
        description="Limits by name; all that apply must be kept.",
    )
    reserve: Literal["upper", "estimate"] = Field(
        "upper",
        description="What a request's input reserves before it is counted: `upper` can not be exceeded, `estimate` reserves less and may let somewhat more through.",
    )
    default_output_tokens: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="The longest answer where the client states none: reserved, and sent upstream as its cap. By default 4096, or a quarter of the smallest limit where that is less; never more than limit and model have room for.",
    )
    opaque_tokens: int = Field(
        1500, ge=0, le=10**9, description="What an image, a sound or a file in the input reserves."
    )
    max_retry_after_s: float = Field(
        120.0, ge=1, description="The longest `Retry-After`: SDKs sleep for as long as they are told. Beyond it they are told not to retry."
    )  # fmt: skip
    local_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="The share of a limit that each process allows by itself while the counter store is gone.",
    )
    queue: QueueConfig | None = Field(
        None, description="Wait for a turn instead of being refused; without it nothing waits."
    )

    @model_validator(mode="after")
    def _limits(self) -> RateLimitConfig:
        if not self.limits and not self.limits_something:
            raise ValueError(f"there is no limit: state one of {', '.join(KINDS)}, or a list of `limits`")
        stray = [
            name
            for name in ("per", "burst", "tenant", "model", "on_store_loss")
            if name in self.model_fields_set
        ]
        if stray and not self.limits_something:
            raise ValueError(f"'{stray[0]}' belongs to a limit: state it in the entries of `limits`")
        taken: set[tuple[str, Kind]] = set()
        for name, limit in self.named():
            for kind in limit.kinds():
                if (name, kind) in taken:
                    raise ValueError(
                        f"two limits on {kind} are named '{name}': give one of them a `name` of its own"
                    )
                taken.add((name, kind))
        return self

    def named(self) -> Iterator[tuple[str, Rates]]:
        """Every limit with its name, the one of the short form first."""
        if self.limits_something:
            yield SHORT, self
        for limit in self.limits:
            yield limit.known_as, limit


def _checked_rate(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(
            "a rate has an amount and a time: write it as in 600/min, 10/s, 200k/min, 1M/h or 5M/day"
        )
    rate_of(value)
    return value
