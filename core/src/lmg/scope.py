"""What stands around one attempt: the ``on_attempt`` generators of the components."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .bounded import within
from .compiler import Step, denial_of
from .errors import Refusal
from .exchange import Attempt, Outcome
from .streams import refusal_of
from .verdicts import Deny, Skip

if TYPE_CHECKING:
    from .lifecycle import Walk

__all__ = ["Scope"]


class Scope:
    """What stands around one attempt: the ``on_attempt`` generators, resumed exactly once, innermost first."""

    __slots__ = ("_open", "attempt", "exchange")

    def __init__(self, walk: Walk, attempt: Attempt) -> None:
        self.exchange = walk.exchange
        self.attempt = attempt
        self._open: list[tuple[Step, Any]] = []

    async def open(self, steps: Sequence[Step]) -> None:
        """Runs each component up to its yield. Raises Skip, or Refusal for a ``Deny``."""
        exchange, attempt = self.exchange, self.attempt
        plain = exchange.timeline is None
        for step in steps:
            if step.when is not None and not step.applies(exchange):
                continue
            mark = exchange.mark()
            body, headers = attempt.body, attempt.headers
            if headers:
                headers = headers.copy()
            try:
                if plain and not step.shadow and not step.is_async:
                    verdict = self._enter(step)
                else:
                    verdict = await self._watched(step)
            except Exception as error:
                undone = exchange.roll_back(mark)
                attempt.body, attempt.headers = body, headers.copy()
                step.record_failure(exchange, error)
                if step.shadow:
                    exchange.keep_as_shadow(undone)
                    exchange.shadowed.append((step.name, "on_attempt", "error"))
                elif not step.allow:
                    raise Skip("component_failed") from error
                continue
            if step.shadow:
                exchange.keep_as_shadow(exchange.roll_back(mark))
                attempt.body, attempt.headers = body, headers.copy()
                if verdict is not None:
                    exchange.shadowed.append((step.name, "on_attempt", _said(verdict)))
            elif verdict is not None:
                if isinstance(verdict, Skip):
                    raise verdict
                raise refusal_of(verdict, step.name)

    async def _watched(self, step: Step) -> Skip | Deny | None:
        """``_enter`` for a component that waits or is a shadow, or where somebody wants its time."""
        exchange = self.exchange
        exchange._reader_shadow = step.shadow
        started = time.perf_counter()
        said = "error"
        try:
            verdict = await self._enter_async(step) if step.is_async else self._enter(step)
            said = _said(verdict)
            return verdict
        finally:
            exchange._reader_shadow = False
            if exchange.timeline is not None:
                step.stamp(exchange, started, said)

    def _enter(self, step: Step) -> Skip | Deny | None:
        """Runs a component up to its yield; what it says instead of yielding is returned."""
        generator = self._made(step)
        try:
            next(generator)
        except Skip as skip:
            return skip
        except Refusal as refusal:
            return denial_of(refusal)
        except StopIteration as stop:
            return stop.value if isinstance(stop.value, Deny) else None
        self._open.append((step, generator))
        return None

    async def _enter_async(self, step: Step) -> Skip | Deny | None:
        generator = self._made(step)
        try:
            await within(step.timeout_s, generator.asend(None))
        except Skip as skip:
            return skip
        except Refusal as refusal:
            return denial_of(refusal)
        except StopAsyncIteration:
            return None
        self._open.append((step, generator))
        return None

    def _made(self, step: Step) -> Any:
        exchange = self.exchange
        for fact in step.needs:
            if exchange.fact(fact) is None:
                raise LookupError(f"the required fact '{fact}' is missing")
        return step.fn(exchange, self.attempt)

    async def close(self, outcome: Outcome) -> None:
        """Gives the outcome to each open component; what fails now is recorded only."""
        attempt, exchange = self.attempt, self.exchange
        if attempt.outcome is not None:
            return
        outcome.duration_s = time.monotonic() - attempt.started
        if attempt.first_byte_at is not None:
            outcome.first_token_s = attempt.first_byte_at - attempt.started
        outcome.usage = exchange.usage
        outcome.committed = exchange.committed
        outcome.bytes_sent = exchange.bytes_sent
        attempt.outcome = exchange.outcome = outcome
        while self._open:
            step, generator = self._open.pop()
            exchange._reader_shadow = step.shadow
            try:
                if step.is_async:
                    await within(step.timeout_s, generator.asend(outcome))
                    await generator.aclose()
                else:
                    generator.send(outcome)
                    generator.close()
                raise RuntimeError("on_attempt yielded more than once")
            except (StopIteration, StopAsyncIteration):
                pass
            except Exception as error:  # noqa: BLE001 - the plugin barrier
                step.record_failure(exchange, error)
            finally:
                exchange._reader_shadow = False


def _said(verdict: Skip | Deny | None) -> str:
    if isinstance(verdict, Skip):
        return f"Skip({verdict.reason})"
    if isinstance(verdict, Deny):
        return f"Deny({verdict.code})"
    return ""
