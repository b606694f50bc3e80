"""The configuration of `retry`: what is tried again, how often, after what pause, and from which budget."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from lmg import ComponentConfig

from .classes import TABLE

__all__ = ["RetryConfig"]

Switches = Annotated[
    dict[str, bool],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"type": "boolean", "default": row.retried, "description": row.what}
                for name, row in TABLE.items()
            },
        }
    ),
]


class RetryConfig(ComponentConfig):
    """When the same target is asked once more."""

    max_retries: int = Field(
        2, ge=0, le=10, description="The most retries of one exchange; with 0 it only counts the traffic."
    )
    budget: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Retries may be this share of the requests in the window, for all exchanges together.",
    )
    min_per_s: float = Field(
        1.0,
        ge=0,
        le=10_000,
        description="Retries a second that are paid for without any traffic, on average over the window.",
    )
    window_s: float = Field(10.0, ge=1, le=3600, description="The window of the budget.")
    base_ms: int = Field(
        100,
        ge=1,
        le=60_000,
        description="The longest pause before the first retry; it doubles with each. The pause is random.",
    )
    max_ms: int = Field(2_000, ge=1, le=600_000, description="The longest random pause.")
    max_wait_ms: int = Field(
        5_000,
        ge=1,
        le=3_600_000,
        description="The longest pause at all: an upstream that asks for more (`Retry-After`) is not tried again.",
    )
    on: Switches = Field(
        default_factory=dict,
        description="Classes of failures that are tried again or not, where that is other than in the table: `{timeout: true}`.",
    )
    prefer_other: bool = Field(
        False, description="Where targets are left, go to the next one instead: for lists without `fallback`."
    )

    @field_validator("on")
    @classmethod
    def _on_names_classes(cls, value: dict[str, bool]) -> dict[str, bool]:
        for name in value:
            if name not in TABLE:
                near = get_close_matches(name, TABLE, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"classes: {', '.join(TABLE)}"
                raise ValueError(f"'{name}' is no class of failures that can be tried again; {hint}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> RetryConfig:
        if not self.base_ms <= self.max_ms <= self.max_wait_ms:
            raise ValueError(
                f"base_ms ({self.base_ms}), max_ms ({self.max_ms}) and max_wait_ms ({self.max_wait_ms}) must rise in this order"
            )
        if not self.budget and self.min_per_s * self.window_s < 1:
            raise ValueError(
                "without a budget, min_per_s must allow one retry in window_s: nothing would ever be tried again"
            )
        if not any(self.on.get(name, row.retried) for name, row in TABLE.items()):
            raise ValueError("on: every class is switched off; leave out the component instead")
        return self
