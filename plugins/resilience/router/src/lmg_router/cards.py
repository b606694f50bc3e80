"""What the router keeps of each target: its facts, made ready once, and its load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from lmg import Capabilities, Target

from .load import Load
from .needs import JSON_SCHEMA, TOOLS, VISION
from .patterns import Patterns

__all__ = ["NO_LIMIT", "Card", "Cards"]

MAX_CARDS: Final = 4096
NO_LIMIT: Final = 2**63
DEFAULT_WEIGHT: Final = 1.0
# The model of a provider that names none is the caller's word.
_NOT_IN_A_HEADER: Final = re.compile(r"[^\x21-\x7e]")


class Card:
    """One target. ``lacks`` and ``unsaid`` are sets of needs as bits: what it cannot do, and what is not known."""

    __slots__ = (
        "header", "key", "lacks", "load", "longest", "quality", "target", "unsaid", "weight", "window",
    )  # fmt: skip

    def __init__(self, target: Target, load: Load, weight: float, quality: float) -> None:
        self.target = target
        self.load = load
        self.weight = weight
        self.quality = quality
        capabilities = target.capabilities
        self.lacks, self.unsaid = _bits(capabilities)
        self.window = NO_LIMIT if capabilities.context_tokens is None else capabilities.context_tokens
        self.longest = NO_LIMIT if capabilities.max_output_tokens is None else capabilities.max_output_tokens
        name = target.name
        self.header = _NOT_IN_A_HEADER.sub("?", name).encode("ascii")
        self.key = blake2b(name.encode("utf-8", "replace"), digest_size=16).digest()


class Cards:
    """The cards of all targets that were met. At ``MAX_CARDS`` those go of which nothing is known, then the oldest."""

    def __init__(
        self,
        weights: Patterns[float],
        quality: Patterns[float],
        *,
        tau_s: float,
        penalty_s: float,
        bound: int = MAX_CARDS,
    ) -> None:
        self._weights, self._quality = weights, quality
        self._tau_s, self._penalty_s = tau_s, penalty_s
        self._bound = bound
        self._cards: dict[tuple[str, str], Card] = {}

    def __len__(self) -> int:
        return len(self._cards)

    def __iter__(self) -> Iterator[Card]:
        return iter(self._cards.values())

    def of(self, target: Target) -> Card:
        """The card of ``target``; what was learned of it stays when its facts change."""
        card = self._cards.get((target.provider, target.model))
        if card is not None and card.target is target:
            return card
        if card is not None and card.target == target:
            card.target = target
            return card
        return self._made(target, card)

    def _made(self, target: Target, before: Card | None) -> Card:
        if before is None and len(self._cards) >= self._bound:
            self._make_room()
        load = before.load if before is not None else Load(self._tau_s, self._penalty_s)
        name, model = target.name, target.model
        weight = self._weights.find(name, model)
        quality = self._quality.find(name, model)
        card = Card(target, load, DEFAULT_WEIGHT if weight is None else weight, quality or 0.0)
        self._cards[target.provider, target.model] = card
        return card

    def _make_room(self) -> None:
        # Callers can name models at a provider that names none: their made-up names go first.
        idle = [key for key, card in self._cards.items() if not card.load.pending]
        blank = [key for key in idle if not self._cards[key].load.measured]
        for key in blank or idle[: self._bound // 2] or [*self._cards][: self._bound // 2]:
            del self._cards[key]


def _bits(capabilities: Capabilities) -> tuple[int, int]:
    """What a model with these capabilities cannot do, and what is not known of it."""
    lacks = unsaid = 0
    for bit, able in (
        (TOOLS, capabilities.tools),
        (VISION, capabilities.vision),
        (JSON_SCHEMA, capabilities.json_schema),
    ):
        if able is None:
            unsaid |= bit
        elif not able:
            lacks |= bit
    return lacks, unsaid
