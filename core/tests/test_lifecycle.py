"""The lifecycle: order of hooks, verdicts, settling once, staged edits, bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from lmg import (
    Answer,
    Attempt,
    Component,
    Deny,
    Exchange,
    Principal,
    Response,
    Skip,
    StreamEvent,
    StreamFilter,
)
from lmg.testing import Harness, Trace, Wait, chat_body, chat_events


@pytest.fixture
def log() -> list[str]:
    Trace.log = []
    return Trace.log


TWO = {"pipeline": ["trace/a", "trace/b"]}


async def test_hooks_of_a_whole_answer_fire_down_the_list_and_back_up(log: list[str]) -> None:
    async with Harness(TWO, classes={"trace": Trace}) as gateway:
        assert (await gateway.chat()).status == 200
        await gateway.ended()
    assert log == [
        "trace/a.on_request", "trace/b.on_request", "trace/a.on_route", "trace/b.on_route",
        "trace/a.on_attempt", "trace/b.on_attempt", "trace/b.outcome:complete", "trace/a.outcome:complete",
        "trace/b.on_response", "trace/a.on_response", "trace/b.on_settle", "trace/a.on_settle", "trace/b.on_end", "trace/a.on_end",
    ]  # fmt: skip


async def test_hooks_of_a_stream_open_filters_before_the_attempt_ends(log: list[str]) -> None:
    async with Harness(TWO, classes={"trace": Trace}) as gateway:
        assert (await gateway.chat(stream=True)).text == "Hello!"
        await gateway.ended()
    assert log == [
        "trace/a.on_request", "trace/b.on_request", "trace/a.on_route", "trace/b.on_route",
        "trace/a.on_attempt", "trace/b.on_attempt", "trace/b.on_stream", "trace/a.on_stream",
        "trace/b.outcome:complete", "trace/a.outcome:complete",
        "trace/b.on_settle", "trace/a.on_settle", "trace/b.on_end", "trace/a.on_end",
    ]  # fmt: skip


async def test_a_malformed_body_still_settles_and_ends(log: list[str]) -> None:
    async with Harness(TWO, classes={"trace": Trace}) as gateway:
        answer = await gateway.request(b"{")
        assert (answer.status, answer.error["code"]) == (400, "invalid_json")
        await gateway.ended()
    assert log == [
        "trace/a.on_request",
        "trace/b.on_request",
        "trace/b.on_settle",
        "trace/a.on_settle",
        "trace/b.on_end",
        "trace/a.on_end",
    ]


async def test_a_failed_attempt_asks_on_failure_and_stops_by_itself(log: list[str]) -> None:
    async with Harness(TWO, classes={"trace": Trace}) as gateway:
        gateway.upstream.reply({"error": {"message": "no", "code": "busy", "type": "t"}}, status=503)
        answer = await gateway.chat()
        assert answer.status == 503
        assert len(gateway.upstream.received) == 1
        await gateway.ended()
    assert log[4:10] == [
        "trace/a.on_attempt", "trace/b.on_attempt", "trace/b.outcome:failed", "trace/a.outcome:failed", "trace/a.on_failure", "trace/b.on_failure",
    ]  # fmt: skip


class Denies(Component):
    def on_request(self, exchange: Exchange) -> Deny:
        return Deny(403, "not_today", "Not today.", reason="the operator's own words")


async def test_deny_refuses_with_the_safe_text_and_calls_no_upstream(log: list[str]) -> None:
    async with Harness(
        {"pipeline": ["trace/a", "denies", "trace/b"]}, classes={"trace": Trace, "denies": Denies}
    ) as gateway:
        answer = await gateway.chat()
        assert answer.status == 403
        assert answer.error["code"] == "not_today"
        assert answer.headers["x-should-retry"] == "false"
        assert b"operator" not in answer.raw
        assert gateway.upstream.received == []
        await gateway.ended()
    assert log == [
        "trace/a.on_request",
        "trace/b.on_settle",
        "trace/a.on_settle",
        "trace/b.on_end",
        "trace/a.on_end",
    ]


class Answers(Component):
    requires = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> Answer:
        import json

        return Answer(json.dumps(chat_body("from the cache")).encode())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_walks_up_through_those_above_it_and_no_others(log: list[str], stream: bool) -> None:
    async with Harness(
        {"pipeline": ["trace/a", "answers", "trace/b"]}, classes={"trace": Trace, "answers": Answers}
    ) as gateway:
        answer = await gateway.chat(stream=stream)
        assert answer.text == "from the cache"
        if stream:
            assert answer.events[-1] == "[DONE]"
        assert gateway.upstream.received == []
        await gateway.ended()
    assert log == [
        "trace/a.on_request",
        "trace/a.on_response",
        "trace/b.on_settle",
        "trace/a.on_settle",
        "trace/b.on_end",
        "trace/a.on_end",
    ]


class Limited(Component):
    provides = {"on_request": ("principal",)}
    modes = frozenset({"enforce", "off"})
    lists: ClassVar[dict[str, Any]] = {}

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("principal", Principal("ann", **self.lists))


@pytest.mark.parametrize(
    ("lists", "code"),
    [({"models": frozenset({"other"})}, "model_not_allowed"), ({"operations": frozenset({"images"})}, "operation_not_allowed"), ({}, None)],
)  # fmt: skip
async def test_who_may_not_ask_gets_no_answer_of_a_component_either(
    lists: dict[str, Any], code: str | None
) -> None:
    Limited.lists = lists
    async with Harness(
        {"pipeline": ["limited", "answers"]}, classes={"limited": Limited, "answers": Answers}
    ) as gateway:
        answer = await gateway.chat()
        assert (answer.error or {}).get("code") == code
        assert (b"from the cache" in answer.raw) == (code is None)


class Skips(Component):
    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Iterator[None]:
        raise Skip("open")
        yield


async def test_skip_leaves_the_target_out_and_is_no_answer(log: list[str]) -> None:
    async with Harness(
        {"pipeline": ["trace/a", "skips"]}, classes={"trace": Trace, "skips": Skips}
    ) as gateway:
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (503, "no_target")
        assert gateway.upstream.received == []
    assert "trace/a.outcome:skipped" in log


class FailsAfterWriting(Component):
    on_error = "allow"
    provides = {"on_request": ("colour",)}
    requires = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("colour", "red")
        exchange.request.set(("user",), "somebody else")
        exchange.reply_header(b"x-written", b"1")
        raise RuntimeError


async def test_what_a_failing_hook_wrote_is_taken_back() -> None:
    async with Harness({"pipeline": ["fails"]}, classes={"fails": FailsAfterWriting}) as gateway:
        answer = await gateway.chat(user="me")
        assert answer.status == 200
        assert "x-written" not in answer.headers
        assert gateway.upstream.received[0].json["user"] == "me"
        assert (await gateway.ended()).fact("colour") is None


class SettleCounter(Component):
    settled: list[str] = []

    async def on_settle(self, exchange: Exchange) -> None:
        self.settled.append(exchange.id)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_closes_the_upstream_and_settles_once(stream: bool, reset: bool) -> None:
    SettleCounter.settled = []
    async with Harness({"pipeline": ["counter"]}, classes={"counter": SettleCounter}) as gateway:
        if stream:
            gateway.upstream.stream(*chat_events("one")[:2], Wait(30), *chat_events("two")[2:])
        else:
            gateway.upstream.raw(b"HTTP/1.1 200 OK\r\n", Wait(30))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=stream)))
        if stream:
            await client.head()
        received = await gateway.upstream.arrival()
        await client.close(reset=reset)
        import asyncio

        await asyncio.wait_for(received.gone.wait(), 1.0)
        exchange = await gateway.ended()
        assert exchange.receipt is not None and exchange.receipt.ended == "cancelled"
        assert SettleCounter.settled == [exchange.id]
        assert exchange.attempts[0].outcome is not None and exchange.attempts[0].outcome.status == "cancelled"


class Upper(StreamFilter):
    def feed(self, event: StreamEvent) -> Any:
        for delta in event.deltas:
            event = event.replace(delta, delta.text.upper())
        return [event]


class Shouts(Component):
    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return Upper()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_component_with_only_on_stream_reviews_whole_answers_too(stream: bool) -> None:
    async with Harness({"pipeline": ["shouts"]}, classes={"shouts": Shouts}) as gateway:
        assert (await gateway.chat(stream=stream)).text == "HELLO!"


class Reviews(Component):
    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        for segment in response.segments():
            if "secret" in segment.text:
                return Deny(403, "answer_withheld", "The answer was withheld.")
            response.replace(segment, segment.text.replace("Hello", "Goodbye"))
        return None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_component_with_only_on_response_reviews_streams_too(stream: bool) -> None:
    async with Harness({"pipeline": ["reviews"]}, classes={"reviews": Reviews}) as gateway:
        assert (await gateway.chat(stream=stream)).text == "Goodbye!"
        if stream:
            gateway.upstream.stream(*chat_events("a sec", "ret"))
        else:
            gateway.upstream.reply(chat_body("a secret"))
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.error["code"]) == (403, "answer_withheld")


class Narrows(Component):
    def on_request(self, exchange: Exchange) -> None:
        exchange.narrow(providers=frozenset({"elsewhere"}))


async def test_bounds_that_leave_no_target_are_a_403() -> None:
    async with Harness({"pipeline": ["narrows"]}, classes={"narrows": Narrows}) as gateway:
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (403, "out_of_bounds")


class Caps(Component):
    def on_request(self, exchange: Exchange) -> None:
        exchange.narrow(max_output_tokens=10)


async def test_the_output_cap_of_the_bounds_is_sent_upstream() -> None:
    async with Harness({"pipeline": ["caps"]}, classes={"caps": Caps}) as gateway:
        await gateway.chat(max_completion_tokens=500)
        await gateway.chat()
        first, second = (request.json for request in gateway.upstream.received)
        assert first["max_completion_tokens"] == 10
        assert second["max_tokens"] == 10


class Judge(Component):
    requires = {"on_request": ("body",)}

    async def on_request(self, exchange: Exchange) -> None:
        result = await exchange.fork(exchange.candidates[0], "judge")
        exchange.set_fact("judged", result.response.body.get("choices", 0, "message", "content"))


async def test_a_fork_is_a_call_with_its_own_receipt_within_the_bounds() -> None:
    async with Harness({"pipeline": ["judge"]}, classes={"judge": Judge}) as gateway:
        assert (await gateway.chat(stream=True)).status == 200
        await gateway.ended(2)
        child, parent = gateway.exchanges
        assert child.receipt is not None and parent.receipt is not None
        assert (child.receipt.purpose, child.receipt.parent) == ("judge", parent.id)
        assert child.receipt.exchange_id != parent.receipt.exchange_id
        assert parent.fact("judged") == "Hello!"
        assert "stream" not in gateway.upstream.received[0].json


class Empties(Component):
    def on_route(self, exchange: Exchange, targets: Any) -> Any:
        for target in targets:
            exchange.drop(target, "too dear", 402)
        return []


@pytest.mark.parametrize(("mode", "status"), [("enforce", 402), ("shadow", 200)])
async def test_an_empty_list_is_refused_with_the_status_of_the_reason_that_emptied_it(
    mode: str, status: int
) -> None:
    async with Harness({"pipeline": [{"empties": {"mode": mode}}]}, classes={"empties": Empties}) as gateway:
        assert (await gateway.chat()).status == status
        assert bool((await gateway.ended()).drops) == (mode == "enforce")
