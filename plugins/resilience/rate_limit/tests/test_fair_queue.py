"""Whose turn is next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from lmg_rate_limit.fair_queue import FairQueue


@dataclass(frozen=True, eq=False)
class Item:
    tenant: str
    number: int
    work: float = 0.1


def queue(max_size: int = 1000, max_per_tenant: int = 1000, **weights: float) -> FairQueue[Item]:
    return FairQueue(max_size, max_per_tenant, lambda tenant: weights.get(tenant, 1.0))


def served(waiting: FairQueue[Item], count: int) -> list[Item]:
    found = []
    for item in waiting.turns():
        if len(found) == count:
            break
        waiting.serve(item)
        found.append(item)
    return found


def test_one_tenants_flood_leaves_another_its_turn() -> None:
    waiting = queue()
    for n in range(500):
        assert waiting.add(Item("flood", n))
    served(waiting, 3)
    waiting.add(Item("small", 0))
    assert Item("small", 0).tenant in [item.tenant for item in served(waiting, 2)]


def test_within_a_tenant_first_come_is_first_served() -> None:
    waiting = queue()
    for n in range(20):
        waiting.add(Item("a", n))
    assert [item.number for item in served(waiting, 20)] == list(range(20))
    assert len(waiting) == 0


def test_weights_are_shares_of_turns() -> None:
    waiting = queue(gold=3.0)
    for n in range(100):
        waiting.add(Item("gold", n))
        waiting.add(Item("plain", n))
    turns = Counter(item.tenant for item in served(waiting, 40))
    assert turns == {"gold": 30, "plain": 10}


def test_who_takes_more_of_a_limit_gets_fewer_turns() -> None:
    waiting = queue()
    for n in range(100):
        waiting.add(Item("large", n, work=0.4))
        waiting.add(Item("small", n, work=0.1))
    turns = Counter(item.tenant for item in served(waiting, 50))
    assert turns == {"small": 40, "large": 10}


def test_who_comes_back_at_once_waits_behind_those_who_wait() -> None:
    waiting = queue()
    for n in range(10):
        waiting.add(Item("patient", n))
    waiting.add(Item("again", 0))
    turns = []
    for n in range(1, 7):
        (item,) = served(waiting, 1)
        turns.append(item.tenant)
        if item.tenant == "again":
            waiting.add(Item("again", n))
    assert turns == ["patient", "again"] * 3


def test_bounds_are_kept_and_places_come_back() -> None:
    waiting = queue(max_size=3, max_per_tenant=2)
    items = [Item("a", 0), Item("a", 1), Item("a", 2), Item("b", 0), Item("c", 0)]
    assert [waiting.add(item) for item in items] == [True, True, False, True, False]
    assert waiting.discard(items[0])
    assert not waiting.discard(items[0])
    assert waiting.add(items[2])
    assert len(waiting) == 3
    assert len(waiting.clear()) == 3
    assert len(waiting) == 0


def test_tenants_of_whom_nobody_waits_are_forgotten() -> None:
    waiting = queue(max_size=10)
    waiting.add(Item("stays", 0))
    for n in range(1000):
        waiting.add(item := Item(f"t{n}", 0))
        waiting.serve(item)
    assert len(waiting._lanes) <= 25


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.01, 1.0)), min_size=1, max_size=60), st.data())
def test_no_tenant_that_waits_gets_more_than_its_share_and_one_request(
    given_items: list[tuple[str, float]], data: st.DataObject
) -> None:
    waiting = queue(a=2.0)
    weights = {"a": 2.0}
    for n, (tenant, work) in enumerate(given_items):
        waiting.add(Item(tenant, n, work))
    left = Counter(tenant for tenant, _ in given_items)
    work: dict[str, float] = dict.fromkeys(left, 0.0)
    largest = max(work for _, work in given_items)
    for item in served(waiting, data.draw(st.integers(1, len(given_items)))):
        left[item.tenant] -= 1
        work[item.tenant] += item.work / weights.get(item.tenant, 1.0)
        for other, n in left.items():
            if n:
                assert work[item.tenant] <= work[other] + 2 * largest
