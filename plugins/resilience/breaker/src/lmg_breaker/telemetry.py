"""What operators see of circuits: metrics, and one log line a transition."""

from __future__ import annotations

import logging
from typing import Final

from lmg import Host

from .circuit import OPEN, STATES, Circuit

__all__ = ["Telemetry"]

log = logging.getLogger("lmg.breaker")
MAX_SERIES: Final = 10_000


class Telemetry:
    """The metric families. ``target`` is ``provider:model``, or ``provider`` for the circuit of its key.

    Models that clients name freely share ``provider:*``, which has no gauge: it would be nobody's state.
    """

    def __init__(self, host: Host, name: str) -> None:
        self._clock = host.clock
        self._name = name
        metrics = host.metrics
        self.state = metrics.gauge(
            "llm_breaker_state", "State of a circuit: 0 closed, 1 half-open, 2 open.", ("target",), max_series=MAX_SERIES,
        )  # fmt: skip
        self.transitions = metrics.counter(
            "llm_breaker_transitions_total", "Transitions of circuits.", ("target", "to", "reason"), max_series=MAX_SERIES,
        )  # fmt: skip
        self.skips = metrics.counter(
            "llm_breaker_skips_total", "Calls that were not made because a circuit was open.", ("target",), max_series=MAX_SERIES,
        )  # fmt: skip
        self.panics = metrics.counter(
            "llm_breaker_panics_total", "Calls to an open target because there was nothing better.", ("target",), max_series=MAX_SERIES,
        )  # fmt: skip
        self.checks = metrics.counter(
            "llm_breaker_checks_total", "Active health checks.", ("provider", "result"), max_series=MAX_SERIES
        )
        self.store_errors = metrics.counter(
            "llm_breaker_store_errors_total",
            "Failures of the shared store; what others know was not known meanwhile.",
        )

    def seen(self, circuit: Circuit) -> None:
        """Shows a circuit that is new."""
        if circuit.label == circuit.name:
            self.state.set(circuit.state, (circuit.label,))

    def forgotten(self, circuit: Circuit) -> None:
        """Takes back what was shown of a circuit that is not remembered any more."""
        self.state.series.pop((circuit.name,), None)

    def changed(self, circuit: Circuit, before: int, why: str) -> None:
        """Counts and logs a transition."""
        label, state = circuit.label, STATES[circuit.state]
        if label == circuit.name:
            self.state.set(circuit.state, (label,))
        self.transitions.inc((label, state, why))
        open_s = circuit.open_until - self._clock.monotonic() if circuit.state == OPEN else 0.0
        log.log(
            logging.WARNING if circuit.state == OPEN else logging.INFO,
            "circuit_changed component=%s target=%s from=%s to=%s reason=%s open_s=%.1f",
            self._name, label, STATES[before], state, why, open_s,
        )  # fmt: skip
