"""What callers get, and how often upstreams are called, when targets fail in every way that targets do.

The whole chain stands as operators list it: router, fallback, retry, breaker. With two targets the first one fails, with
five the first four do; the last is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lmg.testing import ChatAnswer, Cut, Harness, ScriptedUpstream, Wait, chat_body, chat_events

NEVER = Wait(3600.0)
EVENTS = chat_events("one ", "two ", "three")
LIMITS = {"timeout_ms": 1_000, "first_token_timeout_ms": 250, "stall_timeout_ms": 250}
WELL = "from the one that is well"


def fails(status: int, code: str = "", **headers: str) -> Callable[[ScriptedUpstream], None]:
    """An error body with ``status``, again and again."""
    return lambda upstream: upstream.reply(
        {"error": {"message": "no", "type": "error", "code": code or None}},
        status=status,
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
    )


def streams(*pieces: Any) -> Callable[[ScriptedUpstream], None]:
    return lambda upstream: upstream.stream(*pieces)


def raw(*pieces: Any) -> Callable[[ScriptedUpstream], None]:
    return lambda upstream: upstream.raw(*pieces)


@dataclass(frozen=True)
class Case:
    """One way to fail. ``kind`` is what the receipt calls it; ``moves`` whether another target is tried."""

    name: str
    script: Callable[[ScriptedUpstream], None]
    kind: str
    stream: bool = False
    moves: bool = True
    status: int = 200
    delivered: str = ""

    def __str__(self) -> str:
        return self.name


MOVES = [
    Case("429 without Retry-After", fails(429), "rate_limited"),
    Case("429 with Retry-After", fails(429, retry_after="20"), "rate_limited"),
    Case("500", fails(500), "status"),
    Case("502", fails(502), "status"),
    Case("503", fails(503), "overloaded"),
    Case("529", fails(529), "overloaded"),
    Case("504", fails(504), "timeout"),
    Case("408", fails(408), "timeout"),
    Case("a dead key", fails(401), "credential"),
    Case("no money left at the provider", fails(402), "credential"),
    Case("reset before the head", raw(Cut("rst")), "closed"),
    Case("closed before the head", raw(Cut("fin")), "closed"),
    Case("half a head, then closed", raw(b"HTTP/1.1 200 OK\r\ncontent-", Cut("fin")), "closed"),
    Case("no HTTP at all", raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Cut("fin")), "protocol"),
    Case("a black hole", raw(NEVER), "timeout"),
    Case("a body that stops", raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", NEVER), "timeout"),
    Case("a body cut off", raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", Cut("fin")), "closed"),
    Case("no JSON", lambda upstream: upstream.reply(b"<html>oops</html>"), "protocol"),
    Case("stream: 429", fails(429), "rate_limited", stream=True),
    Case("stream: 503", fails(503), "overloaded", stream=True),
    Case("stream: a slow first token", streams(NEVER), "timeout", stream=True),
    Case("stream: head, then closed", streams(Cut("fin")), "closed", stream=True),
    Case("stream: reset after the opening event", streams(EVENTS[0], Cut("rst")), "closed", stream=True),
    Case("stream: malformed from the start", streams(b"data: {oops\n\n"), "protocol", stream=True),
]
STAYS = [
    Case("400", fails(400), "bad_request", moves=False, status=400),
    Case("404", fails(404), "bad_request", moves=False, status=404),
    Case("422", fails(422), "bad_request", moves=False, status=422),
    Case("413", fails(413), "bad_request", moves=False, status=413),
    Case(
        "context overflow", fails(400, "context_length_exceeded"), "context_length", moves=False, status=400
    ),
    Case("content filter", fails(400, "content_filter"), "content_filter", moves=False, status=400),
]
BREAKS = [
    Case(
        "a stall", streams(*EVENTS[:3], NEVER), "timeout", stream=True, moves=False, delivered="one two "
    ),
    Case("cut off", streams(*EVENTS[:3], Cut("fin")), "closed", stream=True, moves=False, delivered="one two "),
    Case("reset", streams(*EVENTS[:3], Cut("rst")), "closed", stream=True, moves=False, delivered="one "),
    Case(
        "a malformed chunk", streams(*EVENTS[:3], b"data: {oops\n\n", *EVENTS[3:]), "protocol", stream=True, moves=False,
        delivered="one two ",
    ),
    Case(
        "no terminal event", streams(*EVENTS[:4]), "closed", stream=True, moves=False, delivered="one two three"
    ),
]  # fmt: skip


@asynccontextmanager
async def gateway(
    count: int,
    *,
    script: Callable[[ScriptedUpstream], None],
    pipeline: list[Any],
    bad: int | None = None,
    limits: dict[str, int] = LIMITS,
) -> AsyncIterator[tuple[Harness, list[ScriptedUpstream]]]:
    names = [f"t{n}" for n in range(count)]
    upstreams = {name: {**limits, "priority": n} for n, name in enumerate(names)}
    async with Harness({"pipeline": pipeline}, upstreams=upstreams) as running:
        all_ = [running.upstreams[name] for name in names]
        for upstream in all_[: count - 1 if bad is None else bad]:
            script(upstream)
        yield running, all_


def calls(upstreams: list[ScriptedUpstream]) -> list[int]:
    return [len(upstream.received) for upstream in upstreams]


CHAIN: list[Any] = ["router", "fallback", {"retry": {"max_retries": 0}}, "breaker"]


async def ask(running: Harness, case: Case) -> ChatAnswer:
    return await running.chat(stream=case.stream)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("case", MOVES, ids=str)
async def test_what_fails_before_the_first_byte_ends_at_the_target_that_is_well(
    case: Case, count: int
) -> None:
    async with gateway(count, script=case.script, pipeline=CHAIN) as (running, upstreams):
        for upstream in upstreams[-1:]:
            (upstream.stream(*chat_events(WELL)) if case.stream else upstream.reply(chat_body(WELL)))
        answer = await ask(running, case)
        assert (answer.status, answer.text, answer.broken) == (200, WELL, False)
        assert calls(upstreams) == [1] * count
        await running.ended()
        [receipt] = running.receipts
    assert [one.outcome for one in receipt.tried] == [case.kind] * (count - 1) + ["complete"]
    assert (receipt.ended, receipt.provider) == ("complete", f"scripted/t{count - 1}")


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("case", MOVES, ids=str)
async def test_where_all_fail_the_caller_gets_a_status_and_no_target_is_called_twice(
    case: Case, count: int
) -> None:
    async with gateway(count, script=case.script, pipeline=CHAIN, bad=count) as (running, upstreams):
        answer = await ask(running, case)
        assert answer.status in (408, 429, 500, 502, 503, 504, 529) and answer.error["message"]
        assert calls(upstreams) == [1] * count


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("case", STAYS, ids=str)
async def test_the_callers_own_mistake_is_tried_nowhere_else(case: Case, count: int) -> None:
    async with gateway(count, script=case.script, pipeline=CHAIN) as (running, upstreams):
        answer = await ask(running, case)
        assert answer.status == case.status
        assert calls(upstreams) == [1] + [0] * (count - 1)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("case", BREAKS, ids=str)
async def test_what_breaks_after_the_first_byte_ends_in_an_honest_error(case: Case, count: int) -> None:
    async with gateway(count, script=case.script, pipeline=CHAIN) as (running, upstreams):
        answer = await ask(running, case)
        assert answer.status == 200 and answer.error is not None and "[DONE]" not in answer.events
        assert not answer.broken
        # A reset may overtake what was sent before it; what is there is a beginning, and each word once.
        assert "one two three".startswith(answer.text)
        if "reset" not in case.name:
            assert answer.text == case.delivered
        assert calls(upstreams) == [1] + [0] * (count - 1)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("case", BREAKS, ids=str)
async def test_a_held_stream_that_breaks_is_answered_elsewhere(case: Case, count: int) -> None:
    pipeline = [*CHAIN[:1], {"stream_rescue": {"rescue": "hold"}}, *CHAIN[1:]]
    async with gateway(count, script=case.script, pipeline=pipeline) as (running, upstreams):
        upstreams[-1].stream(*chat_events(WELL))
        answer = await ask(running, case)
        assert (answer.text, answer.error, answer.events[-1]) == (WELL, None, "[DONE]")
        assert calls(upstreams) == [1] * count


@pytest.mark.parametrize("case", [case for case in BREAKS if case.name != "reset"], ids=str)
async def test_a_stream_that_is_continued_repeats_and_loses_nothing(case: Case) -> None:
    pipeline = [*CHAIN[:1], {"stream_rescue": {"rescue": "continue", "prefill": ["scripted/*"]}}, *CHAIN[1:]]
    async with gateway(2, script=case.script, pipeline=pipeline) as (running, upstreams):
        upstreams[1].stream(*chat_events("and the rest"))
        answer = await ask(running, case)
        assert answer.error is None and answer.events[-1] == "[DONE]"
        assert answer.text == case.delivered + "and the rest"
        assert calls(upstreams) == [1, 1]
        assert upstreams[1].received[0].json["messages"][-1] == {
            "role": "assistant",
            "content": case.delivered,
        }


async def test_a_context_that_is_too_long_goes_to_the_model_that_the_chain_names() -> None:
    upstreams = {"small": {"models": ["small"]}, "big": {"models": ["big"]}}
    mesh = {"pipeline": ["router", {"fallback": {"context_length": {"small": ["big"]}}}, "retry", "breaker"]}
    async with Harness(mesh, upstreams=upstreams) as running:
        fails(400, "context_length_exceeded")(running.upstreams["small"])
        running.upstreams["big"].reply(chat_body(WELL))
        answer = await running.chat(model="small")
        assert answer.text == WELL
        assert calls(list(running.upstreams.values())) == [1, 1]


async def test_a_throttled_target_is_left_alone_for_as_long_as_it_says_and_a_flapping_one_is_not_hammered() -> (
    None
):
    async with gateway(2, script=fails(429, retry_after="60"), pipeline=CHAIN) as (running, upstreams):
        upstreams[1].reply(chat_body(WELL))
        for _ in range(10):
            assert (await running.chat()).text == WELL
        assert calls(upstreams) == [1, 10]


async def test_a_target_that_fails_every_other_time_costs_no_caller_an_answer() -> None:
    async with gateway(2, script=lambda upstream: None, pipeline=CHAIN) as (running, upstreams):
        upstreams[1].reply(chat_body(WELL))
        for n in range(20):
            if n % 2:
                upstreams[0].reply({"error": {"message": "no"}}, status=500)
            else:
                upstreams[0].reply(chat_body("from the flapping one"))
            assert (await running.chat()).status == 200


async def test_a_single_target_is_tried_again_within_the_budget_and_no_more() -> None:
    pipeline = [
        "router",
        "fallback",
        {"retry": {"max_retries": 2, "base_ms": 1}},
        {"breaker": {"consecutive": 50}},
    ]
    async with gateway(1, script=lambda upstream: None, pipeline=pipeline, limits={}) as (
        running,
        [upstream],
    ):
        upstream.reply({"error": {"message": "no"}}, status=503)
        upstream.reply(chat_body(WELL))
        assert (await running.chat()).text == WELL
        assert len(upstream.received) == 2
        fails(503)(upstream)
        answers = await asyncio.gather(*(running.chat() for _ in range(50)))
        assert {answer.status for answer in answers} == {503}
        # 51 exchanges may have a fifth of that more, and the floor of the window.
        assert 52 <= len(upstream.received) <= 2 + 50 + 11 + 10
