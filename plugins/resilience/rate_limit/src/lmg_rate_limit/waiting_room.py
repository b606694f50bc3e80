"""Requests that wait for their turn at a limit, and the task that gives the turns."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from lmg import QueueFull, ServiceError

from .fair_queue import FairQueue

if TYPE_CHECKING:
    from lmg import Host
    from lmg.services import Take

    from .config import QueueConfig
    from .reservation import Reservation
    from .stores import Said, Stores

__all__ = ["Place", "WaitingRoom"]

POLL_S: Final = 0.1
"""How often a store that others write to is asked whether they have given something back."""
POLLED: Final = 100
LONGEST_PAUSE_S: Final = 60.0
BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Place:
    """One request's place in the queue."""

    __slots__ = (
        "full",
        "keys",
        "not_before",
        "reservation",
        "since",
        "takes",
        "tenant",
        "turn",
        "until",
        "work",
    )

    def __init__(self, reservation: Reservation, tenant: str, since: float, until: float) -> None:
        self.reservation = reservation
        self.takes = reservation.takes  # what is taken elsewhere while the store is gone may be less
        self.keys = frozenset(take.limit.key for take in self.takes)
        self.full: frozenset[str] = frozenset()  # those that had no room when it was last asked
        self.not_before = 0.0  # before then asking again is of use only where something was given back
        self.tenant = tenant
        self.since = since
        self.until = until
        self.work = max(take.amount / take.limit.capacity for take in self.takes)
        self.turn: asyncio.Future[Said | None] = asyncio.get_running_loop().create_future()


class WaitingRoom:
    """Wakes when something is given back in this process, and when a bucket has drained far enough."""

    def __init__(self, config: QueueConfig, host: Host, name: str, stores: Stores) -> None:
        self._host = host
        self._name = name
        self._stores = stores
        self._weights = dict(config.weights)
        self.max_wait_s = config.max_wait_ms / 1000
        most = config.max_size if config.max_per_tenant is None else config.max_per_tenant
        self._queue: FairQueue[Place] = FairQueue(config.max_size, most, self._weight)
        self._ahead: dict[str, list[int]] = {}
        self._ends: list[tuple[float, int, Place]] = []
        self._numbers = itertools.count()
        self._freed: set[str] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._labels = (name,)
        self._depth = host.metrics.gauge(
            "llm_queue_depth", "Requests that wait for their turn.", ("component",)
        )
        self._waits = host.metrics.histogram(
            "llm_queue_wait_seconds",
            "How long requests waited, whether or not their turn came.",
            ("component",),
            buckets=BUCKETS,
        )

    def __len__(self) -> int:
        return len(self._queue)

    def contends(self, reservation: Reservation) -> bool:
        """Whether somebody waits for one of the same limits: who comes now comes after them."""
        ahead = self._ahead
        return bool(ahead) and any(take.limit.key in ahead for take in reservation.takes)

    def ahead(self) -> Mapping[str, int]:
        """What those who wait are waiting for, by the limit's key."""
        return {key: amount for key, (_, amount) in self._ahead.items()}

    def wake(self, takes: Sequence[Take]) -> None:
        """These were settled: perhaps it is the turn of somebody who waits for the same limits."""
        if self._ahead:
            self._freed.update(take.limit.key for take in takes)
            self._woken.set()

    async def wait(self, reservation: Reservation, tenant: str, seconds: float) -> Said | None:
        """Waits for the turn of ``reservation`` for at most ``seconds``: what was taken, or None where it did not come.

        Who is cancelled gives up its place, and what was taken for it at that very moment.

        Raises:
            QueueFull: there is no place.
            ServiceError: the store is gone, and a limit declares that it must not be.
        """
        now = self._host.clock.monotonic()
        place = Place(reservation, tenant, now, now + seconds)
        if not self._queue.add(place):
            raise QueueFull(f"{self._name}: no place to wait")
        self._count(place, 1)
        try:
            heapq.heappush(self._ends, (place.until, next(self._numbers), place))
            if self._task is None:
                self._task = self._host.spawn(self._give_turns(), name=f"{self._name}-turns")
            else:
                self._woken.set()
            return await place.turn
        except asyncio.CancelledError:
            # The turn and the cancellation may have come together.
            reservation.settle(None, now)
            self.wake(place.takes)
            raise
        finally:
            self._leave(place)
            self._waits.observe(self._host.clock.monotonic() - place.since, self._labels)

    async def stop(self) -> None:
        """Ends the task; whoever still waits is told that the turn did not come."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    # -- the queue ------------------------------------------------------------------------------
    def _weight(self, tenant: str) -> float:
        for pattern, weight in self._weights.items():
            if fnmatchcase(tenant, pattern):
                return weight
        return 1.0

    def _count(self, place: Place, step: int) -> None:
        for take in place.takes:
            ahead = self._ahead.setdefault(take.limit.key, [0, 0])
            ahead[0] += step
            ahead[1] += step * take.amount
            if not ahead[0]:
                del self._ahead[take.limit.key]
        self._depth.set(len(self._queue), self._labels)

    def _leave(self, place: Place) -> None:
        if self._queue.discard(place):
            self._count(place, -1)

    def _expire(self, now: float) -> None:
        """Ends the waits that have lasted as long as they may."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            self._end(heapq.heappop(ends)[2])
        if len(ends) > 2 * len(self._queue) + 64:
            # Most have had their turn long before their end.
            self._ends = [entry for entry in ends if not entry[2].turn.done()]
            heapq.heapify(self._ends)

    def _end(self, place: Place) -> None:
        self._leave(place)
        if not place.turn.done():
            place.turn.set_result(None)

    # -- the turns ------------------------------------------------------------------------------
    async def _give_turns(self) -> None:
        """Runs while somebody waits."""
        clock = self._host.clock
        try:
            while True:
                self._woken.clear()
                pause_s = await self._round()
                self._expire(clock.monotonic())
                if not self._queue:
                    return
                if self._ends:
                    pause_s = min(pause_s, self._ends[0][0] - clock.monotonic())
                await self._pause(pause_s)
        finally:
            # Whatever ended this, nobody is left waiting for it.
            self._task = None
            for place in self._queue.clear():
                self._count(place, -1)
                self._end(place)
            self._ends.clear()
            self._freed.clear()

    async def _round(self) -> float:
        """Gives every turn that can be given now; how long until there may be another one."""
        clock = self._host.clock
        freed, self._freed = self._freed, set()
        full: set[str] = set()
        soonest = math.inf
        for place in self._queue.turns():
            # Who comes later must not take what an earlier one is waiting for.
            if full.isdisjoint(place.keys):
                if place.not_before <= clock.monotonic() or not freed.isdisjoint(place.keys):
                    await self._try(place)
                full |= place.full
            if not place.turn.done():
                soonest = min(soonest, place.not_before)
            if any(self._ahead[key][0] >= len(self._queue) for key in full if key in self._ahead):
                break  # everybody waits for this one
        return min(soonest - clock.monotonic(), LONGEST_PAUSE_S)

    async def _try(self, place: Place) -> None:
        """Asks the store for one place: grants its turn, or notes when to ask again."""
        place.full = frozenset()
        try:
            said = await self._stores.take(place.reservation)
        except ServiceError as error:
            self._leave(place)
            if not place.turn.done():
                place.turn.set_exception(error)
            return
        if not said.refused:
            self._grant(place, said)
            return
        taken = said.taken
        place.full = frozenset(
            take.limit.key
            for take, level in zip(said.takes, taken.levels, strict=True)
            if take.amount > level.remaining
        )
        wait_s = math.inf if taken.retry_after_s is None else taken.retry_after_s
        if self._host.counters.shared:
            # Others may give something back at any time; the more wait, the less often each asks.
            wait_s = min(wait_s, POLL_S * (1 + len(self._queue) // POLLED))
        place.not_before = self._host.clock.monotonic() + wait_s

    def _grant(self, place: Place, said: Said) -> None:
        if place.turn.done():  # it left while the store was asked
            place.reservation.settle(None, place.since)
            self._leave(place)
            return
        self._queue.serve(place)
        self._count(place, -1)
        place.turn.set_result(said)

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.create_task(self._host.clock.sleep(max(0.0, seconds)))
        woken = loop.create_task(self._woken.wait())
        try:
            await asyncio.wait({due, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
            woken.cancel()
