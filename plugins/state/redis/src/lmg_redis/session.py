"""This process as the server knows it: a holder that says what it holds, that it lives, and what it has used.

Every connection is a holder of its own (``<process>.<epoch>``) that takes the place of the one before; what an earlier one
still sends is refused. So a call whose answer did not come can be held for undone, whenever the server gets to it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hiredis import ReplyError

from lmg.services import Settle, Take, Taken

from .connection import pack
from .errors import StoreError, code_of, refusal_of
from .holdings import BATCH, Batch, Holdings
from .link import Link
from .names import Names
from .scripts import BEAT, HOLD
from .step import Step

if TYPE_CHECKING:
    from lmg import Host

    from .config import RedisConfig
    from .connection import Connection

__all__ = ["Session"]

TRIES: Final = 3
"""A call may meet a server that has forgotten its script, and then this process: nothing was done, twice."""
UNANSWERED: Final = 4
"""Batches that wait for an answer before settlements wait for each other: after an outage there may be very many."""
KEEP_S: Final = 300.0
"""How often buckets of which something is held are kept from expiring; they last three times as long."""
KEEP: Final = 1000
"""Buckets of one heartbeat."""


class Session:
    """The ``Resident`` of a link, and the way of limits to the server."""

    def __init__(self, config: RedisConfig, host: Host, name: str) -> None:
        self.names = Names(config.prefix)
        self.holdings = Holdings()
        self.process = secrets.token_hex(6)
        self.record = self.names.record(self.process)
        self.holder = ""
        self.loop = asyncio.get_running_loop()
        self.link = Link(config, host, name, f"{config.prefix}-{self.process}", self)
        self._epoch = 0
        self._ttl_ms = round(config.holder_ttl_s * 1000)
        self._clock = host.clock
        self._flushing = False
        self._keeping: list[str] = []
        self._keep_at = self._clock.monotonic() + KEEP_S

    # -- limits ---------------------------------------------------------------------------------
    async def ask(self, takes: Sequence[Take], *, look: bool = False) -> Taken:
        """Takes all or nothing, or only looks whether that would be; one round trip.

        Raises:
            StoreError: nothing was granted.
        """
        for _ in range(TRIES):
            connection = self.link.connection or await self.link.ready()
            if self.holdings.due > BATCH:
                self._flush()
            if connection.full:
                raise self.link.failed(StoreError("full", "too many calls wait for an answer"))
            step = Step(self, connection, self.holdings.batch(), takes, look=look)
            try:
                taken = await step.future
            except asyncio.CancelledError:
                step.left()
                raise
            except StoreError as error:
                raise self.link.failed(error) from None
            if taken is not None:
                return taken
        raise self.link.failed(StoreError("lost", "the server forgets at once what it is told"))

    def settle(self, settles: Sequence[Settle]) -> None:
        """Keeps what takes have become, and tells the server in this turn of the loop or together with the next take."""
        holdings = self.holdings
        holdings.settle(settles)
        if self.link.connection is not None and not self._flushing:
            self.flush_soon()
        if holdings.dropped:
            self.link.dropped(holdings.dropped)
            holdings.dropped = 0

    def give_back(self, takes: Sequence[Take]) -> None:
        """Undoes takes that nobody will settle: whoever asked had left when they were granted."""
        self.settle([
            Settle(take.limit, take.amount, 0) if take.held else Settle(take.limit, 0, -take.amount) for take in takes
        ])  # fmt: skip

    def flush_soon(self) -> None:
        """Sends what is due at the end of this turn of the loop."""
        self._flushing = True
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self.link.connection
        while (
            connection is not None
            and not connection.full
            and self.holdings.unanswered < UNANSWERED
            and (batch := self.holdings.batch()) is not None
        ):
            Step(self, connection, batch)

    def counted(self, batch: Batch) -> None:
        """The server has counted ``batch``: the next may go."""
        self.holdings.arrived(batch)
        if self.holdings.due and not self._flushing:
            self.flush_soon()

    # -- the resident of the link ---------------------------------------------------------------
    def greeting(self) -> bytes:
        self._epoch += 1
        self.holder = f"{self.process}.{self._epoch}"
        held = self.holdings.told()
        keys = [self.names.holders, self.record, *map(self.names.bucket, held)]
        return HOLD.packed(set(), keys, [self.process, self._epoch, self._ttl_ms, *held.values()])

    def arrived(self, connection: Connection) -> None:
        # A new connection knows no script, so these go as text: none is refused for want of one, and then numbered anew.
        for batch in self.holdings.unsure():
            Step(self, connection, batch)
        self._flush()

    def left(self) -> None:
        self.holdings.lost()

    async def beat(self) -> None:
        self._flush()
        kept = self._to_keep()
        for _ in range(TRIES):
            connection = self.link.connection
            if connection is None:
                return
            keys = [self.names.holders, self.record, *map(self.names.bucket, kept)]
            reply = await connection.call(BEAT.packed(connection.known, keys, [self.holder, self._ttl_ms]))
            if reply == 1:
                connection.known.add(BEAT.digest)
                return
            if isinstance(reply, ReplyError):
                if code_of(reply) == "NOSCRIPT":
                    connection.known.discard(BEAT.digest)
                    continue
                self.link.drop(refusal_of(reply))
            else:
                self.link.drop(StoreError("forgotten", "the server has forgotten this process"))
            return

    def _to_keep(self) -> list[str]:
        """Some of the buckets of which something has been held for long: without traffic they would expire."""
        now = self._clock.monotonic()
        if now >= self._keep_at:
            self._keep_at = now + KEEP_S
            self._keeping = list(self.holdings.held)
        some, self._keeping = self._keeping[:KEEP], self._keeping[KEEP:]
        return [key for key in some if key in self.holdings.held]

    async def goodbye(self) -> None:
        """Tells what is due and that this process is gone: what it held is free again."""
        self._flush()
        connection = self.link.connection
        if connection is None:
            return
        try:
            connection.send(pack(("ZREM", self.names.holders, self.holder)), lambda reply: None)
            await connection.call(pack(("DEL", self.record)))
        except StoreError:
            return  # then it is free when the holder is overdue
