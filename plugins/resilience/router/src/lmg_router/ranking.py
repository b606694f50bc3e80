"""In which order targets that can all serve a request are tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from lmg import Exchange
from lmg.host import Clock

from .cards import Card
from .config import RouterConfig
from .needs import Needs
from .prices import price_of
from .stickiness import draw_of, sticky_key

__all__ = ["Ranking", "Request"]

_UNPRICED: Final = (1, 0)


@dataclass(slots=True)
class Request:
    """What a ranking may look at. ``positions`` is where an alias names a target's model, if an alias was asked for."""

    exchange: Exchange
    needs: Needs
    positions: dict[Card, int] = field(default_factory=dict)


class Ranking:
    """Orders targets by a strategy. Those that it ranks alike are shared out: sticky, else by power of two choices.

    ``random`` may be replaced, to make choices repeatable.
    """

    def __init__(self, config: RouterConfig, clock: Clock) -> None:
        self.random = Random()
        self._clock = clock
        self._default_output = config.expected_output_tokens
        self._sticky = sticky_key(config.sticky)
        orders: dict[str, Callable[[list[Card], Request], list[Card]]] = {
            "priority": self._by_priority,
            "cost": self._by_cost,
            "latency": self._by_latency,
            "weighted": self._by_weight,
            "quality": self._by_quality,
        }
        self._order = orders
        self._strategies = {
            "": config.strategy,
            "on_prem": config.strategy,
            "low_latency": "latency",
            "low_cost": "cost",
            "high_quality": "quality" if config.quality else "priority",
        }

    def strategy_of(self, hint: str) -> str:
        """The strategy that a request with this hint is ranked by."""
        return self._strategies[hint]

    def order(self, strategy: str, cards: list[Card], request: Request) -> list[Card]:
        """``cards``, the one to try first at the front."""
        return self._order[strategy](cards, request)

    # -- strategies ---------------------------------------------------------------------------
    def _by_priority(self, cards: list[Card], request: Request) -> list[Card]:
        positions = request.positions
        if not positions:
            return self._sorted(cards, [card.target.priority for card in cards], request)
        return self._sorted(
            cards, [(positions.get(card, 0), card.target.priority) for card in cards], request
        )

    def _by_quality(self, cards: list[Card], request: Request) -> list[Card]:
        places = request.positions
        keys = [(-card.quality, places.get(card, 0), card.target.priority) for card in cards]
        return self._sorted(cards, keys, request)

    def _by_cost(self, cards: list[Card], request: Request) -> list[Card]:
        input_tokens = request.needs.prompt_tokens
        keys = []
        for card, output_tokens in zip(cards, self._lengths(cards, request), strict=True):
            prices = card.target.prices
            known = prices is not None
            price = (0, price_of(prices, input_tokens, output_tokens)) if known else _UNPRICED  # type: ignore[arg-type]
            keys.append((price, request.positions.get(card, 0), card.target.priority))
        return self._sorted(cards, keys, request)

    def _by_latency(self, cards: list[Card], request: Request) -> list[Card]:
        """Of two at random the faster one goes first, so that not every request goes to the fastest of all; the rest
        follow from fast to slow.
        """
        now = self._clock.monotonic()
        lengths = self._lengths(cards, request)
        scored = [(card.load.score(n, now), card) for card, n in zip(cards, lengths, strict=True)]
        # Shuffled first: where nothing tells two apart, neither is preferred for its place in the list.
        self.random.shuffle(scored)
        first = min(scored[:2], key=_score)
        rest = sorted((pair for pair in scored if pair is not first), key=_score)
        return [first[1], *(card for _, card in rest)]

    def _by_weight(self, cards: list[Card], request: Request) -> list[Card]:
        """Each target is first as often as its share says, second as often among those that are left, and so on
        (an exponential race); with `sticky`, the draws are those of the request's key.
        """
        key = self._sticky(request.exchange) if self._sticky is not None else None
        random = self.random.random

        def finish(card: Card) -> tuple[float, int]:
            draw = draw_of(key, card) if key is not None else 1.0 - random()
            return (-math.log(draw) / card.weight if card.weight else math.inf, card.target.priority)

        return sorted(cards, key=finish)

    # -- what they share ----------------------------------------------------------------------
    def _lengths(self, cards: list[Card], request: Request) -> list[int]:
        """How long each target's answer will probably be, in tokens.

        A target that has not answered yet is taken to write as much as the others: what is not known must neither
        attract requests nor keep them away. The length that was asked for is an upper bound, seldom reached.
        """
        if request.exchange.operation != "chat":
            return [0] * len(cards)
        known = [mean for card in cards if (mean := card.load.output_tokens)]
        usual = sum(known) / len(known) if known else self._default_output
        cap = request.needs.output_tokens
        lengths = [math.ceil(card.load.output_tokens or usual) for card in cards]
        return lengths if cap is None else [min(length, cap) for length in lengths]

    def _sorted(self, cards: list[Card], keys: Sequence[Any], request: Request) -> list[Card]:
        """``cards`` by ``keys``, the lowest first; runs of equal keys are shared out."""
        order = sorted(range(len(cards)), key=keys.__getitem__)
        if len(set(keys)) == len(keys):
            return [cards[n] for n in order]
        out: list[Card] = []
        start = 0
        for end in range(1, len(order) + 1):
            if end < len(order) and keys[order[end]] == keys[order[start]]:
                continue
            run = [cards[n] for n in order[start:end]]
            out += run if len(run) == 1 else self._shared_out(run, request)
            start = end
        return out

    def _shared_out(self, cards: list[Card], request: Request) -> list[Card]:
        key = self._sticky(request.exchange) if self._sticky is not None else None
        if key is not None:
            return sorted(cards, key=lambda card: draw_of(key, card), reverse=True)
        self.random.shuffle(cards)
        if cards[1].load.pending < cards[0].load.pending:
            cards[0], cards[1] = cards[1], cards[0]
        return cards


def _score(pair: tuple[float, Card]) -> float:
    return pair[0]
