"""Other names for models, and other models in their place."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Exchange, Refusal
from lmg_router.aliases import Aliases

USD = 10**9

# -- aliases --------------------------------------------------------------------------------------


async def test_an_alias_stands_for_a_model(board: Any) -> None:
    table = await board({"a": {"models": ["grok-4"]}}, aliases={"fast": "grok-4"})
    assert await table.route("fast") == ["offering/a:grok-4"]
    assert await table.route("grok-4") == ["offering/a:grok-4"]


async def test_an_alias_of_several_models_prefers_the_first(board: Any) -> None:
    providers = {"a": {"models": ["one"], "priority": 9}, "b": {"models": ["two"], "priority": 1}}
    table = await board(providers, aliases={"best": ["one", "two"]})
    assert await table.route("best") == ["offering/a:one", "offering/b:two"]


async def test_an_alias_of_several_models_lets_the_strategy_choose_among_them(board: Any) -> None:
    providers = {"a": {"models": ["one"]}, "b": {"models": ["two"]}}
    facts = {"one": {"prices": [9 * USD, 9 * USD]}, "two": {"prices": [1 * USD, 1 * USD]}}
    table = await board(providers, facts=facts, aliases={"best": ["one", "two"]}, strategy="cost")
    assert await table.route("best") == ["offering/b:two", "offering/a:one"]


async def test_aliases_lead_to_aliases(board: Any) -> None:
    aliases = {"fast": "quick", "quick": ["one", "two"], "any": ["two", "fast"]}
    table = await board({"a": {"models": ["one", "two"]}}, aliases=aliases)
    assert await table.route("fast") == ["offering/a:one", "offering/a:two"]
    assert await table.route("any") == ["offering/a:two", "offering/a:one"]


async def test_an_exact_alias_wins_over_a_model_of_its_name(board: Any) -> None:
    table = await board({"a": {"models": ["gpt-4", "llama"]}}, aliases={"gpt-4": "llama"})
    assert await table.route("gpt-4") == ["offering/a:llama"]


async def test_a_model_wins_over_a_pattern(board: Any) -> None:
    table = await board({"a": {"models": ["gpt-4o", "llama"]}}, aliases={"gpt-4*": "llama"})
    assert await table.route("gpt-4o") == ["offering/a:gpt-4o"]
    assert await table.route("gpt-4-turbo") == ["offering/a:llama"]


async def test_a_model_that_bounds_take_away_still_wins_over_a_pattern(board: Any) -> None:
    providers = {"a": {"models": ["gpt-4o"]}, "b": {"models": ["llama"]}}
    table = await board(
        providers, aliases={"gpt-4*": "llama"}, bounds={"providers": frozenset({"offering/b"})}
    )
    with pytest.raises(Refusal) as refused:
        await table.route("gpt-4o")
    assert (refused.value.status, refused.value.code) == (403, "out_of_bounds")


async def test_a_pattern_wins_over_a_provider_that_serves_whatever_it_is_asked(board: Any) -> None:
    table = await board({"a": {"models": ["*"]}, "b": {"models": ["llama"]}}, aliases={"gpt-4*": "llama"})
    assert await table.route("gpt-4-turbo") == ["offering/b:llama"]
    assert await table.route("other") == ["offering/a:other"]


async def test_of_two_patterns_the_first_counts(board: Any) -> None:
    aliases = {"gpt-4*": "one", "gpt-*": "two"}
    table = await board({"a": {"models": ["one", "two"]}}, aliases=aliases)
    assert await table.route("gpt-4-turbo") == ["offering/a:one"]
    assert await table.route("gpt-5") == ["offering/a:two"]


async def test_a_pattern_catches_what_an_alias_names_and_nobody_has(board: Any) -> None:
    aliases = {"fast": "gpt-4-old", "gpt-4*": "llama"}
    table = await board({"a": {"models": ["llama"]}}, aliases=aliases)
    assert await table.route("fast") == ["offering/a:llama"]


async def test_an_alias_brings_back_no_target_that_a_component_above_has_dropped(board: Any) -> None:
    from lmg import Component, Target

    class Above(Component):
        def on_route(self, exchange: Exchange, targets: list[Target]) -> list[Target]:
            for target in exchange.offered("one"):
                exchange.drop(target, "open", 503)
            return list(targets)

    table = await board({"a": {"models": ["one", "two"]}}, above=(Above,), aliases={"best": ["one", "two"]})
    assert await table.route("best") == ["offering/a:two"]


async def test_an_alias_whose_models_policy_takes_away_is_out_of_bounds_and_not_unknown(board: Any) -> None:
    table = await board({"a": {"models": ["one"]}}, aliases={"best": "one"}, bounds={"on_prem": True})
    with pytest.raises(Refusal) as refused:
        await table.route("best")
    assert (refused.value.status, refused.value.code) == (403, "out_of_bounds")


async def test_a_name_that_nobody_knows_is_not_found(board: Any) -> None:
    table = await board({"a": {}, "b": {"fallback": True, "models": ["llama"]}}, aliases={"gpt-*": "m"})
    with pytest.raises(Refusal) as refused:
        await table.route("clod")
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ({"a": "a"}, "a → a leads back to itself"),
        ({"a": "b", "b": ["c", "d"], "d": "a"}, "a → b → d → a leads back to itself"),
        ({"a": []}, "'a' stands for nothing"),
        ({"*": "x", "gpt-*": "y"}, "write '*' last"),
        ({f"n{n}": f"n{n + 1}" for n in range(200)}, "chain of more than"),
    ],
)
def test_aliases_that_lead_nowhere_are_a_mistake(aliases: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="aliases: ") as wrong:
        Aliases(aliases)
    assert says in str(wrong.value)


NAMES = st.sampled_from(["a", "b", "c", "d", "x", "y", "x*", "?", "*"])


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4), max_size=8), NAMES)
def test_whatever_is_written_it_ends_or_is_a_mistake(table: dict[str, Any], asked: str) -> None:
    try:
        aliases = Aliases(table)
    except ValueError:
        return
    ends = aliases.exact(asked) or aliases.pattern(asked)
    assert len(set(ends)) == len(ends)
    assert not any(aliases.exact(end) for end in ends)


def test_aliases_that_meet_again_and_again_are_followed_once() -> None:
    diamonds = {f"{side}{n}": [f"a{n + 1}", f"b{n + 1}"] for n in range(30) for side in "ab"}
    assert Aliases(diamonds).exact("a0") == ("a30", "b30")


# -- substitutes ----------------------------------------------------------------------------------

ISSUE = {
    "xai": {"models": ["grok-4"], "priority": 1},
    "groq": {"models": ["llama-3.3", "llama-3.1"], "priority": 2, "fallback": True},
    "vllm": {"models": ["llama-local"], "priority": 3, "on_prem": True},
}
GROK, GROQ, VLLM = "offering/xai:grok-4", "offering/groq:llama-3.3", "offering/vllm:llama-local"


async def test_fallbacks_and_models_on_prem_stand_in_with_their_first_model(board: Any) -> None:
    table = await board(ISSUE)
    assert await table.route("grok-4") == [GROK, GROQ, VLLM]
    assert await table.route("llama-3.1") == ["offering/groq:llama-3.1", VLLM]


async def test_no_ranking_puts_a_substitute_before_the_model_that_was_asked_for(board: Any) -> None:
    facts = {
        "grok-4": {"prices": [9 * USD, 9 * USD]},
        "llama-3.3": {"prices": [1 * USD, 1 * USD]},
        "llama-local": {"prices": [0 * USD, 0 * USD]},
    }
    table = await board(ISSUE, facts=facts, strategy="cost")
    assert await table.route("grok-4") == [GROK, VLLM, GROQ]


async def test_a_typo_is_answered_by_nobody(board: Any) -> None:
    table = await board(ISSUE)
    with pytest.raises(Refusal) as refused:
        await table.route("grok-44")
    assert refused.value.code == "model_not_found"


async def test_substitute_unknown_answers_whatever_is_asked(board: Any) -> None:
    table = await board(ISSUE, substitute_unknown=True)
    assert await table.route("grok-44") == [GROQ, VLLM]


async def test_strict_model_answers_with_no_other_model(board: Any) -> None:
    table = await board(ISSUE, strict_model=True)
    assert await table.route("grok-4") == [GROK]


async def test_model_map_names_another_substitute_or_none(board: Any) -> None:
    providers = {**ISSUE, "other": {"models": ["small", "large"], "priority": 4}}
    mapped = {
        "grok-*": {
            "offering/groq": "llama-3.1",
            "offering/vllm": None,
            "offering/other": "large",
        }
    }
    table = await board(providers, model_map=mapped)
    assert await table.route("grok-4") == [GROK, "offering/groq:llama-3.1", "offering/other:large"]
    assert await table.route("small") == ["offering/other:small", GROQ, VLLM]


async def test_model_map_knows_a_model_by_its_alias_too(board: Any) -> None:
    table = await board(
        ISSUE, aliases={"fast": "grok-4"}, model_map={"grok-4": {"offering/groq": "llama-3.1"}}
    )
    assert await table.route("fast") == [GROK, "offering/groq:llama-3.1", VLLM]


async def test_a_model_map_that_names_what_nobody_lists_is_said_in_the_log(
    board: Any, caplog: pytest.LogCaptureFixture
) -> None:
    table = await board(ISSUE, model_map={"grok-4": {"offering/groq": "lama-3.1"}})
    with caplog.at_level(logging.WARNING, logger="lmg.router"):
        assert await table.route("grok-4") == [GROK, VLLM]
        await table.route("grok-4")
    assert [record.getMessage().split()[0] for record in caplog.records] == ["router_model_map_unknown"]


async def test_a_substitute_is_the_first_model_that_can_serve_the_request(board: Any) -> None:
    facts = {"llama-3.3": {"tools": False}, "llama-local": {"tools": False}}
    table = await board(ISSUE, facts=facts)
    assert await table.route("grok-4", tools=[{"type": "function"}]) == [GROK, "offering/groq:llama-3.1"]
    assert table.dropped() == {VLLM: ("tools", 400)}


async def test_a_substitute_serves_what_the_model_that_was_asked_for_cannot(board: Any) -> None:
    table = await board(ISSUE, facts={"grok-4": {"tools": False}})
    assert await table.route("grok-4", tools=[{"type": "function"}]) == [GROQ, VLLM]


async def test_embeddings_of_one_model_are_never_those_of_another(board: Any) -> None:
    table = await board(ISSUE)
    assert await table.route("grok-4", path="/v1/embeddings", input="hello") == [GROK]


async def test_what_model_map_names_holds_for_embeddings_too(board: Any) -> None:
    table = await board(ISSUE, model_map={"grok-4": {"offering/groq": "llama-3.3"}})
    assert await table.route("grok-4", path="/v1/embeddings", input="hello") == [GROK, GROQ]


async def test_a_fallback_that_has_the_model_comes_after_those_that_are_none(board: Any) -> None:
    providers = {"a": {"priority": 9}, "b": {"priority": 1, "fallback": True}, "c": {"priority": 5}}
    table = await board(providers)
    assert await table.route() == ["offering/c:m", "offering/a:m", "offering/b:m"]


async def test_where_bounds_leave_only_the_premises_the_model_there_stands_in(board: Any) -> None:
    table = await board(ISSUE, bounds={"on_prem": True})
    assert await table.route("grok-4") == [VLLM]


async def test_a_substitute_that_a_component_above_has_dropped_stays_dropped(board: Any) -> None:
    from lmg import Component, Target

    class Above(Component):
        def on_route(self, exchange: Exchange, targets: list[Target]) -> list[Target]:
            for target in exchange.offered("llama-3.3"):
                exchange.drop(target, "open", 503)
            return list(targets)

    table = await board(ISSUE, above=(Above,))
    assert await table.route("grok-4") == [GROK, "offering/groq:llama-3.1", VLLM]
