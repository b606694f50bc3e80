"""Who gets the canary, in which order targets are tried, and what callers are told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lmg import Component, Exchange, Failure, Next, Target

from .conftest import NEW, OLD, calls, component, harness, member, user


class MovesOn(Component):
    """Tries what is left, as `fallback` does."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        return Next() if failure.targets_left else None


class DropsNew(Component):
    """Leaves the new model out, as a router does for what cannot serve a request."""

    def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
        for target in exchange.offered(NEW):
            exchange.drop(target, "cannot")
        return targets


async def test_a_share_of_the_users_gets_the_canary_and_stays_with_it() -> None:
    async with harness() as gateway:
        arms: dict[int, set[str]] = {}
        for number in range(40):
            for _ in range(2):
                answer = await gateway.chat(model=OLD, headers=user(number))
                arms.setdefault(number, set()).add(answer.headers["x-lmg-canary"])
        assert all(len(seen) == 1 for seen in arms.values()), "a user changed arms"
        old, new = calls(gateway)
        assert old + new == 80
        assert 20 <= new <= 60
        assert new == 2 * sum(seen == {"trial=canary"} for seen in arms.values())
        assert all(request.json["model"] == NEW for request in gateway.upstreams[NEW].received)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_arm_is_named_in_the_answer(stream: bool) -> None:
    async with harness() as gateway:
        for of_canary, arm in ((True, "canary"), (False, "baseline")):
            answer = await gateway.chat(
                model=OLD, stream=stream, headers=member(gateway, of_canary=of_canary)
            )
            assert (answer.status, answer.headers["x-lmg-canary"]) == (200, f"trial={arm}")
        assert calls(gateway) == (1, 1)


async def test_the_arm_is_not_named_where_that_is_not_wanted() -> None:
    async with harness(settings={"announce": False}) as gateway:
        assert "x-lmg-canary" not in (await gateway.chat(model=OLD)).headers


async def test_the_baseline_stands_behind_a_canary_that_fails() -> None:
    async with harness(below={"moves_on": MovesOn}) as gateway:
        gateway.upstreams[NEW].reply({"error": {"message": "no"}}, status=503)
        answer = await gateway.chat(model=OLD, headers=member(gateway, of_canary=True))
        assert answer.status == 200
        assert answer.headers["x-lmg-canary"] == "trial=baseline", "the header names who answered"
        assert calls(gateway) == (1, 1)


async def test_others_never_fall_back_to_the_canary() -> None:
    upstreams = {OLD: {"models": [OLD], "priority": 1}, NEW: {"models": [OLD], "priority": 2}}
    experiment = {"canary": f"scripted/{NEW}:{OLD}"}
    async with harness(experiment, below={"moves_on": MovesOn}, upstreams=upstreams) as gateway:
        gateway.upstreams[OLD].reply({"error": {"message": "no"}}, status=503)
        answer = await gateway.chat(model=OLD, headers=member(gateway, of_canary=False))
        assert answer.status == 503
        assert calls(gateway) == (1, 0)
        assert gateway.exchanges[0].drops == [(f"scripted/{NEW}:{OLD}", "canary of trial", 503)]


async def test_others_get_the_canary_where_nothing_else_is_left() -> None:
    async with harness({"model": NEW, "canary": NEW}) as gateway:
        answer = await gateway.chat(model=NEW, headers=member(gateway, of_canary=False))
        assert (answer.status, calls(gateway)) == (200, (0, 1))


async def test_a_model_that_nobody_names_is_served_by_both_arms() -> None:
    async with harness({"model": "chat", "baseline": OLD}) as gateway:
        for of_canary in (True, False):
            answer = await gateway.chat(model="chat", headers=member(gateway, of_canary=of_canary))
            assert answer.status == 200
        assert calls(gateway) == (1, 1)


async def test_other_models_are_left_alone() -> None:
    async with harness() as gateway:
        answer = await gateway.chat(model=NEW, headers=user(1))
        assert (answer.status, calls(gateway)) == (200, (0, 1))
        assert "x-lmg-canary" not in answer.headers
        assert (await gateway.chat(model="unknown", headers=user(1))).status == 404


async def test_names_that_clients_invent_are_forgotten() -> None:
    async with harness() as gateway:
        running = component(gateway)
        for number in range(3000):
            running._fit(f"model-{number}")
        assert len(running._fitting) <= 1024


async def test_what_was_dropped_further_up_stays_dropped() -> None:
    async with harness({"plan": [100]}, above={"drops": DropsNew}) as gateway:
        assert (await gateway.chat(model=OLD)).status == 200
        assert calls(gateway) == (1, 0)


async def test_vectors_of_another_model_are_never_given() -> None:
    async with harness({"plan": [100]}) as gateway:
        body = {"model": OLD, "input": "hello"}
        assert (await gateway.request(body, path="/v1/embeddings")).status == 200
        assert calls(gateway) == (1, 0)


async def test_a_canary_that_nobody_serves_changes_nothing_and_shows_in_health() -> None:
    async with harness({"canary": "nwe", "plan": [100]}) as gateway:
        assert (await gateway.chat(model=OLD)).status == 200
        assert calls(gateway) == (1, 0)
        health = component(gateway).health()
        assert health is not None
        assert health.detail == "no provider serves the canary of: trial"
        assert (await gateway.get("/readyz")).json["degraded"] == {"canary": "degraded"}


async def test_a_name_with_a_colon_is_a_model_where_no_provider_is_called_so() -> None:
    upstreams = {OLD: {"models": [OLD]}, NEW: {"models": ["llama3:8b"]}}
    async with harness({"canary": "llama3:8b", "plan": [100]}, upstreams=upstreams) as gateway:
        assert (await gateway.chat(model=OLD)).status == 200
        assert calls(gateway) == (0, 1)


async def test_bounds_hold_for_the_canary_too() -> None:
    class OnPrem(Component):
        def on_request(self, exchange: Exchange) -> None:
            exchange.narrow(on_prem=True)

    upstreams = {OLD: {"models": [OLD], "on_prem": True}, NEW: {"models": [NEW]}}
    async with harness({"plan": [100]}, below={"on_prem": OnPrem}, upstreams=upstreams) as gateway:
        assert (await gateway.chat(model=OLD)).status == 200
        assert calls(gateway) == (1, 0)
        assert component(gateway).health() is None, "policy is no fault of the configuration"


# -- the request's header ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "allowed", "called"),
    [
        ("on", True, (0, 1)),
        ("trial", True, (0, 1)),
        ("off", True, (1, 0)),
        ("ON", True, (0, 1)),
        ("other", True, None),
        ("on" * 40, True, None),
        ("on", False, None),
    ],
)
async def test_the_header_chooses_an_arm_where_it_may(
    value: str, allowed: bool, called: tuple[int, int] | None
) -> None:
    async with harness(settings={"allow_header": allowed}) as gateway:
        for of_canary in (True, False):
            headers = {**member(gateway, of_canary=of_canary), "x-lmg-canary": value}
            assert (await gateway.chat(model=OLD, headers=headers)).status == 200
        expected = (1, 1) if called is None else (called[0] * 2, called[1] * 2)
        assert calls(gateway) == expected
        measured = component(gateway).trials[0].batch.sums()
        assert bool(measured) is (called is None), "who chooses its arm says nothing about it"


async def test_the_header_is_for_those_with_the_role() -> None:
    settings = {"allow_header": True, "header_roles": ["tester"]}
    async with harness(settings=settings) as gateway:
        for prefix, forced in (("tester", True), ("user", False)):
            headers = {**member(gateway, of_canary=False, prefix=prefix), "x-lmg-canary": "on"}
            answer = await gateway.chat(model=OLD, headers=headers)
            assert answer.headers["x-lmg-canary"] == f"trial={'canary' if forced else 'baseline'}"


# -- what a user is ---------------------------------------------------------------------------------


async def test_tenants_stay_together() -> None:
    async with harness({"by": "tenant"}) as gateway:
        for tenant in range(12):
            arms = {
                (await gateway.chat(model=OLD, headers={"x-user": f"{tenant}/{number}"})).headers[
                    "x-lmg-canary"
                ]
                for number in range(3)
            }
            assert len(arms) == 1


async def test_a_header_can_say_what_stays_together() -> None:
    async with harness({"by": "header:X-Session"}) as gateway:
        arms: dict[int, set[str]] = {}
        for session in range(16):
            for number in range(2):
                headers = {**user(number), "x-session": str(session)}
                answer = await gateway.chat(model=OLD, headers=headers)
                arms.setdefault(session, set()).add(answer.headers["x-lmg-canary"])
        assert all(len(seen) == 1 for seen in arms.values())
        assert len(set.union(*arms.values())) == 2


async def test_a_conversation_stays_with_its_arm_as_it_grows() -> None:
    async with harness({"by": "conversation"}) as gateway:
        arms = set()
        for number in range(16):
            messages = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"question {number}"},
            ]
            seen = set()
            for turn in range(3):
                answer = await gateway.chat(model=OLD, headers=user(1), messages=messages)
                seen.add(answer.headers["x-lmg-canary"])
                messages += [
                    {"role": "assistant", "content": f"answer {turn}"},
                    {"role": "user", "content": f"more {turn}"},
                ]
            assert len(seen) == 1
            arms |= seen
        assert len(arms) == 2
