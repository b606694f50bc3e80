"""What callers ask of the routing, and where a tenant's requests may go."""

from __future__ import annotations

from typing import Any

import pytest

from lmg import Component, ConfigError, Exchange, Refusal, Target
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg_router import Router

USD = 10**9
PRICED = {"offering/a:m": {"prices": [9 * USD, 9 * USD]}, "offering/b:m": {"prices": [1 * USD, 1 * USD]}}
TWO = {"a": {"priority": 1}, "b": {"priority": 2}}
A, B = "offering/a:m", "offering/b:m"
HINT = "x-lmg-routing-hint"


# -- hints ----------------------------------------------------------------------------------------


async def test_a_hint_changes_the_strategy_of_one_request(board: Any) -> None:
    table = await board(TWO, facts=PRICED)
    assert await table.route() == [A, B]
    assert await table.route(routing_hint="low_cost") == [B, A]
    assert await table.route(headers={HINT: "low_cost"}) == [B, A]
    assert await table.route() == [A, B]


async def test_the_hint_of_the_body_wins_over_that_of_a_header(board: Any) -> None:
    table = await board(TWO, facts=PRICED, quality={"*a:m": 5})
    assert await table.route(routing_hint="low_cost", headers={HINT: "high_quality"}) == [B, A]


async def test_low_latency_prefers_who_has_been_faster(board: Any) -> None:
    table = await board(TWO)
    await table.route()
    measure(table, A, 5.0)
    measure(table, B, 0.1)
    assert await table.route(routing_hint="low_latency") == [B, A]


async def test_high_quality_follows_the_scores_and_without_scores_the_priority(board: Any) -> None:
    scored = await board(TWO, quality={"offering/b:*": 10, "m": 1})
    assert await scored.route(routing_hint="high_quality") == [B, A]
    assert await (await board(TWO)).route(routing_hint="high_quality") == [A, B]


@pytest.mark.parametrize("hint", ["fast", "", "LOW_COST", 7, ["low_cost"], {"a": 1}, True, "on-prem"])
async def test_a_hint_that_is_none_is_refused_with_those_that_are(board: Any, hint: Any) -> None:
    table = await board(TWO)
    with pytest.raises(Refusal) as refused:
        await table.route(routing_hint=hint)
    assert (refused.value.status, refused.value.code) == (400, "invalid_routing_hint")
    assert refused.value.param == "routing_hint"
    assert "high_quality, low_cost, low_latency, on_prem" in refused.value.message


async def test_a_header_that_is_no_hint_is_refused_too(board: Any) -> None:
    table = await board(TWO)
    with pytest.raises(Refusal) as refused:
        await table.route(headers={HINT: "cheap"})
    assert refused.value.code == "invalid_routing_hint"


async def test_null_is_no_hint(board: Any) -> None:
    assert await (await board(TWO)).route(routing_hint=None) == [A, B]


async def test_ignored_hints_change_nothing_and_refuse_nothing(board: Any) -> None:
    table = await board(TWO, facts=PRICED, hints="ignore")
    assert await table.route(routing_hint="low_cost") == [A, B]
    assert await table.route(routing_hint="whatever") == [A, B]


# -- on-prem --------------------------------------------------------------------------------------

MIXED = {"a": {"priority": 1}, "b": {"priority": 2, "on_prem": True}}


@pytest.mark.parametrize("hints", ["allow", "ignore"])
async def test_on_prem_keeps_to_the_premises_whoever_else_may_choose(board: Any, hints: str) -> None:
    table = await board(MIXED, hints=hints)
    assert await table.route(routing_hint="on_prem") == [B]
    assert table.dropped() == {A: ("on_prem", 400)}
    assert table.exchange.bounds.on_prem


async def test_without_a_model_on_prem_the_request_goes_nowhere(board: Any) -> None:
    table = await board(TWO)
    with pytest.raises(Refusal) as refused:
        await table.route(routing_hint="on_prem")
    assert (refused.value.status, refused.value.code) == (400, "no_on_prem_target")
    assert refused.value.param == "routing_hint"


async def test_on_prem_is_served_by_the_model_that_is_there(board: Any) -> None:
    table = await board({"a": {}, "b": {"models": ["llama"], "on_prem": True}})
    assert await table.route(routing_hint="on_prem") == ["offering/b:llama"]


async def test_on_prem_holds_for_targets_that_come_into_the_list_later(board: Any) -> None:
    from lmg import Component

    class After(Component):
        def on_route(self, exchange: Exchange, targets: list[Target]) -> list[Target]:
            return [*exchange.pipeline.candidates("m", "chat", "openai.chat"), *targets]

    table = await board(MIXED, above=())
    step = table.pipeline.plan.on_route[-1]
    fold = step.fn
    after = After(After.Config(), table.pipeline.host, "after")
    step.fn = lambda exchange, targets: after.on_route(exchange, fold(exchange, targets))
    assert set(await table.route(routing_hint="on_prem")) == {B}


# -- residency ------------------------------------------------------------------------------------

REGIONS = {
    "a": {"priority": 1, "region": "us"},
    "b": {"priority": 2, "region": "eu"},
    "c": {"priority": 3},
}
RULES = [{"tenant": "acme-*", "regions": ["eu"]}, {"tenant": "*-both", "regions": ["eu", "us"]}]


@pytest.mark.parametrize(
    ("tenant", "order"),
    [
        ("acme-1", [B]),
        ("acme-both", [B]),
        ("other-both", [A, B]),
        ("other", [A, B, "offering/c:m"]),
    ],
)
async def test_every_rule_that_matches_a_tenant_holds(board: Any, tenant: str, order: list[str]) -> None:
    table = await board(REGIONS, residency=RULES)
    assert await table.route(headers={"x-tenant": tenant}) == order


async def test_a_region_that_is_not_stated_is_none_that_is_allowed(board: Any) -> None:
    table = await board({"c": {}}, residency=RULES)
    with pytest.raises(Refusal) as refused:
        await table.route(headers={"x-tenant": "acme-1"})
    assert (refused.value.status, refused.value.code) == (403, "residency")
    assert "acme" not in refused.value.message


async def test_rules_that_contradict_leave_nothing(board: Any) -> None:
    rules = [{"tenant": "acme", "regions": ["eu"]}, {"tenant": "*", "regions": ["us"]}]
    table = await board(REGIONS, residency=rules)
    with pytest.raises(Refusal) as refused:
        await table.route(headers={"x-tenant": "acme"})
    assert refused.value.code == "residency"


async def test_residency_narrows_the_bounds_for_everything_that_comes_later(board: Any) -> None:
    table = await board(REGIONS, residency=RULES)
    await table.route(headers={"x-tenant": "acme-1"})
    assert table.exchange.bounds.regions == frozenset({"eu"})
    assert [target.name for target in table.exchange.candidates] == [B]


async def test_substitutes_and_aliases_keep_to_the_regions_too(board: Any) -> None:
    providers = {
        **REGIONS,
        "us": {"models": ["llama"], "fallback": True, "region": "us"},
        "eu": {"models": ["llama"], "fallback": True, "region": "eu"},
    }
    table = await board(providers, residency=RULES, aliases={"best": "m"})
    tenant = {"x-tenant": "acme-1"}
    assert await table.route(headers=tenant) == [B, "offering/eu:llama"]
    assert await table.route("best", headers=tenant) == [B, "offering/eu:llama"]


async def test_on_prem_and_residency_hold_together(board: Any) -> None:
    providers = {
        "a": {"region": "eu"},
        "b": {"region": "us", "on_prem": True},
        "c": {"region": "eu", "on_prem": True},
    }
    table = await board(providers, residency=RULES)
    tenant = {"x-tenant": "acme-1"}
    assert await table.route(headers=tenant, routing_hint="on_prem") == ["offering/c:m"]
    assert table.dropped() == {A: ("on_prem", 400), B: ("residency", 403)}


def test_residency_by_tenant_needs_somebody_who_says_who_the_tenant_is() -> None:
    def load(tenant: str) -> Any:
        mesh = {
            "pipeline": [{"router": {"residency": [{"tenant": tenant, "regions": ["eu"]}]}}],
            "providers": {},
        }
        return draft(validate(MeshConfig, mesh, (), None), classes={"router": Router})

    with pytest.raises(ConfigError, match="principal"):
        load("acme")
    assert load("*").listed


async def test_what_may_come_back_is_a_503_and_not_the_callers_fault(board: Any) -> None:
    class Above(Component):
        def on_route(self, exchange: Exchange, targets: list[Target]) -> list[Target]:
            exchange.drop(targets[0], "open", 503)
            return list(targets[1:])

    table = await board(TWO, facts={B: {"tools": False}}, above=(Above,))
    with pytest.raises(Refusal) as refused:
        await table.route(tools=[{"type": "function"}])
    assert (refused.value.status, refused.value.code) == (503, "no_target")


def measure(table: Any, name: str, seconds: float, tokens: int = 10) -> None:
    """One streamed answer of that target, whose first token took ``seconds``."""
    from lmg import Outcome, Usage

    usage = Usage(output_tokens=tokens)
    end = table.begin(name, stream=True)
    end(Outcome("complete", first_token_s=seconds, duration_s=seconds + 0.1, usage=usage))
