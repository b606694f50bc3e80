"""`retry`: a target that failed for a reason that passes is asked once more, as long as the traffic pays for it."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Literal

from lmg import Attempt, Component, Exchange, Failure, Host, Next, Outcome, Retry, Slot, Target

from .again import best
from .budget import Budget
from .classes import CALLER, TABLE, class_of
from .config import RetryConfig

__all__ = ["RetryBudget"]


@dataclass(frozen=True, slots=True)
class Granted:
    """The retries of an exchange so far, and the last one: after which attempt, at which target, and why."""

    retries: int
    after: int
    target: Target
    reason: str


class RetryBudget(Component):
    """Counts the traffic (`on_attempt`), and spends a share of it on second tries (`on_failure`).

    Never after commit, never past the deadline, never what is the caller's own fault. It is asked after `fallback`,
    which stands above it: what reaches it has nowhere else to go.
    """

    Config = RetryConfig
    summary = "once more, within a share of the traffic: full jitter, Retry-After, deadlines"
    stability = "beta"
    on_error: ClassVar[Literal["deny", "allow"]] = (
        "allow"  # without it an exchange is worse off, but not less safe
    )
    config: RetryConfig

    def __init__(self, config: RetryConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.budget = Budget(config.budget, config.window_s, config.min_per_s)
        self.random = random.Random()
        self._retried = frozenset(row for row in TABLE if config.on.get(row, TABLE[row].retried))
        self._max_wait_s = config.max_wait_ms / 1000
        self._granted = Slot[Granted](f"{name}.granted")
        self._retries = host.metrics.counter(
            "llm_retries_total", "Second tries that were made, by target and reason.", ("target", "reason")
        )
        self._exhausted = host.metrics.counter(
            "llm_retry_budget_exhausted_total", "Failures that were not tried again for want of a budget."
        )

    # -- the traffic --------------------------------------------------------------------------
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        """Counts each exchange once, with its first attempt that was really made, and the retries that were."""
        outcome = yield
        if outcome.status == "skipped" or exchange.parent is not None:
            return
        if attempt.number > 1:
            self._count(exchange, attempt)
            if any(
                one.outcome is not None and one.outcome.status != "skipped" for one in exchange.attempts[:-1]
            ):
                return
        self.budget.deposit(self.host.clock.monotonic())

    def _count(self, exchange: Exchange, attempt: Attempt) -> None:
        granted = exchange.get(self._granted)
        if granted is None or granted.after != attempt.number - 1:
            return
        if granted.target.name == attempt.target.name:
            self._retries.inc((exchange.label(attempt.target), granted.reason))

    # -- once more ----------------------------------------------------------------------------
    def on_failure(self, exchange: Exchange, failure: Failure) -> Retry | Next | None:
        """This target again, or the best that failed before it; None where no time, no budget or no reason is left.

        What an upstream asks to wait is waited, and a random pause on top, so that those who were told the same time
        do not come back at the same moment.
        """
        if failure.committed:
            return None
        reason = class_of(failure.kind, failure.stage, failure.http_status)
        number = failure.attempt.number
        if reason == CALLER or number >= exchange.pipeline.max_attempts:
            return None
        before = exchange.get(self._granted)
        made = before.retries if before is not None else 0
        if self.config.prefer_other and (reason in self._retried or failure.kind == "skipped"):
            tried = {attempt.target.name for attempt in exchange.attempts}
            other = next((target for target in failure.targets_left if target.name not in tried), None)
            if other is not None:
                return self._to_other(exchange, failure, other, made, reason)
        now = exchange.deadline - failure.time_left_s
        again = best(exchange.attempts, now, self._retried)
        if again is None or made >= self.config.max_retries or again.wait_s > self._max_wait_s:
            return None
        pause_s = min(again.wait_s + self._jitter_s(made), self._max_wait_s)
        if pause_s >= failure.time_left_s or not self._paid():
            return None
        exchange[self._granted] = Granted(made + 1, number, again.target, again.reason)
        name = again.target.name
        return Retry(pause_s, None if name == failure.attempt.target.name else name)

    def _to_other(
        self, exchange: Exchange, failure: Failure, other: Target, made: int, reason: str
    ) -> Next | None:
        """The next target. It costs what a retry costs, unless the one before was not called at all."""
        if failure.kind != "skipped":
            if made >= self.config.max_retries or not self._paid():
                return None
            exchange[self._granted] = Granted(made + 1, failure.attempt.number, other, reason)
        return Next(other.name)

    def _jitter_s(self, made: int) -> float:
        """Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): anything up to a limit that doubles."""
        longest_ms = min(self.config.max_ms, self.config.base_ms * 2**made)
        return self.random.uniform(0, longest_ms) / 1000

    def _paid(self) -> bool:
        if self.budget.withdraw(self.host.clock.monotonic()):
            return True
        self._exhausted.inc()
        return False
