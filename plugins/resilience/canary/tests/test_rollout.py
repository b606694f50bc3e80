"""An experiment's life in running gateways: what is measured, who decides, and what survives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmg import Component, Exchange, Host, Response, ServiceError, Signal
from lmg.services.file_counters import FileCounters
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import Harness, VirtualClock, Wait, chat_events
from lmg_canary.trial import Trial

from .conftest import EXPERIMENT, NEW, OLD, calls, component, harness, member, user
from .test_routing import MovesOn

QUICK: dict[str, Any] = {
    "plan": [{"percent": 50, "minutes": 1, "min_samples": 10}, {"percent": 75, "minutes": 1, "min_samples": 10}, 100],
    "limits": {"max_error_rate_increase": 0.6, "max_first_token_ratio": None, "max_latency_ratio": None},
}  # fmt: skip
FAILS = {"error": {"message": "no", "type": "server_error"}}


class Flaky:
    """A counter store that can be gone."""

    shared = True

    def __init__(self, clock: VirtualClock) -> None:
        self.gone = False
        self._store = MemoryCounters(clock.monotonic)

    def close(self) -> None:
        self.gone = False

    def __getattr__(self, name: str) -> Any:
        if self.gone:
            raise ServiceError("the store is gone")
        return getattr(self._store, name)


def trial(gateway: Harness) -> Trial:
    return component(gateway).trials[0]


async def ask(gateway: Harness, users: int, *, first: int = 0, of_canary: bool | None = None) -> None:
    """One request of each of so many users, all at once; of one arm, where that is said."""
    headers = [
        user(n)
        if of_canary is None
        else member(gateway, of_canary=of_canary, prefix=f"user{n}-")
        for n in range(first, first + users)
    ]  # fmt: skip
    await asyncio.gather(*(gateway.chat(model=OLD, headers=one) for one in headers))


async def tick(clock: VirtualClock, seconds: float = 1.0) -> None:
    """Lets the background work of so many seconds happen."""
    await clock.advance(seconds)


async def test_a_good_canary_is_promoted_stage_by_stage(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        shares = []
        for stage in range(3):
            shares.append(trial(gateway).percent)
            await ask(gateway, 60, first=100 * stage)
            await tick(clock)
            assert trial(gateway).percent == shares[-1], "the stage's minute is not over"
            await tick(clock, 60)
        assert shares == [50, 75, 100]
        state = trial(gateway).state
        assert state is not None
        assert state.status == "promoted"
        before = calls(gateway)
        await ask(gateway, 5)
        assert calls(gateway) == (before[0], before[1] + 5)
        moves = gateway.host.metrics.counter(
            "llm_canary_transitions_total", "", ("experiment", "to", "reason")
        ).series
        assert moves == {("trial", "75", "evidence"): 1, ("trial", "promoted", "evidence"): 1}
        share = gateway.host.metrics.gauge("llm_canary_share", "", ("experiment",)).series
        assert share == {("trial",): 1.0}


async def test_a_bad_canary_is_rolled_back_within_a_second(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams[NEW].reply(FAILS, status=500)
        await ask(gateway, 60)
        await tick(clock)
        state = trial(gateway).state
        assert state is not None
        assert (state.status, state.history[-1].reason) == ("rolled_back", "error_rate")
        before = calls(gateway)
        await ask(gateway, 20)
        assert calls(gateway) == (before[0] + 20, before[1])
        assert (await gateway.chat(model=OLD)).headers.get("x-lmg-canary") is None
        requests = gateway.host.metrics.counter(
            "llm_canary_requests_total", "", ("experiment", "arm", "outcome")
        ).series
        assert requests == {
            ("trial", "baseline", "complete"): before[0],
            ("trial", "canary", "failed"): before[1],
        }


async def test_only_the_first_attempt_is_compared(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock, below={"moves_on": MovesOn}) as gateway:
        gateway.upstreams[NEW].reply(FAILS, status=503)
        await ask(gateway, 3, of_canary=True)
        assert calls(gateway) == (3, 3)
        await tick(clock)
        assert dict(trial(gateway).sums) == {"canary.n": 3, "canary.failed": 3}


async def test_costs_are_measured_by_the_catalogues_prices(clock: VirtualClock) -> None:
    async with harness({"limits": {"max_cost_ratio": 3}}, clock=clock, priced=True) as gateway:
        await ask(gateway, 1, of_canary=True)
        await ask(gateway, 2, of_canary=False)
        await tick(clock)
        sums = trial(gateway).sums
        # 5 tokens in and 2 out, at 1 and at 2 dollars a million.
        assert (sums["baseline.cost.n"], sums["baseline.cost.sum"]) == (2, 14_000)
        assert (sums["canary.cost.n"], sums["canary.cost.sum"]) == (1, 14_000)


async def test_streams_are_measured_to_their_first_token(clock: VirtualClock) -> None:
    async with harness(clock=clock) as gateway:
        events = chat_events("one", "two")
        gateway.upstreams[NEW].stream(Wait(0.01), *events[:2], Wait(0.05), *events[2:])
        answer = await gateway.chat(model=OLD, stream=True, headers=member(gateway, of_canary=True))
        assert answer.text == "onetwo"
        await tick(clock)
        sums = trial(gateway).sums
        assert sums["canary.first_token.n"] == sums["canary.latency.n"] == 1
        assert sums["canary.first_token.sum"] < sums["canary.latency.sum"]


class Alarm(Component):
    """A guard that finds the new model's answers risky."""

    def on_response(self, exchange: Exchange, response: Response) -> None:
        new = exchange.attempts[-1].target.model == NEW
        exchange.signal(Signal("toxicity", 0.8 if new else 0.1, weight=0.5))
        exchange.signal(Signal("other", 0.5, weight=0.2 if new else 0.0))


async def test_the_guards_signals_are_compared(clock: VirtualClock) -> None:
    async with harness(
        {"limits": {"max_signal_increase": 0.1}}, clock=clock, below={"alarm": Alarm}
    ) as gateway:
        await ask(gateway, 1, of_canary=True)
        await ask(gateway, 1, of_canary=False)
        await tick(clock)
        sums = trial(gateway).sums
        assert sums["canary.risk.sum"] == 4600  # 1 - (1 - 0.4) (1 - 0.1)
        assert sums["baseline.risk.sum"] == 500


async def test_what_began_in_one_stage_is_not_counted_in_the_next(clock: VirtualClock) -> None:
    async with harness(clock=clock) as gateway:
        go_on = asyncio.Event()
        gateway.upstreams[NEW].reply(b"", Wait(event=go_on), status=500, framing="chunked")
        asked = asyncio.create_task(gateway.chat(model=OLD, headers=member(gateway, of_canary=True)))
        await gateway.upstreams[NEW].arrival()
        await component(gateway).keeper.command(trial(gateway), "restart")
        go_on.set()
        assert (await asked).status == 502
        await tick(clock)
        assert not trial(gateway).sums


async def test_clients_that_leave_are_no_failures(clock: VirtualClock) -> None:
    async with harness(clock=clock) as gateway:
        gateway.upstreams[NEW].stream(Wait(event=asyncio.Event()))
        client = await gateway.connect()
        headers = member(gateway, of_canary=True)
        await client.send(gateway.encode(gateway.body(model=OLD, stream=True), headers=headers))
        await gateway.upstreams[NEW].arrival()
        await client.close()
        await gateway.ended()
        await tick(clock)
        sums = trial(gateway).sums
        assert sums.get("canary.n") is None
        assert sums["canary.first_token.n"] == 1, "it has waited at least so long"


async def test_counting_tokens_follows_the_arm_and_is_not_measured(clock: VirtualClock) -> None:
    async with harness({"plan": [99, 100]}, clock=clock) as gateway:
        body = {"model": OLD, "messages": [{"role": "user", "content": "hello"}]}
        answer = await gateway.request(
            body,
            path="/v1/messages/count_tokens",
            headers={**member(gateway, of_canary=True), "anthropic-version": "2023-06-01"},
        )
        assert answer.status == 200
        assert gateway.exchanges[0].attempts[0].target.model == NEW
        assert not trial(gateway).batch.sums()


async def test_in_shadow_nothing_is_moved_measured_or_copied(clock: VirtualClock) -> None:
    mirror = {"share": 1, "max_cost_usd_per_hour": 1, "allow_unpriced": True}
    async with harness(
        {"plan": [100], "mirror": mirror}, settings={"mode": "shadow"}, clock=clock
    ) as promoted, harness(
        {"plan": [1, 100], "mirror": mirror}, settings={"mode": "shadow"}, clock=clock
    ) as running:  # fmt: skip
        for gateway in (promoted, running):
            await ask(gateway, 10)
            await tick(clock)
            assert calls(gateway) == (10, 0)
            assert not trial(gateway).batch.sums()
            assert not trial(gateway).sums
            assert gateway.exchanges[0].shadowed


# -- several processes ------------------------------------------------------------------------------


def host_with(store: Any, clock: VirtualClock) -> Host:
    host = Host(clock=clock)
    host.counters = store
    return host


async def test_replicas_count_together_and_follow_one_another(clock: VirtualClock) -> None:
    store = MemoryCounters(clock.monotonic)
    async with harness(QUICK, clock=clock, host=host_with(store, clock)) as one, harness(
        QUICK, clock=clock, host=host_with(store, clock)
    ) as other:  # fmt: skip
        for gateway in (one, other):
            await ask(gateway, 30)
        await tick(clock)
        leaders = [component(gateway).keeper.leading for gateway in (one, other)]
        assert sorted(leaders) == [False, True], "one decides, the other follows"
        await tick(clock, 61)
        assert [trial(gateway).percent for gateway in (one, other)] == [75, 75]
        follower = other if leaders[0] else one
        await component(follower).keeper.command(trial(follower), "abort")
        await tick(clock)
        for gateway in (one, other):
            assert trial(gateway).percent == 0
            assert trial(gateway).state == trial(follower).state
            before = calls(gateway)
            await ask(gateway, 10)
            assert calls(gateway) == (before[0] + 10, before[1])


async def test_another_takes_over_when_the_leader_is_gone(clock: VirtualClock) -> None:
    store = MemoryCounters(clock.monotonic)
    async with harness(QUICK, clock=clock, host=host_with(store, clock)) as other:
        assert component(other).keeper.leading
        async with harness(QUICK, clock=clock, host=host_with(store, clock)) as one:
            await tick(clock)
            assert not component(one).keeper.leading
            task = component(other)._task
            assert task is not None
            task.cancel()  # as if its process had been killed: the lease is not given back
            await tick(clock, 7)
            assert component(one).keeper.leading
            health = component(other).health()
            assert health is not None
            assert health.state == "failed"


async def test_a_state_survives_the_restart_of_the_process(tmp_path: Path, clock: VirtualClock) -> None:
    for expected in (["50", "aborted"], ["50", "aborted", "50"]):
        store = FileCounters(tmp_path)
        async with harness(QUICK, clock=clock, host=host_with(store, clock)) as gateway:
            running, keeper = trial(gateway), component(gateway).keeper
            if len(expected) == 2:
                await keeper.command(running, "abort")
            else:
                assert running.percent == 0, "it was aborted before the restart"
                await keeper.command(running, "restart")
            assert running.state is not None
            assert [event.to for event in running.state.history] == expected


async def reload_with(gateway: Harness, experiment: Mapping[str, Any], **settings: Any) -> None:
    canary = {"canary": {"experiments": [{**EXPERIMENT, **experiment}], **settings}}
    assert await gateway.reload({"pipeline": ["users", canary]})


async def test_a_reload_keeps_what_did_not_change_and_begins_what_did_anew(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock) as gateway:
        before = component(gateway)
        await before.keeper.command(before.trials[0], "promote")
        await reload_with(gateway, QUICK, announce=False)
        assert component(gateway) is not before
        assert trial(gateway).percent == 75, "another setting changed, not the experiment"
        await reload_with(gateway, {**QUICK, "alpha": 0.01}, announce=False)
        assert trial(gateway).percent == 50
        assert trial(gateway).state is not None
        assert len(trial(gateway).state.history) == 1  # type: ignore[union-attr]


# -- a store that fails -----------------------------------------------------------------------------


async def test_while_the_store_is_gone_everything_stays_as_it_was(clock: VirtualClock) -> None:
    store = Flaky(clock)
    async with harness(QUICK, clock=clock, host=host_with(store, clock)) as gateway:
        await component(gateway).keeper.command(trial(gateway), "promote")
        store.gone = True
        gateway.upstreams[NEW].reply(FAILS, status=500)
        await ask(gateway, 40)
        await tick(clock, 100)
        assert trial(gateway).percent == 75
        assert (await gateway.get("/readyz")).json["degraded"] == {"canary": "degraded"}
        store.gone = False
        await tick(clock)
        assert component(gateway).health() is None
        await ask(gateway, 40)
        await tick(clock)
        assert trial(gateway).percent == 0, "it heals by itself"


async def test_where_no_state_is_known_nobody_gets_the_canary(clock: VirtualClock) -> None:
    store = Flaky(clock)
    store.gone = True
    async with harness({"plan": [100]}, clock=clock, host=host_with(store, clock)) as gateway:
        await ask(gateway, 10)
        assert calls(gateway) == (10, 0)
        store.gone = False
        await tick(clock)
        await ask(gateway, 10)
        assert calls(gateway) == (10, 10)


async def test_another_store_is_asked_before_its_word_is_taken(clock: VirtualClock) -> None:
    """At start a configured store takes the embedded one's place after the component has started."""
    async with harness({"plan": [100]}, clock=clock) as gateway:
        await ask(gateway, 1)
        gateway.host.counters = MemoryCounters(clock.monotonic)
        await ask(gateway, 1)
        assert calls(gateway) == (1, 1), "until then nobody gets the canary"
        await tick(clock)
        await ask(gateway, 1)
        assert calls(gateway) == (1, 2)


async def test_a_state_that_cannot_be_read_is_a_fault_of_the_store(clock: VirtualClock) -> None:
    store = MemoryCounters(clock.monotonic)
    async with harness(clock=clock, host=host_with(store, clock)) as gateway:
        running = trial(gateway)
        await store.put(f"{running.key}:{running.log.revision + 1}", b"garbage", 60.0)
        await tick(clock)
        assert running.percent == 50
        assert component(gateway).health() is not None


@pytest.mark.parametrize("seconds", [[0.4, 0.7], [1.5]])
async def test_samples_are_handed_in_each_second(clock: VirtualClock, seconds: Sequence[float]) -> None:
    async with harness(clock=clock) as gateway:
        await ask(gateway, 4)
        for one in seconds:
            await tick(clock, one)
        sums = trial(gateway).sums
        assert sums["baseline.n"] + sums["canary.n"] == 4
        assert not trial(gateway).batch.sums()
