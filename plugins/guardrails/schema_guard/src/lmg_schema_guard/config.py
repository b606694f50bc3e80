"""The configuration of `schema_guard`: how strict, within which limits, and what the operator asks besides."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from lmg import ComponentConfig

from .compiled import BadSchema, compile_schema
from .schemas import SHAPES

__all__ = ["LimitsConfig", "OwnSchema", "SchemaGuardConfig"]


class LimitsConfig(ComponentConfig):
    """How much a request may hold; what is not set is not limited here."""

    messages: int | None = Field(None, ge=1, description="Messages, or items of a response's `input`.")
    tools: int | None = Field(None, ge=0, description="Tools (and functions).")
    text_chars: int | None = Field(
        None, ge=1, description="Characters of all texts that a model would read, together."
    )
    choices: int | None = Field(None, ge=1, description="`n`: answers to chat, or images.")
    stop_sequences: int | None = Field(None, ge=0, description="Stop sequences.")
    schema_depth: int = Field(
        32, ge=1, le=128, description="Levels of a JSON Schema that a tool or an answer's format states."
    )
    schema_nodes: int = Field(10_000, ge=1, description="Values in such a schema.")


class OwnSchema(ComponentConfig):
    """A JSON Schema (2020-12) that the request's body must fit besides."""

    dialects: list[str] = Field(
        default_factory=list,
        description=f"The dialects that it is for, of {', '.join(f'`{name}`' for name in SHAPES)}; none means all.",
    )
    models: list[str] = Field(
        default_factory=list, description="The models that it is for, with `*` for any text; none means all."
    )
    json_schema: dict[str, Any] = Field(
        ...,
        description="The schema. References stay within it (`#/…`), patterns are linear (no look-around).",
    )

    @field_validator("dialects")
    @classmethod
    def _known(cls, dialects: list[str]) -> list[str]:
        for name in dialects:
            if name not in SHAPES:
                raise ValueError(f"'{name}' is no dialect; there are {', '.join(SHAPES)}")
        return dialects

    @model_validator(mode="after")
    def _compiles(self) -> OwnSchema:
        try:
            compile_schema(self.json_schema)
        except BadSchema as error:
            raise ValueError(f"json_schema.{error}") from None
        return self


class SchemaGuardConfig(ComponentConfig):
    """Requests are checked against the schema of their dialect."""

    mode_of_unknown_fields: Literal["lenient", "strict"] = Field(
        "lenient",
        description="`lenient`: known fields have the right type and range, what is not known passes. `strict`: fields, "
        "kinds of parts and choices that are not known are refused too.",
    )
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="How much a request may hold.")
    check_references: bool = Field(
        True,
        description="Whether `tool_choice` must name a tool that is there, tools have names of their own, and a tool's "
        "result refers to a call before it.",
    )
    check_stated_schemas: bool = Field(
        True,
        description="Whether the JSON Schemas of tools and answers' formats must be valid (2020-12, draft 7 or 4), bounded "
        "and without references to other documents.",
    )
    schemas: list[OwnSchema] = Field(
        default_factory=list, max_length=100, description="Schemas of your own, all that are for a request."
    )
