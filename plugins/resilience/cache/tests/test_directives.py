"""What a request's Cache-Control asks for: RFC 9111 §5.2.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Head
from lmg_cache.directives import LONGEST_S, NOTHING, Asked, asked


def head(*lines: bytes) -> Head:
    return Head("POST", "/", [(b"accept", b"*/*"), *((b"cache-control", line) for line in lines)])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), NOTHING),
        ((b"",), Asked()),
        ((b"no-store",), Asked(reads=False, stores=False)),
        ((b"no-cache",), Asked(reads=False)),
        ((b"NO-CACHE",), Asked(reads=False)),
        ((b"no-cache, no-store",), Asked(reads=False, stores=False)),
        ((b"only-if-cached",), Asked(only_if_cached=True)),
        ((b"max-age=60",), Asked(max_age_s=60)),
        ((b'max-age="60"',), Asked(max_age_s=60)),
        ((b"max-age=60, max-age=5",), Asked(max_age_s=5)),
        ((b"max-age=60", b"max-age=5"), Asked(max_age_s=5)),
        ((b"max-age",), Asked(max_age_s=0)),
        ((b"max-age=soon",), Asked(max_age_s=0)),
        ((b"max-age=-1",), Asked(max_age_s=0)),
        ((b"max-age=99999999999999999999",), Asked(max_age_s=LONGEST_S)),
        ((b"min-fresh=30",), Asked(min_fresh_s=30)),
        ((b"min-fresh=later",), Asked(min_fresh_s=LONGEST_S)),
        ((b"max-stale=60, no-transform, x=y",), Asked()),
        ((b'private="no-store"',), Asked()),
        ((b" only-if-cached ,max-age=0",), Asked(only_if_cached=True, max_age_s=0)),
    ],
)
def test_directives_mean_what_the_rfc_says(lines: tuple[bytes, ...], expected: Asked) -> None:
    assert asked(head(*lines)) == expected


@given(st.binary(max_size=200))
def test_no_header_breaks_the_reading(line: bytes) -> None:
    found = asked(head(line))
    assert found.max_age_s is None or 0 <= found.max_age_s <= LONGEST_S
    assert 0 <= found.min_fresh_s <= LONGEST_S
    assert found.stores or not found.reads


@pytest.mark.parametrize(
    ("wants", "age", "left", "accepted"),
    [
        (Asked(), 100.0, 1.0, True),
        (Asked(), 100.0, 0.0, False),
        (Asked(max_age_s=10), 10.0, 5.0, True),
        (Asked(max_age_s=10), 10.1, 5.0, False),
        (Asked(min_fresh_s=10), 0.0, 9.9, False),
        (Asked(min_fresh_s=10), 0.0, 10.0, True),
    ],
)
def test_age_and_freshness_decide(wants: Asked, age: float, left: float, accepted: bool) -> None:
    assert wants.accepts(age, left) is accepted
