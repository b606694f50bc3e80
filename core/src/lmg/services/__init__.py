"""The host's services: protocols that at most one component implements, embedded ones by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ..exchange import Receipt, Target

__all__ = ["Catalogue", "Claim", "CounterStore", "Ledger", "Secrets", "Tokenizer"]


@dataclass(frozen=True, slots=True)
class Claim:
    """``amount`` more on counter ``key``, granted only while the sum stays within ``limit``.

    The counter forgets after ``window_s`` seconds without a first claim of a new window.
    """

    key: str
    amount: int
    limit: int
    window_s: float


class CounterStore(Protocol):
    """Counters that all workers share. Every call has a deadline of its own and raises ``ServiceError`` past it."""

    async def claim(self, claims: Sequence[Claim]) -> Claim | None:
        """Takes all claims in one atomic step, or none: then the first that did not fit is returned."""

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Takes ``amount`` off each counter again, never below zero."""

    async def read(self, key: str) -> int:
        """The counter's value; 0 where there is none or its window is over."""


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
