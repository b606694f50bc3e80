"""Answers in memory: bounded, by use, and fair to each tenant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmg_cache.entries import OVERHEAD, Entry
from lmg_cache.memory import MemoryEntries


def entry(size: int = 1000, tenant: str = "acme", now: float = 0.0, ttl: float = 60.0) -> Entry:
    return Entry.of(b"x" * size, b"", now, ttl, tenant, "m")


def entries(count: int = 100, size: int = 10**6, now: float = 0.0) -> MemoryEntries:
    return MemoryEntries(count, size, lambda: now)


def test_the_least_recently_used_leaves_first() -> None:
    kept = entries(count=2)
    kept.put(b"a", entry())
    kept.put(b"b", entry())
    kept.get(b"a")
    kept.put(b"c", entry())
    assert [kept.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    assert kept.evicted == 1


def test_bytes_are_bounded_with_what_an_entry_costs_beside_its_body() -> None:
    kept = entries(size=3 * (1000 + OVERHEAD))
    for n in range(10):
        kept.put(b"%d" % n, entry())
    assert len(kept) == 3 and kept.bytes == 3 * (1000 + OVERHEAD)


def test_what_is_stale_is_gone() -> None:
    now = 0.0
    kept = MemoryEntries(10, 10**6, lambda: now)
    kept.put(b"a", entry(ttl=10))
    now = 9.9
    assert kept.get(b"a") is not None
    now = 10.0
    assert kept.get(b"a") is None and len(kept) == 0 and kept.bytes == 0


def test_a_flood_of_one_tenant_leaves_the_entries_of_others() -> None:
    kept = entries(size=20 * (1000 + OVERHEAD))
    for n in range(5):
        kept.put(b"small-%d" % n, entry(tenant="small"))
    for n in range(1000):
        kept.put(b"big-%d" % n, entry(tenant="big"))
    assert all(kept.get(b"small-%d" % n) is not None for n in range(5))
    assert len(kept) == 20


def test_a_single_large_entry_of_a_small_tenant_finds_room() -> None:
    kept = entries(size=10_000)
    for n in range(5):
        kept.put(b"%d" % n, entry(tenant="big"))
    kept.put(b"mine", entry(size=8000, tenant="small"))
    assert kept.get(b"mine") is not None


def test_what_streams_hold_takes_room_too() -> None:
    kept = entries(size=10_000)
    for n in range(6):
        kept.put(b"%d" % n, entry())
    assert kept.hold("acme", 6000)
    assert kept.bytes + kept.held <= 10_000
    assert not kept.hold("acme", 5000)
    kept.let_go(6000)
    assert kept.held == 0


def test_a_purge_forgets_what_fits() -> None:
    kept = entries()
    for n in range(4):
        kept.put(b"%d" % n, entry(tenant=f"t{n % 2}"))
    assert kept.purge(lambda one: one.tenant == "t1") == 2
    assert len(kept) == 2 and kept.tenants == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "hold", "let_go"]),
        st.integers(0, 8),
        st.integers(0, 3),
        st.integers(0, 3000),
    ),
    max_size=60,
)


@given(STEPS)
def test_bounds_and_sums_hold_in_any_order(steps: list[tuple[str, int, int, int]]) -> None:
    kept = MemoryEntries(5, 8000, lambda: 0.0)
    held = 0
    for what, key, tenant, size in steps:
        if what == "put":
            kept.put(b"%d" % key, entry(size, f"t{tenant}"))
        elif what == "get":
            kept.get(b"%d" % key)
        elif what == "hold":
            held += size if kept.hold(f"t{tenant}", size) else 0
        else:
            kept.let_go(min(size, held))
            held -= min(size, held)
        inside = list(kept._entries.values())
        assert len(kept) <= 5 and kept.held == held <= 8000
        assert kept.bytes == sum(one.size for one in inside)
        assert kept.bytes + held <= 8000 or not inside
        assert kept._spent == {
            name: sum(one.size for one in inside if one.tenant == name)
            for name in {one.tenant for one in inside}
        }
