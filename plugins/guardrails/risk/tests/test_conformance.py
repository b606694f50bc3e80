"""What every listed component must pass."""

from __future__ import annotations

from typing import Any

import pytest

from lmg.testing import check_component
from lmg_risk import Risk

from .conftest import Users

SETTINGS: dict[str, dict[str, Any]] = {
    "requests": {"flag_above": 0.1, "approval_above": 0.2, "memory": {}},
    "answers": {"reviews": "answer", "flag_above": 0.1},
    "the sum": {"score": "additive"},
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_it_conforms(name: str) -> None:
    await check_component(lambda: (Risk, SETTINGS[name]), above=[("users", Users)])
    await check_component(lambda: (Risk, SETTINGS[name]))
