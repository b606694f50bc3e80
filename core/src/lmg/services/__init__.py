"""The host's services: protocols that at most one component implements, embedded ones by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ..exchange import Receipt, Target

__all__ = [
    "Catalogue", "CounterStore", "Ledger", "Level", "Limit", "Secrets", "Settle", "Take", "Taken", "Tokenizer",
]  # fmt: skip


class Limit(NamedTuple):
    """At most ``capacity`` at once under ``key``.

    What was spent drains evenly, a full ``capacity`` in ``window_s`` seconds: a token bucket. ``window_s`` None
    is a number of slots: nothing is ever spent, only held.
    """

    key: str
    capacity: int
    window_s: float | None


class Take(NamedTuple):
    """``amount`` of ``limit``: spent at once, or ``held`` until it is settled (it does not drain meanwhile)."""

    limit: Limit
    amount: int
    held: bool = False


class Settle(NamedTuple):
    """Of ``limit``, ``release`` is held no longer and ``spend`` has been used, be it beyond the capacity; a negative
    ``spend`` gives back what was spent and not used after all, down to nothing spent.
    """

    limit: Limit
    release: int
    spend: int


class Level(NamedTuple):
    """What is left of a limit, and the seconds until all of it is, were nothing taken and nothing held."""

    remaining: int
    reset_s: float


class Taken(NamedTuple):
    """The answer to ``CounterStore.take``: nothing was taken where ``refused`` names the take that has to wait longest.

    ``retry_after_s`` is when all would fit, were nobody else to come; None where time alone does not help (all
    slots are taken, or the amount is beyond the capacity). ``levels`` are in the order of the takes.
    """

    refused: Take | None
    retry_after_s: float | None
    levels: tuple[Level, ...]


class CounterStore(Protocol):
    """What all workers (and, with a server behind it, all replicas) count together.

    Every awaited call has a deadline of its own; past it, or where the store is gone, it raises ``ServiceError``.
    What a holder (a worker) held is free again when it is gone, however it went.
    """

    shared: bool
    """Whether anybody else sees what this process writes."""

    async def take(self, takes: Sequence[Take]) -> Taken:
        """Takes all in one atomic step, or nothing; nothing, too, where whoever asked was cancelled."""

    async def peek(self, takes: Sequence[Take]) -> Taken:
        """What ``take`` would answer, taking nothing."""

    def settle(self, settles: Sequence[Settle]) -> None:
        """Hands over what takes have become: applied in this order, soon and once. Never waits, never raises."""

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        """What is left, taking nothing."""

    async def tally(self, key: str, amounts: Mapping[str, int], ttl_s: float) -> dict[str, int]:
        """Adds to the named sums under ``key`` and returns all of them; they are forgotten ``ttl_s`` after the last call."""

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        """Keeps ``value`` for ``ttl_s`` seconds; False where ``only_new`` and there is one already (a lease, a lock)."""

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values under ``keys``, None where there is none."""

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        """Forgets what is kept under ``key``, or does so only where it still is ``value``; whether it did."""


class Ledger(Protocol):
    """Where receipts go. A receipt is recorded once; a second one of the same exchange is ignored."""

    def record(self, receipt: Receipt) -> None:
        """Hands over a receipt without waiting; raises ``QueueFull`` at the bound."""

    async def recent(self, limit: int = 100) -> list[Receipt]:
        """The newest receipts first, at most ``limit``."""

    async def flush(self) -> None:
        """Returns when everything recorded before is stored."""


class Catalogue(Protocol):
    """What is known of models: what they can do, and what they cost. Asked once a target, at start."""

    def enrich(self, target: Target) -> Target:
        """``target`` with its capabilities and prices, as far as they are known; no I/O."""


class Tokenizer(Protocol):
    """Counts tokens well enough to reserve for them."""

    def estimate(self, text: str, model: str) -> int:
        """A likely number of tokens."""

    def upper_bound(self, text: str, model: str) -> int:
        """A number that the true count does not exceed."""


class Secrets(Protocol):
    """Named secrets; values cannot be formatted by accident."""

    def get(self, name: str) -> SecretStr:
        """The secret; raises ``ServiceError`` where there is none."""
