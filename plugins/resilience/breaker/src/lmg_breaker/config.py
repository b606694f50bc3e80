"""The configuration of `breaker`."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from lmg import ComponentConfig

from .rules import Rules

__all__ = ["ActiveConfig", "BreakerConfig"]


class ActiveConfig(ComponentConfig):
    """Health checks that cost no tokens: the provider is asked for something that is answered without a model."""

    every_ms: int = Field(5_000, ge=100, description="Between two checks of a provider.")
    timeout_ms: int = Field(5_000, gt=0, description="The longest that a check may take; then it has failed.")
    all: bool = Field(
        False, description="Check the targets of closed circuits too; a failed check counts as a failed call."
    )


class BreakerConfig(ComponentConfig):
    """When a target is left alone, for how long, and what brings it back."""

    consecutive: int | None = Field(5, ge=1, description="Open after so many failures in a row.")
    window_s: float = Field(30.0, gt=0, le=3600, description="The window of the shares below.")
    min_calls: int = Field(20, ge=2, description="Calls in the window before a share is judged.")
    failure_rate: float | None = Field(
        0.5, gt=0, le=1, description="Open when this share of the calls failed."
    )
    slow_call_ms: int | None = Field(
        None,
        gt=0,
        description="A call is slow when its first event (or its whole answer, if it was not streamed) took longer.",
    )
    slow_rate: float = Field(0.5, gt=0, le=1, description="Open when this share of the calls was slow.")
    slow_cancels: bool = Field(
        False, description="Count a call that was slow already when its client left as a slow one."
    )
    adaptive_sensitivity: float | None = Field(
        5.0,
        gt=0,
        description="Open when failures or slowness are so many standard deviations above the target's own baseline.",
    )
    adaptive_margin: float = Field(
        0.1, ge=0, lt=1, description="A share of failures must be this much above the baseline to matter."
    )
    adaptive_slow_factor: float = Field(
        3.0, gt=1, description="A call is unusually slow when it took so many times the usual."
    )
    adaptive_slow_floor_ms: int = Field(
        1_000, ge=0, description="Calls faster than this are never unusually slow."
    )
    baseline_calls: int = Field(
        1_000, ge=10, description="How many calls the baseline remembers; it is relied on after 100."
    )
    open_s: float = Field(5.0, gt=0, description="How long a circuit is open the first time.")
    max_open_s: float = Field(300.0, gt=0, description="It is open twice as long each time, up to this.")
    jitter: float = Field(0.2, ge=0, lt=1, description="Open times are spread by this share, up and down.")
    heal_s: float = Field(60.0, gt=0, description="One opening is forgotten for so many seconds closed.")
    probes_to_close: int = Field(
        2, ge=1, le=100, description="Probes that must go well, one after the other."
    )
    probe_timeout_s: float = Field(
        60.0,
        gt=0,
        description="A probe without its first event (or whole answer) by then counts as failed; the call goes on.",
    )
    rate_limit_open_s: float = Field(
        1.0, gt=0, description="Open time after a 429 that does not say how long; it grows like `open_s`."
    )
    max_rate_limit_open_s: float = Field(
        300.0,
        gt=0,
        description="The most that an upstream's own statement (`Retry-After` and the like) counts.",
    )
    credential_open_s: float = Field(
        30.0, gt=0, description="Open time of a provider whose key was refused (401, 402)."
    )
    max_credential_open_s: float = Field(900.0, gt=0, description="It grows up to this.")
    forbidden_to_open: int = Field(
        3, ge=1, description="So many 403 without a success between them count as a refused key."
    )
    fair_timeout_ms: int = Field(
        10_000,
        ge=0,
        description="A call that the request's own deadline cut off sooner than this says nothing about the target.",
    )
    panic_from: int | None = Field(
        2,
        ge=1,
        description="Where at least so many targets could serve and all are open, the least bad one is tried, once a request. `null`: never.",
    )
    max_targets: int = Field(
        1_000,
        ge=1,
        le=100_000,
        description="Targets that are remembered; the longest unused closed one goes first.",
    )
    sync_ms: int = Field(
        500,
        ge=50,
        le=60_000,
        description="How often replicas exchange what they know, and time is looked at.",
    )
    active: ActiveConfig | None = Field(
        None, description="Ask open targets whether they are well again: `{every_ms: 5000}`. Off by default."
    )

    @model_validator(mode="after")
    def _times_grow(self) -> BreakerConfig:
        for first, longest in (
            ("open_s", "max_open_s"),
            ("rate_limit_open_s", "max_rate_limit_open_s"),
            ("credential_open_s", "max_credential_open_s"),
        ):
            if getattr(self, first) > getattr(self, longest):
                raise ValueError(f"{first} is longer than {longest}")
        if self.slow_cancels and self.slow_call_ms is None and self.adaptive_sensitivity is None:
            raise ValueError(
                "slow_cancels counts slow calls, but neither slow_call_ms nor adaptive_sensitivity is set"
            )
        return self

    def rules(self) -> Rules:
        """What circuits work by: seconds, and infinity for what is off."""
        return Rules(
            consecutive=_or_never(self.consecutive),
            window_s=self.window_s,
            min_calls=self.min_calls,
            failure_rate=_or_never(self.failure_rate),
            slow_call_s=math.inf if self.slow_call_ms is None else self.slow_call_ms / 1000,
            slow_rate=self.slow_rate,
            adaptive_sensitivity=_or_never(self.adaptive_sensitivity),
            adaptive_margin=self.adaptive_margin,
            adaptive_slow_factor=self.adaptive_slow_factor,
            adaptive_slow_floor_s=self.adaptive_slow_floor_ms / 1000,
            baseline_calls=self.baseline_calls,
            open_s=self.open_s,
            max_open_s=self.max_open_s,
            jitter=self.jitter,
            heal_s=self.heal_s,
            probes_to_close=self.probes_to_close,
            probe_timeout_s=self.probe_timeout_s,
            rate_limit_open_s=self.rate_limit_open_s,
            max_rate_limit_open_s=self.max_rate_limit_open_s,
            credential_open_s=self.credential_open_s,
            max_credential_open_s=self.max_credential_open_s,
            forbidden_to_open=self.forbidden_to_open,
        )


def _or_never(value: float | None) -> float:
    return math.inf if value is None else value
