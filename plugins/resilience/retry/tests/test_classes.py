"""The table of failures, row by row: over the wire, with a target that fails once and then answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lmg import Component, Deny, Exchange, UpstreamError
from lmg.dialects.wire import Unsupported
from lmg_retry.classes import CALLER, TABLE, TARGET, class_of

from .conftest import (
    ERROR,
    FILTERED,
    TOO_LONG,
    Script,
    calls,
    closed_port,
    cut_before_the_first_event,
    ends_after_the_opening,
    error_event,
    faulty,
    fine,
    gateway_of,
    hang_up,
    malformed,
    no_first_event,
    reset,
    silent,
    status,
    tried,
)

QUICK = {"timeout_ms": 150}

# The row of the table, how the target fails, whether the answer is a stream, and what the client gets where it is not
# tried again.
OVER_THE_WIRE: list[tuple[str, Script, bool, int]] = [
    ("closed", reset, False, 502),
    ("closed", hang_up, False, 502),
    ("closed", reset, True, 502),
    ("closed", cut_before_the_first_event, True, 502),
    ("closed", ends_after_the_opening, True, 502),
    ("request_timeout", status(408), False, 408),
    ("rate_limited", status(429), False, 429),
    ("rate_limited", status(429, retry_after="1"), True, 429),
    ("status", status(500), False, 502),
    ("status", status(502), True, 502),
    ("status", status(504), False, 504),
    ("overloaded", status(503), False, 503),
    ("overloaded", status(529), True, 503),
    ("overloaded", error_event, True, 503),
    ("timeout", silent, False, 504),
    ("timeout", no_first_event, True, 504),
    ("protocol", malformed, False, 502),
]
WITHOUT_A_CALL = [
    ("connect_error", {"upstreams": {"a": {"endpoint": closed_port()}}}, 502),
    ("connect_timeout", {"classes": {"scripted": faulty(UpstreamError("connect", "timeout"))}}, 504),
    ("pool_exhausted", {"classes": {"scripted": faulty(UpstreamError("connect", "pool_exhausted"))}}, 503),
]


@pytest.mark.parametrize(("row", "fails", "stream", "unmended"), OVER_THE_WIRE)
async def test_the_same_target_is_asked_again(row: str, fails: Script, stream: bool, unmended: int) -> None:
    quick = {"a": QUICK if row == "timeout" else {}}
    async with gateway_of("ab", {"on": {row: True}}, upstreams=quick) as gateway:
        fails(gateway.upstreams["a"])
        fine(gateway.upstreams["a"], stream=stream)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.text) == (200, "Hello!")
        assert calls(gateway) == [2, 0]
        exchange = await gateway.ended()
        error = exchange.attempts[0].outcome
        assert error is not None and error.error is not None
        assert class_of(error.kind, error.error.stage, error.http_status) == row


@pytest.mark.parametrize(("row", "fails", "stream", "unmended"), OVER_THE_WIRE)
async def test_a_row_that_is_switched_off_is_the_answer(
    row: str, fails: Script, stream: bool, unmended: int
) -> None:
    quick = {"a": QUICK if row == "timeout" else {}}
    async with gateway_of("ab", {"on": {row: False}}, upstreams=quick) as gateway:
        fails(gateway.upstreams["a"])
        answer = await gateway.chat(stream=stream)
        assert (answer.status, calls(gateway)) == (unmended, [1, 0])
        assert answer.error["message"]


@pytest.mark.parametrize(("row", "more", "unmended"), WITHOUT_A_CALL)
@pytest.mark.parametrize("stream", [False, True])
async def test_where_there_is_no_connection_it_is_tried_again(
    row: str, more: dict[str, Any], unmended: int, stream: bool
) -> None:
    for on, attempts in ((True, 3), (False, 1)):
        async with gateway_of("ab", {"on": {row: on}}, **more) as gateway:
            assert (await gateway.chat(stream=stream)).status == unmended
            assert [target for target, _ in await tried(gateway)] == ["a"] * attempts
            assert calls(gateway) == [0, 0]


def test_every_row_is_tested_over_the_wire() -> None:
    assert {row for row, *_ in OVER_THE_WIRE} | {row for row, *_ in WITHOUT_A_CALL} == set(TABLE)


NEVER = [400, 401, 402, 403, 404, 405, 409, 413, 415, 422, 451, 302]


@pytest.mark.parametrize("code", NEVER)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_would_fail_again_is_not_asked_again(code: int, stream: bool) -> None:
    async with gateway_of("ab", {"prefer_other": True}) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=code)
        answer = await gateway.chat(stream=stream)
        assert answer.status == {401: 502, 402: 502, 302: 502}.get(code, code)
        assert calls(gateway) == [1, 0]


@pytest.mark.parametrize(
    ("body", "code"), [(TOO_LONG, "context_length_exceeded"), (FILTERED, "content_filter")]
)
async def test_a_long_or_filtered_request_is_not_asked_again(body: object, code: str) -> None:
    async with gateway_of("ab") as gateway:
        gateway.upstreams["a"].reply(body, status=400)
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (400, code)
        assert calls(gateway) == [1, 0]


async def test_what_an_api_has_no_words_for_is_not_asked_again() -> None:
    wordless = {"scripted": faulty(Unsupported("some.api", "extra", "parallel_tool_calls"))}
    async with gateway_of("ab", classes=wordless) as gateway:
        assert (await gateway.chat()).error["code"] == "unsupported_field"
        assert len(await tried(gateway)) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_an_upstream_that_says_so_is_not_asked_again(code: int) -> None:
    async with gateway_of("ab") as gateway:
        status(code, x_should_retry="false")(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert answer.status == (502 if code == 500 else code)
        assert answer.headers["x-should-retry"] == "false"
        assert calls(gateway) == [1, 0]


async def test_a_guards_denial_is_final() -> None:
    class Guard(Component):
        def on_response(self, exchange: Exchange, response: object) -> Deny:
            return Deny(503, "withheld")

    async with gateway_of("ab", above=(Guard,)) as gateway:
        for stream in (False, True):
            assert (await gateway.chat(stream=stream)).error["code"] == "withheld"
        assert calls(gateway) == [2, 0]


async def test_after_commit_nothing_is_asked_again() -> None:
    async with gateway_of("ab") as gateway:
        gateway.upstreams["a"].stream(b'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}}]}\n\n')
        answer = await gateway.chat(stream=True)
        assert (answer.status, answer.text) == (200, "Hel")
        assert answer.error is not None and "[DONE]" not in answer.events
        assert calls(gateway) == [1, 0]


# The table itself


@pytest.mark.parametrize(
    ("kind", "stage", "http_status", "row"),
    [
        ("connect_error", "connect", None, "connect_error"), ("timeout", "connect", None, "connect_timeout"),
        ("timeout", "first_token", None, "timeout"), ("timeout", "answer", None, "timeout"), ("timeout", "status", 504, "status"),
        ("timeout", "status", 408, "request_timeout"), ("closed", "answer", None, "closed"), ("stale_connection", "send", None, "closed"),
        ("status", "status", 500, "status"), ("status", "status", 302, TARGET), ("rate_limited", "status", 429, "rate_limited"),
        ("overloaded", "status", 503, "overloaded"), ("overloaded", "status", 529, "overloaded"), ("credential", "status", 401, TARGET),
        ("credential", "connect", None, TARGET), ("credential", "status", 400, TARGET), ("bad_request", "status", 403, TARGET),
        ("bad_request", "status", 422, CALLER), ("context_length", "status", 400, CALLER), ("content_filter", "status", 403, CALLER),
        ("skipped", "admission", None, TARGET), ("unsupported", "admission", None, TARGET), ("answer_too_large", "answer", None, TARGET),
        ("somebodys_own", "answer", None, TARGET),
    ],
)  # fmt: skip
def test_a_failure_belongs_to_one_row(kind: str, stage: str, http_status: int | None, row: str) -> None:
    assert class_of(kind, stage, http_status) == row


def test_the_readme_shows_the_table() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    shown = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text.split("## Configuration")[0], re.MULTILINE)
    assert shown == [(name, row.what, "yes" if row.retried else "no") for name, row in TABLE.items()]
