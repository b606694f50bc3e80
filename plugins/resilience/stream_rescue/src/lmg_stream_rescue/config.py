"""The configuration of `stream_rescue`: one of two ways to save a stream, and the bounds of that way."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from lmg import ComponentConfig

__all__ = ["StreamRescueConfig", "Style"]

Style = Literal["message", "prefix", "continue_final_message"]

MAX_ENTRIES: Final = 1_000
_OF_ONE_WAY: Final[dict[str, frozenset[str]]] = {
    "hold": frozenset({"max_held_bytes", "max_total_held_bytes", "max_held_s"}),
    "continue": frozenset({"prefill", "prefill_style", "max_prefill_bytes", "allow_json"}),
}


class StreamRescueConfig(ComponentConfig):
    """What becomes of an answer that breaks off in mid-stream."""

    rescue: Literal["hold", "continue"] = Field(
        ...,
        description="`hold` sends nothing before the answer is complete, so that a broken one can be asked for anew; `continue` has another model go on where the text broke off.",
    )
    max_rescues: int = Field(1, ge=1, le=16, description="The most rescues of one exchange.")
    to: dict[str, list[str]] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Where to go when the routed targets are used up, by pattern of the model that was asked for: models, or `provider:model`, best first. An exact name wins over a pattern, and of the patterns the first that matches.",
    )
    max_held_bytes: int = Field(
        8 * 2**20,
        ge=1024,
        description="`hold`: the most memory that one answer may take up; a larger one is let go and is rescued no more.",
    )
    max_total_held_bytes: int = Field(
        256 * 2**20,
        ge=1024,
        description="`hold`: the same for all answers of a worker together; what does not fit is let go at once.",
    )
    max_held_s: float | None = Field(
        None,
        gt=0,
        description="`hold`: an answer that is not complete by then is let go, for clients and proxies that give up on silence.",
    )
    prefill: list[str] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        description="`continue`: who goes on from a begun answer: providers, their types or `provider:model`, or patterns of these. Nobody else is asked.",
    )
    prefill_style: dict[str, Style] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="`continue`: how they want to be told, where their type does not say it: `message` (the begun answer comes last), `prefix` (and is marked as one), `continue_final_message` (vLLM, SGLang).",
    )
    max_prefill_bytes: int = Field(
        64 * 2**10, ge=1, le=2**20, description="`continue`: a longer text is not sent again."
    )
    allow_json: bool = Field(
        False,
        description="`continue`: also where the client asked for JSON, whose schema the pieces keep only by luck.",
    )

    @model_validator(mode="after")
    def _settings_fit_the_way(self) -> StreamRescueConfig:
        for way, settings in _OF_ONE_WAY.items():
            if way != self.rescue and (odd := sorted(settings & self.model_fields_set)):
                raise ValueError(f"{odd[0]} is a setting of rescue: {way}, and this is rescue: {self.rescue}")
        if self.rescue == "continue" and not self.prefill:
            raise ValueError(
                "rescue: continue needs prefill: whose models go on from a begun answer, as in [vllm, 'anthropic:claude-3-*']"
            )
        if self.max_held_bytes > self.max_total_held_bytes:
            raise ValueError(
                "max_held_bytes is more than max_total_held_bytes: no answer could take that much"
            )
        return self

    @model_validator(mode="after")
    def _patterns_say_something(self) -> StreamRescueConfig:
        for setting in ("to", "prefill", "prefill_style"):
            for pattern in getattr(self, setting):
                if not pattern.strip() or len(pattern) > 512:
                    raise ValueError(f"{setting}: a pattern has 1 to 512 characters")
        for pattern, models in self.to.items():
            if not models:
                raise ValueError(f"to: '{pattern}' leads nowhere: name a model, or leave it out")
        return self
