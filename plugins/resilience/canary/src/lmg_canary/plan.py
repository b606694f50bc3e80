"""The life of an experiment: a state, and what moves it to the next one. Pure: time and evidence are given.

running(stage) --evidence--> running(stage + 1) --…--> promoted        (at 100 percent)
    |  ^   \\--beyond a limit--> rolled_back (or paused, as `on_fail` says)
    v  |
   paused --beyond a limit--> rolled_back
any of them --abort--> aborted            any of them --restart--> running(0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Literal

from .comparison import Finding, Report
from .config import Experiment, Stage

__all__ = [
    "Event",
    "NotPossible",
    "State",
    "Status",
    "begin",
    "commanded",
    "judged",
    "percent_of",
    "waits_for",
]

Status = Literal["running", "paused", "promoted", "rolled_back", "aborted"]
MAX_HISTORY: Final = 50
LIVE: Final = frozenset({"running", "paused"})
DIFFERENCES: Final = frozenset({"error_rate", "signals"})
"""Measures whose harm is a difference; that of the others is a ratio."""


class NotPossible(ValueError):
    """A command does not fit the state; the text says what would."""


@dataclass(frozen=True, slots=True)
class Event:
    """One move. ``to`` is a percentage or a status; ``reason`` a measure, ``evidence``, ``start`` or ``operator``."""

    at: float
    to: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Where an experiment is. ``since`` is when its stage began (seconds since the epoch); with each stage a new
    ``epoch`` of samples begins, so that none is counted in two.
    """

    status: Status
    stage: int
    since: float
    epoch: int
    history: tuple[Event, ...] = ()


def begin(plan: Sequence[Stage], now: float, *, epoch: int = 1, reason: str = "start") -> State:
    """The first state; of a plan that begins at 100, the last one as well."""
    return _at(State("running", 0, now, epoch - 1), plan, 0, now, reason, "")


def percent_of(plan: Sequence[Stage], state: State) -> float:
    """The share that gets the canary, in percent."""
    if state.status == "promoted":
        return 100.0
    return plan[state.stage].percent if state.status in LIVE else 0.0


def judged(experiment: Experiment, state: State, report: Report, now: float) -> State | None:
    """The state that the evidence leads to; None where it stays."""
    if state.status not in LIVE:
        return None
    harm = report.beyond
    if harm is not None:
        status: Status = "rolled_back" if experiment.on_fail == "rollback" else "paused"
        return _ended(state, status, now, harm.measure, told(harm)) if status != state.status else None
    last = state.stage == len(experiment.plan) - 1
    if state.status == "paused" or last or waits_for(experiment, state, report, now):
        return None
    detail = "; ".join(told(found) for found in report.findings if found.state == "within")
    return _at(state, experiment.plan, state.stage + 1, now, "evidence", detail)


def waits_for(experiment: Experiment, state: State, report: Report, now: float) -> tuple[str, ...]:
    """What is missing for the next stage, in words; nothing where there is none to wait for."""
    plan = experiment.plan
    if state.status not in LIVE or state.stage == len(plan) - 1:
        return ()
    stage = plan[state.stage]
    missing = ["an operator to resume or promote it"] if state.status == "paused" else []
    left = state.since + stage.minutes * 60 - now
    if left > 0:
        missing.append(f"{left / 60:.1f} more minutes")
    for arm, n in (("baseline", report.baseline), ("canary", report.canary)):
        if n < stage.min_samples:
            missing.append(f"{stage.min_samples - n} more requests of the {arm}")
    missing += [lacking(found) for found in report.findings if found.state in ("open", "unpriced")]
    return tuple(missing)


def commanded(plan: Sequence[Stage], state: State, verb: str, now: float, to: float | None = None) -> State:
    """The state after an operator's ``promote`` (to the next stage, or to that of ``to`` percent), ``abort``, ``pause``,
    ``resume`` or ``restart``.

    Raises:
        NotPossible: it does not fit the state, or the plan has no such stage.
    """
    if verb == "restart":
        fresh = begin(plan, now, epoch=state.epoch + 1, reason="operator")
        return replace(fresh, history=(*state.history, *fresh.history)[-MAX_HISTORY:])
    if verb == "abort":
        if state.status in ("aborted", "rolled_back"):
            raise NotPossible(f"it is {state.status} already: nobody gets the canary")
        return _ended(state, "aborted", now, "operator", "")
    if state.status not in LIVE:
        raise NotPossible(f"it is {state.status}: restart it first")
    if verb == "pause":
        if state.status == "paused":
            raise NotPossible("it is paused already")
        return _ended(state, "paused", now, "operator", "")
    if verb == "resume":
        if state.status == "running":
            raise NotPossible("it is running already")
        # What paused it must not pause it again at once: the stage begins anew.
        return _at(state, plan, state.stage, now, "operator", "")
    return _promoted(plan, state, now, to)


def _promoted(plan: Sequence[Stage], state: State, now: float, to: float | None) -> State:
    if to is None and state.stage + 1 < len(plan):
        return _at(state, plan, state.stage + 1, now, "operator", "")
    if to in (None, 100.0):
        return _at(state, plan, len(plan), now, "operator", "")
    above = [n for n, stage in enumerate(plan) if stage.percent == to and n > state.stage]
    if not above:
        known = [f"{stage.percent:g}" for stage in plan[state.stage + 1 :] if stage.percent < 100]
        raise NotPossible(f"the stages above are {', '.join([*known, '100'])} percent")
    return _at(state, plan, above[0], now, "operator", "")


def lacking(found: Finding) -> str:
    """What keeps a finding from being within its limit, in words."""
    if found.state == "unpriced":
        return "prices of both arms"
    if found.high == inf:
        return f"more samples of {found.measure}"
    if found.measure in DIFFERENCES:
        return f"certainty about {found.measure}: by up to {found.high:+.2%}, limit {found.limit:+.2%}"
    return f"certainty about {found.measure}: up to {found.high:.2f} times, limit {found.limit:g}"


def told(found: Finding) -> str:
    """A finding in words, for people."""
    if found.measure in DIFFERENCES:
        return (
            f"{found.measure} {found.canary:.2%} against {found.baseline:.2%}"
            f" ({found.low:+.2%} to {found.high:+.2%}, limit {found.limit:+.2%})"
        )
    between = f"{found.low:.2f} to {found.high:.2f} times, limit {found.limit:g}"
    if found.measure == "cost":
        return f"cost {found.canary / 1e9:.6f} USD against {found.baseline / 1e9:.6f} USD ({between})"
    return f"{found.measure} {found.canary:.3f} s against {found.baseline:.3f} s ({between})"


def _at(state: State, plan: Sequence[Stage], stage: int, now: float, reason: str, detail: str) -> State:
    """The state at the beginning of ``stage``: at 100 percent the experiment is over."""
    over = stage >= len(plan) or plan[stage].percent >= 100
    to = "promoted" if over else f"{plan[stage].percent:g}"
    stage = min(stage, len(plan) - 1)
    moved = _event(state, now, to, reason, detail)
    return State("promoted" if over else "running", stage, now, state.epoch + 1, moved)


def _ended(state: State, status: Status, now: float, reason: str, detail: str) -> State:
    """The same stage in another status; its samples stay what they are."""
    return replace(state, status=status, history=_event(state, now, status, reason, detail))


def _event(state: State, now: float, to: str, reason: str, detail: str) -> tuple[Event, ...]:
    return (*state.history, Event(now, to, reason, detail))[-MAX_HISTORY:]
