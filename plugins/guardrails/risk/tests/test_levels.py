"""Thresholds: per tenant and direction, passed only above, never loosened by a lenient direction."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmg import Signal
from lmg_risk import RiskConfig
from lmg_risk.config import ACTIONS
from lmg_risk.families import OUTPUT, TOOL, USER, Families
from lmg_risk.levels import Decision, Tenants
from lmg_risk.scores import GradedTally


def decided(settings: dict[str, Any], *placed: tuple[float, int], tenant: str = "acme") -> Decision:
    config = RiskConfig.model_validate(settings)
    tally = GradedTally(Families(config.all_families))
    for n, (probability, direction) in enumerate(placed):
        tally.add(Signal(f"kind{n}", probability), direction)
    return Tenants(config).levels(tenant).decide(tally)


@pytest.mark.parametrize(
    ("settings", "placed", "action"),
    [
        ({}, [(0.0, USER)], "none"),
        ({}, [(0.1, USER)], "log"),
        ({}, [(0.5, USER)], "log"),
        ({}, [(0.51, USER)], "block"),
        ({"block_above": None}, [(1.0, USER)], "log"),
        ({"flag_above": 0.2, "redact_above": 0.3, "redact": ["email"], "approval_above": 0.4}, [(0.45, USER)], "approval"),
        ({"flag_above": 0.2, "redact_above": 0.3, "redact": ["email"]}, [(0.35, USER)], "redact"),
        ({"thresholds": [{"directions": ["tool"], "block_above": 0.2}]}, [(0.3, TOOL)], "block"),
        ({"thresholds": [{"directions": ["tool"], "block_above": 0.2}]}, [(0.3, USER)], "log"),
        ({"thresholds": [{"directions": ["output"], "block_above": 0.9}]}, [(0.8, OUTPUT)], "log"),
        ({"thresholds": [{"directions": ["output"], "block_above": None}]}, [(1.0, OUTPUT)], "log"),
        # Signals of several directions add up, against the threshold of the more lenient one.
        ({"thresholds": [{"directions": ["tool"], "block_above": 0.7}]}, [(0.4, USER), (0.4, TOOL)], "log"),
        ({"thresholds": [{"directions": ["tool"], "block_above": 0.6}]}, [(0.4, USER), (0.4, TOOL)], "block"),
        ({}, [(0.4, USER), (0.4, TOOL)], "block"),
        # A lenient direction loosens nothing.
        ({"thresholds": [{"directions": ["output"], "block_above": 0.99}]}, [(0.6, USER), (0.01, OUTPUT)], "block"),
        ({"thresholds": [{"tenants": ["ac*"], "block_above": 0.2}]}, [(0.3, USER)], "block"),
        ({"thresholds": [{"tenants": ["x*"], "block_above": 0.2}]}, [(0.3, USER)], "log"),
        ({"thresholds": [{"tenants": ["*"], "block_above": None}]}, [(1.0, USER)], "log"),
        ({"thresholds": [{"tenants": ["*"], "directions": ["tool"], "block_above": 0.1}]}, [(0.2, TOOL)], "block"),
        ({"thresholds": [{"tenants": ["*"], "block_above": 0.9}, {"directions": ["tool"], "block_above": 0.1}]}, [(0.2, TOOL)], "log"),
        ({"thresholds": [{"tenants": ["acme"], "block_above": 0.9}, {"tenants": ["*"], "block_above": 0.1}]}, [(0.6, USER)], "log"),
    ],
)  # fmt: skip
def test_what_a_score_leads_to(
    settings: dict[str, Any], placed: list[tuple[float, int]], action: str
) -> None:
    assert decided(settings, *placed).action == action


def test_every_action_that_is_reached_is_named() -> None:
    everything = {"flag_above": 0.1, "redact_above": 0.2, "redact": ["email"], "approval_above": 0.3}
    assert decided(everything, (0.9, USER)).actions == ACTIONS


SHARE = st.floats(0, 1) | st.none()
PLACED = st.tuples(st.floats(0, 1), st.sampled_from([USER, TOOL, OUTPUT]))


@given(placed=st.lists(PLACED, max_size=6), more=PLACED, user=SHARE, tool=SHARE, output=SHARE)
def test_another_signal_never_makes_it_milder(
    placed: list[tuple[float, int]], more: tuple[float, int], user: Any, tool: Any, output: Any
) -> None:
    rules = [
        {"directions": [name], "block_above": value}
        for name, value in (("user", user), ("tool", tool), ("output", output))
    ]
    settings = {"flag_above": 0.3, "thresholds": rules}
    assert set(decided(settings, *placed).actions) <= set(decided(settings, *placed, more).actions)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"block_above": 1.1}, "less than or equal to 1"),
        ({"block_above": "nan"}, "finite"),
        ({"redact_above": 0.2}, "redact_above needs redact"),
        ({"thresholds": [{"tenants": ["a"], "redact_above": 0.2}]}, "redact_above needs redact"),
        ({"approval_above": 0.6}, "never reached"),
        ({"thresholds": [{"approval_above": 0.6, "block_above": 0.5}]}, "never reached"),
        ({"thresholds": [{"tenants": ["a"]}]}, "no threshold"),
        ({"thresholds": [{"tenants": [""], "block_above": 0.1}]}, "1 to 128"),
        ({"reviews": "answer", "approval_above": 0.2}, "reviews: request"),
        ({"reviews": "answer", "redact_above": 0.2, "redact": ["email"]}, "reviews: request"),
        ({"reviews": "answer", "memory": {}}, "of requests"),
        ({"score": "additive", "memory": {}}, "score: graded"),
        ({"score": "additive", "families": {"a": {"signals": ["a"]}}}, "score: graded"),
        ({"approval": {"max_open": 10}}, "max_open_per_tenant"),
        ({"memory": {"session_header": "a b"}}, "pattern"),
        ({"blok_above": 0.3}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RiskConfig.model_validate(settings)


def test_a_thousand_tenants_more_are_not_kept() -> None:
    tenants = Tenants(RiskConfig.model_validate({"thresholds": [{"tenants": ["x*"], "block_above": 0.2}]}))
    for n in range(3000):
        tenants.levels(f"tenant{n}")
    assert len(tenants._known) <= 1024
