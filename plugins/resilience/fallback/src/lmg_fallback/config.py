"""The configuration of `fallback`: what moves on, to where, and when no more."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from lmg import ComponentConfig

from .chains import MAX_NAME
from .classes import SWITCHABLE, TABLE

__all__ = ["FallbackConfig"]

MAX_CHAINS = 1000
MAX_ENTRIES = 32

ChainTable = dict[str, list[str]]
Switches = Annotated[
    dict[str, bool],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"type": "boolean", "default": True, "description": TABLE[name].what}
                for name in SWITCHABLE
            },
        }
    ),
]


class FallbackConfig(ComponentConfig):
    """What to do when a target fails. Without settings: the other targets of the model, then the providers with `fallback: true`."""

    on: Switches = Field(
        default_factory=dict,
        description="Classes of failures that do not move on: `{timeout: false}`. All do, but those that are the caller's own.",
    )
    chains: ChainTable = Field(
        default_factory=dict,
        max_length=MAX_CHAINS,
        description="What stands in for a model when its own targets are used up: models, or `provider:model`, by model; `*` matches any run of characters.",
    )
    chains_first: bool = Field(
        False, description="Try a chain before the further targets of the model, not after them."
    )
    context_length: ChainTable = Field(
        default_factory=dict,
        max_length=MAX_CHAINS,
        description="Models with a larger context, for requests that are too long for one.",
    )
    content_filter: ChainTable = Field(
        default_factory=dict,
        max_length=MAX_CHAINS,
        description="Models for requests that a provider's own filter refuses.",
    )
    min_time_left_ms: int = Field(
        500, ge=0, le=3_600_000, description="With less time left than this, the failure is the answer."
    )
    announce: bool = Field(
        True, description="Name the targets that failed in the answer's header `x-lmg-attempts`."
    )

    @field_validator("on")
    @classmethod
    def _on_names_classes(cls, value: dict[str, bool]) -> dict[str, bool]:
        for name in value:
            if name in SWITCHABLE:
                continue
            if name in TABLE:
                how = (
                    f"it has chains of its own: {name}: {{model: [another]}}"
                    if TABLE[name].then == "own chain"
                    else "no target would do better"
                )
                raise ValueError(f"'{name}' never moves on by itself; {how}")
            near = get_close_matches(name, SWITCHABLE, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"classes: {', '.join(SWITCHABLE)}"
            raise ValueError(f"'{name}' is no class of failures; {hint}")
        return value

    @field_validator("chains", "context_length", "content_filter")
    @classmethod
    def _chains_name_models(cls, value: ChainTable) -> ChainTable:
        for pattern, entries in value.items():
            if not entries:
                raise ValueError(f"the chain of '{pattern[:MAX_NAME]}' is empty")
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"the chain of '{pattern[:MAX_NAME]}' has more than {MAX_ENTRIES} entries")
            for name in (pattern, *entries):
                if name != name.strip() or not 0 < len(name) <= MAX_NAME:
                    raise ValueError(
                        f"a name in a chain has 1 to {MAX_NAME} characters and no blank around it"
                    )
            for entry in entries:
                if "*" in entry:
                    raise ValueError(f"'{entry}' is a pattern: what stands in for a model has a name")
                if entries.count(entry) > 1:
                    raise ValueError(f"the chain of '{pattern}' names '{entry}' twice")
        return value

    @model_validator(mode="after")
    def _first_of_what(self) -> FallbackConfig:
        if self.chains_first and not self.chains:
            raise ValueError("chains_first says where chains go, and there are no chains")
        return self
