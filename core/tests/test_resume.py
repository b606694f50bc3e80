"""After commit: a broken stream goes on with another target's answer, beneath the filters that are open."""

from __future__ import annotations

from typing import Any

import pytest

from lmg import Component, Exchange, Failure, Next, Resume, Retry, Stop, StreamEvent, StreamFilter
from lmg.testing import Cut, Harness, ScriptedUpstream, chat_events


class Rescue(Component):
    """Continues on the second target with what has been written."""

    needs_written = True
    answers: list[Any] = []
    asked: list[Failure] = []

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        type(self).asked.append(failure)
        if not failure.committed or exchange.written is None:
            return None
        return type(self).answers.pop(0) if self.answers else Resume("second:test-model", exchange.written)


class Count(Component):
    """Counts how often its filter is opened, and what it was fed."""

    opened = 0
    closed = 0
    fed = ""

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        Count.opened += 1

        class Filter(StreamFilter):
            def feed(self, event: StreamEvent) -> tuple[StreamEvent]:
                Count.fed += "".join(delta.text for delta in event.deltas)
                return (event,)

            def close(self) -> None:
                Count.closed += 1

        return Filter()


class Two(Harness):
    """Two targets with one model; the second is never a candidate before commit."""

    second: ScriptedUpstream

    def read(self, mesh: Any) -> Any:
        providers = {
            "scripted/first": {"endpoint": self.upstream.url, "models": ["test-model"], "priority": 1},
            "scripted/second": {"endpoint": self.second.url, "models": ["test-model"], "priority": 2},
        }
        return super().read({**mesh, "providers": providers})


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Rescue.answers, Rescue.asked = [], []
    Count.opened = Count.closed = 0
    Count.fed = ""


async def ask(pipeline: list[str], first: list[Any], second: list[Any], answers: list[Any] = []) -> Any:  # noqa: B006
    Rescue.answers = list(answers)
    async with ScriptedUpstream() as other:
        harness = Two({"pipeline": pipeline}, classes={"rescue": Rescue, "count": Count})
        harness.second = other
        async with harness as gateway:
            gateway.upstream.stream(*first)
            other.stream(*second)
            answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
            exchange = await gateway.ended(1)
    return answer, exchange, other


RESUME = Resume("scripted/second:test-model", "Hello")


async def test_a_broken_stream_goes_on_where_it_broke_and_ends_as_one() -> None:
    answer, exchange, other = await ask(
        ["rescue", "count"],
        [*chat_events("Hel", "lo", done=False)[:3], Cut("rst")],
        chat_events(" wor", "ld"),
        [RESUME],
    )
    assert answer.text == "Hello world"
    assert answer.events[-1] == "[DONE]"
    assert exchange.ended == "complete"
    assert [a.target.provider for a in exchange.attempts] == ["scripted/first", "scripted/second"]
    (received,) = other.received
    assert received.json["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert exchange.written == "Hello world"
    assert (Count.opened, Count.closed, Count.fed) == (1, 1, "Hello world")


async def test_the_opening_event_of_the_second_answer_is_not_sent_again() -> None:
    answer, _, _ = await ask(
        ["rescue"], [*chat_events("a", done=False)[:2], Cut()], chat_events("b"), [RESUME]
    )
    roles = [
        e for e in answer.events if e != "[DONE]" and e["choices"] and e["choices"][0]["delta"].get("role")
    ]
    assert len(roles) == 1


async def test_what_both_attempts_used_is_in_the_receipt_and_each_knows_its_own() -> None:
    _, exchange, _ = await ask(
        ["rescue"], [*chat_events("a", "b", done=False)[:3], Cut()], chat_events("c"), [RESUME]
    )
    first, second = (attempt.outcome for attempt in exchange.attempts)
    assert (first.status, second.status) == ("failed", "complete")
    assert second.usage.output_tokens == 2
    assert exchange.receipt.output_tokens == first.usage.output_tokens + 2
    assert exchange.receipt.estimated


@pytest.mark.parametrize(
    "answer", [Stop(), Retry(), Next(), Next("scripted/second:test-model"), Resume("nobody:x", "")]
)
async def test_after_commit_nothing_but_a_resume_calls_a_model(answer: Any) -> None:
    got, exchange, other = await ask(
        ["rescue"], [*chat_events("a", done=False)[:2], Cut()], chat_events("b"), [answer]
    )
    assert got.error is not None
    assert got.events[-1] != "[DONE]"
    assert not other.received
    assert exchange.ended == "failed"


async def test_a_second_answer_that_fails_asks_again_and_then_the_stream_ends_in_an_error() -> None:
    first = [*chat_events("a", done=False)[:2], Cut()]
    got, exchange, other = await ask(["rescue", "count"], first, [Cut("rst")], [RESUME, RESUME, Stop()])
    assert got.error is not None
    assert len(other.received) == 2
    assert [failure.committed for failure in Rescue.asked] == [True, True, True]
    assert len(exchange.attempts) == 3
    assert exchange.attempts[0].outcome.usage.output_tokens == 1
    assert exchange.receipt.output_tokens == 1
    assert [attempt.outcome.usage.output_tokens for attempt in exchange.attempts[1:]] == [0, 0]
    assert (Count.opened, Count.closed) == (1, 1)


async def test_a_resume_before_commit_counts_as_no_answer() -> None:
    class Early(Rescue):
        def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
            return RESUME

    async with Harness({"pipeline": ["early"]}, classes={"early": Early}) as gateway:
        gateway.upstream.stream(Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
