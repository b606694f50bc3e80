"""The state machine: closed, open, half-open. Pure: it is told the time and what became of each call.

::

                 evidence says so, or the upstream does
        CLOSED ─────────────────────────────────────────▶ OPEN ◀──────────┐
          ▲                                                │               │
          │ ``probes_to_close`` probes                     │ its time is over, or a check or a call
          │ in a row went well                             │ of a panic went well
          └──────────────────── HALF_OPEN ◀────────────────┘               │
                                    └──────────────────────────────────────┘
                                      a probe failed, or is overdue: open for longer

In HALF_OPEN one call at a time goes through: the probe. Its permit comes back in every ending; an ending that says
nothing about the target (cancelled, skipped) gives it back without a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from .backoff import Backoff
from .evidence import Evidence
from .reasons import (
    CONSECUTIVE,
    FORCED,
    OVERLOADED,
    PROBE_FAILED,
    PROBE_OVERDUE,
    RATE_LIMITED,
    SLOW,
    THROTTLED,
    Reason,
)
from .rules import Rules

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "STATES", "Call", "Circuit", "Permit"]

CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2
STATES: Final = ("closed", "half_open", "open")
"""The names of the states, by their number: the value of the gauge ``llm_breaker_state``."""
SLOW_PROBES: Final = 2
"""So many unusually slow probes, one after the other, open it again."""
FORGET_AFTER: Final = 8
"""The so many-th time that this happens (after ten minutes and more, as open times grow) it is the target's new pace."""
_NO_ERA: Final = -1


class Call(Protocol):
    """What is looked at of a call in flight; the kernel's ``Attempt`` is one."""

    started: float
    first_byte_at: float | None
    stream: bool


class Permit:
    """Leave to make one call. While its ``era`` is the circuit's, the circuit is closed and the call counts as evidence.

    ``extra`` ones were granted although the circuit is open; the probe is the one that ``Circuit.probe`` holds.
    """

    __slots__ = ("call", "era", "extra", "since")

    def __init__(
        self, era: int, since: float = 0.0, call: Call | None = None, *, extra: bool = False
    ) -> None:
        self.era, self.since, self.call, self.extra = era, since, call, extra


Changed = Callable[["Circuit", int, str], None]
"""Told of a change of state: the circuit (in its new state), the state before, and why."""


class Circuit:
    """One circuit. Times are seconds of a clock that never runs backwards.

    ``label`` is the name for metrics and logs. ``passing`` is the permit of every call while the circuit is closed: who sees ``state == CLOSED`` may take it
    without a call. ``waiting`` holds the calls in flight and when each began, oldest first; the caller keeps it.
    ``hold_s`` is how long after its open time a circuit waits for a lease before it probes on its own account
    (see ``sharing``); 0 where there is nobody to share with.
    """

    __slots__ = (
        "_changed", "_era", "_growth", "_held_until", "_passed", "_random", "_rules", "_slow_probes", "_slow_returns", "evidence", "hold_s",
        "label", "name", "open_until", "passing", "probe", "reason", "since", "state", "waiting", "why",
    )  # fmt: skip

    def __init__(
        self, name: str, rules: Rules, evidence: Evidence, random: Random, changed: Changed, label: str = ""
    ) -> None:
        self.name = name
        self.label = label or name
        self.evidence = evidence
        self.waiting: dict[Any, float] = {}
        self.hold_s = 0.0
        self.state = CLOSED
        self.since = 0.0
        self.open_until = 0.0
        self.reason: Reason | None = None
        self.why = ""
        self.probe: Permit | None = None
        self._rules = rules
        self._random = random
        self._changed = changed
        self._era = 0
        self.passing = Permit(0)
        self._held_until = 0.0
        self._passed = 0
        self._slow_probes = 0
        self._slow_returns = 0
        heal, jitter = rules.heal_s, rules.jitter
        self._growth = {
            "failure": Backoff(rules.open_s, rules.max_open_s, heal, jitter),
            "rate_limit": Backoff(rules.rate_limit_open_s, rules.max_rate_limit_open_s, heal, jitter),
            "credential": Backoff(rules.credential_open_s, rules.max_credential_open_s, heal, jitter),
        }

    def __repr__(self) -> str:
        return f"Circuit({self.name}, {STATES[self.state]})"

    # -- asking -------------------------------------------------------------------------------
    def blocks(self, now: float) -> bool:
        """Whether a call would get no permit now. Changes nothing."""
        if self.state == CLOSED:
            return False
        return self.probe is not None or now < self.ready_at

    @property
    def ready_at(self) -> float:
        """When the next probe may go, were none in flight."""
        return max(self.open_until, self._held_until) if self.state == OPEN else self._held_until

    @property
    def opens(self) -> int:
        """How many openings are still remembered."""
        return max(growth.level for growth in self._growth.values())

    @property
    def soft(self) -> bool:
        """Whether it is open (or half-open) for a reason that lets it be used where there is nothing better."""
        return self.reason is not None and self.reason.soft

    # -- permits ------------------------------------------------------------------------------
    def permit(self, now: float, call: Call | None = None) -> Permit | None:
        """Leave to call: at once while closed, for one probe at a time while half-open, else None.

        Every permit comes back through exactly one of ``succeeded``, ``failed``, ``alive``, ``limited``,
        ``overloaded``, ``refused`` and ``freed``.
        """
        if self.state == CLOSED:
            return self.passing
        self.look(now)
        if self.state == CLOSED:
            return self.passing
        if self.blocks(now):
            return None
        if self.state == OPEN:
            self._enter(HALF_OPEN, now, "time")
        self.probe = Permit(_NO_ERA, now, call)
        return self.probe

    def extra(self) -> Permit:
        """Leave to call although the circuit is open: the last resort. Its success ends the open time early."""
        return Permit(_NO_ERA, extra=True)

    # -- what became of a call ----------------------------------------------------------------
    def succeeded(
        self, permit: Permit, now: float, latency_s: float | None = None, streamed: bool = False
    ) -> None:
        """It was answered; ``latency_s`` until the first event of a stream, or the whole answer."""
        if permit.era == self._era:
            reason = self.evidence.succeeded(now, latency_s, streamed)
            if reason is not None:
                self._open(now, reason)
        elif permit is self.probe:
            self._probed(now, latency_s, streamed)
        elif self.state != CLOSED:
            if self.soft:
                self.evidence.row = 0
            if permit.extra and self.evidence.pace(latency_s, streamed) == "usual":
                self.ease(now, "answered")

    def failed(self, permit: Permit, now: float, reason: Reason = PROBE_FAILED) -> None:
        """It failed, and the target is to blame; ``reason`` is why it opens again where it was the probe."""
        if permit.era == self._era:
            found = self.evidence.failed(now)
            if found is not None:
                self._open(now, found)
        elif permit is self.probe:
            self._open(now, reason)
        elif self.state != CLOSED and self.soft:
            # It was thought to answer still: as many failures as would open it show that it does not.
            self.evidence.row += 1
            if self.evidence.row >= self._rules.consecutive:
                self._open(now, CONSECUTIVE)

    def alive(self, permit: Permit, now: float) -> None:
        """It was answered with the caller's own fault: good enough for a probe, no evidence otherwise."""
        if permit is self.probe:
            self._probed(now, None, streamed=False)
        elif permit.extra:
            self.ease(now, "answered")

    def limited(self, permit: Permit, now: float, reset_s: float | None) -> None:
        """It has too many requests; ``reset_s`` is how long it asks to be left alone, None where it does not say."""
        if reset_s:
            self._announced(now, RATE_LIMITED, min(reset_s, self._rules.max_rate_limit_open_s))
        elif permit.era == self._era or permit is self.probe:
            self._open(now, THROTTLED)

    def overloaded(self, permit: Permit, now: float, reset_s: float) -> None:
        """It is overloaded and asks to be left alone for ``reset_s`` seconds; one that says so again is given longer."""
        seconds = min(reset_s, self._rules.max_rate_limit_open_s)
        if permit is self.probe:
            seconds = max(seconds, self._growth["failure"].grow(self._random))
        self._announced(now, OVERLOADED, seconds)

    def refused(self, permit: Permit, now: float, reason: Reason) -> None:
        """Opens at once, for a reason that needs no second sight."""
        if permit.era == self._era or permit is self.probe:
            self._open(now, reason)

    def freed(self, permit: Permit) -> None:
        """It ended without saying anything about the target: a probe's permit is free again."""
        if permit is self.probe:
            self.probe = None

    # -- the course of time -------------------------------------------------------------------
    def look(self, now: float) -> None:
        """What only time shows: a probe that has answered or is overdue, calls that wait for too long."""
        if self.state == CLOSED:
            if self.waiting:
                self._look_at_waiting(now)
            return
        probe = self.probe
        if probe is None:
            return
        call = probe.call
        if call is not None and call.first_byte_at is not None:
            # A stream may go on for minutes; that it has begun is what a probe is to show.
            self._probed(now, call.first_byte_at - call.started, streamed=True)
            if self.state == CLOSED:
                probe.era = self._era
        elif now - probe.since >= self._rules.probe_timeout_s:
            if self.evidence.times_out:
                self._open(now, PROBE_OVERDUE)
            else:
                self.probe = None

    def _look_at_waiting(self, now: float) -> None:
        evidence = self.evidence
        limits = (evidence.patience_s(streamed=False), evidence.patience_s(streamed=True))
        shortest, late = min(limits), 0
        for call, begun in self.waiting.items():
            if now - begun <= shortest:
                break
            if call.first_byte_at is not None:
                late = 0  # a later call was answered: those before it are slow each on its own account
            else:
                late += now - begun > limits[call.stream]
        if late:
            reason = evidence.stalled(now, late)
            if reason is not None:
                self._open(now, reason)

    # -- from outside -------------------------------------------------------------------------
    def ease(self, now: float, why: str) -> None:
        """Ends the open time early: something shows that the target serves again. A forced opening stays."""
        if self.state == OPEN and self.reason is not FORCED:
            self._held_until = now + self.hold_s
            self._enter(HALF_OPEN, now, why)

    def keep(self, until: float) -> None:
        """Grants no probe before ``until``."""
        self._held_until = max(self._held_until, until)

    def release(self) -> None:
        """Whatever a probe was held back for is over."""
        self._held_until = 0.0

    def force(self, now: float, seconds: float) -> None:
        """Opens by hand; only ``close``, or the end of that time, changes it."""
        self._open(now, FORCED, seconds)

    def adopt(self, now: float, until: float, reason: Reason, opens: int) -> None:
        """Opens because another replica has."""
        growth = self._growth[reason.growth]
        if self.state == OPEN:
            if reason is FORCED or (self.reason is not FORCED and until > self.open_until):
                self.open_until, self.reason, self.why = until, reason, reason.name
        else:
            self._open(now, reason, until - now)
        growth.level = max(growth.level, opens)

    def close(self, now: float, why: str, *, forget: bool = False) -> None:
        """Closes; with ``forget``, as if nothing had ever happened."""
        if forget:
            self.evidence.close_book()
            for growth in self._growth.values():
                growth.level = 0
        if self.state != CLOSED:
            self._enter(CLOSED, now, why)

    # -- transitions --------------------------------------------------------------------------
    def _probed(self, now: float, latency_s: float | None, streamed: bool) -> None:
        """A probe was answered; how fast, decides what that is worth."""
        pace = self.evidence.pace(latency_s, streamed)
        if pace != "usual":
            self._slow_probes += 1
            if pace == "unusual" and self._slow_probes < SLOW_PROBES:
                self.probe = None  # one answer may be late by chance: the next one decides
                return
            self._slow_returns += 1
            if pace == "slow" or self._slow_returns < FORGET_AFTER:
                # It answers, so it can be had where there is nothing better; but it is not well again.
                self._open(now, SLOW)
                return
            self.evidence.forget_latency()
        self.probe = None
        self._slow_probes = 0
        self._passed += 1
        if self._passed >= self._rules.probes_to_close:
            self._enter(CLOSED, now, "probes")

    def _announced(self, now: float, reason: Reason, seconds: float) -> None:
        if self.state != OPEN:
            self._open(now, reason, seconds)
        elif self.reason is not FORCED and now + seconds > self.open_until:
            self.open_until, self.reason, self.why = now + seconds, reason, reason.name
            self._changed(self, OPEN, self.why)

    def _open(self, now: float, reason: Reason, seconds: float | None = None) -> None:
        if self.state == CLOSED:
            for growth in self._growth.values():
                growth.rest(now - self.since)
        if seconds is None:
            seconds = self._growth[reason.growth].grow(self._random)
        self.open_until = now + seconds
        self._held_until = self.open_until + self.hold_s
        self.reason = reason
        self.evidence.close_book()
        self._enter(OPEN, now, reason.name)

    def _enter(self, state: int, now: float, why: str) -> None:
        before, self.state = self.state, state
        self._era += 1
        self.since, self.why = now, why
        if self.probe is not None:
            # The call goes on; if it succeeds after all, that is as good as a health check.
            self.probe.extra = True
            self.probe = None
        if state == CLOSED:
            self.passing = Permit(self._era)
            self.reason = None
            self._slow_returns = 0
        if state != HALF_OPEN:
            self._passed = self._slow_probes = 0
        self._changed(self, before, why)
