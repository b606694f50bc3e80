"""What can be configured, what cannot, and what the error says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmg import Component, ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg_load_shedding import LoadShedding


class Tenants(Component):
    """Stands for an authenticator."""

    provides = {"on_request": ("principal",)}

    def on_request(self, exchange: Any) -> None:
        return None


CLASSES: dict[str, type[Any]] = {"load_shedding": LoadShedding, "tenants": Tenants}


def load(settings: dict[str, Any], *others: str) -> Any:
    mesh = {"pipeline": [*others, {"load_shedding": settings}]}
    return draft(validate(MeshConfig, mesh, (), None), installed={}, classes=CLASSES)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_delay_ms": None, "max_in_flight": 10, "hard_in_flight": 20},
        {"max_delay_ms": None, "hard_delay_ms": None, "max_rss_mb": 10, "hard_rss_mb": 20},
        {"header": "x-priority"},
    ],
)
def test_it_loads(settings: dict[str, Any]) -> None:
    assert load(settings).listed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_delay_ms": 500}, "hard_delay_ms must be more than max_delay_ms"),
        ({"hard_delay_ms": None}, "max_delay_ms needs hard_delay_ms"),
        ({"max_in_flight": 10}, "max_in_flight needs hard_in_flight"),
        ({"hard_in_flight": 10}, "hard_in_flight needs max_in_flight"),
        ({"max_rss_mb": 10, "hard_rss_mb": 10}, "hard_rss_mb must be more than max_rss_mb"),
        ({"max_delay_ms": None}, "nothing is measured"),
        ({"retry_after_min_s": 9}, "retry_after_max_s is less than retry_after_min_s"),
        ({"priorities": {"": 1}}, "priorities: a pattern of tenants has 1 to 256 characters"),
        ({"priorities": {"gold": 10}}, "priorities: 'gold' has 10, and they go from 0 to 9"),
        ({"default_priority": 10}, "default_priority"),
        ({"header": "x priority"}, "header"),
        ({"max_delay": 10}, "did you mean 'max_delay_ms'?"),
    ],
)
def test_what_makes_no_sense_is_refused_at_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(settings)
    assert said in str(error.value)


def test_without_priorities_it_may_stand_above_the_authenticator_and_with_them_it_may_not() -> None:
    tiers = {"priorities": {"gold": 9}}
    assert load(tiers, "tenants").listed
    with pytest.raises(ConfigError, match="requires the fact 'principal'"):
        load(tiers)
    mesh = {"pipeline": ["load_shedding", "tenants"]}
    assert draft(validate(MeshConfig, mesh, (), None), installed={}, classes=CLASSES)


def test_a_limit_that_the_system_cannot_measure_is_refused_at_start() -> None:
    config = LoadShedding.Config.model_validate({"max_rss_mb": 10, "hard_rss_mb": 20})
    component = LoadShedding(config, Host(), "load_shedding")

    def fails() -> float:
        raise FileNotFoundError

    component.resident_mb = fails
    with pytest.raises(ConfigError, match="how much memory"):
        asyncio.run(component.start())
