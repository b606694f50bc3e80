"""In which order targets are tried: own, standing by, chain, and what providers that stand by serve beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Component, Exchange, Target
from lmg.testing import Harness
from lmg_fallback import Fallback
from lmg_fallback.order import standing_by_last, without_repetition

from .conftest import ERROR, calls, gateway_of, status, tried

STANDING_BY = {"fallback": True}


def served(*models: str, **more: Any) -> dict[str, Any]:
    return {"models": list(models), **more}


async def order(gateway: Harness, model: str | None = None, **extra: Any) -> list[str]:
    """The targets in the order in which they are tried when all fail."""
    for upstream in gateway.upstreams.values():
        upstream.reply(ERROR, status=503)
    number = len(gateway.exchanges) + 1
    await gateway.chat(model=model, **extra)
    return [target for target, _ in await tried(gateway, number)]


class Drops(Component):
    """Listed above: drops every target of the model, because none of them is well."""

    status = 503
    dropped: Sequence[str] = ("test-model",)

    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> list[Target]:
        for target in targets:
            if target.model in self.dropped:
                exchange.drop(target, "not well", self.status)
        return [target for target in targets if target.model not in self.dropped]


class Forbids(Drops):
    status = 403


class Unpriced(Drops):
    status = 402


# Providers that stand by


async def test_providers_that_stand_by_are_tried_last_whatever_their_priority() -> None:
    async with gateway_of("abcd", upstreams={"a": STANDING_BY, "c": STANDING_BY}) as gateway:
        assert [name[0] for name in await order(gateway)] == ["b", "d", "a", "c"]


async def test_a_provider_that_stands_by_serves_other_models_requests() -> None:
    async with gateway_of("ab", upstreams={"b": served("other", **STANDING_BY)}) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=500)
        answer = await gateway.chat()
        assert (answer.status, answer.text) == (200, "Hello!")
        assert gateway.upstreams["b"].received[0].json["model"] == "other"
        assert await tried(gateway) == [("a:test-model", "status"), ("b:other", "complete")]


async def test_it_is_not_called_while_the_models_own_answer() -> None:
    async with gateway_of("ab", upstreams={"b": served("other", **STANDING_BY)}) as gateway:
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [1, 0]


async def test_the_models_own_go_before_the_chain_and_the_chain_before_what_stands_by() -> None:
    settings = {"chains": {"test-*": ["big", "scripted/e:small"]}}
    given = {
        "a": served("test-model"),
        "b": served("test-model", **STANDING_BY),
        "c": served("spare", **STANDING_BY),
        "d": served("big", "small"),
        "e": served("small"),
    }
    whole = ["a:test-model", "b:test-model", "d:big", "e:small", "c:spare"]
    async with gateway_of("abcde", settings, upstreams=given) as gateway:
        assert await order(gateway) == whole
        assert await order(gateway, stream=True) == whole
        assert await order(gateway, "big") == ["d:big", "b:test-model", "c:spare"]
    async with gateway_of("abcde", {**settings, "chains_first": True}, upstreams=given) as gateway:
        assert await order(gateway) == ["a:test-model", "d:big", "e:small", "b:test-model", "c:spare"]


async def test_vectors_of_another_model_stand_in_for_none() -> None:
    given = {"b": served("other", **STANDING_BY)}
    body = {"model": "test-model", "input": "x"}
    async with gateway_of("ab", upstreams=given) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=503)
        assert (await gateway.request(body, path="/v1/embeddings")).status == 503
        assert calls(gateway) == [1, 0]
    async with gateway_of("ab", {"chains": {"test-model": ["other"]}}, upstreams=given) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=503)
        assert (await gateway.request(body, path="/v1/embeddings")).status == 200
        assert calls(gateway) == [1, 1]


async def test_of_another_model_a_provider_that_stands_by_serves_its_first() -> None:
    given = {"b": served("first", "second", **STANDING_BY), "c": served("test-model", "third", **STANDING_BY)}
    async with gateway_of("abc", upstreams=given) as gateway:
        assert await order(gateway) == ["a:test-model", "c:test-model", "b:first"]


class Routes(Component):
    """Listed above: a router, with an opinion on who stands in, and on what a name stands for."""

    names = ("scripted/a", "scripted/b", "scripted/c")

    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> list[Target]:
        offered = {target.provider: target for target in exchange.offered()}
        return [offered[name] for name in self.names]


async def test_where_a_router_stands_above_it_decides_who_stands_in_and_in_which_order() -> None:
    given = {"b": served("big", **STANDING_BY), "c": served("small"), "d": served("spare", **STANDING_BY)}
    async with gateway_of("abcd", upstreams=given, above=(Routes,)) as gateway:
        assert await order(gateway) == ["a:test-model", "b:big", "c:small"]


async def test_a_router_in_shadow_decides_nothing() -> None:
    given = {"b": served("big", **STANDING_BY)}
    mesh = {"pipeline": [{"routes": {"mode": "shadow"}}, "fallback"]}
    async with gateway_of("ab", upstreams=given, classes={"routes": Routes}, mesh=mesh) as gateway:
        assert await order(gateway) == ["a:test-model", "b:big"]


async def test_where_a_router_has_put_a_model_in_the_place_of_a_name_its_chain_follows() -> None:
    class Renames(Routes):
        names = ("scripted/a",)

    settings = {"chains": {"test-*": ["big"], "other-*": ["small"]}}
    given = {"b": served("big"), "c": served("small")}
    async with gateway_of("abc", settings, upstreams=given, above=(Renames,)) as gateway:
        assert await order(gateway, "an-alias") == ["a:test-model", "b:big"]
        assert await order(gateway, "other-alias") == ["a:test-model", "c:small"]


# Names that nobody serves, and lists that somebody emptied


async def test_a_model_that_nobody_names_is_not_served_by_another() -> None:
    settings = {"chains": {"*": ["test-model"]}}
    async with gateway_of("ab", settings, upstreams={"b": STANDING_BY}) as gateway:
        answer = await gateway.chat(model="tset-model")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert calls(gateway) == [0, 0]


async def test_where_no_target_of_the_model_is_well_its_chain_stands_in() -> None:
    settings = {"chains": {"test-model": ["other"]}}
    given = {"b": served("other")}
    async with gateway_of("ab", settings, upstreams=given, above=(Drops,)) as gateway:
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [0, 1]
    off = {**settings, "on": {"skipped": False}}
    async with gateway_of("ab", off, upstreams=given, above=(Drops,)) as gateway:
        assert (await gateway.chat()).status == 503
        assert calls(gateway) == [0, 0]


@pytest.mark.parametrize(("refuses", "code"), [(Forbids, 403), (Unpriced, 402)])
async def test_where_policy_leaves_none_nobody_stands_in(refuses: type[Drops], code: int) -> None:
    settings = {"chains": {"*": ["other"]}}
    async with gateway_of(
        "ab", settings, upstreams={"b": served("other", **STANDING_BY)}, above=(refuses,)
    ) as gateway:
        assert (await gateway.chat()).status == code
        assert calls(gateway) == [0, 0]


async def test_what_was_dropped_does_not_come_back_as_a_chain() -> None:
    class DropsB(Component):
        def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> list[Target]:
            for target in exchange.offered():
                if target.provider == "scripted/b":
                    exchange.drop(target, "residency", 403)
            return [target for target in targets if target.provider != "scripted/b"]

    settings = {
        "chains": {"test-model": ["scripted/b:test-model", "other"]},
        "context_length": {"*": ["scripted/b:other", "scripted/c:other"]},
    }
    given = {"b": served("test-model", "other", **STANDING_BY), "c": served("other")}
    async with gateway_of("abc", settings, upstreams=given, above=(DropsB,)) as gateway:
        assert await order(gateway) == ["a:test-model", "c:other"]
    async with gateway_of("abc", settings, upstreams=given, above=(DropsB,)) as gateway:
        gateway.upstreams["a"].reply({"error": {"code": "context_length_exceeded"}}, status=400)
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [1, 0, 1]


async def test_bounds_hold_for_everybody_who_stands_in() -> None:
    class OnPrem(Component):
        def on_request(self, exchange: Exchange) -> None:
            exchange.narrow(on_prem=True)

    settings = {"chains": {"test-model": ["scripted/b:other", "other"]}}
    given = {
        "a": {"on_prem": True},
        "b": served("other"),
        "c": served("other", on_prem=True),
        "d": served("spare", **STANDING_BY),
        "e": served("spare", on_prem=True, **STANDING_BY),
    }
    async with gateway_of("abcde", settings, upstreams=given, above=(OnPrem,)) as gateway:
        assert await order(gateway) == ["a:test-model", "c:other", "e:spare"]


async def test_each_target_is_tried_once_however_often_it_is_named() -> None:
    settings = {"chains": {"*": ["test-model", "scripted/b:test-model", "scripted/a:test-model"]}}
    async with gateway_of("ab", settings, upstreams={"b": STANDING_BY}) as gateway:
        assert await order(gateway) == ["a:test-model", "b:test-model"]
        assert calls(gateway) == [1, 1]


async def test_a_list_that_names_a_target_twice_calls_it_once() -> None:
    class Doubles(Component):
        def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> list[Target]:
            return [*targets, *targets]

    async with gateway_of("ab", below=(Doubles,)) as gateway:
        assert await order(gateway) == ["a:test-model", "b:test-model"]


async def test_the_ceiling_of_attempts_holds() -> None:
    async with gateway_of("abcde", mesh={"server": {"max_attempts": 3}}) as gateway:
        assert len(await order(gateway)) == 3
        assert calls(gateway) == [1, 1, 1, 0, 0]


async def test_with_too_little_time_left_the_failure_is_the_answer() -> None:
    mesh = {"server": {"deadline_s": 2.0}}
    for least, expected in ((1_000, [1, 1]), (2_000, [1, 0])):
        async with gateway_of("ab", {"min_time_left_ms": least}, mesh=mesh) as gateway:
            status(503, retry_after="9")(gateway.upstreams["a"])
            answer = await gateway.chat()
            assert calls(gateway) == expected
            assert answer.status == (200 if expected[1] else 503)
            assert expected[1] or answer.headers["retry-after"] == "9"


async def test_a_reload_with_other_providers_is_seen_by_the_same_component() -> None:
    mesh = {"pipeline": ["fallback"]}
    classes = {"fallback": Fallback}
    given = {"a": {"priority": 1}, "b": {"models": ["other"], "fallback": True}}
    async with Harness(mesh, classes=classes, upstreams=given) as gateway:
        assert await order(gateway) == ["a:test-model", "b:other"]
        component = gateway.process.gateway.pipeline.listed[1][1]
        gateway._each_upstream["b"] = {"models": ["newer"], "fallback": True}
        assert await gateway.reload(mesh)
        assert gateway.process.gateway.pipeline.listed[1][1] is component
        assert await order(gateway) == ["a:test-model", "b:newer"]


# Whatever the list is

TARGETS = st.lists(
    st.builds(
        lambda provider, model, fallback: Target(f"p{provider}", f"m{model}", "x", fallback=fallback),
        st.integers(0, 4),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda target: (target.provider, target.model),
)


@given(TARGETS)
def test_of_each_model_those_that_stand_by_are_last_and_nothing_else_moves(targets: list[Target]) -> None:
    found = list(standing_by_last(targets))
    assert sorted(found, key=targets.index) == targets
    for model in {target.model for target in targets}:
        own = [target for target in targets if target.model == model]
        ordered = [t for t in own if not t.fallback] + [t for t in own if t.fallback]
        assert [target for target in found if target.model == model] == ordered
    assert [t for t in found if not t.fallback] == [t for t in targets if not t.fallback]
    if all(own == list(standing_by_last(own)) for own in _by_model(targets)):
        assert found == targets


def _by_model(targets: list[Target]) -> list[list[Target]]:
    return [[t for t in targets if t.model == model] for model in {t.model for t in targets}]


@given(TARGETS, TARGETS, st.sets(st.sampled_from([f"p{p}:m{m}" for p in range(5) for m in range(3)])))
def test_no_target_is_named_twice_and_what_was_dropped_is_not_added(
    routed: list[Target], added: list[Target], dropped: set[str]
) -> None:
    found = without_repetition(routed, [*added, *routed], routed, dropped)
    names = [target.name for target in found]
    assert found[: len(routed)] == routed
    assert len(names) == len(set(names))
    own = {target.name for target in routed}
    assert set(names) == own | ({target.name for target in added} - dropped)
