"""What need not be done at once, beside the poll: uses are written, expired keys go, the snapshot follows."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from lmg import Host

from .directory import Directory
from .follower import Follower
from .peppers import Peppers
from .snapshot import Snapshot
from .store import State
from .usage import Usage

__all__ = ["Tending"]

log = logging.getLogger("lmg.auth_keys")

TICK_S: Final = 1.0
SWEEP_S: Final = 10.0
REST: Final = 20  # times as long as it took to write a snapshot, the next one waits


class Tending:
    """Runs beside requests; its work grows with the number of keys, so none of it is done on their way."""

    def __init__(
        self,
        host: Host,
        directory: Directory,
        peppers: Peppers,
        follower: Follower,
        usage: Usage,
        snapshot: Snapshot | None,
    ) -> None:
        self._host = host
        self._directory, self._peppers = directory, peppers
        self._follower, self._usage, self._snapshot = follower, usage, snapshot
        self.unverifiable = 0
        """Keys that were hashed with a pepper that is not configured, at the last sweep."""
        self._saved = State("", -1)
        self._rested_at = 0.0
        self._unwritten = False
        self._live = host.metrics.gauge("llm_auth_keys_live", "Keys that are good.")
        self._age = host.metrics.gauge(
            "llm_auth_keys_age_seconds", "Seconds since the database last confirmed the keys in memory."
        )

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        swept = self._host.clock.monotonic()
        while True:
            await self._host.clock.sleep(TICK_S)
            now = self._host.clock.monotonic()
            if now - swept >= SWEEP_S:
                swept = now
                await self.sweep()
            elif self._follower.state != self._saved and now >= self._rested_at:
                # A revoked key must not come back with a snapshot of the minute before.
                await self.save()

    async def sweep(self) -> None:
        """Everything, once."""
        self._directory.sweep(self._host.clock.now())
        self.unverifiable = self._directory.unverifiable(self._peppers)
        self._live.set(len(self._directory))
        self._age.set(self._follower.age_s())
        await self._usage.flush()
        await self.save()

    async def finish(self) -> None:
        """Before the end: what was used, and the snapshot, where nobody has written a newer one."""
        await self._usage.flush()
        snapshot, state = self._snapshot, self._follower.state
        if snapshot is not None and not await asyncio.to_thread(snapshot.is_newer_than, state):
            await self.save()

    async def save(self) -> None:
        """Writes the snapshot where it changed, else that it is still right; neither while the database is away."""
        snapshot, follower, clock = self._snapshot, self._follower, self._host.clock
        if snapshot is None or follower.away:
            return
        state, entries, began = follower.state, self._directory.all(), clock.monotonic()
        confirmed_at = clock.now() - follower.age_s()
        try:
            if state != self._saved:
                await asyncio.to_thread(snapshot.save, state, confirmed_at, entries)
                self._saved = state
            else:
                await asyncio.to_thread(snapshot.confirm, state, confirmed_at)
        except OSError as error:
            if not self._unwritten:
                log.warning("auth_keys_snapshot_not_written error=%s", error.strerror)
            self._unwritten = True
        else:
            self._unwritten = False
        ended = clock.monotonic()
        self._rested_at = ended + REST * (ended - began)
