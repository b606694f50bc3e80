"""Who chooses a target: round robin, Envoy, and the breaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

from lmg_breaker.circuit import Circuit
from lmg_breaker.config import BreakerConfig
from lmg_breaker.evidence import KeyEvidence, TargetEvidence
from lmg_breaker.watch import Watch, available_first, least_bad

from .envoy import EnvoyEjection
from .world import OK, Attempt, Request, Setting

__all__ = ["OURS", "POLICIES", "OurBreaker", "Policy", "RoundRobin"]


class Policy(Protocol):
    """Chooses targets and learns from what became of the calls."""

    attempts: int
    """The most calls that a request makes."""

    def choose(self, now: float, attempt: Attempt) -> int | None:
        """The target of the next attempt of a request, not one of those tried; None where there is none."""

    def reply(self, now: float, attempt: Attempt, status: int) -> None:
        """What became of it."""

    def tick(self, now: float) -> None:
        """Called twice a second."""


class RoundRobin:
    """One target after the other, whatever they answer."""

    def __init__(self, targets: int, attempts: int = 1) -> None:
        self._targets, self._next = targets, 0
        self.attempts = attempts

    def choose(self, now: float, attempt: Attempt) -> int | None:
        for _ in range(self._targets):
            self._next += 1
            host = self._next % self._targets
            if host not in attempt.request.tried:
                return host
        return None

    def reply(self, now: float, attempt: Attempt, status: int) -> None:
        return None

    def tick(self, now: float) -> None:
        return None


class OurBreaker:
    """The circuits of `breaker` with its own defaults, over the same round robin."""

    def __init__(self, targets: int, seed: int, attempts: int = 1) -> None:
        self.attempts = attempts
        rules, random = BreakerConfig().rules(), Random(seed)
        key = Circuit("key", rules, KeyEvidence(rules), random, _nothing)
        self.watches = [
            Watch(Circuit(f"{n}", rules, TargetEvidence(rules), random, _nothing), key)
            for n in range(targets)
        ]
        self._next = 0

    def choose(self, now: float, attempt: Attempt) -> int | None:
        request = attempt.request
        self._next += 1
        turned = [(self._next + n) % len(self.watches) for n in range(len(self.watches))]
        order = [host for host in turned if host not in request.tried]
        for host in available_first(order, [self.watches[host] for host in order], now):
            circuit = self.watches[host].circuit
            attempt.permit = circuit.permit(now, attempt)
            if attempt.permit is None and self._is_last_resort(now, request, host, order):
                attempt.permit = circuit.extra()
            if attempt.permit is not None:
                circuit.waiting[attempt] = now
                return host
        return None

    def _is_last_resort(self, now: float, request: Request, host: int, order: Sequence[int]) -> bool:
        watch, left = self.watches[host], [self.watches[other] for other in order]
        if not all(one.blocks(now) for one in left) or least_bad(left, now) is not watch:
            return False
        if watch.soft(now):
            return True
        if request.panicked or not all(one.blocks(now) for one in self.watches):
            return False
        request.panicked = True
        return True

    def reply(self, now: float, attempt: Attempt, status: int) -> None:
        circuit = self.watches[attempt.target].circuit
        circuit.waiting.pop(attempt, None)
        assert attempt.permit is not None
        if status == OK:
            circuit.succeeded(attempt.permit, now, now - attempt.started, attempt.stream)
        else:
            circuit.failed(attempt.permit, now)

    def tick(self, now: float) -> None:
        for watch in self.watches:
            watch.circuit.look(now)


def _nothing(circuit: Circuit, before: int, why: str) -> None:
    return None


POLICIES: Final[dict[str, Callable[[Setting], Policy]]] = {
    "round robin": lambda s: RoundRobin(s.targets),
    "Envoy, defaults": lambda s: EnvoyEjection(s.targets),
    "Envoy, 100 %": lambda s: EnvoyEjection(s.targets, max_ejection_percent=100),
    "Envoy, 100 %, retries": lambda s: EnvoyEjection(s.targets, max_ejection_percent=100, attempts=s.targets),
    "breaker, no move-on": lambda s: OurBreaker(s.targets, s.seed),
    "breaker": lambda s: OurBreaker(s.targets, s.seed, attempts=s.targets),
}
OURS: Final = "breaker"
