"""What this process knows to be true: what it holds, and what the server has yet to hear of.

The server's numbers follow from these, not the other way round. After anything that leaves it unsure what arrived, it is
told again: what is held as a whole, what was used in the same numbered batches, of which it counts each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lmg.services import Limit, Settle, Take

__all__ = ["BATCH", "MAX_DUE", "Batch", "Due", "Holdings"]

BATCH: Final = 200
"""Settlements of one script call: the server does nothing else meanwhile."""
MAX_DUE: Final = 10_000
"""Limits whose use is kept while the server is gone; that of further ones is dropped."""


@dataclass(slots=True)
class Due:
    """What the server is to hear of one limit."""

    limit: Limit
    release: int
    spend: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Settlements that are sent together; the server counts a ``number`` once, and only in rising order."""

    number: int
    dues: tuple[Due, ...]


class Holdings:
    """What is held by key, what is due by key, and the batches that were sent and not answered."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.dropped = 0
        self._due: dict[str, Due] = {}
        self._sent: dict[int, Batch] = {}
        self._number = 0
        # Whether the server has heard what is held, so that a release is news to it.
        self._told = False

    # -- what happens here ----------------------------------------------------------------------
    def granted(self, takes: Sequence[Take]) -> None:
        """The server has said that these were taken."""
        held = self.held
        for take in takes:
            if take.held and take.amount:
                key = take.limit.key
                held[key] = held.get(key, 0) + take.amount

    def settle(self, settles: Sequence[Settle]) -> None:
        """What was held is held no longer, at once; the server is to hear of it, and of what was used."""
        for one in settles:
            limit, release, spend = one.limit, one.release, one.spend
            if release:
                left = self.held.get(limit.key, 0) - release
                if left > 0:
                    self.held[limit.key] = left
                else:
                    self.held.pop(limit.key, None)
            if limit.window_s is None:
                spend = 0
            if not self._told:
                release = 0
            if release or spend:
                self._owe(limit, release, spend)

    def _owe(self, limit: Limit, release: int, spend: int) -> None:
        due = self._due.get(limit.key)
        if due is None:
            # A release has its place: there are no more of them than there was held.
            if len(self._due) >= MAX_DUE and not release:
                self.dropped += 1
                return
            due = self._due[limit.key] = Due(limit, 0, 0)
        due.limit = limit
        due.release += release
        due.spend += spend
        if not self._told:
            # However long the server was gone, a bucket is at most full when it is back: it drains within a window.
            due.spend = min(due.spend, limit.capacity)

    # -- what the server hears ------------------------------------------------------------------
    def told(self) -> dict[str, int]:
        """What is held, to be told to the server; from here on a release is told too."""
        self._told = True
        return self.held

    @property
    def unanswered(self) -> int:
        """How many batches were sent and not answered."""
        return len(self._sent)

    @property
    def due(self) -> int:
        """Of how many limits something is to be told."""
        return len(self._due)

    def batch(self) -> Batch | None:
        """The next settlements to send, which count as sent; None where there are none."""
        if not self._due:
            return None
        if len(self._due) <= BATCH:
            dues, self._due = tuple(self._due.values()), {}
        else:
            dues = tuple([self._due.pop(key) for key in list(self._due)[:BATCH]])
        self._number += 1
        batch = self._sent[self._number] = Batch(self._number, dues)
        return batch

    def arrived(self, batch: Batch) -> None:
        """The server has counted it."""
        self._sent.pop(batch.number, None)

    def refused(self, batch: Batch) -> None:
        """The server has surely not counted it, as it was sent for the first time: it is due again, in a later batch."""
        if self._sent.pop(batch.number, None) is not None:
            for due in batch.dues:
                self._owe(due.limit, due.release, due.spend)

    def unsure(self) -> Iterator[Batch]:
        """The batches that may or may not have arrived, in order: they are sent again as they are."""
        return iter(list(self._sent.values()))

    def lost(self) -> None:
        """The connection is gone: what is held will be told as a whole, so no release is due any more."""
        self._told = False
        for due in (*self._due.values(), *(due for batch in self._sent.values() for due in batch.dues)):
            due.release = 0
        self._due = {key: due for key, due in self._due.items() if due.spend}
