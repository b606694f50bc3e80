"""Which of the targets that failed is worth a second try, and how long it wants to be left alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lmg import Attempt, Target

from .classes import reason_of

__all__ = ["Candidate", "best"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that failed for a reason that may pass. ``wait_s`` is what is left of the pause that it asked for."""

    target: Target
    reason: str
    wait_s: float
    failures: int


def best(attempts: Sequence[Attempt], now: float, retried: Collection[str]) -> Candidate | None:
    """The target to go back to: the one that can be asked soonest; of those, the one that failed least; of those, the first.

    ``now`` is seconds of the clock that attempts are timed by, ``retried`` the classes that are tried again. A target
    whose last attempt was skipped, or failed for good, is none: it would be skipped or fail again.
    """
    found: dict[str, Candidate] = {}
    failures: dict[str, int] = {}
    for attempt in attempts:
        name, outcome = attempt.target.name, attempt.outcome
        reason = reason_of(outcome) if outcome is not None and outcome.status == "failed" else ""
        if outcome is None or reason not in retried:
            found.pop(name, None)
            continue
        failures[name] = failures.get(name, 0) + 1
        ready_at = attempt.started + outcome.duration_s + (outcome.reset_after_s or 0.0)
        found[name] = Candidate(attempt.target, reason, max(0.0, ready_at - now), failures[name])
    return min(found.values(), key=lambda one: (one.wait_s, one.failures), default=None)
