"""The settings that circuits work by, in seconds and shares: made once, from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What ``BreakerConfig.rules()`` makes; what is switched off is infinite, so that no rule asks twice."""

    consecutive: float
    window_s: float
    min_calls: int
    failure_rate: float
    slow_call_s: float
    slow_rate: float
    adaptive_sensitivity: float
    adaptive_margin: float
    adaptive_slow_factor: float
    adaptive_slow_floor_s: float
    baseline_calls: int
    open_s: float
    max_open_s: float
    jitter: float
    heal_s: float
    probes_to_close: int
    probe_timeout_s: float
    rate_limit_open_s: float
    max_rate_limit_open_s: float
    credential_open_s: float
    max_credential_open_s: float
    forbidden_to_open: int
