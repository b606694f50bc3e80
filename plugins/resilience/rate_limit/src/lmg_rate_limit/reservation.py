"""What one exchange has taken of its limits, from the moment it was granted to the moment it is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmg.services import Settle, Take

if TYPE_CHECKING:
    from lmg import Usage
    from lmg.services import CounterStore

    from .bounds import Scoped

__all__ = ["Reservation"]


class Reservation:
    """The takes of one exchange. ``output`` is how long an answer was reserved for, None where none was.

    Until ``granted`` it holds nothing. Then ``store`` is where it was taken, and only there it is given back: all that
    is held by it is settled once, by ``settle``.
    """

    __slots__ = ("_spent", "output", "scoped", "since", "store", "takes", "upstream")

    def __init__(self, scoped: Scoped, takes: tuple[Take, ...], output: int | None) -> None:
        self.scoped = scoped
        self.takes = takes
        self.output = output
        self.store: CounterStore | None = None
        self.since = 0.0
        self.upstream = False
        self._spent = False

    def send(self, now: float) -> None:
        """Its request goes upstream now: from here on it is spent, and drains. Only the first time counts."""
        if not self._spent and self.store is not None:
            self._spent = True
            scoped = self.scoped
            if scoped.sent:
                self.store.settle(scoped.sent)
                scoped.admitted.add(now - self.since)

    def settle(self, usage: Usage | None, now: float) -> None:
        """Gives back what is held, and counts what was used; without ``usage`` nothing was."""
        store, self.store = self.store, None
        if store is None:
            return
        scoped = self.scoped
        settles = scoped.freed
        if not self.upstream and scoped.sent:
            # Whatever refused it stood between here and the upstream: it was no request of this limit.
            settles += scoped.refunded if self._spent else scoped.unsent
        if scoped.tokens:
            takes = self.takes
            at = len(scoped.fixed)
            counted = []
            for _, measure in scoped.tokens:
                take = takes[at]
                counted.append(
                    Settle(take.limit, take.amount, measure.used(usage) if usage is not None else 0)
                )
                at += 1
            settles += tuple(counted)
        if settles:
            store.settle(settles)
        if usage is not None:
            scoped.held.add(now - self.since)
