"""A child exchange: how a component reaches a model, within its parent's bounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import QueueFull, Refusal
from .exchange import Exchange, Receipt, Request, Response, Target
from .lifecycle import RawHeaders, Walk

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["ForkResult", "Forks"]


@dataclass(frozen=True, slots=True)
class ForkResult:
    """What a fork brought back: the whole answer and the receipt of what it used."""

    response: Response
    receipt: Receipt


class _NoClient:
    async def read_body(self) -> bytes:
        raise RuntimeError("a fork has no client")

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        return None

    async def start(self, status: int, headers: RawHeaders) -> None:
        return None

    async def write(self, data: bytes) -> None:
        return None

    async def end(self) -> None:
        return None


class Forks:
    """The bounded queue in which forks run."""

    def __init__(self, pipeline: Pipeline, limit: int) -> None:
        self._pipeline = pipeline
        self._limit = limit
        self._running = 0

    async def run(self, parent: Exchange, target: Target, purpose: str) -> ForkResult:
        """Starts from the request as the walk left it (masked) and returns when the child has ended.

        Raises:
            QueueFull: ``max_forks`` run already.
            Refusal: outside the bounds, or the child was refused or failed.
        """
        if parent.parent is not None:
            raise Refusal(
                500, "fork_of_fork", "The gateway failed.", type="server_error", reason="a fork cannot fork"
            )
        if not parent.bounds.admit(target):
            raise Refusal(
                403, "out_of_bounds", "Policy does not allow this model.", reason=f"fork to {target.name}"
            )
        if self._running >= self._limit:
            raise QueueFull(f"{self._limit} forks run already")
        self._running += 1
        try:
            return await self._run(parent, target, purpose)
        finally:
            self._running -= 1

    async def _run(self, parent: Exchange, target: Target, purpose: str) -> ForkResult:
        number, parent.forked = parent.forked, parent.forked + 1
        child = Exchange(
            parent.host,
            parent.pipeline,
            parent.head,
            parent.operation,
            parent.dialect,
            f"{parent.id}.{purpose}{number}",
        )
        child.parent, child.purpose = parent, purpose
        child.bounds, child.deadline = parent.bounds, parent.deadline
        child.plan, child.obligations, child.tags = parent.plan, parent.obligations, parent.tags
        body = parent.request.body.remove(("stream",)).remove(("stream_options",))
        child.request = Request(child.dialect, body)
        principal = parent.principal
        if principal is not None:
            child.set_fact("principal", principal)
        walk = Walk(self._pipeline, child, _NoClient())
        try:
            response = await walk.attempt_only(target)
            child.ended, child.status = "complete", response.status
        except Refusal as refusal:
            child.ended, child.status, child.code = "failed", refusal.status, refusal.code
            raise
        except asyncio.CancelledError:
            child.ended = "cancelled"
            raise
        finally:
            await walk.settle_and_end()
        assert child.receipt is not None
        return ForkResult(response, child.receipt)
