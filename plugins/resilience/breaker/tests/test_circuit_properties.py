"""What holds for every order of calls, endings and times."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lmg_breaker.circuit import CLOSED, HALF_OPEN, OPEN, Permit

from .conftest import InFlight, Noted

ENDINGS = st.sampled_from(
    ["succeeded", "slow", "failed", "alive", "throttled", "limited", "overloaded", "freed"]
)


class Circuits(RuleBasedStateMachine):
    """One circuit under fire. ``promised`` is the time before which nothing may close it."""

    out = Bundle("out")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.promised = 0.0
        self.noted = Noted(
            consecutive=3, min_calls=4, window_s=10, slow_call_ms=1000, open_s=5, max_open_s=40, probes_to_close=2,
            jitter=0.2, probe_timeout_s=20, rate_limit_open_s=1, heal_s=30,
        )  # fmt: skip
        self.circuit = self.noted.circuit
        self.probes: list[Permit] = []
        self.open_permits = 0

    def _after(self) -> None:
        circuit = self.circuit
        if circuit.state == OPEN:
            self.promised = circuit.open_until

    @rule(target=out)
    def call(self) -> Permit | None:
        granted = self.circuit.permit(self.now, InFlight(started=self.now))
        if granted is None:
            assert self.circuit.state != CLOSED
        else:
            self.open_permits += 1
            if self.circuit.state != CLOSED:
                assert self.now >= self.promised, "a call went through before its time"
                self.probes.append(granted)
        self._after()
        return granted

    @rule(target=out)
    def call_in_panic(self) -> Permit:
        self.open_permits += 1
        return self.circuit.extra()

    @rule(permit=consumes(out), ending=ENDINGS, seconds=st.floats(0.5, 60))
    def end(self, permit: Permit | None, ending: str, seconds: float) -> None:
        if permit is None:
            return
        circuit, now = self.circuit, self.now
        if permit.extra and ending in ("succeeded", "alive"):
            self.promised = 0.0  # the target has served: its open time may end early
        if ending == "succeeded":
            circuit.succeeded(permit, now, 0.1)
        elif ending == "slow":
            circuit.succeeded(permit, now, 2.0)
        elif ending == "failed":
            circuit.failed(permit, now)
        elif ending == "alive":
            circuit.alive(permit, now)
        elif ending == "throttled":
            circuit.limited(permit, now, None)
        elif ending == "limited":
            circuit.limited(permit, now, seconds)
        elif ending == "overloaded":
            circuit.overloaded(permit, now, seconds)
        else:
            circuit.freed(permit)
        self.open_permits -= 1
        if permit in self.probes:
            self.probes.remove(permit)
        self._after()

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def look(self) -> None:
        self.circuit.look(self.now)
        self._after()

    @rule()
    def check_passes(self) -> None:
        self.promised = 0.0
        self.circuit.ease(self.now, "check")

    @rule(seconds=st.floats(0.0, 10.0))
    def check_fails(self, seconds: float) -> None:
        self.circuit.keep(self.now + seconds)

    @invariant()
    def at_most_one_probe_at_a_time(self) -> None:
        # One whose permit was taken away (overdue, superseded) is still in flight, but decides nothing.
        assert sum(not permit.extra for permit in self.probes) <= 1

    @invariant()
    def closed_only_after_its_time(self) -> None:
        assert self.circuit.state != CLOSED or self.now >= self.promised

    @invariant()
    def only_half_open_has_a_probe(self) -> None:
        assert self.circuit.probe is None or self.circuit.state == HALF_OPEN

    def teardown(self) -> None:
        """However it stands: once every call has ended, time alone brings it back."""
        for permit in list(self.probes):
            self.circuit.freed(permit)
        self.now = max(self.now, self.circuit.ready_at)
        self.circuit.look(self.now)
        self.now = max(self.now, self.circuit.ready_at)
        for _ in range(2):
            permit = self.circuit.permit(self.now)
            assert permit is not None, "a permit has leaked"
            self.circuit.succeeded(permit, self.now, 0.1)
        assert self.circuit.state == CLOSED


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
