"""Users, targets, and what an outage does to one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lmg_breaker.circuit import Permit

__all__ = ["ILL", "OK", "SCENARIOS", "Attempt", "Fault", "Request", "Setting", "answer"]

OK: Final = 200
ILL: Final = 0
"""The target that has the outage."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One experiment. Times in seconds; the outage lasts from ``outage[0]`` to ``outage[1]``."""

    seed: int = 20260101
    targets: int = 3
    requests_per_s: float = 20.0
    seconds: float = 360.0
    outage: tuple[float, float] = (120.0, 240.0)
    timeout_s: float = 10.0
    latency_s: float = 0.8
    latency_sigma: float = 0.4
    usual_errors: float = 0.005
    brown_factor: float = 10.0
    flap_s: float = 10.0
    bin_s: float = 5.0


@dataclass(slots=True, eq=False)
class Request:
    """One user's request; ``draws`` are what chance has in store for each of its attempts."""

    at: float
    draws: tuple[tuple[float, float], ...]
    tried: list[int] = field(default_factory=list)
    panicked: bool = False
    ended_at: float = 0.0
    status: int = 0


@dataclass(slots=True, eq=False)
class Attempt:
    """One call. What a circuit looks at of a call in flight; answers are whole, so the first byte is the last."""

    request: Request
    target: int
    started: float
    first_byte_at: float | None = None
    stream: bool = False
    permit: Permit | None = None


Fault = Callable[[Setting, float, float], tuple[int, float] | None]
"""What the ill target does: (setting, seconds since the outage began, usual latency) to (status, latency), or None
where it is as usual.
"""


def hard(setting: Setting, since: float, latency_s: float) -> tuple[int, float] | None:
    """Every call is refused at once."""
    return 503, 0.05


def black_hole(setting: Setting, since: float, latency_s: float) -> tuple[int, float] | None:
    """No call is ever answered."""
    return 504, setting.timeout_s


def brown_out(setting: Setting, since: float, latency_s: float) -> tuple[int, float] | None:
    """Everything takes so much longer that some of it times out."""
    return OK, latency_s * setting.brown_factor


def flapping(setting: Setting, since: float, latency_s: float) -> tuple[int, float] | None:
    """It is down and up again in turns."""
    return (503, 0.05) if since % (2 * setting.flap_s) < setting.flap_s else None


SCENARIOS: Final[dict[str, Fault]] = {
    "hard errors": hard, "black hole": black_hole, "brown-out": brown_out, "flapping": flapping,
}  # fmt: skip


def answer(setting: Setting, fault: Fault, attempt: Attempt) -> tuple[int, float]:
    """What a call brings: its status, after how many seconds."""
    chance, deviate = attempt.request.draws[len(attempt.request.tried) - 1]
    latency_s = setting.latency_s * math.exp(setting.latency_sigma * deviate)
    status = 500 if chance < setting.usual_errors else OK
    begun, over = setting.outage
    if attempt.target == ILL and begun <= attempt.started < over:
        faulty = fault(setting, attempt.started - begun, latency_s)
        if faulty is not None:
            status, latency_s = faulty
    return (504, setting.timeout_s) if latency_s > setting.timeout_s else (status, latency_s)
