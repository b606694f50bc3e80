"""What every ending of an attempt counts as: the table, row by row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmg import Outcome, Reply, UpstreamError
from lmg.dialects.wire import Fault, Unsupported
from lmg.errors import Stage
from lmg.failures import StatusFailure
from lmg_breaker.outcomes import TABLE, row_of, was_cut_short
from lmg_breaker.reasons import BY_NAME


def status(code: int, kind: Any = "") -> Outcome:
    return Outcome("failed", StatusFailure(Reply(code), Fault(kind=kind)), code)


def broken(stage: Stage, kind: str) -> Outcome:
    return Outcome("failed", UpstreamError(stage, kind))


ROWS: list[tuple[Outcome, str, str]] = [
    (Outcome("complete", http_status=200), "complete", "success"),
    (broken("connect", "connect_error"), "connect_error", "failure"),
    (broken("connect", "timeout"), "timeout", "failure"),
    (broken("first_token", "timeout"), "timeout", "failure"),
    (broken("stream", "timeout"), "timeout", "failure"),
    (status(408), "timeout", "failure"),
    (status(504), "timeout", "failure"),
    (broken("answer", "closed"), "closed", "failure"),
    (broken("stream", "closed"), "closed", "failure"),
    (broken("answer", "protocol"), "protocol", "failure"),
    (status(500), "status", "failure"),
    (status(502), "status", "failure"),
    (status(302), "status", "failure"),
    (status(503), "overloaded", "overloaded"),
    (status(529), "overloaded", "overloaded"),
    (status(429), "rate_limited", "limited"),
    (status(401), "credential", "credential"),
    (status(402), "credential", "credential"),
    (status(400, "credential"), "credential", "credential"),
    (status(403), "forbidden", "forbidden"),
    (status(400), "bad_request", "alive"),
    (status(404), "bad_request", "alive"),
    (status(409), "bad_request", "alive"),
    (status(413), "bad_request", "alive"),
    (status(422), "bad_request", "alive"),
    (status(400, "context_length"), "context_length", "alive"),
    (status(400, "content_filter"), "content_filter", "alive"),
    (status(403, "content_filter"), "content_filter", "alive"),
    (broken("answer", "answer_too_large"), "answer_too_large", "alive"),
    (broken("stream", "event_too_large"), "event_too_large", "alive"),
    (Outcome("cancelled"), "cancelled", "nothing"),
    (Outcome("cancelled", None, 200), "cancelled", "nothing"),
    (Outcome("skipped", skip_reason="rate"), "skipped", "nothing"),
    (Outcome("failed", Unsupported("any", "tools", "tools")), "unsupported", "nothing"),
    (broken("admission", "protocol"), "unsupported", "nothing"),
    (broken("connect", "pool_exhausted"), "pool_exhausted", "nothing"),
    (broken("send", "stale_connection"), "stale_connection", "nothing"),
    (broken("answer", "what_a_provider_of_yours_says"), "protocol", "failure"),
]


@pytest.mark.parametrize(
    ("outcome", "row", "verdict"), ROWS, ids=[f"{n}-{row[1]}" for n, row in enumerate(ROWS)]
)
def test_an_ending_counts_as_its_row_says(outcome: Outcome, row: str, verdict: str) -> None:
    assert row_of(outcome) is TABLE[row]
    assert TABLE[row].verdict == verdict


def test_every_row_has_an_ending_here() -> None:
    assert {row for _, row, _ in ROWS} == set(TABLE)


def test_the_readme_shows_the_table_and_every_reason() -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    rows = "\n".join(f"| `{name}` | {row.verdict} | {row.what} |" for name, row in TABLE.items())
    assert rows in readme
    assert all(f"`{name}`" in readme for name in BY_NAME)


@pytest.mark.parametrize(
    ("kind", "stage", "duration_s", "deadline", "cut"),
    [
        ("timeout", "answer", 0.5, 100.5, True),
        ("timeout", "first_token", 0.5, 100.5, True),
        ("timeout", "answer", 30.0, 130.0, False),
        ("timeout", "answer", 0.5, 160.0, False),
        ("timeout", "connect", 0.5, 100.5, False),
        ("closed", "answer", 0.5, 100.5, False),
    ],
)
def test_a_target_that_was_given_no_time_is_not_to_blame(
    kind: str, stage: Stage, duration_s: float, deadline: float, cut: bool
) -> None:
    exchange: Any = SimpleNamespace(deadline=deadline)
    attempt: Any = SimpleNamespace(started=100.0)
    outcome = Outcome("failed", UpstreamError(stage, kind), duration_s=duration_s)
    assert was_cut_short(exchange, attempt, outcome, 10.0) is cut


def test_a_504_is_the_targets_own() -> None:
    exchange: Any = SimpleNamespace(deadline=100.0)
    attempt: Any = SimpleNamespace(started=100.0)
    assert not was_cut_short(exchange, attempt, status(504), 10.0)
