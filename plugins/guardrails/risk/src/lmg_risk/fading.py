"""Sums in the shared store that fade: each half-life they count half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lmg import Host

__all__ = ["FadingSums"]

SLOTS: Final = 16
"""Slots of half a half-life in one epoch: what is two epochs old counts for nothing."""


class FadingSums:
    """Named sums under keys. The store only adds, so each sum is kept by the slot of time in which it was added to.

    A key is read and added to in one step each, so that replicas lose nothing of each other's; it has at most 16 fields
    for each name and is forgotten two epochs after its last use.
    """

    def __init__(self, host: Host, half_life_s: float) -> None:
        self._host = host
        self._slot_s = half_life_s / 2
        self._ttl_s = 2 * SLOTS * self._slot_s

    async def add(self, key: str, amounts: Mapping[str, int]) -> dict[str, float]:
        """Adds to the sums under ``key``; what they were *before*, faded to now.

        Raises:
            ServiceError: the store is away.
        """
        now = int(self._host.clock.now() // self._slot_s)
        epoch, slot = divmod(now, SLOTS)
        tally = self._host.counters.tally
        here = await tally(
            f"{key}/{epoch}", {f"{name}@{slot}": n for name, n in amounts.items()}, self._ttl_s
        )
        before = await tally(f"{key}/{epoch - 1}", {}, self._ttl_s)
        sums: dict[str, float] = {}
        for fields, since in ((here, slot), (before, slot + SLOTS)):
            for field, count in fields.items():
                name, _, at = field.rpartition("@")
                age = since - int(at)
                own = amounts.get(name, 0) if age == 0 else 0
                if count > own:
                    sums[name] = sums.get(name, 0.0) + (count - own) * 0.5 ** (age / 2)
        return sums
