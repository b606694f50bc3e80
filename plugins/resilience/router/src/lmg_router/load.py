"""How busy and how fast a target is: what its attempts have told."""

from __future__ import annotations

import math
from typing import Final

from lmg import Attempt, Outcome

__all__ = ["Load", "PeakEwma"]

FULL_OUTPUT: Final = 16
"""Fewer tokens say nothing of the time per token."""
LONGEST_RESET_S: Final = 300.0
LONGEST_OUTPUT: Final = 1_000_000
NOT_MEASURED_S: Final = 1e6
"""The score of a target that nothing is known of while its first attempts are under way."""
_OUTPUT_WEIGHT: Final = 1 / 8
_CALLERS_OWN: Final = frozenset({"bad_request", "content_filter", "context_length", "unsupported"})


class PeakEwma:
    """An average that follows peaks at once and forgets them with time.

    Finagle's load metric (``com.twitter.finagle.loadbalancer.PeakEwma``): a sample above the average replaces it, one
    below counts the more the longer ago the last one was. Read, it decays towards 0, so that who was slow is tried again.
    """

    __slots__ = ("_at", "_tau_s", "value")

    def __init__(self, tau_s: float) -> None:
        self.value = 0.0
        self._at = 0.0
        self._tau_s = tau_s

    def read(self, now: float) -> float:
        """The average as it stands at ``now``; changes nothing."""
        value = self.value
        return value * math.exp(-max(now - self._at, 0.0) / self._tau_s) if value else 0.0

    def observe(self, sample: float, now: float) -> None:
        """Takes in a sample."""
        if sample > self.value:
            self.value = sample
        else:
            kept = math.exp(-max(now - self._at, 0.0) / self._tau_s)
            self.value = self.value * kept + sample * (1 - kept)
        self._at = now


class Load:
    """Attempts under way at one target, and the times and lengths of its answers."""

    __slots__ = ("_first_s", "_penalty_s", "_token_s", "measured", "output_tokens", "pending")

    def __init__(self, tau_s: float, penalty_s: float) -> None:
        self.pending = 0
        self.measured = False
        self.output_tokens = 0.0  # a running mean; 0 is none yet
        self._first_s = PeakEwma(tau_s)
        self._token_s = PeakEwma(tau_s)
        self._penalty_s = penalty_s

    def seconds(self, output_tokens: int, now: float) -> tuple[float, float]:
        """The time to a first token, and that of the ``output_tokens`` after it, as they stand at ``now``."""
        return self._first_s.read(now), self._token_s.read(now) * output_tokens

    def score(self, output_tokens: int, now: float) -> float:
        """What an answer of that length would take, times the attempts that would share the target.

        A target that nothing is known of is worth one attempt at a time: that one measures it.
        """
        if not self.measured:
            return NOT_MEASURED_S * self.pending
        first_s, rest_s = self.seconds(output_tokens, now)
        return (first_s + rest_s) * (self.pending + 1)

    def observe(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Learns from an attempt that has ended; a skipped or cancelled one says nothing of the target."""
        if outcome.status == "complete":
            self._measure(attempt, outcome, now)
        elif outcome.status == "failed" and outcome.kind not in _CALLERS_OWN:
            announced_s = min(outcome.reset_after_s or 0.0, LONGEST_RESET_S)
            self._first_s.observe(max(self._penalty_s, outcome.duration_s, announced_s), now)
            self.measured = True

    def _measure(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        tokens = outcome.usage.output_tokens
        whole_s = outcome.duration_s
        first_s = outcome.first_token_s if attempt.stream else None
        if first_s is not None:
            self._first_s.observe(first_s, now)
            if tokens >= FULL_OUTPUT:
                self._token_s.observe(max(whole_s - first_s, 0.0) / tokens, now)
        elif tokens >= FULL_OUTPUT:
            # A whole answer does not show its first token: what streams have shown is taken off.
            begun_s = min(self._first_s.read(now), whole_s / 2)
            self._token_s.observe((whole_s - begun_s) / tokens, now)
        else:
            self._first_s.observe(whole_s, now)
        self.measured = True
        if tokens > 0:
            tokens = min(tokens, LONGEST_OUTPUT)
            mean = self.output_tokens
            self.output_tokens = mean + (tokens - mean) * _OUTPUT_WEIGHT if mean else float(tokens)
