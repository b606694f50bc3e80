"""The operator's entries: exact, and above what the tables say, setting by setting."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ConfigError, Prices
from lmg.config import validate
from lmg_catalogue import ModelCatalogue
from lmg_catalogue.money import nano, parse_usd

from .conftest import Opened, target, usd


async def prices_of(
    opened: Opened, models: dict[str, Any], provider: str = "openai", name: str = "gpt-4o"
) -> Any:
    return (await opened(models=models)).enrich(target(provider, name)).prices


async def test_an_entry_wins_field_by_field(opened: Opened) -> None:
    models = {"gpt-4o": {"prices": {"input": 2}, "context_tokens": 64_000, "vision": False}}
    known = (await opened(models=models)).enrich(target("openai", "gpt-4o"))
    assert known.prices == Prices(usd(2), usd(10), usd(1.25))
    assert known.capabilities.context_tokens == 64_000
    assert known.capabilities.max_output_tokens == 16_384
    assert known.capabilities.vision is False
    assert known.capabilities.tools is True


@pytest.mark.parametrize(
    "key",
    ["gpt-4o", "openai:gpt-4o", "openai/eu:gpt-4o", "gpt-*", "*", "openai:*", "openai/*:gpt-4?", "alias"],
)
async def test_a_key_is_a_model_or_a_provider_and_a_model_or_a_pattern(opened: Opened, key: str) -> None:
    catalogue = await opened(models={key: {"prices": {"input": 1}}})
    known = catalogue.enrich(target("openai/eu", "alias", "gpt-4o"))
    assert known.prices is not None
    assert known.prices.input == usd(1)


@pytest.mark.parametrize("key", ["gpt-4", "azure:gpt-4o", "openai/us:gpt-4o", "GPT-4o", "openai"])
async def test_a_key_of_another_name_says_nothing(opened: Opened, key: str) -> None:
    assert await prices_of(opened, {key: {"prices": {"input": 1}}}) == Prices(usd(2.5), usd(10), usd(1.25))


async def test_of_entries_that_match_the_later_wins_setting_by_setting(opened: Opened) -> None:
    models = {
        "*": {"prices": {"input": 1, "output": 2, "cache_read": 3}, "tools": False},
        "gpt-*": {"prices": {"output": 4}},
        "gpt-4o": {"prices": {"cache_read": 0}},
    }
    assert await prices_of(opened, models) == Prices(usd(1), usd(4), 0)


async def test_names_with_colons_are_names(opened: Opened) -> None:
    name = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    models = {name: {"prices": {"input": 9}}, f"bedrock:{name}": {"prices": {"output": 8}}}
    prices = await prices_of(opened, models, "bedrock", name)
    assert (prices.input, prices.output) == (usd(9), usd(8))


async def test_a_model_that_nobody_knows_is_priced_by_its_entry(opened: Opened) -> None:
    models = {"own": {"prices": {"input": "0.4", "output": "1.2"}, "context_tokens": 8192, "tools": True}}
    known = (await opened(models=models)).enrich(target("acme", "own"))
    assert known.prices == Prices(400_000_000, 1_200_000_000)
    assert (known.capabilities.context_tokens, known.capabilities.tools) == (8192, True)


async def test_half_a_price_is_no_price_and_is_said(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    assert await prices_of(opened, {"own": {"prices": {"input": 1}}}, "acme", "own") is None
    assert "catalogue_price_incomplete target=acme:own" in caplog.text


async def test_a_stated_zero_is_a_price(opened: Opened) -> None:
    models = {"own": {"prices": {"input": 0, "output": 0}}}
    assert await prices_of(opened, models, "acme", "own") == Prices(0, 0)


async def test_a_local_model_can_be_given_a_price(opened: Opened) -> None:
    models = {"llama": {"prices": {"output": "0.10"}}}
    known = (await opened(models=models)).enrich(target("local", "llama", on_prem=True))
    assert known.prices == Prices(0, usd(0.1))


async def test_same_as_looks_up_another_name(opened: Opened) -> None:
    catalogue = await opened(models={"azure:prod": {"same_as": "gpt-4o", "prices": {"input": 2}}})
    known = catalogue.enrich(target("azure", "prod"))
    assert known.prices == Prices(usd(2), usd(10), usd(1.25))
    assert known.capabilities.context_tokens == 128_000
    assert known.upstream_model == "prod"


async def test_embeddings_can_be_said(opened: Opened) -> None:
    catalogue = await opened(models={"own-vectors": {"embeddings": True}, "gpt-4o": {"embeddings": False}})
    assert catalogue.enrich(target("acme", "own-vectors")).operations == {"embeddings"}
    assert catalogue.enrich(target("acme", "gpt-4o")).operations == {"chat"}


# Prices of large requests


async def test_a_stated_price_holds_for_requests_of_every_size(opened: Opened) -> None:
    prices = await prices_of(opened, {"claude-*": {"prices": {"input": 1}}}, "anthropic", "claude-sonnet-4-5")
    ((start, tier),) = prices.above
    assert (start, tier.input, tier.output) == (200_000, usd(1), usd(22.5))


async def test_stated_tiers_replace_the_tables(opened: Opened) -> None:
    tiers = [{"above_input_tokens": 100_000, "input": 8}, {"above_input_tokens": 10_000, "output": 7}]
    models = {"claude-*": {"prices": {"input": 1, "tiers": tiers}}}
    prices = await prices_of(opened, models, "anthropic", "claude-sonnet-4-5")
    assert [start for start, _ in prices.above] == [10_000, 100_000]
    assert [(tier.input, tier.output) for _, tier in prices.above] == [(usd(1), usd(7)), (usd(8), usd(15))]


async def test_no_tiers_can_be_said(opened: Opened) -> None:
    models = {"claude-*": {"prices": {"tiers": []}}}
    assert (await prices_of(opened, models, "anthropic", "claude-sonnet-4-5")).above == ()


# Exactly what was written


@pytest.mark.parametrize(
    ("written", "amount"),
    [(0, 0), (2, 2 * 10**9), (2.5, 2_500_000_000), (0.075, 75_000_000), ("0.000000001", 1), ("15.00", 15 * 10**9),
     (1e-7, 100), (0.1, 100_000_000), (" 3.75 ", 3_750_000_000), (1_000_000, 10**15), (Decimal("0.3"), 300_000_000)],
)  # fmt: skip
def test_a_price_is_what_was_written(written: object, amount: int) -> None:
    assert nano(parse_usd(written)) == amount


@given(st.decimals(min_value=0, max_value=99_999, places=9))
def test_every_amount_down_to_a_nano_dollar_is_read_exactly(amount: Decimal) -> None:
    assert nano(parse_usd(format(amount, "f"))) == int(amount * 10**9)


@given(st.integers(0, 10**12).map(lambda n: Decimal(n).scaleb(-6)))
def test_a_number_of_up_to_fifteen_digits_is_read_as_it_was_written(amount: Decimal) -> None:
    assert parse_usd(float(amount)) == amount


@pytest.mark.parametrize(
    "written",
    [-1, "-0.5", float("nan"), float("inf"), "free", "", "1e3", "1,5", "0.0000000001", 1_000_001, "99999999", True, None, [], "\u0661",
     0.12345678901234567, "1.5\n2"],
)  # fmt: skip
def test_what_is_no_price_is_an_error(written: object) -> None:
    with pytest.raises(ValueError, match="price"):
        parse_usd(written)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"models": {"m": {"prices": {"input": "cheap"}}}}, "models.m.prices.input"),
        ({"models": {"m": {"price": {"input": 1}}}}, "models.m.price"),
        ({"models": {"m": {"context_tokens": 0}}}, "models.m.context_tokens"),
        ({"models": {"m": {"prices": {"tiers": [{"input": 1}]}}}}, "models.m.prices.tiers[0].above_input_tokens"),
        ({"models": {"m": {"prices": {"tiers": [{"above_input_tokens": 1}, {"above_input_tokens": 1}]}}}}, "models.m.prices.tiers"),
        ({"models": {" ": {}}}, ""),
        ({"models": {"m" * 300: {}}}, ""),
        ({"models": {f"m{n}": {} for n in range(10_001)}}, "models"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_an_error_with_its_place(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ModelCatalogue.Config, settings, (), None)
    assert caught.value.path.startswith(path)
