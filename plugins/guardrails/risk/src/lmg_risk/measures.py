"""What Prometheus is told of scores, decisions, approvals and memory. No label holds what a caller can choose."""

from __future__ import annotations

from lmg.host import Host

__all__ = ["Measures"]

_BUCKETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Measures:
    """The metric families of `risk`."""

    def __init__(self, host: Host) -> None:
        metrics = host.metrics
        self.scores = metrics.histogram(
            "llm_risk_score", "Risk scores of requests and of answers, 0 to 1.", ("component",), buckets=_BUCKETS
        )  # fmt: skip
        self.decisions = metrics.counter(
            "llm_risk_decisions_total", "Scores above zero, by the strictest action that they reached.", ("component", "action")
        )  # fmt: skip
        self.approvals = metrics.counter(
            "llm_risk_approvals_total", "Approvals, by what became of them.", ("component", "outcome")
        )  # fmt: skip
        self.memory = metrics.counter(
            "llm_risk_memory_total", "Requests that were looked up in the memory, by what it said.", ("component", "outcome")
        )  # fmt: skip
