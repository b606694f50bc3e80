"""Keeps the directory as the database has it: everything once, then what has changed, by revision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lmg import ServiceError
from lmg.host import Clock

from .directory import Directory, Entry
from .snapshot import Taken
from .store import KeyStore, State

__all__ = ["Follower"]

log = logging.getLogger("lmg.auth_keys")

ASK_S: Final = 0.2
WAIT_S: Final = 0.5
MAX_WAITING: Final = 1_000
RESTORED_S: Final = 60.0
PAGE: Final = 1_000  # about 5 ms of work between two turns of the event loop


class Follower:
    """Polls the database. A failure leaves the directory as it is, and its age grows."""

    def __init__(
        self, store: KeyStore, directory: Directory, clock: Clock, on_failure: Callable[[], None]
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._on_failure = on_failure
        self._lock = asyncio.Lock()
        self._confirmed: float | None = None
        self._prepared = False
        self._asking: asyncio.Task[None] | None = None
        self._waiting = 0
        self.state = State("", -1)
        """What the directory holds."""
        self.away = False
        """Whether the last poll failed."""

    def age_s(self) -> float:
        """Seconds since the database last said what the directory holds; infinite where it never did."""
        return float("inf") if self._confirmed is None else self._clock.monotonic() - self._confirmed

    def begin_with(self, taken: Taken) -> None:
        """Starts from a snapshot, as old as it says.

        Raises:
            ServiceError: it comes from the future, so nobody can tell how old it is.
        """
        age = self._clock.now() - taken.confirmed_at
        if age < -60:
            raise ServiceError("the snapshot is from the future: the clock has been set back")
        self._directory.replace(taken.entries)
        self.state = taken.state
        self._confirmed = self._clock.monotonic() - max(0.0, age)

    async def follow(self, poll_s: float) -> None:
        """Polls until it is cancelled."""
        while True:
            await self._clock.sleep(poll_s)
            try:
                await self.poll()
            except ServiceError:
                continue

    async def poll(self) -> None:
        """Brings the directory up to date.

        Raises:
            ServiceError: the database did not answer; nothing is forgotten.
        """
        async with self._lock:
            asked = self._clock.monotonic()
            try:
                await self._catch_up()
            except ServiceError as error:
                self._on_failure()
                if not self.away:
                    log.warning("auth_keys_database_away error=%s", error)
                self.away = True
                raise
            if self.away:
                log.info("auth_keys_database_back")
            self.away, self._confirmed = False, asked

    # -- out of turn: for a key that another replica may just have issued ------------------------------
    def may_know_more(self) -> bool:
        """Whether it helps to ask now: not while the database is away, and not within 0.2 s of its last answer, so that
        a flood of unknown keys costs five small queries a second.
        """
        return not self.away and self.age_s() > ASK_S and self._waiting < MAX_WAITING

    async def ask(self) -> None:
        """Polls at once, once for all who wait; returns after half a second at the latest, whatever came of it."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._poll_quietly())
        self._waiting += 1
        try:
            await asyncio.wait({self._asking}, timeout=WAIT_S)
        finally:
            self._waiting -= 1

    async def _poll_quietly(self) -> None:
        with suppress(ServiceError):
            await self.poll()

    async def stop(self) -> None:
        """Ends a poll that runs out of turn."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _catch_up(self) -> None:
        if not self._prepared:  # after a start without the database, this is the first that we see of it
            await self._store.prepare()
            self._prepared = True
        there = await self._store.state()
        # Another database than before, or an older copy of it: what it says counts, all of it. After a longer absence it
        # may be a copy that has since counted as far as we had seen.
        another = there.epoch != self.state.epoch or there.revision < self.state.revision
        if another and self.state.epoch:
            log.warning("auth_keys_database_changed hint=another database, or an older copy of it")
        if another or self.age_s() > RESTORED_S or self._directory.has_room_again():
            await self._load(there)
        elif there.revision == self.state.revision:
            return
        await self._apply()

    async def _load(self, there: State) -> None:
        now = self._clock.now()
        entries: list[Entry] = []
        after = ""
        while rows := await self._store.live(after, now, PAGE):
            entries += self._directory.read(rows)
            after = rows[-1].id
            await asyncio.sleep(0)
        self._directory.replace(entries)
        self.state = there

    async def _apply(self) -> None:
        """What was committed while it reads has a higher revision, and comes with the next page."""
        epoch = self.state.epoch
        while rows := await self._store.changes(self.state.revision, PAGE):
            if len(self._directory) + len(rows) > self._directory.max_keys:
                self._directory.sweep(self._clock.now())
            for row in rows:
                self._directory.apply(row)
            self.state = State(epoch, rows[-1].revision)
            await asyncio.sleep(0)
