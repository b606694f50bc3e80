"""A component with every hook that notes each firing: what order is asserted with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar

from ..component import Component
from ..exchange import Attempt, Exchange, Failure, Outcome, Response, Target

__all__ = ["Trace"]


class Trace(Component):
    """Notes every hook that fires as ``name.hook``, on one list shared by all instances."""

    log: ClassVar[list[str]] = []

    def note(self, hook: str) -> None:
        self.log.append(f"{self.name}.{hook}")

    def on_request(self, exchange: Exchange) -> None:
        self.note("on_request")

    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        self.note("on_route")
        return targets

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        self.note("on_attempt")
        outcome = yield
        self.note(f"outcome:{outcome.status}")

    def on_failure(self, exchange: Exchange, failure: Failure) -> None:
        self.note("on_failure")

    def on_stream(self, exchange: Exchange) -> None:
        self.note("on_stream")

    def on_response(self, exchange: Exchange, response: Response) -> None:
        self.note("on_response")

    async def on_settle(self, exchange: Exchange) -> None:
        self.note("on_settle")

    def on_end(self, exchange: Exchange) -> None:
        self.note("on_end")
