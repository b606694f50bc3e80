"""What the catalogue says of a target, and what it leaves unknown."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from lmg import Capabilities, ConfigError, Host, Prices
from lmg.cli import main
from lmg.testing import Harness
from lmg_catalogue import ModelCatalogue
from lmg_catalogue.names import spellings
from lmg_catalogue.plugin import MAX_REMEMBERED
from lmg_catalogue.tables import BUNDLED, Tables

from .conftest import Opened, clock_at, target, usd

# Whose models and prices


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"), ("openai/eu", "gpt-4o"), ("azure", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-sonnet-4-5-20250929"), ("gemini", "gemini-2.5-pro"), ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock/eu", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"), ("groq", "openai/gpt-oss-120b"), ("xai", "grok-4.5"),
        ("mistral", "mistral-large-latest"), ("deepseek", "deepseek-v4-pro"), ("together", "openai/gpt-oss-120b"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
    ],
)  # fmt: skip
async def test_a_model_of_each_provider_type_is_known(opened: Opened, provider: str, model: str) -> None:
    known = (await opened()).enrich(target(provider, model))
    assert known.prices is not None
    assert 0 < known.prices.input < known.prices.output
    able = known.capabilities
    assert able.context_tokens is not None
    assert able.context_tokens >= 128_000
    assert able.tools is True
    assert (known.provider, known.model, known.upstream_model) == (provider, model, model)


async def test_the_upstream_name_counts_and_not_the_clients(opened: Opened) -> None:
    catalogue = await opened()
    assert (
        catalogue.enrich(target("openai", "fast", "gpt-4o-mini")).prices
        == catalogue.enrich(target("openai", "gpt-4o-mini")).prices
    )
    assert catalogue.enrich(target("openai", "gpt-4o-mini", "some-deployment")).prices is None


async def test_a_provider_type_that_says_nothing_is_looked_up_by_name_alone(opened: Opened) -> None:
    catalogue = await opened()
    known = catalogue.enrich(target("acme", "gpt-4o"))
    assert known.prices == catalogue.enrich(target("openai", "gpt-4o")).prices
    assert known.capabilities.context_tokens == 128_000


async def test_a_vendor_does_not_have_the_models_of_another(opened: Opened) -> None:
    known = (await opened()).enrich(target("anthropic", "gpt-4o"))
    assert known.prices is None


async def test_a_provider_is_told_whose_prices_it_has(opened: Opened) -> None:
    catalogue = await opened(vendors={"openai/fw": "fireworks", "acme": "groq"})
    for provider, vendor, name in (
        ("openai/fw", "fireworks", "accounts/fireworks/models/gpt-oss-120b"),
        ("acme", "groq", "openai/gpt-oss-120b"),
        ("acme/two", "groq", "openai/gpt-oss-120b"),
    ):
        found = Tables().prices.find(vendor, name)
        assert found is not None
        prices = catalogue.enrich(target(provider, name)).prices
        assert prices == found.on(date(2026, 11, 20)) is not None


async def test_a_vendor_that_no_table_knows_is_an_error_with_the_nearest(opened: Opened) -> None:
    with pytest.raises(
        ConfigError, match=r"services\.catalogue\.vendors\.openai/fw.*did you mean 'fireworks'"
    ):
        await opened(vendors={"openai/fw": "firework"})


async def test_the_same_model_costs_more_where_a_vendor_asks_more(opened: Opened) -> None:
    catalogue = await opened()
    name = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    world = catalogue.enrich(target("bedrock", f"global.{name}")).prices
    region = catalogue.enrich(target("bedrock", f"eu.{name}")).prices
    assert world is not None
    assert region is not None
    assert region.input > world.input


# Unknown is not zero


async def test_what_no_table_knows_stays_unknown(opened: Opened) -> None:
    known = (await opened()).enrich(target("acme", "their-own-model"))
    assert known == target("acme", "their-own-model")
    assert known.prices is None
    assert known.capabilities == Capabilities()


@pytest.mark.parametrize("model", ["sonar", "sonar-pro"])
async def test_a_model_that_costs_something_per_call_is_not_priced_by_its_tokens(
    opened: Opened, model: str
) -> None:
    assert (await opened()).enrich(target("perplexity", model)).prices is None


async def test_an_input_price_alone_prices_an_embedding_model_and_no_other(opened: Opened) -> None:
    catalogue = await opened()
    assert catalogue.enrich(target("openai", "text-embedding-3-small")).prices == Prices(usd(0.02), 0)
    assert catalogue.enrich(target("azure", "davinci")).prices is None
    assert catalogue.enrich(target("openai", "whisper-1")).prices is None


async def test_a_target_on_the_operators_premises_is_free_by_default(opened: Opened) -> None:
    known = (await opened()).enrich(target("local", "llama-3.3-70b", on_prem=True))
    assert known.prices == Prices(0, 0)


async def test_a_target_on_the_operators_premises_can_have_an_unknown_price(opened: Opened) -> None:
    catalogue = await opened(on_prem_is_free=False)
    assert catalogue.enrich(target("local", "llama-3.3-70b", on_prem=True)).prices is None
    assert catalogue.enrich(target("local", "gpt-4o", on_prem=True)).prices is None


async def test_weights_on_premises_have_the_familys_flags_and_no_limits(opened: Opened) -> None:
    able = (await opened()).enrich(target("local", "m", "meta-llama/Llama-3.3-70B-Instruct", on_prem=True))
    assert able.capabilities == Capabilities(tools=True, vision=False, reasoning=False)


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("llama3.3:70b", Capabilities(tools=True, vision=False, reasoning=False)),
        ("llama3.2-vision:11b", Capabilities(tools=True, vision=True, reasoning=False)),
        ("qwen3:8b", Capabilities(tools=True, vision=False, reasoning=True)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", Capabilities(vision=True, reasoning=False)),
        ("openai/gpt-oss-20b", Capabilities(tools=True, vision=False, reasoning=True)),
        ("mistralai/Mistral-7B-Instruct-v0.3", Capabilities(tools=True, vision=False, reasoning=False)),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", Capabilities(tools=False, vision=False, reasoning=True)),
        ("google/gemma-3-27b-it", Capabilities(vision=True, reasoning=False)),
        ("our-own-finetune", Capabilities()),
    ],
)
async def test_open_weights_are_known_by_their_family(
    opened: Opened, model: str, flags: Capabilities
) -> None:
    assert (await opened()).enrich(target("vllm", model, on_prem=True)).capabilities == flags


async def test_what_a_provider_states_itself_stands(opened: Opened) -> None:
    stated = replace(
        target("openai", "gpt-4o"),
        prices=Prices(1, 2),
        capabilities=Capabilities(context_tokens=99, tools=False),
    )
    known = (await opened()).enrich(stated)
    assert known.prices == Prices(1, 2)
    assert known.capabilities.context_tokens == 99
    assert known.capabilities.tools is False
    assert known.capabilities.vision is True


# Operations


async def test_an_embedding_model_is_asked_for_embeddings_only(opened: Opened) -> None:
    catalogue = await opened()
    assert catalogue.enrich(target("openai", "text-embedding-3-small")).operations == {"embeddings"}
    assert catalogue.enrich(target("openai", "gpt-4o")).operations == {"chat"}
    assert catalogue.enrich(target("local", "nomic-embed-text", on_prem=True)).operations == {"embeddings"}


async def test_operations_are_never_added_and_never_all_taken(opened: Opened) -> None:
    catalogue = await opened()
    only = replace(target("openai", "text-embedding-3-small"), operations=frozenset({"chat"}))
    assert catalogue.enrich(only).operations == {"chat"}


# Time


async def test_a_price_that_was_announced_holds_from_its_day_on(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(
        '{"format": 1, "date": "2026-01-01", "source": "test", "vendors": {"openai": {"serves": null, "also": [], "models": ['
        '{"id": "m", "match": {"=": "m"}, "context": null, "prices": [[null, {"input": "1", "output": "2"}], ["2026-12-01", {"input": "3", "output": "4"}]]}]}}}'
    )
    for day, price in ((date(2026, 11, 30), usd(1)), (date(2026, 12, 1), usd(3))):
        known = (await opened(day=day, data_dir=tmp_path)).enrich(target("openai", "m"))
        assert known.prices is not None
        assert known.prices.input == price


async def test_tables_older_than_a_year_are_said_once_at_start(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    day = Tables().date
    await opened(day=day.replace(year=day.year + 1))
    assert caplog.records == []
    catalogue = await opened(day=day.replace(year=day.year + 1, month=12))
    catalogue.enrich(target("openai", "gpt-4o"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "catalogue_old" in record.getMessage()
    assert str(day) in record.getMessage()


# Names


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4.5:free", "claude-sonnet-4.5"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "ft:gpt-4o-mini"),
        ("GPT-4o", "gpt-4o"),
    ],
)
def test_a_model_is_known_under_plainer_spellings_of_its_name(name: str, known_as: str) -> None:
    found = list(spellings(name))
    assert found[0] == name.lower()
    assert known_as in found
    assert len(found) == len(set(found))


async def test_a_fine_tune_does_not_cost_what_its_base_costs(opened: Opened) -> None:
    catalogue = await opened()
    tuned = catalogue.enrich(target("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc"))
    assert tuned.prices == Prices(usd(0.3), usd(1.2))
    assert tuned.capabilities.context_tokens == 128_000
    assert catalogue.enrich(target("openai", "gpt-4o-mini")).prices == Prices(usd(0.15), usd(0.6), usd(0.075))


async def test_a_name_that_is_too_long_is_nobodys(opened: Opened) -> None:
    name = "gpt-4o" + "-" * 300
    assert (await opened()).enrich(target("openai", name)) == target("openai", name)


async def test_names_that_clients_invent_are_not_remembered_without_bound(opened: Opened) -> None:
    catalogue = await opened()
    for n in range(MAX_REMEMBERED + 50):
        catalogue.enrich(target("acme", f"m{n}"))
    assert catalogue._remembered.cache_info().currsize == MAX_REMEMBERED


# Tables


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "no table of format 1"),
        ('{"format": 2}', "no table of format 1"),
        ('{"format": 1}', "damaged"),
        ('{"format": 1, "date": "soon", "source": "", "vendors": {}}', "damaged"),
    ],
)
async def test_a_table_that_cannot_be_used_stops_the_start(
    opened: Opened, tmp_path: Path, text: str | None, said: str
) -> None:
    folder = tmp_path / "tables"
    if text is not None:
        folder.mkdir()
        (folder / "prices.json").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        await opened(data_dir=folder)
    assert caught.value.path == "services.catalogue.data_dir"


async def test_tables_of_ones_own_replace_the_bundled_ones(opened: Opened, tmp_path: Path) -> None:
    for name in ("prices.json", "capabilities.json"):
        shutil.copy(BUNDLED / name, tmp_path)
    path = tmp_path / "prices.json"
    path.write_text(
        path.read_text().replace('"input": "2.5", "output": "10"', '"input": "7", "output": "10"')
    )
    known = (await opened(data_dir=tmp_path)).enrich(target("openai", "gpt-4o"))
    assert known.prices is not None
    assert known.prices.input == usd(7)


def test_the_bundled_tables_carry_the_licences_of_their_sources() -> None:
    notice = (BUNDLED / "NOTICE").read_text()
    for said in (
        "Pydantic Services Inc.",
        "Berri AI",
        "Permission is hereby granted",
        "prices.json",
        "capabilities.json",
    ):
        assert said in notice


def test_every_bundled_row_can_be_read() -> None:
    tables = Tables()
    for vendor, entry in tables._rows.items():
        for name in entry["models"]:
            able = tables.capabilities(vendor, name).capabilities
            for limit in (able.context_tokens, able.max_output_tokens):
                assert limit is None or 0 < limit <= 20_000_000, name
    for family in tables._families:
        assert tables.family(family["match"][0].replace("*", "x")) is not None
        Capabilities(**{key: value for key, value in family.items() if key not in ("match", "embeddings")})


def test_starting_imports_nothing_that_could_connect() -> None:
    """Neither source of the tables is part of the gateway: one brings an HTTP client and an updater."""
    program = (
        "import asyncio, sys, lmg_catalogue; from lmg import Host, Target\n"
        "before = set(sys.modules)\n"
        "async def run():\n"
        "    c = lmg_catalogue.ModelCatalogue(lmg_catalogue.ModelCatalogue.Config(), Host(), 'catalogue')\n"
        "    await c.start(); assert c.enrich(Target('openai', 'gpt-4o', 'gpt-4o')).prices\n"
        "asyncio.run(run())\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('genai_prices', 'litellm', 'httpx2', 'httpx', 'requests', 'aiohttp', 'urllib3')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# In the gateway


async def test_the_running_gateway_has_what_the_catalogue_knows() -> None:
    mesh = {"services": {"catalogue": {"models": {"test-model": {"prices": {"input": 1, "output": 2}}}}}}
    async with Harness(mesh, classes={"catalogue": ModelCatalogue}) as gateway:
        assert (await gateway.chat()).status == 200
        (known,) = gateway.process.gateway.pipeline.catalogue.targets("test-model", "chat")
        assert known.prices == Prices(usd(1), usd(2))


async def test_a_reload_with_the_same_settings_keeps_the_same_catalogue() -> None:
    mesh = {"services": {"catalogue": {}}}
    async with Harness(mesh, classes={"catalogue": ModelCatalogue}) as gateway:
        before = gateway.process.gateway.pipeline.model_data()
        assert await gateway.reload({**mesh, "server": {"max_attempts": 3}})
        assert gateway.process.gateway.pipeline.model_data() is before


def test_explain_and_check_work_with_a_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("services: {catalogue: {}}\n")
    assert main(["check", "--config", str(path)]) == 0
    assert "service catalogue: catalogue" in capsys.readouterr().out


def test_constructing_reads_nothing() -> None:
    config = ModelCatalogue.Config.model_validate({"data_dir": "/nowhere/at/all"})
    ModelCatalogue(config, Host(clock=clock_at(date(2026, 1, 1))), "catalogue")
