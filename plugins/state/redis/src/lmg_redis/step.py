"""One call of ``step.lua``: settlements that are due, and the takes of one decision, if any."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hiredis import ReplyError

from lmg.services import Level, Taken

from .errors import StoreError, code_of, refusal_of
from .scripts import STEP

if TYPE_CHECKING:
    from lmg.services import Take

    from .connection import Argument, Connection
    from .holdings import Batch
    from .session import Session

__all__ = ["Step"]

_UNKNOWN: Final = -1  # the server does not know this holder (any more)


class Step:
    """Sends itself, and takes up the reply whether or not somebody still waits for it.

    ``future`` is what became of the takes; None where nothing was done and they may be asked for again.
    """

    __slots__ = ("_batch", "_connection", "_look", "_session", "_takes", "future")

    def __init__(
        self,
        session: Session,
        connection: Connection,
        batch: Batch | None,
        takes: Sequence[Take] = (),
        *,
        look: bool = False,
    ) -> None:
        self._session = session
        self._connection = connection
        self._batch = batch
        self._takes = takes
        self._look = look
        self.future: asyncio.Future[Taken | None] = session.loop.create_future()
        connection.send(self._packed(), self._replied)

    def _packed(self) -> bytes:
        session, batch = self._session, self._batch
        bucket = session.names.bucket
        dues = batch.dues if batch is not None else ()
        keys = [session.names.holders, session.record]
        arguments: list[Argument] = [
            session.holder, batch.number if batch is not None else 0, len(dues), 1 if self._look else 0,
        ]  # fmt: skip
        for due in dues:
            limit = due.limit
            keys.append(bucket(limit.key))
            window = "" if limit.window_s is None else limit.window_s
            arguments += (limit.capacity, window, due.release, due.spend)
        for take in self._takes:
            limit = take.limit
            keys.append(bucket(limit.key))
            window = "" if limit.window_s is None else limit.window_s
            arguments += (limit.capacity, window, take.amount, 1 if take.held else 0)
        return STEP.packed(self._connection.known, keys, arguments)

    def _replied(self, reply: Any) -> None:
        if type(reply) is list and reply[0] != _UNKNOWN:
            self._done(reply)
        else:
            self._failed(reply)

    def _done(self, reply: list[Any]) -> None:
        session, takes, future = self._session, self._takes, self.future
        self._connection.known.add(STEP.digest)
        if self._batch is not None:
            session.counted(self._batch)
        if not takes:
            return
        levels = tuple([Level(reply[i], float(reply[i + 1])) for i in range(2, len(reply), 2)])
        refused = reply[0]
        if refused:
            taken = Taken(takes[refused - 1], float(reply[1]) if reply[1] else None, levels)
        else:
            taken = Taken(None, None, levels)
            if not self._look:
                session.holdings.granted(takes)
        if not future.done():
            future.set_result(taken)
        elif not refused and not self._look:
            session.give_back(takes)

    def _failed(self, reply: Any) -> None:
        session = self._session
        error: StoreError | None = None
        if isinstance(reply, StoreError):
            # What was forgotten was not done; of any other loss nobody can tell.
            error = reply if reply.kind != "forgotten" else None
        elif isinstance(reply, ReplyError) and code_of(reply) == "NOSCRIPT":
            self._connection.known.discard(STEP.digest)
            if self._batch is not None:
                session.holdings.refused(self._batch)
                session.flush_soon()
        elif isinstance(reply, ReplyError):
            error = refusal_of(reply)
            session.link.drop(error)
        else:
            session.link.drop(StoreError("forgotten", "the server has forgotten this process"))
        if self.future.done():
            return
        if error is None or not self._takes:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)

    def left(self) -> None:
        """Whoever asked was cancelled: what was granted in that very moment goes back."""
        future = self.future
        if not future.done() or future.cancelled() or future.exception() is not None:
            return
        taken = future.result()
        if taken is not None and taken.refused is None and not self._look:
            self._session.give_back(self._takes)
