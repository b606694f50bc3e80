"""Keeps hold of keys while their first exchanges run: a process that dies loses them within one lease."""

from __future__ import annotations

import asyncio
import logging

from lmg import Host, QueueFull, ServiceError
from lmg.services import CounterStore

from .records import Record

__all__ = ["Claim", "Leases"]

log = logging.getLogger("lmg")


class Claim:
    """One exchange's hold on a key, and what its answer was. ``settled`` is set once: with the record, or None where
    the key is free again.
    """

    __slots__ = ("answer", "busy", "lock", "name", "over", "record", "settled", "store", "waiting")

    def __init__(self, name: str, record: Record) -> None:
        self.name, self.record = name, record
        self.lock = record.value()
        self.store: CounterStore | None = None
        self.settled: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self.busy = asyncio.Lock()
        self.over = False
        self.waiting = 0
        self.answer: tuple[int, bytes, bytes] | list[bytes] | None = None
        """A whole answer (status, type, body), the events of a stream, or None where neither could be kept."""


class Leases:
    """Renews what is held every third of a lease, in one task that runs only while something is."""

    def __init__(self, host: Host, name: str, lease_s: float) -> None:
        self._host, self._name, self._lease_s = host, name, lease_s
        self._held: dict[str, Claim] = {}
        self._keeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, claim: Claim) -> None:
        """Renews ``claim`` from now on."""
        self._held[claim.name] = claim
        if self._keeper is None or self._keeper.done():
            try:
                self._keeper = self._host.spawn(self._keep(), name=f"{self._name}:leases")
            except QueueFull:
                log.warning("lease_not_renewed component=%s", self._name)

    def drop(self, claim: Claim) -> None:
        """Renews it no longer."""
        if self._held.get(claim.name) is claim:
            del self._held[claim.name]

    def stop(self) -> None:
        """Ends the task."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def _keep(self) -> None:
        while self._held:
            await self._host.clock.sleep(self._lease_s / 3)
            for claim in list(self._held.values()):
                await self._renew(claim)

    async def _renew(self, claim: Claim) -> None:
        async with claim.busy:  # what came of the key must not be overwritten by a late renewal
            if claim.over or claim.store is None:
                return
            try:
                (there,) = await claim.store.get([claim.name])
                if there == claim.lock or there is None:
                    await claim.store.put(claim.name, claim.lock, self._lease_s, only_new=there is None)
                else:
                    self.drop(claim)  # it lapsed, and somebody else has taken the key
            except ServiceError:
                log.warning("lease_not_renewed component=%s", self._name)
