"""Whose turn is next: fair shares between tenants, first come first served within one.

Start-time fair queuing (Goyal, Vin, Cheng 1996): a tenant's next request starts where its last one ended on a clock of
work done, so who waits with a thousand gets no more turns than who waits with one. The work of a request is the largest
share that it takes of a limit, divided by the tenant's weight.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["FairQueue", "Waiting"]


class Waiting(Protocol):
    """What waits: for whom, and how much of a limit it takes."""

    @property
    def tenant(self) -> str:
        """Whose turn it would be."""

    @property
    def work(self) -> float:
        """The largest share of a limit that it takes."""


W = TypeVar("W", bound=Waiting)


class _Lane(Generic[W]):
    """One tenant's requests, and where on the clock its next one starts."""

    __slots__ = ("start", "waiting", "weight")

    def __init__(self, start: float, weight: float) -> None:
        self.start = start
        self.weight = weight
        self.waiting: OrderedDict[W, None] = OrderedDict()


class FairQueue(Generic[W]):
    """At most ``max_size`` that wait, of one tenant at most ``max_per_tenant``. ``weight`` is a tenant's share."""

    def __init__(self, max_size: int, max_per_tenant: int, weight: Callable[[str], float]) -> None:
        self._max_size = max_size
        self._max_per_tenant = max_per_tenant
        self._weight = weight
        self._lanes: dict[str, _Lane[W]] = {}
        self._clock = 0.0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, item: W) -> bool:
        """Puts ``item`` at the end of its tenant's lane; False where there is no place for it."""
        lane = self._lanes.get(item.tenant)
        if self._size >= self._max_size or (lane is not None and len(lane.waiting) >= self._max_per_tenant):
            return False
        if lane is None:
            self._sweep()
            lane = self._lanes[item.tenant] = _Lane(self._clock, self._weight(item.tenant))
        elif not lane.waiting:
            lane.start = max(self._clock, lane.start)
        lane.waiting[item] = None
        self._size += 1
        return True

    def turns(self) -> Iterator[W]:
        """The one at the head of each lane, in the order of their turns; the next of its lane after one that has gone."""
        heap = [(lane.start, n, lane) for n, lane in enumerate(self._lanes.values()) if lane.waiting]
        heapq.heapify(heap)
        while heap:
            _, n, lane = heapq.heappop(heap)
            if not lane.waiting:
                continue
            head = next(iter(lane.waiting))
            yield head
            if head not in lane.waiting:
                heapq.heappush(heap, (lane.start, n, lane))

    def serve(self, item: W) -> None:
        """``item`` has had its turn: the next one of its tenant starts behind the work of this one."""
        lane = self._lanes[item.tenant]
        self._clock = max(self._clock, lane.start)
        lane.start += item.work / lane.weight
        self.discard(item)

    def discard(self, item: W) -> bool:
        """Takes ``item`` out, wherever it stands; False where it was not there."""
        lane = self._lanes.get(item.tenant)
        if lane is None or item not in lane.waiting:
            return False
        del lane.waiting[item]
        self._size -= 1
        if not self._size:
            # Nobody waits: who had more than others until now is even with them.
            self._lanes.clear()
            self._clock = 0.0
        return True

    def clear(self) -> list[W]:
        """Takes out all that wait."""
        left = [item for lane in self._lanes.values() for item in lane.waiting]
        for item in left:
            self.discard(item)
        return left

    def _sweep(self) -> None:
        """Forgets tenants of whom nobody waits: first those who are even with the others, at the bound all."""
        if len(self._lanes) > 2 * self._max_size:
            self._lanes = {tenant: lane for tenant, lane in self._lanes.items() if lane.waiting}
        elif len(self._lanes) > self._max_size:
            self._lanes = {
                tenant: lane
                for tenant, lane in self._lanes.items()
                if lane.waiting or lane.start > self._clock
            }
