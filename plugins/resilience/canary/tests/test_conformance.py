"""What every listed component must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lmg.testing import check_component
from lmg_canary import Canary

from .conftest import Users

SETTINGS: dict[str, dict[str, Any]] = {
    "everybody gets it": {"plan": [100]},
    "some do": {"plan": [50, 100], "by": "conversation"},
    "copies": {"plan": [0, 100], "mirror": {"share": 1, "max_cost_usd_per_hour": 1, "allow_unpriced": True}},
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_it_conforms(name: str) -> None:
    experiment = {"name": "t", "model": "test-*", "canary": "test-model", **SETTINGS[name]}
    settings: Mapping[str, Any] = {"experiments": [experiment], "allow_header": True}
    await check_component(lambda: (Canary, settings), above=[("users", Users)])
    await check_component(lambda: (Canary, settings))
