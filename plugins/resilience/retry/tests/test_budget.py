"""The budget: a share of the traffic, however it comes, and no more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Component, Exchange
from lmg_retry.budget import BUCKETS, Budget

from .conftest import ERROR, Moves, Patient, calls, counted, gateway_of, retry_of, skips, status

STEPS = st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=400)


@given(
    STEPS,
    st.floats(0, 1),
    st.floats(1, 60),
    st.floats(0, 5),
    st.floats(0, 1e6),
)
def test_in_any_window_retries_are_at_most_the_share_and_the_floor(
    steps: list[tuple[float, bool]], share: float, window_s: float, min_per_s: float, start: float
) -> None:
    budget, now = Budget(share, window_s, min_per_s), start
    requests: list[float] = []
    retries: list[float] = []
    for wait, is_retry in steps:
        now += wait
        if not is_retry:
            budget.deposit(now)
            requests.append(now)
            continue
        if budget.withdraw(now):
            retries.append(now)
            # Counted by hand, over the window that ends here; requests of a bucket more may pay.
            width = window_s / BUCKETS
            made = sum(now - at < window_s for at in retries)
            paid = share * sum(now - at < window_s + width for at in requests) + min_per_s * window_s
            assert made <= paid + 1e-6


@given(STEPS, st.floats(0.1, 1), st.floats(1, 60))
def test_what_the_traffic_pays_for_is_granted(
    steps: list[tuple[float, bool]], share: float, window_s: float
) -> None:
    budget, now, seen, given_ = Budget(share, window_s, 0), 1.0, 0, 0
    for _, is_retry in steps:
        now += window_s / 10_000  # all within one window
        if is_retry:
            granted = budget.withdraw(now)
            assert granted == (given_ + 1 <= share * seen + 1e-9)
            given_ += granted
        else:
            budget.deposit(now)
            seen += 1


def test_it_keeps_eleven_buckets_whatever_comes() -> None:
    budget = Budget(0.2, 10, 1)
    for second in range(10_000):
        for _ in range(10):
            budget.deposit(float(second))
        budget.withdraw(float(second))
    assert len(budget._requests) == len(budget._retries) == BUCKETS + 1
    assert budget.requests <= 10 * (BUCKETS + 1)
    budget.deposit(1e9)
    assert (budget.requests, budget.retries) == (1, 0)


# Over the wire


@pytest.mark.parametrize("at_once", [1, 64])
async def test_an_outage_is_not_multiplied(at_once: int) -> None:
    async with gateway_of("a", {"budget": 0.2, "min_per_s": 0.5}) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        for _ in range(0, 192, at_once):
            answers = await asyncio.gather(*(gateway.chat() for _ in range(at_once)))
            assert {answer.status for answer in answers} == {503}
        # A fifth of the requests, and half a retry a second over ten seconds.
        retries = calls(gateway)[0] - 192
        assert 0 < retries <= 0.2 * 192 + 5
        assert counted(gateway, "llm_retries_total") == {("scripted/a:test-model", "overloaded"): retries}
        assert counted(gateway, "llm_retry_budget_exhausted_total")[()] > 0


async def test_the_floor_serves_who_has_no_traffic_and_comes_back_with_time() -> None:
    clock = Patient()
    async with gateway_of("a", {"budget": 0, "min_per_s": 0.2, "max_retries": 1}, clock=clock) as gateway:
        status(503)(gateway.upstreams["a"])
        for _ in range(4):
            await gateway.chat()
        assert calls(gateway) == [4 + 2]
        clock.elapsed += 12
        await gateway.chat()
        assert calls(gateway) == [5 + 3]


async def test_each_exchange_pays_in_once_whatever_it_took() -> None:
    async with gateway_of("ab", above=(Moves,), below=(skips("a"),)) as gateway:
        await gateway.chat()  # skipped at one, answered by the other
        await gateway.chat(stream=True)
        status(503)(gateway.upstreams["b"])
        await gateway.chat()  # tried three times at the other
        await gateway.ended(3)
        budget = retry_of(gateway).budget
        assert (budget.requests, budget.retries) == (3, 2)


async def test_who_was_never_called_pays_nothing_in() -> None:
    async with gateway_of("ab", above=(Moves,), below=(skips("ab"),)) as gateway:
        assert (await gateway.chat()).status == 503
        budget = retry_of(gateway).budget
        assert (budget.requests, budget.retries) == (0, 0)


async def test_forks_neither_pay_in_nor_take_out() -> None:
    class Judge(Component):
        requires = {"on_request": ("body",)}

        async def on_request(self, exchange: Exchange) -> None:
            try:
                await exchange.fork(exchange.candidates[0], "judge")
            except Exception:  # noqa: BLE001 - the judge is down
                return

    async with gateway_of("a", above=(Judge,)) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=503)
        await gateway.chat()
        assert calls(gateway) == [1 + 3]
        budget = retry_of(gateway).budget
        assert (budget.requests, budget.retries) == (1, 2)
