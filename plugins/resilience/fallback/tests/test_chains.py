"""Chains of models: which one stands in for which, and what a long or a filtered request does."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Harness
from lmg_fallback import Fallback
from lmg_fallback.chains import MAX_REMEMBERED, Chains

from .conftest import ERROR, FILTERED, TOO_LONG, calls, gateway_of, tried

BIG = {"a": {"models": ["small"]}, "b": {"models": ["big"]}, "c": {"models": ["huge"]}}


def mesh_of(settings: dict[str, Any]) -> None:
    mesh = {"providers": {"echo": {}}, "pipeline": [{"fallback": settings}]}
    from lmg.testing.gateway import Scripted

    providers = {"scripted": {"endpoint": "http://127.0.0.1:9", "models": ["m"]}}
    draft(
        validate(MeshConfig, {**mesh, "providers": providers}, (), None),
        classes={"fallback": Fallback, "scripted": Scripted},
    )


# Requests that are too long, or filtered


@pytest.mark.parametrize(("setting", "body"), [("context_length", TOO_LONG), ("content_filter", FILTERED)])
@pytest.mark.parametrize("stream", [False, True])
async def test_each_has_a_chain_of_its_own(setting: str, body: object, stream: bool) -> None:
    settings = {setting: {"small": ["big"]}, "chains": {"small": ["huge"]}}
    async with gateway_of("abc", settings, upstreams=BIG) as gateway:
        gateway.upstreams["a"].reply(body, status=400)
        assert (await gateway.chat(model="small", stream=stream)).text == "Hello!"
        assert calls(gateway) == [1, 1, 0]
        assert await tried(gateway) == [("a:small", setting), ("b:big", "complete")]


@pytest.mark.parametrize(("setting", "body"), [("content_filter", TOO_LONG), ("context_length", FILTERED)])
async def test_neither_takes_the_others(setting: str, body: object) -> None:
    async with gateway_of("abc", {setting: {"*": ["big"]}}, upstreams=BIG) as gateway:
        gateway.upstreams["a"].reply(body, status=400)
        assert (await gateway.chat(model="small")).status == 400
        assert calls(gateway) == [1, 0, 0]


async def test_what_is_too_long_for_one_goes_on_through_the_chain_of_the_model_that_refused_it() -> None:
    settings = {"context_length": {"small": ["big"], "big": ["huge"]}}
    async with gateway_of("abc", settings, upstreams=BIG) as gateway:
        for name in "ab":
            gateway.upstreams[name].reply(TOO_LONG, status=400)
        assert (await gateway.chat(model="small")).status == 200
        assert calls(gateway) == [1, 1, 1]


async def test_what_was_too_long_once_is_not_asked_of_the_models_other_targets() -> None:
    settings = {"context_length": {"small": ["big"]}}
    given = {**BIG, "c": {"models": ["small"]}}
    async with gateway_of("abc", settings, upstreams=given) as gateway:
        gateway.upstreams["a"].reply(TOO_LONG, status=400)
        gateway.upstreams["b"].reply(ERROR, status=503)
        assert (await gateway.chat(model="small")).status == 503
        assert calls(gateway) == [1, 1, 0]


async def test_where_all_are_too_small_the_client_is_told_so() -> None:
    settings = {"context_length": {"*": ["big", "huge"]}}
    async with gateway_of("abc", settings, upstreams=BIG) as gateway:
        for upstream in gateway.upstreams.values():
            upstream.reply(TOO_LONG, status=400)
        answer = await gateway.chat(model="small")
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        assert calls(gateway) == [1, 1, 1]


# Names


async def test_a_name_with_a_colon_is_a_model_where_no_provider_has_its_first_part() -> None:
    settings = {"chains": {"small": ["llama3:8b"]}}
    given = {"a": {"models": ["small"]}, "b": {"models": ["llama3:8b"]}}
    async with gateway_of("ab", settings, upstreams=given) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=500)
        assert (await gateway.chat(model="small")).status == 200
        assert await tried(gateway) == [("a:small", "status"), ("b:llama3:8b", "complete")]


async def test_a_provider_that_names_no_models_can_stand_in() -> None:
    settings = {"chains": {"small": ["scripted/b:anything", "else"]}}
    given = {"a": {"models": ["small"]}, "b": {"models": ["*"]}}
    async with gateway_of("ab", settings, upstreams=given) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=500)
        gateway.upstreams["b"].reply(ERROR, status=503)
        gateway.upstreams["b"].reply({"choices": [{"message": {"content": "at last"}}]})
        assert (await gateway.chat(model="small")).text == "at last"
        assert [call.json["model"] for call in gateway.upstreams["b"].received] == ["anything", "else"]


async def test_a_name_that_no_provider_serves_is_passed_over_said_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {"chains": {"small": ["bgi", "scripted/b:bgi", "big"]}}
    async with gateway_of("ab", settings, upstreams=BIG) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].reply(ERROR, status=500)
        with caplog.at_level(logging.WARNING, "lmg.fallback"):
            assert (await gateway.chat(model="small")).status == 200
            assert (await gateway.chat(model="small")).status == 200
        said = [record.getMessage() for record in caplog.records if record.name == "lmg.fallback"]
        assert [line.split(" hint=")[0] for line in said] == [
            "fallback_unserved component=fallback model=bgi operation=chat",
            "fallback_unserved component=fallback model=scripted/b:bgi operation=chat",
        ]
        family = next(f for f in gateway.host.metrics.families() if f.name == "llm_fallback_unserved_total")
        assert family.series == {("bgi",): 2, ("scripted/b:bgi",): 2}  # type: ignore[attr-defined]


# Which chain


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("grok-4", ["exact"]), ("grok-3", ["prefix"]), ("grok-", ["prefix"]), ("gpt-4o-mini", ["middle"]), ("xgrok-4", []),
        ("other", []), ("Grok-3", []), ("", []), ("grok-3" + "x" * 1000, ["prefix"]), ("a\nb", []),
    ],
)  # fmt: skip
def test_an_exact_name_wins_then_the_first_pattern_that_matches(model: str, expected: list[str]) -> None:
    chains = Chains(
        {"grok-*": ["prefix"], "g*-*-mini": ["middle"], "grok-4": ["exact"], "gpt-4o-*": ["late"]}
    )
    assert [entry.name for entry in chains.of(model)] == expected


@given(st.lists(st.text(max_size=300), max_size=50))
def test_models_that_callers_make_up_fill_no_memory(models: list[str]) -> None:
    chains = Chains({"m-*": ["x"]})
    for n, model in enumerate(models):
        assert [entry.name for entry in chains.of(f"m-{n}{model}")] == ["x"]
    info = chains._remembered.cache_info()
    assert info.maxsize == MAX_REMEMBERED
    assert info.currsize <= len(models)
    before = info.currsize
    chains.of("m-" + "y" * 10_000)
    assert chains._remembered.cache_info().currsize == before


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on": {"timeouts": False}}, "'timeouts' is no class of failures; did you mean 'timeout'?"),
        ({"on": {"xyz": False}}, "classes: connect_error, timeout, closed"),
        ({"on": {"bad_request": True}}, "never moves on by itself; no target would do better"),
        ({"on": {"context_length": True}}, "it has chains of its own: context_length: {model: [another]}"),
        ({"chains": {"a": []}}, "the chain of 'a' is empty"),
        ({"chains": {"a": ["b", "b"]}}, "the chain of 'a' names 'b' twice"),
        ({"chains": {"a": ["b*"]}}, "'b*' is a pattern"),
        ({"chains": {" ": ["b"]}}, "no blank around it"),
        ({"content_filter": {"a": [""]}}, "1 to 256 characters"),
        ({"context_length": {"a": [f"m{n}" for n in range(33)]}}, "more than 32 entries"),
        ({"chains_first": True}, "there are no chains"),
        ({"chains": "x"}, "valid dictionary"),
        ({"min_time_left_ms": -1}, "greater than or equal to 0"),
        ({"chain": {}}, "did you mean 'chains'?"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mesh_of(settings)
    assert said in str(caught.value)
    assert caught.value.path.startswith("pipeline[0]")


async def test_settings_that_are_a_chain_of_nothing_change_nothing() -> None:
    async with Harness({"pipeline": ["fallback"]}, classes={"fallback": Fallback}) as gateway:
        assert (await gateway.chat()).status == 200
