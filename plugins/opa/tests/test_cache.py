"""Kept decisions are bounded in number and age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmg_opa.cache import DecisionCache


def test_the_one_that_was_not_asked_for_longest_goes_first() -> None:
    cache: DecisionCache[int] = DecisionCache(2, 10, lambda: 0.0)
    cache.put(b"a", 1)
    cache.put(b"b", 2)
    assert cache.get(b"a") == 1
    cache.put(b"c", 3)
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == (1, None, 3)


def test_an_old_one_is_forgotten_however_often_it_was_asked_for() -> None:
    now = [0.0]
    cache: DecisionCache[int] = DecisionCache(2, 10, lambda: now[0])
    cache.put(b"a", 1)
    now[0] = 9.9
    assert cache.get(b"a") == 1
    now[0] = 10.1
    assert cache.get(b"a") is None and len(cache) == 0


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]), st.integers(0, 9))),
)
def test_it_never_holds_more_than_its_size_nor_another_value(
    size: int, puts: list[tuple[bytes, int]]
) -> None:
    cache: DecisionCache[int] = DecisionCache(size, 10, lambda: 0.0)
    last: dict[bytes, int] = {}
    for key, value in puts:
        cache.put(key, value)
        last[key] = value
        assert len(cache) <= size
        assert cache.get(key) == (value if size else None)
    for key, value in last.items():
        assert cache.get(key) in (None, value)
