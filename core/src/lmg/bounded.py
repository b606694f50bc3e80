"""Time limits that cost nothing until something waits.

A coroutine is started directly; a timer is armed only if it suspends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

__all__ = ["Deadline", "within"]

T = TypeVar("T")


@coroutine
def _resume(work: Coroutine[Any, Any, T], pending: Any) -> Generator[Any, Any, T]:
    """Drives ``work`` on from the future that its first step is waiting for."""
    while True:
        try:
            value = yield pending
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the work
            try:
                pending = work.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
        else:
            try:
                pending = work.send(value)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The result of ``work``; raises TimeoutError (and cancels it) if it takes longer than ``seconds``."""
    if not asyncio.iscoroutine(work):
        async with asyncio.timeout(seconds):
            return await work
    try:
        pending = work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    async with asyncio.timeout(seconds):
        return await _resume(work, pending)


class Deadline:
    """A limit on the current task's waiting that can be pushed back for free.

    ``push`` only stores a time; the timer looks at it when it fires and is armed again for the rest.
    Inside the block an expiry is a ``TimeoutError``; the task's other cancellations pass through.
    """

    __slots__ = ("_at", "_cancelling", "_fired", "_handle", "_loop", "_task", "active")

    def __init__(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        self._loop = loop
        self._at = at
        self._task: asyncio.Task[Any] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._fired = False
        self.active = True

    def push(self, at: float) -> None:
        """Moves the limit to the loop time ``at``, later than the one before."""
        self._at = at

    def rearm(self, at: float) -> None:
        """Moves the limit to ``at``, also forward in time."""
        self._at = at
        if self._handle is not None:
            self._handle.cancel()
            self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        if not self.active:
            self._handle = self._loop.call_later(0.05, self._fire)
        elif self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._fire)
        elif self._task is not None:
            self._fired = True
            self._handle = None
            self._task.cancel()

    def __enter__(self) -> Deadline:
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._handle = self._loop.call_at(self._at, self._fire)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if (
            self._fired
            and kind is asyncio.CancelledError
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
        ):
            raise TimeoutError from error
        self._task = None
