"""In which order targets are tried, and who gets how much."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import AdminCall, Outcome, Prices, Principal, Usage
from lmg_router.prices import price_of

USD = 10**9
A, B, C = "offering/a:m", "offering/b:m", "offering/c:m"
THREE: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "c": {}}


def complete(first_s: float, tokens: int = 0, whole_s: float | None = None) -> Outcome:
    usage = Usage(output_tokens=tokens, estimated=False)
    return Outcome(
        "complete", first_token_s=first_s, duration_s=first_s if whole_s is None else whole_s, usage=usage
    )


async def firsts(table: Any, count: int, **fields: Any) -> Counter[str]:
    return Counter([(await table.route(**fields))[0] for _ in range(count)])


# -- priority -------------------------------------------------------------------------------------


async def test_priority_ranks_and_equals_share(board: Any) -> None:
    table = await board({"a": {"priority": 5}, "b": {"priority": 5}, "c": {"priority": 1}})
    orders = Counter([tuple(await table.route()) for _ in range(200)])
    assert set(orders) == {(C, A, B), (C, B, A)}
    assert min(orders.values()) > 60


async def test_of_two_equal_targets_the_one_with_less_under_way_comes_first(board: Any) -> None:
    table = await board({"a": {}, "b": {}})
    await table.route()
    end = table.begin(A)
    assert await firsts(table, 50) == {B: 50}
    end(complete(1.0))
    assert set(await firsts(table, 50)) == {A, B}


async def test_of_many_equal_targets_a_busy_one_is_only_ever_first_against_a_busier_one(board: Any) -> None:
    table = await board({name: {} for name in "abcd"})
    await table.route()
    ends = [table.begin(A) for _ in range(3)]
    counted = await firsts(table, 300)
    assert counted[A] == 0
    assert len(counted) == 3
    for end in ends:
        end(Outcome("cancelled"))


# -- cost -----------------------------------------------------------------------------------------


@given(
    st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**7), st.integers(0, 10**6), st.integers(1, 10**6)
)  # fmt: skip
def test_a_price_is_exact_and_whole_and_never_below_the_true_one(
    input: int, output: int, read: int, written: int, threshold: int
) -> None:
    dear = Prices(2 * input, 3 * output)
    prices = Prices(input, output, above=((threshold, dear),))
    true = read * input + written * output if read <= threshold else read * 2 * input + written * 3 * output
    price = price_of(prices, read, written)
    assert type(price) is int
    assert true <= price * 1_000_000 < true + 1_000_000


def test_of_several_tiers_the_highest_that_is_passed_is_the_price() -> None:
    prices = Prices(1 * USD, 0, above=((100, Prices(2 * USD, 0)), (1000, Prices(3 * USD, 0))))
    assert [price_of(prices, n, 0) for n in (100, 101, 1000, 1001)] == [
        100 * 1000,
        101 * 2000,
        1000 * 2000,
        1001 * 3000,
    ]


async def test_cost_ranks_by_the_price_of_this_request_and_the_unpriced_come_last(board: Any) -> None:
    facts = {A: {"prices": [1 * USD, 50 * USD]}, B: {"prices": [10 * USD, 10 * USD]}}
    table = await board(THREE, facts=facts, strategy="cost")
    long = [{"role": "user", "content": "word " * 4000}]
    assert await table.route(max_tokens=500) == [B, A, C]
    assert await table.route(messages=long, max_tokens=20) == [A, B, C]


async def test_a_stated_price_of_zero_is_a_price(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, facts={B: {"prices": [0, 0]}}, strategy="cost")
    assert await table.route() == [B, A]


async def test_equal_prices_go_by_priority(board: Any) -> None:
    facts = {"m": {"prices": [USD, USD]}}
    table = await board({"a": {"priority": 2}, "b": {"priority": 1}}, facts=facts, strategy="cost")
    assert await table.route() == [B, A]


async def test_cost_expects_answers_as_long_as_they_have_been(board: Any) -> None:
    facts = {A: {"prices": [1 * USD, 50 * USD]}, B: {"prices": [10 * USD, 10 * USD]}}
    table = await board({"a": {}, "b": {}}, facts=facts, strategy="cost")
    long = [{"role": "user", "content": "word " * 1000}]
    assert await table.route(messages=long, max_tokens=8000) == [B, A]
    table.begin(A)(complete(1.0, tokens=20))  # A writes little, whatever it is allowed to
    assert await table.route(messages=long, max_tokens=8000) == [A, B]


async def test_the_length_of_answers_is_nothing_to_embeddings(board: Any) -> None:
    facts = {A: {"prices": [2 * USD, 0]}, B: {"prices": [1 * USD, 99 * USD]}}
    table = await board({"a": {}, "b": {}}, facts=facts, strategy="cost")
    assert await table.route(path="/v1/embeddings", input="hello " * 100) == [B, A]


# -- weights --------------------------------------------------------------------------------------


async def test_weights_are_shares_of_the_first_place(board: Any) -> None:
    table = await board(THREE, strategy="weighted", weights={A: 6, "offering/b:*": 3})
    counted = await firsts(table, 2000)
    assert 1100 < counted[A] < 1300
    assert 520 < counted[B] < 690
    assert 130 < counted[C] < 270


async def test_what_weighs_nothing_is_tried_last(board: Any) -> None:
    table = await board(THREE, strategy="weighted", weights={A: 0, "m": 1})
    assert {order[-1] for order in [await table.route() for _ in range(50)]} == {A}


# -- latency --------------------------------------------------------------------------------------


async def test_latency_prefers_the_faster_of_two(board: Any) -> None:
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, strategy="latency")
    await table.route()
    table.begin(A, stream=True)(complete(2.0))
    table.begin(B, stream=True)(complete(0.2))
    assert await firsts(table, 20) == {B: 20}


async def test_attempts_under_way_count_against_a_target(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, strategy="latency")
    await table.route()
    table.begin(A, stream=True)(complete(1.0))
    table.begin(B, stream=True)(complete(0.3))
    ends = [table.begin(B) for _ in range(4)]
    assert await firsts(table, 20) == {A: 20}
    for end in ends:
        end(Outcome("cancelled"))
    assert await firsts(table, 20) == {B: 20}


async def test_the_time_of_each_token_decides_for_long_answers(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, strategy="latency", expected_output_tokens=1000)
    await table.route()
    table.begin(A, stream=True)(complete(0.1, tokens=100, whole_s=10.1))  # soon, and slow
    table.begin(B, stream=True)(complete(1.0, tokens=100, whole_s=2.0))  # late, and fast
    assert (await table.route(max_tokens=1000))[0] == B
    assert (await table.route(max_tokens=1))[0] == A


async def test_a_target_that_nothing_is_known_of_is_probed_by_one_request_at_a_time(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, strategy="latency")
    await table.route()
    table.begin(A, stream=True)(complete(0.1))
    assert await firsts(table, 10) == {B: 10}
    end = table.begin(B, stream=True)
    assert await firsts(table, 10) == {A: 10}
    end(complete(5.0))
    assert await firsts(table, 10) == {A: 10}


async def test_where_nothing_is_known_of_anybody_requests_spread(board: Any) -> None:
    table = await board(THREE, strategy="latency")
    await table.route()
    under_way: Counter[str] = Counter()
    ends = []
    for _ in range(30):
        first = (await table.route())[0]
        under_way[first] += 1
        ends.append(table.begin(first))
    assert max(under_way.values()) - min(under_way.values()) <= 4
    for end in ends:
        end(Outcome("cancelled"))


async def test_a_target_that_was_slow_is_tried_again_after_a_while(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, strategy="latency", latency_decay_s=10)
    await table.route()
    table.begin(A, stream=True)(complete(8.0))
    for _ in range(3):
        table.begin(B, stream=True)(complete(0.5))
        assert (await table.route())[0] == B
        await table.clock.advance(10)
    table.begin(B, stream=True)(complete(0.5))
    assert (await table.route())[0] == A


async def test_a_failure_counts_as_slow_and_the_callers_own_mistake_does_not(board: Any) -> None:
    from lmg import UpstreamError

    table = await board({"a": {}, "b": {}}, strategy="latency", failure_penalty_s=10)
    await table.route()
    table.begin(A, stream=True)(complete(1.0))
    table.begin(B, stream=True)(complete(0.5))
    table.begin(B)(Outcome("failed", UpstreamError("status", "bad_request", "status 400"), 400))
    assert (await table.route())[0] == B
    table.begin(B)(Outcome("failed", UpstreamError("connect", "connect_error", "refused")))
    assert (await table.route())[0] == A


@pytest.mark.parametrize(
    "outcome", [Outcome("skipped", skip_reason="open"), Outcome("cancelled", duration_s=90.0)]
)
async def test_what_was_skipped_or_cancelled_says_nothing_of_the_target(board: Any, outcome: Outcome) -> None:
    table = await board({"a": {}, "b": {}}, strategy="latency")
    await table.route()
    table.begin(A, stream=True)(complete(1.0))
    table.begin(B, stream=True)(complete(0.5))
    before = (await table.router._list_targets(AdminCall(Principal("op"))))["targets"]
    table.begin(B, stream=True)(outcome)
    assert (await table.router._list_targets(AdminCall(Principal("op"))))["targets"] == before
