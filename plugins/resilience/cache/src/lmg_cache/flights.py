"""One upstream call for many requests that are the same: the first makes it, those behind it wait."""

from __future__ import annotations

import asyncio
from typing import Final

from lmg.host import Clock

from .entries import Entry
from .waiting import settled

__all__ = ["Flight", "Flights"]

MAX_FLIGHTS: Final = 100_000
"""Calls that can be waited for at a time; further ones are made without anybody knowing."""


class Flight:
    """A call that is being made. It lands once: with an answer, or with None where nobody can share it."""

    __slots__ = ("followers", "key", "landed")

    def __init__(self, key: bytes, landed: asyncio.Future[Entry | None]) -> None:
        self.key = key
        self.landed = landed
        self.followers = 0


class Flights:
    """The calls of one process that others may wait for, by fingerprint."""

    def __init__(self, clock: Clock, max_followers: int) -> None:
        self._clock = clock
        self._max_followers = max_followers
        self._flights: dict[bytes, Flight] = {}
        self.followers = 0

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: bytes) -> Flight | None:
        """The call that is being made for ``key``."""
        return self._flights.get(key)

    def lead(self, key: bytes) -> Flight | None:
        """A call that others may wait for from now on; None where there are too many."""
        if len(self._flights) >= MAX_FLIGHTS:
            return None
        flight = self._flights[key] = Flight(key, asyncio.get_running_loop().create_future())
        return flight

    def full(self, flight: Flight) -> bool:
        """Whether nobody else may wait for it."""
        return flight.followers >= self._max_followers

    def land(self, flight: Flight, entry: Entry | None) -> None:
        """Ends the call, once: whoever waits goes on."""
        if not flight.landed.done():
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            flight.landed.set_result(entry)

    def forget(self) -> None:
        """Lets nobody else wait for the calls that are being made."""
        self._flights.clear()

    async def follow(self, flight: Flight, seconds: float) -> Entry | None:
        """What the call brought; None where it brought nothing to share, or not within ``seconds``."""
        flight.followers += 1
        self.followers += 1
        try:
            return flight.landed.result() if await settled(flight.landed, self._clock, seconds) else None
        finally:
            flight.followers -= 1
            self.followers -= 1
