"""What cannot be meant is refused, with words that say what can."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from lmg_canary.config import CanaryConfig, Experiment
from lmg_canary.trial import fingerprint_of

GOOD: dict[str, Any] = {"name": "t", "model": "gpt-4*", "canary": "gpt-5"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "on"}, "choose another"),
        ({"name": "A b"}, "pattern"),
        ({"by": "moon"}, "by: one of user, tenant, conversation, header:<name>"),
        ({"by": "header:a b"}, "by: one of"),
        ({"baseline": "gpt-5"}, "canary and baseline are the same"),
        ({"plan": []}, "at least 1 item"),
        ({"plan": [5, 5]}, "must be above"),
        ({"plan": [25, 5]}, "must be above"),
        ({"plan": [0, 5]}, "nothing is measured at 0 percent without `mirror`"),
        ({"plan": [101]}, "less than or equal to 100"),
        ({"plan": [True]}, "valid dictionary"),
        ({"plan": "fast"}, "valid list"),
        ({"alpha": 0}, "greater than 0"),
        ({"limits": {"max_latency_ratio": 0.5}}, "greater than or equal to 1"),
        ({"limits": {"max_slowness": 2}}, "Extra inputs"),
        ({"mirror": {"share": 0.1}}, "Field required"),
        ({"mirror": {"share": 2, "max_cost_usd_per_hour": 1}}, "less than or equal to 1"),
        ({"mirror": {"share": 1, "max_cost_usd_per_hour": 0}}, "greater than 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Experiment.model_validate({**GOOD, **settings})


def test_numbers_are_stages() -> None:
    experiment = Experiment.model_validate({**GOOD, "plan": [{"percent": 1, "minutes": 60}, 5, 12.5, 100]})
    assert [(stage.percent, stage.minutes) for stage in experiment.plan] == [
        (1, 60), (5, 10), (12.5, 10), (100, 10),
    ]  # fmt: skip


def test_the_plan_is_careful_by_default() -> None:
    plan = Experiment.model_validate(GOOD).plan
    assert [stage.percent for stage in plan] == [1, 5, 25, 100]
    assert repr(plan) == "[1, 5, 25, 100]", "as the documentation shows it"


@pytest.mark.parametrize(("written", "nano"), [(0.1, 10**8), ("0.000000001", 1), (2, 2 * 10**9)])
def test_money_is_exact(written: object, nano: int) -> None:
    mirror = {"share": 0.5, "max_cost_usd_per_hour": written}
    experiment = Experiment.model_validate({**GOOD, "mirror": mirror})
    assert experiment.mirror is not None
    assert experiment.mirror.nano_per_hour == nano
    assert isinstance(experiment.mirror.max_cost_usd_per_hour, Decimal)


def test_names_are_given_once_and_roles_need_the_header() -> None:
    with pytest.raises(ValidationError, match="two are called 't'"):
        CanaryConfig.model_validate({"experiments": [GOOD, GOOD]})
    with pytest.raises(ValidationError, match="header_roles is for allow_header: true"):
        CanaryConfig.model_validate({"experiments": [GOOD], "header_roles": ["qa"]})


def test_any_change_is_another_experiment() -> None:
    prints = {
        fingerprint_of(Experiment.model_validate({**GOOD, **more}))
        for more in ({}, {"canary": "gpt-6"}, {"plan": [1, 100]}, {"limits": {"max_cost_ratio": 2}})
    }
    assert len(prints) == 4
    assert fingerprint_of(Experiment.model_validate(GOOD)) in prints
