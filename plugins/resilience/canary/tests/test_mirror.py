"""Copies: what the canary is sent, what nobody gets, and what it may cost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Capabilities, Component, Exchange, Failure, Prices, Retry, Target, Usage
from lmg.services import Limit
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import Harness, VirtualClock, Wait, chat_body
from lmg_canary.price import OPAQUE_TOKENS, cost_of, upper_bound

from .conftest import DOLLAR, NEW, OLD, calls, component, harness, member
from .test_rollout import FAILS, ask, tick, trial

MIRROR: dict[str, Any] = {"share": 1, "max_cost_usd_per_hour": 1}


async def mirrored(gateway: Harness, count: int = 1, **body: Any) -> None:
    """One request of somebody who gets the baseline; returns when ``count`` copies have arrived."""
    answer = await gateway.chat(model=OLD, headers=member(gateway, of_canary=False), **body)
    assert answer.status == 200
    assert answer.headers["x-lmg-canary"] == "trial=baseline"
    await gateway.upstreams[NEW].arrival(count)


def dropped(gateway: Harness) -> dict[str, float]:
    family = gateway.host.metrics.counter("llm_canary_mirror_drops_total", "", ("experiment", "reason"))
    return {labels[1]: count for labels, count in family.series.items()}


class Masks(Component):
    """Takes a word out of the request."""

    def on_request(self, exchange: Exchange) -> None:
        for segment in exchange.request.segments():
            exchange.request.replace(segment, segment.text.replace("Alice", "[name]"))

    requires = {"on_request": ("body",)}


class Retries(Component):
    """Tries everything again, three times."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Retry | None:
        return Retry() if failure.attempt.number < 3 else None


@pytest.mark.parametrize("stream", [False, True])
async def test_the_canary_is_sent_a_copy_whose_answer_nobody_gets(stream: bool) -> None:
    async with harness({"mirror": MIRROR}, priced=True, above={"masks": Masks}) as gateway:
        gateway.upstreams[NEW].reply(chat_body("from the canary"))
        answer = await gateway.chat(
            "I am Alice", model=OLD, stream=stream, headers=member(gateway, of_canary=False)
        )
        assert answer.text == "Hello!"
        copy = (await gateway.upstreams[NEW].arrival()).json
        assert copy["messages"] == [{"role": "user", "content": "I am [name]"}], "as the walk has masked it"
        assert copy["model"] == NEW
        assert "stream" not in copy, "a copy is answered whole"
        await gateway.ended(2)
        by_purpose = {receipt.purpose: receipt for receipt in gateway.receipts}
        assert by_purpose["mirror"].parent == by_purpose[""].exchange_id
        assert by_purpose["mirror"].tenant == "acme"
        assert calls(gateway) == (1, 1)


async def test_copies_are_measured_like_the_canary(clock: VirtualClock) -> None:
    async with harness({"mirror": MIRROR}, priced=True, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        await mirrored(gateway)
        await gateway.ended(2)
        await tick(clock)
        sums = trial(gateway).sums
        assert (sums["baseline.n"], sums["mirror.n"], sums["mirror.latency.n"]) == (1, 1, 1)
        assert sums["mirror.cost.sum"] == 14_000
        requests = gateway.host.metrics.counter(
            "llm_canary_requests_total", "", ("experiment", "arm", "outcome")
        ).series
        assert requests == {("trial", "baseline", "complete"): 1, ("trial", "mirror", "complete"): 1}


async def test_who_gets_the_canary_anyway_is_not_copied() -> None:
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        await ask(gateway, 5, of_canary=True)
        assert calls(gateway) == (0, 5)


async def test_a_share_of_the_requests_is_copied() -> None:
    async with harness(
        {"mirror": {**MIRROR, "share": 0.5, "max_concurrent": 1000}, "plan": [0, 1]}, priced=True
    ) as gateway:
        component(gateway).random.seed(1)
        await ask(gateway, 100)
        old, _ = calls(gateway)
        await gateway.ended(100 + 40)
        assert old == 100
        assert 30 <= calls(gateway)[1] <= 70


async def test_a_canary_can_be_tried_on_copies_alone(clock: VirtualClock) -> None:
    experiment = {
        "mirror": MIRROR,
        "plan": [{"percent": 0, "minutes": 1, "min_samples": 10}, {"percent": 50}, 100],
        "limits": {"max_error_rate_increase": 0.6, "max_latency_ratio": None, "max_signal_increase": 0.1},
    }
    async with harness(experiment, priced=True, clock=clock) as gateway:
        for _ in range(4):
            await ask(gateway, 15)
        await gateway.ended(120)
        assert calls(gateway) == (60, 60)
        assert all(one.headers.get("x-lmg-canary") for one in [await gateway.chat(model=OLD)])
        await tick(clock, 61)
        assert trial(gateway).percent == 50


async def test_a_copy_that_fails_is_counted_once_and_not_repeated(clock: VirtualClock) -> None:
    async with harness({"mirror": MIRROR}, priced=True, clock=clock, below={"retries": Retries}) as gateway:
        gateway.upstreams[NEW].reply(FAILS, status=500)
        await mirrored(gateway)
        await gateway.ended(2)
        await tick(clock)
        assert calls(gateway) == (1, 1)
        sums = trial(gateway).sums
        assert (sums["mirror.n"], sums["mirror.failed"]) == (1, 1)


async def test_another_components_forks_are_not_taken_for_copies(clock: VirtualClock) -> None:
    class Judge(Component):
        async def on_settle(self, exchange: Exchange) -> None:
            if exchange.parent is None:
                await exchange.fork(exchange.offered(NEW)[0], "judge")

    experiment = {"mirror": {**MIRROR, "allow_unpriced": True}}
    async with harness(experiment, clock=clock, below={"judge": Judge}) as gateway:
        await mirrored(gateway, 2)
        await gateway.ended(3)
        await tick(clock)
        assert trial(gateway).sums["mirror.n"] == 1


# -- what is not copied -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {"idempotency-key": "k"}),
        ({"web_search_options": {}}, {}),
        ({"tools": [{"type": "web_search"}]}, {}),
        ({"tools": [{"type": "mcp", "server_url": "https://tools.example"}]}, {}),
        ({"mcp_servers": [{"url": "https://tools.example"}]}, {}),
        ({"conversation": "conv_1"}, {}),
        ({"previous_response_id": "resp_1"}, {}),
        ({"background": True}, {}),
    ],
)
async def test_what_would_act_twice_is_not_copied(body: dict[str, Any], headers: dict[str, str]) -> None:
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        gateway.host.metrics.enabled = True
        answer = await gateway.chat(
            model=OLD, headers={**member(gateway, of_canary=False), **headers}, **body
        )
        assert answer.status == 200
        await gateway.ended()
        assert calls(gateway) == (1, 0)
        assert dropped(gateway) == {"not_repeatable": 1}


async def test_the_callers_own_tools_are_copied() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        await mirrored(gateway, tools=tools)


async def test_a_model_without_a_price_is_not_mirrored_unless_that_is_said() -> None:
    for allowed in (False, True):
        async with harness({"mirror": {**MIRROR, "allow_unpriced": allowed}}) as gateway:
            gateway.host.metrics.enabled = True
            await ask(gateway, 1, of_canary=False)
            await gateway.ended(2 if allowed else 1)
            assert calls(gateway) == (1, int(allowed))
            assert dropped(gateway) == ({} if allowed else {"unpriced": 1})


async def test_no_more_copies_run_at_once_than_stated() -> None:
    async with harness({"mirror": {**MIRROR, "max_concurrent": 1}}, priced=True) as gateway:
        gateway.host.metrics.enabled = True
        go_on = asyncio.Event()
        gateway.upstreams[NEW].reply(b"", Wait(event=go_on), framing="chunked")
        await mirrored(gateway)
        await ask(gateway, 3, of_canary=False)
        assert calls(gateway) == (4, 1)
        assert dropped(gateway) == {"busy": 3}
        go_on.set()
        await gateway.ended(5)
        await mirrored(gateway, 2)


async def test_copies_wait_behind_nobody_in_the_queue_of_forks() -> None:
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        gateway.host.metrics.enabled = True
        gateway.process.gateway.pipeline._forks._limit = 0
        await ask(gateway, 2, of_canary=False)
        await gateway.ended(2)
        await asyncio.sleep(0)
        assert calls(gateway) == (2, 0)
        assert dropped(gateway) == {"queue_full": 2}
        assert await spent(gateway) == 0


async def test_a_client_that_leaves_takes_no_copy_with_it(clock: VirtualClock) -> None:
    async with harness({"mirror": MIRROR}, priced=True, clock=clock) as gateway:
        go_on = asyncio.Event()
        for upstream in gateway.upstreams.values():
            upstream.reply(chat_body("late"), Wait(event=go_on), framing="chunked")
        client = await gateway.connect()
        headers = member(gateway, of_canary=False)
        await client.send(gateway.encode(gateway.body(model=OLD), headers=headers))
        await gateway.upstreams[NEW].arrival()
        await client.close(reset=True)
        await gateway.ended()
        go_on.set()
        await gateway.ended(2)
        await tick(clock)
        assert trial(gateway).sums["mirror.n"] == 1


# -- what it costs ----------------------------------------------------------------------------------


async def spent(gateway: Harness, per_hour: int = DOLLAR) -> int:
    limit = Limit("canary:trial:mirror", per_hour // 4, 1200.0)
    (level,) = await gateway.host.counters.levels([limit])
    return limit.capacity - level.remaining


async def test_what_may_be_spent_is_held_and_what_was_is_settled() -> None:
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        go_on = asyncio.Event()
        gateway.upstreams[NEW].reply(chat_body(), Wait(event=go_on), framing="chunked")
        await mirrored(gateway, max_tokens=1000)
        held = await spent(gateway)
        assert held == (len("hello") + 1000) * 2000, "a byte is a token at most; two dollars a million"
        go_on.set()
        await gateway.ended(2)
        assert await spent(gateway) == (5 + 2) * 2000


async def test_nothing_is_copied_beyond_the_cost_of_an_hour(clock: VirtualClock) -> None:
    """Four copies at 0.002 dollars each fill the bucket; what they did not use comes back with the time."""
    mirror = {**MIRROR, "max_cost_usd_per_hour": "0.032"}
    async with harness({"mirror": mirror}, priced=True, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams[NEW].reply(chat_body(usage=(500, 500)))
        for count in range(1, 5):
            await mirrored(gateway, count, max_tokens=990)
            await gateway.ended(2 * count)
        await ask(gateway, 1, of_canary=False)
        await gateway.ended(9)
        assert calls(gateway) == (5, 4)
        assert dropped(gateway) == {"over_cost": 1}
        await tick(clock, 301)
        await mirrored(gateway, 5, max_tokens=900)


@given(
    st.lists(st.tuples(st.floats(0, 600), st.integers(1, 400)), min_size=1, max_size=60),
    st.integers(400, 4000),
)
def test_within_any_hour_no_more_than_the_cap_is_taken(takes: list[tuple[float, int]], cap: int) -> None:
    from lmg.services import Take

    async def run() -> None:
        now = 0.0
        store = MemoryCounters(lambda: now)
        limit = Limit("k", max(1, cap // 4), 1200.0)
        taken: list[tuple[float, int]] = []
        for wait, amount in takes:
            now += wait
            if (await store.take([Take(limit, amount)])).refused is None:
                taken.append((now, amount))
        for start, _ in taken:
            assert sum(amount for at, amount in taken if start <= at < start + 3600) <= cap

    asyncio.run(run())


async def test_an_attempt_that_may_have_been_answered_is_taken_to_have_cost_all_it_could() -> None:
    upstreams = {OLD: {"models": [OLD]}, NEW: {"models": [NEW], "timeout_ms": 50}}
    async with harness({"mirror": MIRROR}, priced=True, upstreams=upstreams) as gateway:
        gateway.upstreams[NEW].reply(b"", Wait(event=asyncio.Event()), framing="chunked")
        await mirrored(gateway, max_tokens=1000)
        await gateway.ended(2)
        assert await spent(gateway) == (len("hello") + 1000) * 2000


async def test_a_copy_that_was_refused_costs_nothing() -> None:
    async with harness({"mirror": MIRROR}, priced=True) as gateway:
        gateway.upstreams[NEW].reply(FAILS, status=429)
        await mirrored(gateway)
        await gateway.ended(2)
        assert await spent(gateway) == 0


TIERED = Prices(10, 100, cache_read=1, cache_write=20, above=((1000, Prices(20, 200)),))


@pytest.mark.parametrize(
    ("usage", "millions"),
    [
        (Usage(100, 10), 100 * 10 + 10 * 100),
        (Usage(100, 10, cached_tokens=60), 40 * 10 + 60 * 1 + 10 * 100),
        (Usage(100, 10, cached_tokens=60, cache_write_tokens=30), 10 * 10 + 60 * 1 + 30 * 20 + 10 * 100),
        (Usage(1000, 10), 1000 * 10 + 10 * 100),
        (Usage(1001, 10, cached_tokens=1), 1001 * 20 + 10 * 200),
        (Usage(0, 0), 0),
        (Usage(5, 0, cached_tokens=9), 9),
    ],
)
def test_what_an_answer_cost(usage: Usage, millions: int) -> None:
    assert cost_of(TIERED, usage) == -(-millions // 10**6)
    scaled = Prices(10 * 10**6, 100 * 10**6, 10**6, 20 * 10**6, ((1000, Prices(20 * 10**6, 200 * 10**6)),))
    assert cost_of(scaled, usage) == millions


async def test_an_upper_bound_is_one() -> None:
    async with harness({"plan": [0, 1], "mirror": MIRROR}, priced=True) as gateway:
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]
        await gateway.chat(model=OLD, messages=messages, n=3)
        exchange = gateway.exchanges[0]
        million = Prices(10**6, 10**6, cache_write=2 * 10**6)
        target = Target("p", "m", "m", prices=million)
        assert upper_bound(exchange, target, million, 50) == (5 + OPAQUE_TOKENS) * 2 + 3 * 50
        short = Target("p", "m", "m", capabilities=Capabilities(max_output_tokens=20))
        assert upper_bound(exchange, short, million, 50) == (5 + OPAQUE_TOKENS) * 2 + 3 * 20
        exchange.narrow(max_output_tokens=7)
        assert upper_bound(exchange, target, million, 50) == (5 + OPAQUE_TOKENS) * 2 + 3 * 7
