"""The table of failures, row by row: over the wire, with one target that fails and one that answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmg import Deny, Exchange
from lmg.component import Component
from lmg.testing import Harness, ScriptedUpstream
from lmg_fallback import Fallback
from lmg_fallback.classes import SWITCHABLE, TABLE, class_of

from .conftest import (
    ERROR,
    EXHAUSTED,
    FILTERED,
    TOO_LONG,
    WORDLESS,
    Skips,
    calls,
    closed_port,
    cut_before_the_first_event,
    cut_json,
    ends_after_the_opening,
    error_event,
    faulty,
    garbage_event,
    gateway_of,
    hang_up,
    malformed,
    no_event_at_all,
    no_first_event,
    reset,
    silent,
    status,
    tried,
)

Script = Callable[[ScriptedUpstream], None]
QUICK = {"timeout_ms": 150}

# The row of the table, how the first target fails, whether the answer is a stream, its provider's settings, and what
# the client gets where the row is switched off (or nobody moves on).
OVER_THE_WIRE: list[tuple[str, Script | None, bool, dict[str, Any], int]] = [
    ("connect_error", None, False, {"endpoint": closed_port()}, 502),
    ("connect_error", None, True, {"endpoint": closed_port()}, 502),
    ("timeout", silent, False, QUICK, 504),
    ("timeout", silent, True, QUICK, 504),
    ("timeout", no_first_event, True, {"first_token_timeout_ms": 150}, 504),
    ("closed", reset, False, {}, 502),
    ("closed", hang_up, False, {}, 502),
    ("closed", reset, True, {}, 502),
    ("closed", cut_json, False, {}, 502),
    ("closed", cut_before_the_first_event, True, {}, 502),
    ("closed", no_event_at_all, True, {}, 502),
    ("closed", ends_after_the_opening, True, {}, 502),
    ("protocol", malformed, False, {}, 502),
    ("protocol", garbage_event, True, {}, 502),
    ("status", status(500), False, {}, 502),
    ("status", status(501), False, {}, 502),
    ("status", status(502), True, {}, 502),
    ("status", status(504), False, {}, 504),
    ("status", status(302, location="http://10.0.0.1/"), False, {}, 502),
    ("overloaded", status(503), False, {}, 503),
    ("overloaded", status(529), True, {}, 503),
    ("overloaded", error_event, True, {}, 503),
    ("request_timeout", status(408), False, {}, 408),
    ("rate_limited", status(429), False, {}, 429),
    ("rate_limited", status(429, retry_after="7"), True, {}, 429),
    ("credential", status(401), False, {}, 502),
    ("credential", status(402), True, {}, 502),
    ("credential", status(403), False, {}, 403),
]


def upstreams(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"a": settings}


@pytest.mark.parametrize(("row", "fails", "stream", "settings", "unmoved"), OVER_THE_WIRE)
async def test_the_next_target_answers(
    row: str, fails: Script | None, stream: bool, settings: dict[str, Any], unmoved: int
) -> None:
    async with gateway_of("ab", upstreams=upstreams(settings)) as gateway:
        if fails is not None:
            fails(gateway.upstreams["a"])
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.text) == (200, "Hello!")
        assert calls(gateway) == [int(fails is not None), 1]
        exchange = await gateway.ended()
        assert [target for target, _ in await tried(gateway)] == ["a:test-model", "b:test-model"]
        error = exchange.attempts[0].outcome
        assert error is not None
        assert class_of(error.kind, error.http_status) == row


@pytest.mark.parametrize(("row", "fails", "stream", "settings", "unmoved"), OVER_THE_WIRE)
async def test_a_row_that_is_switched_off_is_the_answer(
    row: str, fails: Script | None, stream: bool, settings: dict[str, Any], unmoved: int
) -> None:
    async with gateway_of("ab", {"on": {row: False}}, upstreams=upstreams(settings)) as gateway:
        if fails is not None:
            fails(gateway.upstreams["a"])
        answer = await gateway.chat(stream=stream)
        assert answer.status == unmoved
        assert answer.error["message"]
        assert calls(gateway) == [int(fails is not None), 0]
        if (row, unmoved, stream) == ("rate_limited", 429, True):
            assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("row", "more", "unmoved"),
    [
        ("pool_exhausted", {"classes": {"scripted": faulty(EXHAUSTED)}}, 503),
        ("unsupported", {"classes": {"scripted": faulty(WORDLESS)}}, 400),
        ("skipped", {"below": (Skips,)}, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_without_a_call_moves_on(
    row: str, more: dict[str, Any], unmoved: int, stream: bool
) -> None:
    async with gateway_of("ab", **more) as gateway:
        assert (await gateway.chat(stream=stream)).text == "Hello!"
        assert calls(gateway) == [0, 1]
    async with gateway_of("ab", {"on": {row: False}}, **more) as gateway:
        assert (await gateway.chat(stream=stream)).status == unmoved
        assert calls(gateway) == [0, 0]


async def test_what_is_out_of_bounds_moves_on() -> None:
    class Narrows(Component):
        def on_failure(self, exchange: Exchange, failure: object) -> None:
            exchange.narrow(providers=frozenset({"scripted/a", "scripted/c"}))

    async with gateway_of("abc", above=(Narrows,)) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=500)
        assert (await gateway.chat()).status == 200
        assert calls(gateway) == [1, 0, 1]
        assert [outcome for _, outcome in await tried(gateway)] == ["status", "out_of_bounds", "complete"]


@pytest.mark.parametrize("code", [400, 404, 405, 409, 413, 415, 422, 451])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_callers_own_4xx_is_the_answer(code: int, stream: bool) -> None:
    async with gateway_of("abcde", {"chains": {"*": ["test-model"]}}) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=code)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.error["message"], answer.error["code"]) == (
            code,
            "It failed.",
            "some_code",
        )
        assert calls(gateway) == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("body", "code"), [(TOO_LONG, "context_length_exceeded"), (FILTERED, "content_filter")]
)
async def test_what_has_chains_of_its_own_stops_without_one(body: object, code: str) -> None:
    async with gateway_of("ab", {"chains": {"*": ["test-model"]}}) as gateway:
        gateway.upstreams["a"].reply(body, status=400)
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (400, code)
        assert calls(gateway) == [1, 0]


async def test_a_guards_denial_is_final() -> None:
    class Guard(Component):
        def on_response(self, exchange: Exchange, response: object) -> Deny:
            return Deny(403, "withheld")

    async with gateway_of("ab", above=(Guard,)) as gateway:
        for stream in (False, True):
            assert (await gateway.chat(stream=stream)).error["code"] == "withheld"
        assert calls(gateway) == [2, 0]


async def test_after_commit_nothing_moves_on() -> None:
    async with gateway_of("ab") as gateway:
        first = '{"choices": [{"index": 0, "delta": {"content": "Hel"}}]}'
        gateway.upstreams["a"].stream(f"data: {first}\n\n".encode(), framing="chunked")
        answer = await gateway.chat(stream=True)
        assert (answer.status, answer.text) == (200, "Hel")
        assert answer.error is not None and "[DONE]" not in answer.events
        assert calls(gateway) == [1, 0]


# The table itself


@pytest.mark.parametrize(
    ("kind", "http_status", "row"),
    [
        ("connect_error", None, "connect_error"), ("timeout", None, "timeout"), ("closed", None, "closed"),
        ("stale_connection", None, "closed"), ("protocol", None, "protocol"), ("answer_too_large", None, "protocol"),
        ("event_too_large", None, "protocol"), ("a_kind_of_somebodys_own", None, "protocol"), ("status", 500, "status"),
        ("timeout", 504, "status"), ("timeout", 408, "request_timeout"), ("overloaded", 503, "overloaded"),
        ("overloaded", 529, "overloaded"), ("rate_limited", 429, "rate_limited"), ("credential", 401, "credential"),
        ("bad_request", 403, "credential"), ("credential", 400, "credential"), ("credential", None, "credential"),
        ("content_filter", 403, "content_filter"), ("context_length", 413, "context_length"), ("skipped", None, "skipped"),
        ("unsupported", None, "unsupported"), ("pool_exhausted", None, "pool_exhausted"), ("bad_request", 400, "bad_request"),
        ("status", 302, "status"), ("status", 599, "status"),
    ],
)  # fmt: skip
def test_a_failure_belongs_to_one_row(kind: str, http_status: int | None, row: str) -> None:
    assert class_of(kind, http_status) == row


def test_every_row_is_tested_over_the_wire() -> None:
    assert {row for row, *_ in OVER_THE_WIRE} | {"pool_exhausted", "unsupported", "skipped"} == set(
        SWITCHABLE
    )


def test_the_readme_shows_the_table() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    shown = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text.split("## Configuration")[0], re.MULTILINE)
    assert shown == [(name, row.what, row.then) for name, row in TABLE.items()]


async def test_without_fallback_there_is_none() -> None:
    mesh = {"pipeline": [{"fallback": {"mode": "off"}}]}
    both = {"a": {"priority": 1}, "b": {"priority": 2}}
    async with Harness(mesh, classes={"fallback": Fallback}, upstreams=both) as gateway:
        gateway.upstreams["a"].reply(ERROR, status=503)
        assert (await gateway.chat()).status == 503
        assert calls(gateway) == [1, 0]
