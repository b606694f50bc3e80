"""The router in a running gateway: who is called, what the client is told, what operators see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from lmg import Component, Exchange, Failure, Next, Principal, Skip
from lmg.cli import main
from lmg.dialects.registry import PLAIN
from lmg.dryrun import DryRun
from lmg.exchange import Head
from lmg.testing import Cut, Harness, Wait, chat_body, chat_events, check_component
from lmg_router import Router


class MoveOn(Component):
    """Tries the next target whenever one fails."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next:
        return Next()


class SkipFirst(Component):
    """Leaves the first target of every exchange out."""

    def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
        if attempt.number == 1:
            raise Skip("open")
        yield


class Operator(Component):
    """Everybody is one."""

    provides = {"on_request": ("principal",)}
    requires = {"on_request": ("head",)}

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("principal", Principal("operator", scopes=frozenset({"admin"})))


CLASSES: dict[str, type[Any]] = {
    "router": Router,
    "move_on": MoveOn,
    "skip_first": SkipFirst,
    "operator": Operator,
}
ISSUE = {
    "xai": {"models": ["grok-4"], "priority": 1},
    "groq": {"models": ["llama-3.3"], "priority": 2, "fallback": True},
    "vllm": {"models": ["llama-local"], "priority": 3, "on_prem": True},
}


def harness(
    upstreams: Mapping[str, Any], *, above: tuple[str, ...] = (), below: tuple[str, ...] = (), **settings: Any
) -> Harness:
    pipeline = [*above, {"router": settings}, *below]
    return Harness({"pipeline": pipeline}, upstreams=upstreams, classes=CLASSES)


def router_of(gateway: Harness) -> Router:
    return next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, Router))


def calls(gateway: Harness) -> dict[str, int]:
    return {name: len(upstream.received) for name, upstream in gateway.upstreams.items()}


async def test_grok_falls_back_to_llama_and_then_to_the_model_on_prem() -> None:
    async with harness(ISSUE, below=("move_on",)) as gateway:
        served = await gateway.chat(model="grok-4")
        assert (served.status, served.headers["x-lmg-target"]) == (200, "scripted/xai:grok-4")
        gateway.upstreams["xai"].reply({"error": {"message": "no"}}, status=503)
        served = await gateway.chat(model="grok-4")
        assert (served.status, served.headers["x-lmg-target"]) == (200, "scripted/groq:llama-3.3")
        assert gateway.upstreams["groq"].received[0].json["model"] == "llama-3.3"
        gateway.upstreams["groq"].raw(Cut("rst"))
        served = await gateway.chat(model="grok-4", stream=True)
        assert (served.status, served.headers["x-lmg-target"]) == (200, "scripted/vllm:llama-local")
        assert served.events[-1] == "[DONE]"
        assert calls(gateway) == {"xai": 3, "groq": 2, "vllm": 1}


async def test_a_typo_calls_nobody() -> None:
    async with harness(ISSUE, below=("move_on",)) as gateway:
        answer = await gateway.chat(model="grok-44")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert sum(calls(gateway).values()) == 0


async def test_the_hint_leaves_the_body_before_it_goes_upstream() -> None:
    async with harness(ISSUE) as gateway:
        answer = await gateway.chat(model="grok-4", routing_hint="on_prem")
        assert answer.headers["x-lmg-target"] == "scripted/vllm:llama-local"
        assert "routing_hint" not in gateway.upstreams["vllm"].received[0].json
        refused = await gateway.chat(model="grok-4", routing_hint="cheapest")
        assert (refused.status, refused.error["param"]) == (400, "routing_hint")
        assert calls(gateway) == {"xai": 0, "groq": 0, "vllm": 1}


async def test_an_alias_reaches_the_upstream_under_the_models_own_name() -> None:
    async with harness(ISSUE, aliases={"fast": "grok-4"}) as gateway:
        assert (await gateway.chat(model="fast")).status == 200
        assert gateway.upstreams["xai"].received[0].json["model"] == "grok-4"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_refusal_has_the_shape_of_the_callers_dialect(path: str) -> None:
    body: dict[str, Any] = {"model": "grok-4", "routing_hint": "nearest"}
    if path == "/v1/responses":
        body["input"] = "hello"
    else:
        body |= {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    async with harness(ISSUE) as gateway:
        answer = await gateway.request(body, path=path)
        assert answer.status == 400
        assert "must be one of" in answer.json["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert sum(calls(gateway).values()) == 0


async def test_announce_false_names_nobody() -> None:
    async with harness(ISSUE, announce=False) as gateway:
        assert "x-lmg-target" not in (await gateway.chat(model="grok-4")).headers


# -- attempts -------------------------------------------------------------------------------------


async def test_every_attempt_is_given_back_once_however_it_ends() -> None:
    same = {"a": {"priority": 1}, "b": {"priority": 2}}
    async with harness(same, below=("move_on",)) as gateway:
        router, first, second = router_of(gateway), gateway.upstreams["a"], gateway.upstreams["b"]
        first.raw(Cut("rst"))
        first.stream(*chat_events("one")[:2], Cut("rst"))
        first.stream(*chat_events("one"))
        first.stream(chat_events("one")[0], Wait(3600.0))
        assert (await gateway.chat()).status == 200
        assert (await gateway.chat(stream=True)).status == 200
        assert (await gateway.chat(stream=True)).status == 200
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await first.arrival(4)
        loads = {card.target.provider: card.load for card in router._cards}
        assert loads["scripted/a"].pending == 1
        await client.close(reset=True)
        await gateway.ended(4)
        assert {load.pending for load in loads.values()} == {0}
        assert len(second.received) == 1


async def test_a_skipped_attempt_is_given_back_and_teaches_nothing() -> None:
    same = {"a": {"priority": 1}, "b": {"priority": 2}}
    async with harness(same, below=("skip_first", "move_on")) as gateway:
        assert (await gateway.chat()).status == 200
        loads = {card.target.provider: card.load for card in router_of(gateway)._cards}
        assert [(load.pending, load.measured) for load in loads.values()] == [(0, False), (0, True)]
        assert calls(gateway) == {"a": 0, "b": 1}


async def test_requests_at_once_spread_over_equal_targets() -> None:
    import asyncio

    async with harness({"a": {}, "b": {}}) as gateway:
        go = asyncio.Event()
        body = json.dumps(chat_body()).encode()
        head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        for upstream in gateway.upstreams.values():
            for _ in range(20):
                upstream.raw(Wait(event=go), head + body)
        asked = [asyncio.ensure_future(gateway.chat()) for _ in range(20)]
        async with asyncio.timeout(10):
            while sum(calls(gateway).values()) < 20:
                await asyncio.sleep(0)
        assert calls(gateway) == {"a": 10, "b": 10}
        go.set()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}


# -- what operators see ---------------------------------------------------------------------------


async def test_metrics_count_decisions_drops_and_substitutes_with_bounded_labels() -> None:
    async with harness(ISSUE, below=("move_on",), aliases={"fast": "grok-4"}) as gateway:
        gateway.host.metrics.enabled = True
        await gateway.chat(model="grok-4", routing_hint="on_prem")
        await gateway.chat(model="fast", routing_hint="low_cost")
        await gateway.chat(model="grok-4", routing_hint="nonsense")
        gateway.upstreams["xai"].reply({"error": {"message": "no"}}, status=503)
        await gateway.chat(model="grok-4")
        await gateway.ended(4)
        series = {family.name: dict(family.series) for family in gateway.host.metrics.families()}  # type: ignore[attr-defined]
        assert series["llm_router_decisions_total"] == {
            ("priority", "on_prem"): 1,
            ("cost", "low_cost"): 1,
            ("priority", "none"): 1,
        }
        assert series["llm_router_targets_dropped_total"] == {("on_prem",): 1}
        assert series["llm_router_substituted_total"] == {("scripted/vllm",): 1, ("scripted/groq",): 1}


async def test_operators_see_what_was_measured() -> None:
    async with harness(ISSUE, above=("operator",)) as gateway:
        await gateway.chat(model="grok-4")
        await gateway.ended(1)
        listed = await gateway.get(
            "/admin/v1/router/targets", headers={"authorization": "Bearer sk-any-0123"}
        )
        assert listed.status == 200
        [target] = [one for one in listed.json["targets"] if one["measured"]]
        assert (target["target"], target["pending"]) == ("scripted/xai:grok-4", 0)
        assert target["first_token_ms"] > 0


async def test_explain_routes_as_the_gateway_would_and_changes_nothing() -> None:
    async with harness(ISSUE, aliases={"fast": "grok-4"}) as gateway:
        router = router_of(gateway)
        before = [(card.load.pending, card.load.measured) for card in router._cards]
        async with DryRun(gateway.process.gateway.pipeline.blueprint) as dry:
            body = json.dumps(gateway.body(model="fast", routing_hint="on_prem")).encode()
            await dry.walk(PLAIN, Head("POST", "/v1/chat/completions", []), body)
        assert [target.name for target in dry.targets] == ["scripted/vllm:llama-local"]
        assert [(card.load.pending, card.load.measured) for card in router._cards] == before
        assert sum(calls(gateway).values()) == 0


def test_the_command_line_explains_a_drop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text("pipeline: [router]\nproviders: {echo: {}, echo/near: {models: [near], on_prem: true}}\n")
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps(
            {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "routing_hint": "on_prem"}
        )
    )
    pytest.importorskip("lmg_echo")
    assert main(["explain", "--config", str(mesh), "--json", str(request)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [target["name"] for target in told["targets"]] == ["echo/near:near"]
    assert [(drop["target"], drop["reason"]) for drop in told["dropped"]] == [("echo:echo", "on_prem")]


# -- reload and failure ---------------------------------------------------------------------------


async def test_a_reload_keeps_what_was_learned_where_the_settings_stay() -> None:
    mesh = {"pipeline": [{"router": {"strategy": "latency"}}]}
    async with Harness(mesh, upstreams={"a": {}, "b": {}}, classes=CLASSES) as gateway:
        await gateway.chat()
        await gateway.ended(1)
        before = router_of(gateway)
        assert await gateway.reload(mesh | {"server": {"deadline_s": 60}})
        assert router_of(gateway) is before
        assert sum(card.load.measured for card in before._cards) == 1
        await gateway.chat()
        await gateway.ended(2)
        assert sum(card.load.measured for card in before._cards) == 2
        assert await gateway.reload({"pipeline": [{"router": {"strategy": "priority"}}]})
        assert router_of(gateway) is not before


async def test_equal_targets_share_requests_that_come_one_by_one() -> None:
    async with harness({"a": {}, "b": {}, "c": {}}) as gateway:
        router_of(gateway).ranking.random = Random(7)
        for _ in range(60):
            assert (await gateway.chat()).status == 200
        assert min(calls(gateway).values()) >= 8


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strategy": "latency"},
        {"strategy": "cost", "unknown": "last", "sticky": "conversation"},
        {"strategy": "weighted", "weights": {"*": 2}, "aliases": {"fast": "test-model"}},
        {"residency": [{"regions": [""]}], "hints": "ignore"},
    ],
    ids=["default", "latency", "cost", "weighted", "residency"],
)
async def test_conformance(settings: dict[str, Any]) -> None:
    await check_component(lambda: (Router, settings))


# -- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "weighted"}, "needs `weights`"),
        ({"strategy": "weighted", "weights": {"a": 0}}, "one above 0"),
        ({"weights": {"a": 1}}, "for strategy: weighted"),
        ({"strategy": "weighted", "weights": {"a": -1}}, "0 or more"),
        ({"strategy": "weighted", "weights": {"a": float("nan")}}, "no number"),
        ({"strategy": "random"}, "priority"),
        ({"sticky": "session"}, "header:<name>"),
        ({"sticky": "header:"}, "header:<name>"),
        ({"sticky": "header:a b"}, "header:<name>"),
        ({"sticky": "user", "strategy": "latency"}, "nothing to choose from"),
        ({"strict_model": True, "substitute_unknown": True}, "strict_model"),
        ({"strict_model": True, "model_map": {"a": {"b": "c"}}}, "strict_model"),
        ({"aliases": {"a": "b", "b": "a"}}, "a → b → a leads back to itself"),
        ({"aliases": {"a": []}}, "stands for nothing"),
        ({"aliases": {"a": ""}}, "stands for nothing"),
        ({"quality": {"a": float("inf")}}, "no number"),
        ({"residency": [{"tenant": "a", "regions": []}]}, "regions"),
        ({"latency_decay_s": 0}, "greater than 0"),
        ({"stratgy": "cost"}, "stratgy"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_at_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Router.Config.model_validate(settings)
    assert says in str(wrong.value)
