"""Why a circuit opens, and what that means for those who would have used the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BY_NAME", "Reason"]

Growth = Literal["failure", "rate_limit", "credential"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. ``growth`` names the open times that grow together.

    ``soft``: the target still answers, slowly or not everybody, so it is left out only while there is another.
    ``refuses``: the upstream has said that it will refuse; in a panic everything else is tried before.
    ``checked``: what a health check finds says something about it.
    """

    name: str
    growth: Growth = "failure"
    soft: bool = False
    refuses: bool = False
    checked: bool = True


CONSECUTIVE: Final = Reason("consecutive")
FAILURE_RATE: Final = Reason("failure_rate")
UNUSUAL_FAILURES: Final = Reason("unusual_failures")
SLOW: Final = Reason("slow", soft=True)
UNUSUALLY_SLOW: Final = Reason("unusually_slow", soft=True)
STALLED: Final = Reason("stalled", soft=True)
PROBE_FAILED: Final = Reason("probe_failed")
PROBE_OVERDUE: Final = Reason("probe_overdue")
RATE_LIMITED: Final = Reason("rate_limited", "rate_limit", refuses=True, checked=False)
OVERLOADED: Final = Reason("overloaded", "failure", refuses=True, checked=False)
THROTTLED: Final = Reason("throttled", "rate_limit", soft=True, checked=False)
CREDENTIAL: Final = Reason("credential", "credential", refuses=True)
FORCED: Final = Reason("forced", refuses=True, checked=False)

BY_NAME: Final = {
    reason.name: reason
    for reason in (
        CONSECUTIVE, FAILURE_RATE, UNUSUAL_FAILURES, SLOW, UNUSUALLY_SLOW, STALLED, PROBE_FAILED, PROBE_OVERDUE,
        RATE_LIMITED, OVERLOADED, THROTTLED, CREDENTIAL, FORCED,
    )
}  # fmt: skip
"""Every reason under the name that metrics, logs and the shared store know it by."""
