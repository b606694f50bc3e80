"""How long an upstream asks to wait, in each form that the providers use."""

from __future__ import annotations

import pytest

from lmg.resets import LONGEST_S, reset_after_s, retry_after_s

NOW = 1_760_000_000.0  # 2025-10-09T08:53:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after-ms", b"250"), (b"retry-after", b"9")], 0.25),
        ([(b"retry-after-ms", b"soon"), (b"retry-after", b"9")], 9.0),
        ([(b"retry-after", b"Thu, 09 Oct 2025 08:53:50 GMT")], 30.0),
        ([(b"retry-after", b"Thu, 09 Oct 2025 08:00:00 GMT")], 0.0),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"1e9")], None),
        ([(b"retry-after", b"tomorrow")], None),
        ([], None),
    ],
)
def test_retry_after(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after_s(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1s", 1.0),
        (b"6m0s", 360.0),
        (b"20ms", 0.02),
        (b"1h2m3.5s", 3723.5),
        (b"1d", 86_400.0),
        (b"12.5", 12.5),
        (b"1760000060", 60.0),
        (b"1s later", None),
        (b"", None),
    ],
)
def test_the_reset_of_an_openai_limit_that_is_used_up(value: bytes, seconds: float | None) -> None:
    headers = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", value)]
    assert reset_after_s(headers, now=NOW) == seconds


def test_the_reset_of_an_anthropic_limit_that_is_used_up() -> None:
    headers = [
        (b"anthropic-ratelimit-requests-remaining", b"3"),
        (b"anthropic-ratelimit-requests-reset", b"2025-10-09T09:53:20Z"),
        (b"anthropic-ratelimit-input-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-input-tokens-reset", b"2025-10-09T08:54:00Z"),
    ]
    assert reset_after_s(headers, now=NOW) == 40.0


def test_the_latest_of_several_used_up_limits_counts_and_retry_after_before_all() -> None:
    headers = [
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", b"2s"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"9s"),
    ]
    assert reset_after_s(headers, now=NOW) == 9.0
    assert reset_after_s([*headers, (b"retry-after", b"4")], now=NOW) == 4.0


def test_limits_that_are_not_used_up_and_absurd_times_say_nothing() -> None:
    assert (
        reset_after_s([(b"x-ratelimit-remaining-requests", b"5"), (b"x-ratelimit-reset-requests", b"2s")])
        is None
    )
    assert reset_after_s([(b"x-ratelimit-reset-requests", b"2s")]) is None
    absurd = b"%ds" % (LONGEST_S + 1)
    assert (
        reset_after_s([(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", absurd)])
        is None
    )
