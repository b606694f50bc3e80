"""Prices, from the data that the package `genai-prices` carries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import Final

from genai_prices import types as source
from genai_prices.data import providers

from .tables import EMBEDS, Json

__all__ = ["newest_price", "price_table"]

_NANO: Final = Decimal("1e-9")
_KINDS: Final = ("input", "output", "cache_read", "cache_write")
# Every call pays this too, and a price by tokens cannot say it: such a model's price is left unknown.
_PER_CALL: Final = "requests_kcount"
# What is stated beside the tokens of text. The dearer of these is what reasoning and answers may cost.
_REASONING: Final = "output_reasoning_mtok"


def newest_price(today: date) -> date:
    """The newest day on which a price in the data began to hold: the data is at least as new as that."""
    starts = [
        entry.constraint.start_date
        for provider in providers
        for model in provider.models
        for entry in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(entry.constraint, source.StartDateConstraint)
    ]
    return max((day for day in starts if day <= today), default=date.min)


def price_table(day: date) -> Json:
    """What every vendor asked on ``day``, and what it has announced for later."""
    return {
        "format": 1,
        "what": "USD per million tokens",
        "date": day.isoformat(),
        "source": f"genai-prices {version('genai-prices')}, MIT, see NOTICE",
        "vendors": {provider.id: _vendor(provider, day) for provider in providers},
    }


def _vendor(provider: source.Provider, day: date) -> Json:
    return {
        "serves": None if provider.model_match is None else _clause(provider.model_match),
        "also": list(provider.fallback_model_providers or ()),
        "models": [_model(model, day) for model in provider.models],
    }


def _model(model: source.ModelInfo, day: date) -> Json:
    return {
        "id": model.id,
        "match": _clause(model.match),
        "context": model.context_window,
        "prices": [[start and start.isoformat(), price] for start, price in _timeline(model, day)],
    }


def _clause(clause: source.MatchLogic) -> Json:
    match clause:
        case source.ClauseEquals(equals=text):
            return {"=": text.lower()}
        case source.ClauseStartsWith(starts_with=text):
            return {"^": text.lower()}
        case source.ClauseEndsWith(ends_with=text):
            return {"$": text.lower()}
        case source.ClauseContains(contains=text):
            return {"~": text.lower()}
        case source.ClauseRegex(regex=text):
            return {"re": text}
        case source.ClauseOr(or_=inner):
            return {"or": [_clause(item) for item in inner]}
        case source.ClauseAnd(and_=inner):
            return {"and": [_clause(item) for item in inner]}
    raise TypeError(f"genai-prices has a clause of a new kind: {clause!r}")


def _timeline(model: source.ModelInfo, day: date) -> list[tuple[date | None, Json | None]]:
    """The price from ``day`` on (under None), then each later one under the day on which it begins."""
    entries = model.prices if isinstance(model.prices, list) else []
    limits = [entry.constraint for entry in entries]
    later = sorted(
        {c.start_date for c in limits if isinstance(c, source.StartDateConstraint) and c.start_date > day}
    )
    if not isinstance(model.prices, source.ModelPrice) and not entries:
        return []
    hours = {time(12)} | {c.start_time for c in limits if isinstance(c, source.TimeOfDateConstraint)}
    hours |= {c.end_time for c in limits if isinstance(c, source.TimeOfDateConstraint)}
    found: list[tuple[date | None, Json | None]] = []
    for start in (None, *later):
        moments = [datetime.combine(start or day, hour.replace(tzinfo=UTC)) for hour in hours]
        price = _expressed(_dearest(model.get_prices(moment) for moment in moments), model.id)
        if not found or found[-1][1] != price:
            found.append((start, price))
    return found


def _dearest(prices: Iterable[source.ModelPrice]) -> source.ModelPrice:
    """Where prices change by the hour, the dearest: a reservation must never be too small."""
    return max(prices, key=lambda price: _at(price.input_mtok, 0) + _at(price.output_mtok, 0))


def _at(price: Decimal | source.TieredPrices | None, tokens: int) -> Decimal:
    """One of the prices, in a request of ``tokens`` input tokens."""
    if isinstance(price, source.TieredPrices):
        return next((t.price for t in reversed(price.tiers) if tokens > t.start), price.base)
    return price if price is not None else Decimal(0)


def _expressed(price: source.ModelPrice, model: str) -> Json | None:
    """A price by tokens, or None where it is unknown, or is not one by tokens."""
    stated = {kind: getattr(price, f"{kind}_mtok") for kind in _KINDS}
    if stated["output"] is None and stated["input"] is not None and EMBEDS.search(model.lower()):
        stated["output"] = Decimal(0)  # it writes nothing that could cost
    if stated["input"] is None or stated["output"] is None or getattr(price, _PER_CALL) is not None:
        return None
    reasoning = getattr(price, _REASONING)
    if isinstance(reasoning, Decimal) and reasoning > _at(stated["output"], 0):
        stated["output"] = reasoning
    starts = sorted(
        {t.start for item in stated.values() if isinstance(item, source.TieredPrices) for t in item.tiers}
    )
    tiers = [[start, _flat(stated, start + 1)] for start in starts]
    return _flat(stated, 0) | ({"tiers": tiers} if tiers else {})


def _flat(stated: dict[str, Decimal | source.TieredPrices | None], tokens: int) -> Json:
    return {kind: _text(_at(price, tokens)) for kind, price in stated.items() if price is not None}


def _text(usd: Decimal) -> str:
    """The amount, up to the next nano-dollar: converted currencies have more digits than a price has."""
    return format(usd.quantize(_NANO, ROUND_CEILING).normalize(), "f")
