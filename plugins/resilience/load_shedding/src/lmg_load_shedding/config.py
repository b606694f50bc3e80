"""The configuration of `load_shedding`: three signals of overload, each from where it begins to where nothing is let in."""

from __future__ import annotations

from typing import Final

from pydantic import Field, model_validator

from lmg import ComponentConfig

__all__ = ["HIGHEST", "LoadSheddingConfig"]

HIGHEST: Final = 9
MAX_ENTRIES: Final = 1_000
_PAIRS: Final = (
    ("max_delay_ms", "hard_delay_ms"),
    ("max_in_flight", "hard_in_flight"),
    ("max_rss_mb", "hard_rss_mb"),
)


class LoadSheddingConfig(ComponentConfig):
    """When a worker refuses requests, whose first, and when they may come again."""

    max_delay_ms: int | None = Field(
        50,
        ge=1,
        description="Shedding begins when the event loop has been this late for `for_ms` without a break; `null` leaves its delay out of it.",
    )
    hard_delay_ms: int | None = Field(500, ge=1, description="At this delay everything is refused.")
    for_ms: int = Field(500, ge=1, description="How long the loop must be late before anything is refused.")
    sample_ms: int = Field(100, ge=5, le=5_000, description="How often the loop's delay is measured.")
    max_in_flight: int | None = Field(
        None, ge=1, description="Shedding begins with more exchanges in flight than this, per worker."
    )
    hard_in_flight: int | None = Field(
        None, ge=1, description="With this many in flight everything is refused."
    )
    max_rss_mb: int | None = Field(
        None, ge=1, description="Shedding begins when the worker's memory is larger than this (Linux)."
    )
    hard_rss_mb: int | None = Field(None, ge=1, description="At this size everything is refused.")
    priorities: dict[str, int] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Priority by pattern of the tenant, 0 (refused first) to 9; the first pattern that matches counts. Needs an authenticator above.",
    )
    default_priority: int = Field(5, ge=0, le=HIGHEST, description="The priority of everybody else.")
    header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Trust this request header to state the priority (a digit), before the tenant's: only where whatever stands before the gateway sets or removes it.",
    )
    retry_after_min_s: float = Field(
        1.0, gt=0, le=3600, description="The shortest wait that a refused client is told."
    )
    retry_after_max_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="The longest; each is told another, so that they do not return in step.",
    )

    @model_validator(mode="after")
    def _bounds_make_spans(self) -> LoadSheddingConfig:
        for begins, ends in _PAIRS:
            soft, hard = getattr(self, begins), getattr(self, ends)
            if soft is None and (hard is None or ends not in self.model_fields_set):
                continue
            if soft is None or hard is None:
                missing, there = (begins, ends) if soft is None else (ends, begins)
                raise ValueError(
                    f"{there} needs {missing}: refusing begins at one and is complete at the other"
                )
            if hard <= soft:
                raise ValueError(
                    f"{ends} must be more than {begins}: what lies between is how refusing rises"
                )
        if all(getattr(self, begins) is None for begins, _ in _PAIRS):
            raise ValueError("nothing is measured: give max_delay_ms, max_in_flight or max_rss_mb")
        return self

    @model_validator(mode="after")
    def _the_rest_fits(self) -> LoadSheddingConfig:
        if self.retry_after_max_s < self.retry_after_min_s:
            raise ValueError("retry_after_max_s is less than retry_after_min_s")
        for pattern, priority in self.priorities.items():
            if not pattern.strip() or len(pattern) > 256:
                raise ValueError("priorities: a pattern of tenants has 1 to 256 characters")
            if not 0 <= priority <= HIGHEST:
                raise ValueError(f"priorities: '{pattern}' has {priority}, and they go from 0 to {HIGHEST}")
        return self
