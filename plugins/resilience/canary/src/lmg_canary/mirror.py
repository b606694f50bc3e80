"""Copies of requests for the canary: in the background, within a cost an hour, their answers measured and thrown away."""

from __future__ import annotations

from typing import Final

from lmg import Exchange, Host, QueueFull, Refusal, ServiceError, Target
from lmg.services import Limit, Settle, Take

from .config import Mirror
from .price import upper_bound
from .trial import Assigned, Copy, Trial

__all__ = ["Mirrors", "repeatable", "uncertain"]

OPERATIONS: Final = frozenset({"chat", "embeddings", "rerank"})
"""What is priced by tokens and can be asked twice."""

# A bucket of a quarter of the hour's cost that fills with three quarters of it an hour: within any hour what was
# there and what came in since are the whole of it, and no more.
_BURST: Final = 4
_WINDOW_S: Final = 1200.0
_STATEFUL: Final = ("conversation", "previous_response_id", "background", "mcp_servers", "container")
_OWN_TOOLS: Final = frozenset({"function", "custom"})
# Whether an answer was made, and paid for, is not known of an attempt that ended so.
_UNCERTAIN: Final = frozenset({"timeout", "closed", "protocol", "cancelled"})


def repeatable(exchange: Exchange) -> bool:
    """Whether a second call changes nothing but the bill.

    Not where the provider keeps a conversation or runs tools itself (they would act twice), nor under the caller's
    idempotency key (the provider may give the first call's answer, or refuse the second).
    """
    body = exchange.request.body.value
    if exchange.operation not in OPERATIONS or not isinstance(body, dict):
        return False
    if exchange.head.get(b"idempotency-key") is not None or any(body.get(name) for name in _STATEFUL):
        return False
    if body.get("web_search_options") is not None:
        return False
    tools = body.get("tools")
    return not isinstance(tools, list) or all(
        isinstance(tool, dict) and tool.get("type", "custom") in _OWN_TOOLS for tool in tools
    )


class Mirrors:
    """Makes the copies of a component's experiments."""

    def __init__(self, host: Host, component: str) -> None:
        self._host = host
        self._component = component
        self._running: dict[str, int] = {}
        self._dropped = host.metrics.counter(
            "llm_canary_mirror_drops_total", "Requests that were not mirrored, by reason.", ("experiment", "reason")
        )  # fmt: skip

    def begin(self, exchange: Exchange, assigned: Assigned, mirror: Mirror) -> None:
        """Starts a copy in the background, or counts why there is none; never waits, never fails."""
        trial = assigned.trial
        if self._running.get(trial.name, 0) >= mirror.max_concurrent:
            self._drop(trial, "busy")
            return
        target = assigned.canary[0]
        if not repeatable(exchange):
            self._drop(trial, "not_repeatable")
            return
        if target.prices is None and not mirror.allow_unpriced:
            self._drop(trial, "unpriced")
            return
        assigned.copy = Copy()
        self._running[trial.name] = self._running.get(trial.name, 0) + 1
        try:
            self._host.spawn(
                self._make(exchange, trial, assigned.copy, target, mirror), name=f"mirror:{trial.name}"
            )
        except QueueFull:
            self._running[trial.name] -= 1
            self._drop(trial, "queue_full")

    async def _make(
        self, exchange: Exchange, trial: Trial, copy: Copy, target: Target, mirror: Mirror
    ) -> None:
        try:
            take = self._reservation(exchange, trial, target, mirror)
            if take is not None and (await self._host.counters.take([take])).refused is not None:
                self._drop(trial, "over_cost")
                return
            try:
                await exchange.fork(target, mirror.purpose)
            except Refusal:
                pass  # a failure like any other: it was measured where the attempt ended
            finally:
                if take is not None:
                    # What was started and whose cost nobody has stated is taken to have cost all it could.
                    spent = copy.spent if copy.spent is not None else take.amount if copy.measured else 0
                    self._host.counters.settle([Settle(take.limit, take.amount, spent)])
        except QueueFull:
            self._drop(trial, "queue_full")
        except ServiceError:
            self._drop(trial, "store")
        finally:
            self._running[trial.name] -= 1

    def _reservation(self, exchange: Exchange, trial: Trial, target: Target, mirror: Mirror) -> Take | None:
        if target.prices is None:
            return None
        amount = upper_bound(exchange, target, target.prices, mirror.assumed_output_tokens)
        limit = Limit(
            f"{self._component}:{trial.name}:mirror", max(1, mirror.nano_per_hour // _BURST), _WINDOW_S
        )
        return Take(limit, amount, held=True)

    def _drop(self, trial: Trial, reason: str) -> None:
        self._dropped.inc((trial.name, reason))


def uncertain(kind: str) -> bool:
    """Whether an attempt that ended so may have been answered, and paid for, all the same."""
    return kind in _UNCERTAIN
