"""How times are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg.resets import reset_after_s, retry_after_s
from lmg_rate_limit.headers import duration, retry_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0ms"), (0.0004, b"1ms"), (0.012, b"12ms"), (0.9999, b"1000ms"), (1, b"1s"), (8.64, b"8.64s"), (59.991, b"60s"),
        (60, b"1m0s"), (360, b"6m0s"), (360.2, b"6m1s"), (3600, b"1h0m0s"), (5400.5, b"1h30m1s"), (86_400, b"24h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 2_000_000))
def test_a_duration_reads_back_and_is_never_too_short(seconds: float) -> None:
    told = reset_after_s(
        [(b"x-ratelimit-reset-requests", duration(seconds)), (b"x-ratelimit-remaining-requests", b"0")]
    )
    assert told is not None
    assert seconds - 1e-6 <= told <= seconds + 1


@given(st.floats(0, 10_000))
def test_a_stated_wait_is_true_up_to_the_most_that_may_be_said(wait_s: float) -> None:
    headers = dict(retry_headers(wait_s, 120.0))
    seconds, exact = int(headers[b"retry-after"]), retry_after_s(list(headers.items()))
    assert exact is not None
    assert seconds >= exact - 1e-9 and seconds <= 120 and exact <= 120
    if wait_s <= 120:
        assert wait_s - 1e-6 <= exact <= wait_s + 0.0011
        assert b"x-should-retry" not in headers
    else:
        assert (seconds, exact, headers[b"x-should-retry"]) == (120, 120, b"false")
