"""When a target is asked once more, after what pause, and which one where several have failed."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import ConfigError, Host
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Cut, Harness, check_component
from lmg.testing.gateway import Scripted
from lmg_retry import RetryBudget
from lmg_retry.config import RetryConfig

from .conftest import (
    AtLength,
    Moves,
    calls,
    counted,
    fine,
    gateway_of,
    malformed,
    pauses,
    reset,
    skips,
    status,
    tried,
)

# How often


async def test_without_a_failure_nothing_is_asked_twice() -> None:
    async with gateway_of("ab") as gateway:
        assert (await gateway.chat()).status == 200
        assert (await gateway.chat(stream=True)).text == "Hello!"
        assert (calls(gateway), pauses(gateway)) == ([2, 0], [])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_burst_is_ridden_out(stream: bool) -> None:
    async with gateway_of("ab", {"max_retries": 4}) as gateway:
        for code in (500, 502, 503, 529):
            status(code)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"], stream=stream)
        assert (await gateway.chat(stream=stream)).text == "Hello!"
        assert calls(gateway) == [5, 0]
        assert await tried(gateway) == [
            ("a", "status"), ("a", "status"), ("a", "overloaded"), ("a", "overloaded"), ("a", "complete"),
        ]  # fmt: skip


@pytest.mark.parametrize("most", [0, 1, 2, 3])
async def test_the_last_failure_is_the_answer_when_retries_are_used_up(most: int) -> None:
    async with gateway_of("ab", {"max_retries": most}) as gateway:
        for _ in range(most):
            reset(gateway.upstreams["a"])
        status(429, retry_after="3")(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (429, "some_code", "3")
        assert calls(gateway) == [most + 1, 0]


async def test_a_400_after_a_retry_is_the_answer() -> None:
    async with gateway_of("ab", {"max_retries": 5}) as gateway:
        for code in (503, 400):
            status(code)(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 400
        assert calls(gateway) == [2, 0]


async def test_the_ceiling_of_attempts_holds_and_costs_no_budget() -> None:
    async with gateway_of("a", {"max_retries": 9}, mesh={"server": {"max_attempts": 3}}) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        await gateway.chat()
        assert calls(gateway) == [3]
        await gateway.ended()
        assert counted(gateway, "llm_retries_total") == {("scripted/a:test-model", "overloaded"): 2}


async def test_each_retry_starts_from_the_clients_request() -> None:
    async with gateway_of("a", upstreams={"a": {"model_map": {"test-model": "a-name"}}}) as gateway:
        status(503)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"])
        await gateway.chat("hello", temperature=0.5)
        first, second = gateway.upstreams["a"].received
        assert first.body == second.body


# After what pause


async def test_the_random_pause_doubles_up_to_its_limit() -> None:
    settings = {"max_retries": 5, "base_ms": 100, "max_ms": 1_000}
    async with gateway_of("a", settings, retry=AtLength) as gateway:
        status(503)(gateway.upstreams["a"])
        await gateway.chat()
        assert pauses(gateway) == [0.1, 0.2, 0.4, 0.8, 1.0]


@given(st.integers(0, 2**32), st.integers(0, 10), st.integers(1, 1_000), st.integers(1, 10_000))
def test_the_random_pause_is_anything_up_to_its_limit(
    seed: int, made: int, base_ms: int, max_ms: int
) -> None:
    longest = max(base_ms, max_ms)
    config = RetryConfig(base_ms=base_ms, max_ms=longest, max_wait_ms=longest)
    component = RetryBudget(config, Host(), "retry")
    component.random = random.Random(seed)
    drawn = [component._jitter_s(made) for _ in range(20)]
    limit = min(longest, base_ms * 2**made) / 1000
    assert all(0 <= pause <= limit for pause in drawn)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "2"},
        {"retry_after_ms": "2000"},
        {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2s"},
    ],
)
@pytest.mark.parametrize("code", [429, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_upstream_asks_to_wait_is_waited(
    headers: dict[str, str], code: int, stream: bool
) -> None:
    async with gateway_of("ab", retry=AtLength) as gateway:
        status(code, **headers)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"], stream=stream)
        assert (await gateway.chat(stream=stream)).status == 200
        assert calls(gateway) == [2, 0]
        (pause,) = gateway.host.clock.pauses  # type: ignore[attr-defined]
        # The pause that was asked for began with the answer, and a random one comes on top.
        assert 1.5 < pause <= 2.1


async def test_without_a_pause_asked_for_a_429_waits_at_random() -> None:
    async with gateway_of("a", retry=AtLength) as gateway:
        status(429)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 200
        assert pauses(gateway) == [0.1]


@pytest.mark.parametrize(("asked", "waits"), [("5", True), ("6", False), ("86400", False)])
async def test_who_asks_for_longer_than_max_wait_is_the_answer(asked: str, waits: bool) -> None:
    async with gateway_of("a", {"max_retries": 1}, retry=AtLength) as gateway:
        status(429, retry_after=asked)(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert (answer.status, answer.headers["retry-after"]) == (429, asked)
        assert calls(gateway) == [1 + waits]
        assert all(pause <= 5.0 for pause in pauses(gateway))


@pytest.mark.parametrize(("deadline_s", "attempts"), [(1.9, 1), (30.0, 2)])
async def test_no_pause_reaches_past_the_deadline(deadline_s: float, attempts: int) -> None:
    async with gateway_of("a", mesh={"server": {"deadline_s": deadline_s}}) as gateway:
        status(503, retry_after="2")(gateway.upstreams["a"])
        fine(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert answer.status == (503 if attempts == 1 else 200)
        assert calls(gateway) == [attempts]


async def test_a_client_that_leaves_during_the_pause_is_not_asked_for_again() -> None:
    from lmg.testing import VirtualClock

    clock = VirtualClock()
    async with gateway_of("a", clock=clock) as gateway:
        status(503, retry_after="2")(gateway.upstreams["a"])
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body()))
        while not clock._sleepers:
            await asyncio.sleep(0)
        await client.close(reset=True)
        exchange = await gateway.ended()
        await clock.advance(10)
        assert exchange.ended == "cancelled"
        assert calls(gateway) == [1]


# Which target


async def test_alone_it_asks_the_same_target_though_others_are_left() -> None:
    async with gateway_of("abcde") as gateway:
        status(503)(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 503
        assert calls(gateway) == [3, 0, 0, 0, 0]


async def test_told_to_it_prefers_another_target_and_pays_for_it() -> None:
    async with gateway_of("abcde", {"prefer_other": True}) as gateway:
        gateway.host.metrics.enabled = True
        for name in "abc":
            status(503)(gateway.upstreams[name])
        assert (await gateway.chat()).status == 503
        assert calls(gateway) == [1, 1, 1, 0, 0]
        assert pauses(gateway) == []
        await gateway.ended()
        assert counted(gateway, "llm_retries_total") == {
            ("scripted/b:test-model", "overloaded"): 1,
            ("scripted/c:test-model", "overloaded"): 1,
        }


async def test_it_passes_over_what_is_skipped_for_nothing() -> None:
    settings = {"prefer_other": True, "max_retries": 1}
    async with gateway_of("abcd", settings, below=(skips("abc"),)) as gateway:
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [0, 0, 0, 1]


async def test_where_no_other_is_left_it_goes_back_to_the_first() -> None:
    async with gateway_of("ab", {"prefer_other": True}) as gateway:
        status(503)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"])
        reset(gateway.upstreams["b"])
        assert (await gateway.chat()).status == 200
        assert await tried(gateway) == [("a", "overloaded"), ("b", "closed"), ("a", "complete")]


async def test_when_the_list_is_used_up_it_goes_back_to_the_first_of_it() -> None:
    async with gateway_of("abcde", above=(Moves,)) as gateway:
        for upstream in gateway.upstreams.values():
            status(503)(upstream)
        fine(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [2, 1, 1, 1, 1]


async def test_it_goes_back_to_the_one_that_failed_least() -> None:
    async with gateway_of("ab", above=(Moves,)) as gateway:
        for upstream in gateway.upstreams.values():
            status(503)(upstream)
        assert (await gateway.chat()).status == 503
        assert [target for target, _ in await tried(gateway)] == ["a", "b", "a", "b"]


async def test_it_goes_back_to_the_one_that_can_be_asked_soonest() -> None:
    async with gateway_of("abc", above=(Moves,)) as gateway:
        status(429, retry_after="4")(gateway.upstreams["a"])
        status(503, retry_after="1")(gateway.upstreams["b"])
        status(429, retry_after="60")(gateway.upstreams["c"])
        fine(gateway.upstreams["b"])
        assert (await gateway.chat()).status == 200
        assert [target for target, _ in await tried(gateway)] == ["a", "b", "c", "b"]
        assert pauses(gateway)[0] <= 1.1


@pytest.mark.parametrize("stream", [False, True])
async def test_when_the_last_was_skipped_it_goes_back_to_one_that_really_failed(stream: bool) -> None:
    async with gateway_of("ab", above=(Moves,), below=(skips("b"),)) as gateway:
        reset(gateway.upstreams["a"])
        fine(gateway.upstreams["a"], stream=stream)
        assert (await gateway.chat(stream=stream)).status == 200
        assert await tried(gateway) == [("a", "closed"), ("b", "open"), ("a", "complete")]


async def test_it_does_not_go_back_to_who_is_skipped_by_now() -> None:
    async with gateway_of("ab", above=(Moves,), below=(skips("b", later="a"),)) as gateway:
        status(503)(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 503
        assert await tried(gateway) == [("a", "overloaded"), ("b", "open"), ("a", "open")]
        assert calls(gateway) == [1, 0]


@pytest.mark.parametrize("last", [status(401), status(403), malformed])
async def test_when_the_last_failed_for_good_it_goes_back_to_one_that_may_not_have(last: Any) -> None:
    async with gateway_of("ab", above=(Moves,)) as gateway:
        status(503)(gateway.upstreams["a"])
        fine(gateway.upstreams["a"])
        last(gateway.upstreams["b"])
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [2, 1]


async def test_when_the_last_blames_the_caller_it_goes_back_to_nobody() -> None:
    async with gateway_of("ab", above=(Moves,)) as gateway:
        status(503)(gateway.upstreams["a"])
        status(422)(gateway.upstreams["b"])
        assert (await gateway.chat()).status == 422
        assert calls(gateway) == [1, 1]


# What is told, and settings


async def test_retries_are_counted_when_they_are_made() -> None:
    async with gateway_of("ab", above=(Moves,), below=(skips("b", later="a"),)) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        await gateway.chat()
        await gateway.ended()
        assert counted(gateway, "llm_retries_total") == {}  # the one that was granted was skipped


async def test_a_model_that_a_caller_made_up_names_no_series() -> None:
    async with gateway_of("a", upstreams={"a": {"models": ["*"]}}) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        await gateway.chat(model="made-up")
        await gateway.ended()
        assert counted(gateway, "llm_retries_total") == {("scripted/a:*", "overloaded"): 2}


async def test_in_shadow_nothing_is_asked_again() -> None:
    async with gateway_of("a", {"mode": "shadow"}) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 503
        assert calls(gateway) == [1]
        exchange = await gateway.ended()
        assert ("retry", "on_failure", "Retry; slot") in exchange.shadowed
        assert counted(gateway, "llm_retries_total") == {}


async def test_a_cut_in_a_whole_answer_is_asked_for_again_and_costs_what_the_answer_used() -> None:
    async with gateway_of("a") as gateway:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        gateway.upstreams["a"].raw(head, Cut("rst"))
        fine(gateway.upstreams["a"])
        assert (await gateway.chat()).status == 200
        receipt = (await gateway.ended()).receipt
        assert receipt is not None
        assert (receipt.attempts, receipt.input_tokens, receipt.output_tokens) == (2, 5, 2)


async def test_it_passes_the_checks_that_every_component_passes() -> None:
    await check_component(lambda: (RetryBudget, {"prefer_other": True, "on": {"timeout": True}}))


async def test_a_reload_that_changes_nothing_keeps_what_was_spent() -> None:
    settings = {"max_retries": 1}
    async with Harness({"pipeline": [{"retry": settings}]}, classes={"retry": RetryBudget}) as gateway:
        component = gateway.process.gateway.pipeline.listed[1][1]
        assert await gateway.reload({"pipeline": [{"retry": settings}], "server": {"deadline_s": 9}})
        assert gateway.process.gateway.pipeline.listed[1][1] is component


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on": {"conect_error": False}}, "did you mean 'connect_error'?"),
        ({"on": {"bad_request": True}}, "is no class of failures that can be tried again"),
        ({"on": dict.fromkeys(("connect_error", "connect_timeout", "closed", "request_timeout", "rate_limited", "status", "overloaded"), False)}, "every class is switched off"),
        ({"base_ms": 3_000}, "base_ms (3000), max_ms (2000) and max_wait_ms (5000) must rise"),
        ({"max_ms": 6_000}, "must rise in this order"),
        ({"budget": 0, "min_per_s": 0}, "nothing would ever be tried again"),
        ({"budget": 1.5}, "less than or equal to 1"),
        ({"max_retries": -1}, "greater than or equal to 0"),
        ({"window_s": 0}, "greater than or equal to 1"),
        ({"retries": 3}, "did you mean 'max_retries'?"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_stops_the_start(settings: dict[str, Any], said: str) -> None:
    mesh = {
        "providers": {"scripted": {"endpoint": "http://127.0.0.1:9", "models": ["m"]}},
        "pipeline": [{"retry": settings}],
    }
    with pytest.raises(ConfigError) as caught:
        draft(validate(MeshConfig, mesh, (), None), classes={"retry": RetryBudget, "scripted": Scripted})
    assert said in str(caught.value)
    assert caught.value.path.startswith("pipeline[0]")
