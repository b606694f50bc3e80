"""How limits are written, and what is said about those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg_rate_limit import RateLimit
from lmg_rate_limit.rates import MAX_AMOUNT, amount_of, rate_of
from lmg_rate_limit.rules import Rule, rules_of


def rules(**settings: Any) -> list[Rule]:
    return list(rules_of(RateLimit.Config.model_validate(settings)))


def fault(**settings: Any) -> str:
    mesh = {"providers": {}, "pipeline": [{"rate_limit": settings}]}
    with pytest.raises(ConfigError) as raised:
        draft(validate(MeshConfig, mesh, (), None), installed={}, classes={"rate_limit": RateLimit})
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "amount", "window_s", "per"),
    [
        ("600/min", 600, 60, "per minute"),
        ("10/s", 10, 1, "per second"),
        ("200k/min", 200_000, 60, "per minute"),
        ("1M/h", 1_000_000, 3600, "per hour"),
        ("1.5M/day", 1_500_000, 86_400, "per day"),
        ("5 / minute", 5, 60, "per minute"),
        ("100/10s", 100, 10, "per 10 seconds"),
        ("2G/d", 2 * 10**9, 86_400, "per day"),
        ("7/hour", 7, 3600, "per hour"),
    ],
)
def test_a_rate_is_read(text: str, amount: int, window_s: float, per: str) -> None:
    rate = rate_of(text)
    assert (rate.amount, rate.window_s, rate.per) == (amount, window_s, per)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "600",
        "600/",
        "/min",
        "600/fortnight",
        "-1/min",
        "0/min",
        "1.5/min",
        "1e3/min",
        "600/0s",
        "600/min/s",
        "1T/min",
        "9999999999999/s",
    ],
)
def test_what_is_no_rate_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"600/min|whole number|200k"):
        rate_of(text)


@given(st.integers(1, MAX_AMOUNT))
def test_an_amount_is_what_it_says(amount: int) -> None:
    assert amount_of(amount) == amount_of(str(amount)) == amount


def test_the_short_form_is_one_limit_of_each_tenant() -> None:
    requests, tokens = rules(per="tenant", requests="600/min", tokens="200k/min")
    assert (requests.name, requests.kind, requests.capacity, requests.window_s, requests.scope) == (
        "default", "requests", 600, 60.0, ("tenant",),
    )  # fmt: skip
    assert (tokens.kind, tokens.capacity, tokens.words) == ("tokens", 200_000, "200,000 tokens per minute")


def test_a_burst_changes_what_fits_at_once_and_not_the_rate() -> None:
    (rule,) = rules(requests="600/min", burst=50)
    assert (rule.capacity, rule.window_s) == (50, 5.0)
    assert rule.words == "600 requests per minute and 50 at once"


def test_limits_without_a_name_are_known_by_their_scope() -> None:
    found = rules(
        limits=[
            {"requests": "1/s"},
            {"tokens": "5/s"},
            {"per": ["tenant", "model"], "tokens": "5/s"},
            {"per": "global", "concurrency": 4},
        ]
    )
    assert [(r.name, r.kind) for r in found] == [
        ("tenant", "requests"), ("global", "concurrency"), ("tenant", "tokens"), ("tenant-model", "tokens"),
    ]  # fmt: skip
    assert found[1].scope == ()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "there is no limit: state one of requests"),
        ({"requests": 600}, "a rate has an amount and a time: write it as in 600/min"),
        ({"requests": "600/fortnight"}, "'600/fortnight' is no rate"),
        ({"request": "600/min"}, "did you mean 'requests'?"),
        ({"requests": "1/s", "tokens": "5/s", "burst": 3}, "burst belongs to one rate"),
        ({"concurrency": 3, "burst": 3}, "burst belongs to one rate"),
        ({"requests": "1/s", "burst": "much"}, "'much' is no amount"),
        ({"per": ["tenant", "global"], "requests": "1/s"}, "`global` is one limit for all"),
        ({"per": ["tenant", "tenant"], "requests": "1/s"}, "list each dimension once"),
        ({"per": "team", "requests": "1/s"}, "'team' is none of tenant, principal, key, model, global"),
        ({"per": [], "requests": "1/s"}, "list each dimension once"),
        ({"limits": [{"name": "a"}]}, "the limit states nothing"),
        ({"limits": [{"requests": "1/s"}, {"requests": "9/min"}]}, "two limits on requests are named 'tenant': give one of them"),
        ({"per": "model", "limits": [{"requests": "1/s"}]}, "'per' belongs to a limit"),
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"weighted_tokens": {"limit": "1/s", "input": 0, "output": 0}}, "must weigh something"),
        ({"weighted_tokens": {"limit": "1/s", "cached": 2}}, "cannot weigh more"),
        ({"weighted_tokens": {"limit": 5}}, "a rate has an amount and a time"),
        ({"requests": "1/s", "queue": {"max_wait_ms": 5, "max_size": 2, "max_per_tenant": 3}}, "max_per_tenant is larger"),
        ({"requests": "1/s", "queue": {"max_wait_ms": 5, "weights": {"a": 0}}}, "the weight of 'a'"),
        ({"requests": "1/s", "limits": [{"name": "x:y", "tokens": "1/s"}]}, "match pattern"),
    ],
)  # fmt: skip
def test_a_wrong_limit_says_what_is_wrong(settings: dict[str, Any], what: str) -> None:
    assert what in fault(**settings)


def test_only_limits_that_need_it_require_the_body() -> None:
    def required(**settings: Any) -> Any:
        return RateLimit.required(RateLimit.Config.model_validate(settings))

    assert required(requests="1/s", concurrency=3) == {}
    assert required(per=["principal", "key"], requests="1/s", tenant="a*") == {}
    for settings in (
        {"tokens": "5/s"},
        {"per": "model", "requests": "5/s"},
        {"model": "gpt-*", "concurrency": 2},
    ):
        assert required(**settings) == {"on_request": ("body",)}
