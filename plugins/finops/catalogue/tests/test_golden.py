"""Every price in the table costs what genai-prices itself calculates, in every mix of tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from lmg import Prices
from lmg_catalogue.tables import Tables

from .conftest import cost

if os.environ.get("CI"):
    import genai_prices
else:
    genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint

TABLES = Tables()
# input, output, of the input read from a cache, of the input written to one
MIXES = [
    (1_000, 500, 0, 0),
    (10_000, 1, 9_000, 0),
    (50_000, 0, 10_000, 20_000),
    (199_999, 7, 3, 5),
    (200_000, 64_000, 100_000, 0),
    (200_001, 64_000, 100_000, 1_000),
    (1_000_000, 128_000, 0, 999_999),
    (1, 1, 1, 0),
    (0, 0, 0, 0),
]

pytestmark = pytest.mark.skipif(
    not TABLES.prices.source.startswith(f"genai-prices {genai_prices.__version__},"),
    reason="the table is made of another version of genai-prices",
)


def constraints(model: Any) -> list[Any]:
    return [entry.constraint for entry in model.prices] if isinstance(model.prices, list) else []


def moments(model: Any) -> Iterator[datetime]:
    """Noon of the table's day, and of every later day on which a price begins."""
    starts = {c.start_date for c in constraints(model) if isinstance(c, StartDateConstraint)}
    for day in {TABLES.prices.date} | {day for day in starts if day > TABLES.prices.date}:
        yield datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def by_the_hour(model: Any) -> bool:
    return any(isinstance(c, TimeOfDateConstraint) for c in constraints(model))


def stated(price: ModelPrice) -> dict[str, Any]:
    return {key: value for key, value in price.__dict__.items() if value is not None}


def theirs(model: Any, provider: Any, moment: datetime, mix: tuple[int, int, int, int]) -> Decimal:
    kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    usage = genai_prices.Usage(**dict(zip(kinds, mix, strict=True)))
    amount = model.calc_price(usage, provider, genai_request_timestamp=moment).total_price
    return amount * Decimal(10**15)


def assert_same(ours: int, theirs: Decimal, mix: tuple[int, int, int, int], where: object) -> None:
    """Equal, but for amounts finer than a nano-dollar per million tokens, which are the next one in the table."""
    assert theirs <= ours <= theirs + (mix[0] + mix[1] if theirs != theirs.to_integral_value() else 0), where


PROVIDERS = get_snapshot().providers


def names(model: Any) -> set[str]:
    """The model's id, and every name that its clauses spell out: as they look names up, so must we."""

    def spelled(clause: Any) -> Iterator[str]:
        for inner in getattr(clause, "or_", None) or getattr(clause, "and_", None) or ():
            yield from spelled(inner)
        yield from (text for kind in ("equals", "starts_with") if (text := getattr(clause, kind, None)))

    return {model.id, *spelled(model.match)}


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: str(provider.id))
def test_every_model_costs_what_genai_prices_calculates(provider: Any) -> None:
    compared = 0
    for name in sorted(set().union(*map(names, provider.models))):
        model = provider.find_model(name, all_providers=PROVIDERS)
        found = TABLES.prices.find(provider.id, name)
        assert (found is None) == (model is None), name
        if model is None or found is None:
            continue
        assert found.context_tokens == model.context_window
        if by_the_hour(model):
            continue
        for moment in moments(model):
            prices = found.on(moment.date())
            price = model.get_prices(moment)
            if prices is None:
                assert unpriced(price), (name, price)
                continue
            if "output_reasoning_mtok" in stated(price):
                continue  # theirs asks for the reasoning tokens; ours holds the dearer price
            for mix in MIXES:
                ours = cost(prices, *mix)
                assert_same(ours, theirs(model, provider, moment, mix), mix, (name, moment, mix))
                compared += 1
    assert compared or provider.id in NOT_BY_TOKENS


NOT_BY_TOKENS = {"elevenlabs", "modal", "openai-decisions", "typesafe"}


def unpriced(price: ModelPrice) -> bool:
    said = stated(price)
    return "requests_kcount" in said or not {"input_mtok", "output_mtok"} <= said.keys()


def test_a_price_that_changes_by_the_hour_is_never_below_what_any_hour_costs() -> None:
    seen = 0
    for provider in PROVIDERS:
        for model in filter(by_the_hour, provider.models):
            found = TABLES.prices.find(provider.id, model.id)
            assert found is not None
            for day in (TABLES.prices.date, date(2027, 2, 1)):
                prices = found.on(day)
                assert prices is not None
                for hour in range(24):
                    moment = datetime(day.year, day.month, day.day, hour, 30, tzinfo=UTC)
                    for mix in MIXES:
                        assert cost(prices, *mix) >= theirs(model, provider, moment, mix)
                        seen += 1
    assert seen


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"), ("gemini-2.5-pro", "google"), ("grok-4.5", "x-ai"),
        ("mistral-large-latest", "mistral"), ("deepseek-chat", "deepseek"), ("o3-mini", "openai"), ("llama-3.3-70b", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_alone_leads_to_the_vendor_that_genai_prices_finds(name: str, vendor: str | None) -> None:
    assert TABLES.prices.vendor_of(name) == vendor
    try:
        theirs = get_snapshot().find_provider(name, None, None).id
    except LookupError:
        theirs = None
    assert theirs == vendor


def test_the_golden_figures_hold() -> None:
    """Written down, so that a change of the table or of the source is seen by somebody."""

    def price(vendor: str, name: str) -> Prices | None:
        found = TABLES.prices.find(vendor, name)
        return found.on(TABLES.prices.date) if found is not None else None

    gpt, claude = price("openai", "gpt-4o"), price("anthropic", "claude-sonnet-4-5")
    assert gpt == Prices(2_500_000_000, 10_000_000_000, 1_250_000_000)
    assert claude is not None
    assert (claude.input, claude.cache_write) == (3_000_000_000, 3_750_000_000)
    assert [start for start, _ in claude.above] == [200_000]
    # $0.075 of a million cached tokens, to the last nano-dollar
    mini = price("openai", "gpt-4o-mini")
    assert mini is not None
    assert cost(mini, 1_000_000, 0, cached=1_000_000) == 75_000_000 * 10**6
