"""Streams that a filter holds whole: nothing commits before the end, and what is given up is still counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmg import Component, Exchange, Failure, Next, Resume, Skip, StreamEvent, StreamFilter
from lmg.testing import Cut, Harness, Wait, chat_events, sse


class Hold(Component):
    """Holds every answer to its end, and has a broken one asked for anew."""

    asked: list[Failure] = []

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        class Filter(StreamFilter):
            def __init__(self) -> None:
                self.held: list[StreamEvent] = []

            def feed(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
                self.held.append(event)
                return ()

            def finish(self) -> list[StreamEvent]:
                return self.held

        return Filter()

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        type(self).asked.append(failure)
        return Next() if not failure.committed and failure.targets_left else None


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Hold.asked = []


def two(*pipeline: str, **classes: type[Any]) -> Harness:
    upstreams = {name: {"priority": n, "stall_timeout_ms": 60} for n, name in enumerate("ab")}
    return Harness({"pipeline": list(pipeline)}, classes={"hold": Hold, **classes}, upstreams=upstreams)


async def test_a_comment_within_a_held_answer_does_not_commit_it() -> None:
    events = chat_events("Hel", "lo")
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(*events[:2], b": still here\n\n", Wait(0.02), Cut())
        gateway.upstreams["b"].stream(*events[:2], b": still here\n\n", *events[2:])
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello" and answer.events[-1] == "[DONE]"
    assert b": still here" in answer.raw


async def test_a_flood_of_comments_within_a_held_answer_is_bounded() -> None:
    events = chat_events("Hel", "lo")
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(*events[:2], b": ping\n\n" * 1000, *events[2:])
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello" and answer.raw.count(b": ping") <= 64


async def test_the_usage_event_does_not_commit_an_answer_whose_end_never_comes() -> None:
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo", done=False), Wait(0.02), Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.text == "Good day"
    assert answer.events[-1] == "[DONE]" and answer.events[-2]["usage"]["completion_tokens"] == 2
    assert [event["choices"] for event in answer.events[:-1]].count([]) == 1


async def test_what_an_answer_has_used_that_was_given_up_is_in_the_receipt() -> None:
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo", "!")[:4], Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day", usage=(5, 9)))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Good day"
    first, second = (attempt.outcome for attempt in exchange.attempts)
    assert first is not None and second is not None and exchange.receipt is not None
    assert (first.usage.output_tokens, first.usage.estimated) == (3, True)
    assert (second.usage.output_tokens, second.usage.estimated) == (9, False)
    assert exchange.receipt.output_tokens == 3 + 9
    assert exchange.receipt.input_tokens == first.usage.input_tokens + 5
    assert exchange.receipt.estimated


async def test_what_every_answer_has_used_is_in_the_receipt_where_none_was_had() -> None:
    async with two("hold") as gateway:
        for upstream in gateway.upstreams.values():
            upstream.stream(*chat_events("Hel", "lo")[:3], Cut())
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.status == 502
    assert exchange.receipt is not None and exchange.receipt.output_tokens == 4


async def test_an_attempt_that_had_not_begun_has_used_nothing() -> None:
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(chat_events("Hel")[0], Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        await gateway.chat(stream=True)
        exchange = await gateway.ended()
    first = exchange.attempts[0].outcome
    assert first is not None and first.usage.output_tokens == 0
    assert exchange.receipt is not None
    assert (exchange.receipt.output_tokens, exchange.receipt.estimated) == (2, False)


async def test_a_held_answer_that_stalls_has_failed_in_its_stream() -> None:
    async with two("hold") as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo")[:3], Wait(event=asyncio.Event()))
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Good day"
    assert [(failure.stage, failure.kind, failure.committed) for failure in Hold.asked] == [
        ("stream", "timeout", False)
    ]


# -- the text that is kept ------------------------------------------------------------------------


class Keep(Component):
    """Asks for the text, and for the second target where the first broke off."""

    needs_written = True
    seen: list[tuple[str, str | None]] = []

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        type(self).seen.append((failure.kind, exchange.written))
        if failure.committed and exchange.written is not None and len(exchange.attempts) < 3:
            return Resume("scripted/b:test-model", exchange.written)
        return Next() if not failure.committed and failure.targets_left else None


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Keep.seen = []


async def test_the_text_of_an_answer_that_was_given_up_is_no_part_of_the_next() -> None:
    async with two("keep", "hold", keep=Keep) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Never", " seen")[:3], Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert exchange.written == "Good day"


@pytest.mark.parametrize(
    "last",
    [
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look"}}]},
        {"annotations": [{"type": "url_citation", "url_citation": {"title": "A page", "url": "x"}}]},
    ],
    ids=["the name of a tool", "a citation"],
)
async def test_what_is_not_said_is_no_text_to_go_on_from(last: dict[str, Any]) -> None:
    choice = {"index": 0, "delta": last, "finish_reason": None}
    async with two("keep", keep=Keep) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], *sse({"choices": [choice]}), Cut())
        answer = await gateway.chat(stream=True)
    assert answer.error is not None
    assert Keep.seen == [("closed", None)]


async def test_a_text_that_has_ended_is_not_gone_on_with() -> None:
    async with two("keep", keep=Keep) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hello", usage=None)[:3], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.error is not None
    assert Keep.seen == [("closed", None)]


async def test_after_commit_a_skipped_target_is_reported_as_skipped() -> None:
    class Open(Component):
        def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
            if attempt.number > 1:
                raise Skip("open")
            yield

    async with two("keep", "open", keep=Keep, open=Open) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        await gateway.chat(stream=True)
    assert [kind for kind, _ in Keep.seen] == ["closed", "skipped", "skipped"]


async def test_an_answer_that_the_client_had_begun_is_gone_on_with_as_one() -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Oh, "}]
    async with two("keep", keep=Keep) as gateway:
        gateway.upstreams["a"].stream(*chat_events("hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("lo"))
        await gateway.chat(stream=True, messages=messages)
    sent = gateway.upstreams["b"].received[0].json["messages"]
    assert sent == [messages[0], {"role": "assistant", "content": "Oh, hel"}]
