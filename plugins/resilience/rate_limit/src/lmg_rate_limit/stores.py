"""Where limits are counted: the host's store, and, while that is gone, what each limit has declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmg import Health, Host, ServiceError
from lmg.services import Take, Taken
from lmg.services.memory_counters import MemoryCounters

from .bounds import Scoped

if TYPE_CHECKING:
    from .reservation import Reservation

__all__ = ["Said", "Stores"]

UNLIMITED: Final = Taken(None, None, ())


@dataclass(frozen=True, slots=True)
class Said:
    """What a store has said of which takes. While the host's store is gone these are not those that were asked for."""

    taken: Taken
    scoped: Scoped
    takes: tuple[Take, ...]

    @property
    def refused(self) -> bool:
        """Whether nothing was taken."""
        return self.taken.refused is not None


class Stores:
    """Takes reservations: all of one, or nothing, in one step.

    It asks the host's store every time: that fails at once while it is known to be gone, so it heals by itself.
    """

    def __init__(self, host: Host, local_share: float) -> None:
        self._host = host
        self._share = local_share
        self._local = MemoryCounters(host.clock.monotonic)
        self.lost = ""
        self._losses = host.metrics.counter(
            "llm_rate_limit_store_loss_total",
            "Requests that were judged without the counter store, by what their limits say about that.",
            ("mode",),
        )

    async def take(self, reservation: Reservation) -> Said:
        """Takes ``reservation``, and says where.

        Raises:
            ServiceError: the store is gone, and one of the limits declares that it must not be.
        """
        store = self._host.counters
        try:
            taken = await store.take(reservation.takes)
        except ServiceError as error:
            self.lost = type(error).__name__
            return self._without_store(reservation, error)
        self.lost = ""
        if taken.refused is None:
            reservation.store = store
        return Said(taken, reservation.scoped, reservation.takes)

    def _without_store(self, reservation: Reservation, error: ServiceError) -> Said:
        scoped = reservation.scoped
        for mode in scoped.modes:
            self._losses.inc((mode,))
        if "deny" in scoped.modes:
            raise error
        local = scoped.standing_in(self._share)
        if local is None:
            return Said(UNLIMITED, scoped, ())
        kept = {take.limit.key: take.amount for take in reservation.takes}
        # A share of a limit may be less than what a request reserves that the whole has room for.
        takes = tuple(
            Take(bound.limit, min(kept[bound.limit.key], bound.capacity), held=True) for bound in local.bounds
        )
        taken = self._local.take_now(takes)
        if taken.refused is None:
            reservation.scoped, reservation.takes, reservation.store = local, takes, self._local
        return Said(taken, local, takes)

    def health(self) -> Health | None:
        """Degraded until the store answers again."""
        if not self.lost:
            return None
        return Health(
            "degraded",
            f"the counter store is gone ({self.lost}): each limit is kept as its on_store_loss says",
        )
