"""`rescue: hold`: nothing leaves before the answer is complete, so a broken one can be asked for anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lmg import Answer, Component, Exchange, StreamEvent, StreamFilter
from lmg.testing import Cut, Harness, VirtualClock, Wait, chat_body, chat_events, sse

HOLD = {"rescue": "hold"}
GatewayOf = Callable[..., Harness]
Breaks = Callable[..., None]
Rescues = Callable[[Harness], dict[tuple[str, str], float]]


class Probe(Component):
    """Stands below and sees each event first: tells when there were as many as a test waits for."""

    fed = 0
    wanted = 3
    there: asyncio.Event
    exchange: Exchange

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        probe = type(self)
        probe.exchange, probe.fed, probe.there = exchange, 0, asyncio.Event()

        class Filter(StreamFilter):
            def feed(self, event: StreamEvent) -> tuple[StreamEvent]:
                probe.fed += 1
                if probe.fed == probe.wanted:
                    probe.there.set()
                return (event,)

        return Filter()


async def probed(gateway: Harness) -> Exchange:
    await gateway.upstreams["a"].arrival()
    async with asyncio.timeout(10):
        while not hasattr(Probe, "there") or Probe.fed < Probe.wanted:
            await asyncio.sleep(0.001)
    return Probe.exchange


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Probe.fed = 0


# -- the rescue ---------------------------------------------------------------------------------


async def test_a_stream_that_breaks_off_is_asked_for_anew_and_the_client_sees_one_answer(
    gateway_of: GatewayOf, breaks: Breaks, rescues: Rescues
) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.host.metrics.enabled = True
        breaks(gateway.upstreams["a"], chat_events("Hel", "lo")[:3])
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert (answer.status, answer.text) == (200, "Good day")
    assert answer.events[-1] == "[DONE]" and answer.events.count("[DONE]") == 1
    assert answer.error is None
    assert [len(upstream.received) for upstream in gateway.upstreams.values()] == [1, 1]
    assert exchange.ended == "complete"
    assert rescues(gateway) == {("scripted/b:test-model", "complete"): 1}
    first, second = gateway.upstreams["a"].received[0].json, gateway.upstreams["b"].received[0].json
    assert first == second, "the second is asked the same"


async def test_five_targets_of_which_four_break_cost_five_calls(
    gateway_of: GatewayOf, breaks: Breaks, rescues: Rescues
) -> None:
    async with gateway_of({**HOLD, "max_rescues": 4}, "abcde") as gateway:
        gateway.host.metrics.enabled = True
        for name in "abcd":
            breaks(gateway.upstreams[name], chat_events("Hel", "lo")[:3])
        gateway.upstreams["e"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Good day" and answer.events[-1] == "[DONE]"
    assert [len(upstream.received) for upstream in gateway.upstreams.values()] == [1] * 5
    assert rescues(gateway) == {
        **{(f"scripted/{name}:test-model", "failed"): 1 for name in "bcd"},
        ("scripted/e:test-model", "complete"): 1,
    }


@pytest.mark.parametrize("sent", range(2, 6))
async def test_it_makes_no_difference_where_the_stream_breaks(gateway_of: GatewayOf, sent: int) -> None:
    events = chat_events("Hel", "lo")
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].stream(*events[:sent], Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Good day" and answer.events[-1] == "[DONE]"


async def test_where_every_target_breaks_the_client_gets_a_status_and_no_text(
    gateway_of: GatewayOf, breaks: Breaks
) -> None:
    async with gateway_of({**HOLD, "max_rescues": 4}) as gateway:
        for upstream in gateway.upstreams.values():
            breaks(upstream, chat_events("Hel", "lo")[:3])
        answer = await gateway.chat(stream=True)
    assert answer.status in (502, 503, 504)
    assert answer.error["code"] and b"Hel" not in answer.raw
    assert [len(upstream.received) for upstream in gateway.upstreams.values()] == [1, 1]


async def test_no_more_than_max_rescues_are_made(gateway_of: GatewayOf, rescues: Rescues) -> None:
    async with gateway_of({**HOLD, "max_rescues": 2}, "abcde") as gateway:
        gateway.host.metrics.enabled = True
        for upstream in gateway.upstreams.values():
            upstream.stream(*chat_events("Hel", "lo")[:3], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
    assert [len(upstream.received) for upstream in gateway.upstreams.values()] == [1, 1, 1, 0, 0]
    assert rescues(gateway)["scripted/c:test-model", "max_rescues"] == 1


async def test_after_the_routed_targets_those_of_to_are_asked(gateway_of: GatewayOf) -> None:
    settings = {**HOLD, "max_rescues": 3, "to": {"test-*": ["scripted/c:spare", "other"]}}
    providers = {"b": {"models": ["other"]}, "c": {"models": ["spare", "other"]}}
    async with gateway_of(settings, "abc", providers=providers) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["c"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("Good day"))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Good day"
    tried = [attempt.target.name for attempt in exchange.attempts]
    assert tried == ["scripted/a:test-model", "scripted/c:spare", "scripted/b:other"]


async def test_without_a_target_left_the_failure_is_what_it_was(
    gateway_of: GatewayOf, rescues: Rescues
) -> None:
    async with gateway_of(HOLD, "a") as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo")[:3], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
    assert rescues(gateway) == {("scripted/a:test-model", "no_target"): 1}


# -- what is nobody's to rescue --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "rescued"),
    [
        (400, False), (401, False), (403, False), (404, False), (422, False),
        (429, True), (500, True), (502, True), (503, True), (504, True), (529, True),
    ],
)  # fmt: skip
async def test_an_error_event_is_rescued_where_another_model_may_do_better(
    gateway_of: GatewayOf, status: int, rescued: bool
) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].stream(
            *chat_events("Hel")[:2], *sse({"error": {"message": "no", "code": status}})
        )
        answer = await gateway.chat(stream=True)
    assert (answer.status == 200) is rescued
    assert len(gateway.upstreams["b"].received) == rescued


@pytest.mark.parametrize("sent", [0, 1])
async def test_an_answer_that_had_not_begun_is_left_to_others(gateway_of: GatewayOf, sent: int) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:sent], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
    assert not gateway.upstreams["b"].received


async def test_the_deadline_of_the_first_token_is_still_that_of_the_provider(gateway_of: GatewayOf) -> None:
    timeouts = {"a": {"first_token_timeout_ms": 60, "stall_timeout_ms": 60_000}}
    async with gateway_of(HOLD, providers=timeouts) as gateway:
        gateway.upstreams["a"].stream(chat_events("Hel")[0], b": wait\n\n", Wait(event=asyncio.Event()))
        answer = await gateway.chat(stream=True)
    assert answer.status == 504
    assert not gateway.upstreams["b"].received


async def test_the_deadline_of_the_exchange_ends_holding(gateway_of: GatewayOf) -> None:
    slow = {name: {"stall_timeout_ms": 60_000} for name in "ab"}
    async with gateway_of(HOLD, providers=slow, server={"deadline_s": 0.2}) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo")[:3], Wait(event=asyncio.Event()))
        answer = await gateway.chat(stream=True)
    assert answer.status == 504
    assert not gateway.upstreams["b"].received


class Narrow(Component):
    """Policy: only the first provider."""

    def on_request(self, exchange: Exchange) -> None:
        exchange.narrow(providers=frozenset({"scripted/a"}))


async def test_a_rescue_stays_within_the_bounds(gateway_of: GatewayOf) -> None:
    settings = {**HOLD, "to": {"*": ["scripted/b:test-model"]}}
    async with gateway_of(settings, above=["narrow"], classes={"narrow": Narrow}) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo")[:3], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
    assert not gateway.upstreams["b"].received


# -- what the client sees ----------------------------------------------------------------------------


async def test_nothing_is_committed_while_the_answer_is_incomplete(gateway_of: GatewayOf) -> None:
    go_on = asyncio.Event()
    events = chat_events("Hel", "lo")
    slow = {"a": {"stall_timeout_ms": 60_000}}
    async with gateway_of(HOLD, below=["probe"], classes={"probe": Probe}, providers=slow) as gateway:
        gateway.upstreams["a"].stream(*events[:3], Wait(event=go_on), *events[3:])
        asked = asyncio.ensure_future(gateway.chat(stream=True))
        exchange = await probed(gateway)
        assert not exchange.committed
        go_on.set()
        answer = await asked
    assert answer.text == "Hello" and exchange.committed


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}),
        ("/v1/responses", {"input": "hello"}),
    ],
)
async def test_every_event_leaves_as_it_came_in_every_dialect(
    gateway_of: GatewayOf, path: str, body: dict[str, Any], usage: bool
) -> None:
    asked: dict[str, Any] = {**body, "model": "test-model", "stream": True}
    if usage and "completions" in path:
        asked["stream_options"] = {"include_usage": True}
    answers = []
    for mode in ("off", "enforce"):
        async with gateway_of({**HOLD, "mode": mode}) as gateway:
            gateway.upstreams["a"].stream(*chat_events("Hel", "lo", " wörld"))
            answers.append(await gateway.request(asked, path=path))
    without, held = answers
    assert without.status == held.status == 200
    assert _undated(held.raw) == _undated(without.raw)


def _undated(raw: bytes) -> bytes:
    """Without the ids and times that a translation makes up."""
    import re

    return re.sub(rb"(resp|msg|item|rs)_[0-9A-Za-z_]+|\"(created_at|completed_at)\":\s*[0-9.]+", b"", raw)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_translated_stream_is_rescued_too(gateway_of: GatewayOf, breaks: Breaks, path: str) -> None:
    body = {"model": "test-model", "stream": True, "max_tokens": 64, "input": "hello"}
    body |= {"messages": [{"role": "user", "content": "hello"}]}
    del body["input" if "messages" in path else "messages"]
    if "responses" in path:
        del body["max_tokens"]
    async with gateway_of(HOLD) as gateway:
        breaks(gateway.upstreams["a"], chat_events("Hel", "lo")[:3])
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.request(body, path=path)
    assert answer.status == 200
    assert b"Hel" not in answer.raw and b"Good" in answer.raw
    assert b"error" not in answer.raw.replace(b'"error":null', b"")
    assert [len(upstream.received) for upstream in gateway.upstreams.values()] == [1, 1]


async def test_an_answer_over_its_bound_is_let_go_and_ends_in_an_honest_error(
    gateway_of: GatewayOf, rescues: Rescues
) -> None:
    texts = [f"word{n} " for n in range(20)]
    async with gateway_of({**HOLD, "max_held_bytes": 5_000}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events(*texts)[:21], Cut())
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert (answer.status, answer.text) == (200, "".join(texts))
    assert answer.error is not None and "[DONE]" not in answer.events
    assert exchange.ended == "failed"
    assert not gateway.upstreams["b"].received
    assert rescues(gateway) == {("scripted/a:test-model", "released"): 1}


async def test_an_answer_that_takes_too_long_is_let_go(gateway_of: GatewayOf, rescues: Rescues) -> None:
    clock, go_on, events = VirtualClock(), asyncio.Event(), chat_events("Hel", "lo")
    settings = {**HOLD, "max_held_s": 20}
    slow = {"a": {"stall_timeout_ms": 60_000}}
    async with gateway_of(
        settings, below=["probe"], classes={"probe": Probe}, providers=slow, clock=clock
    ) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*events[:3], Wait(event=go_on), *events[3:])
        asked = asyncio.ensure_future(gateway.chat(stream=True))
        exchange = await probed(gateway)
        assert not exchange.committed
        await clock.advance(20)
        go_on.set()
        answer = await asked
    assert answer.text == "Hello" and answer.events[-1] == "[DONE]"
    assert rescues(gateway) == {("scripted/a:test-model", "released"): 1}


async def test_the_time_goes_on_through_a_rescue(gateway_of: GatewayOf) -> None:
    clock, go_on, events = VirtualClock(), asyncio.Event(), chat_events("Hel", "lo")
    slow = {name: {"stall_timeout_ms": 60_000} for name in "ab"}
    more: dict[str, Any] = {
        "below": ["probe"],
        "classes": {"probe": Probe},
        "providers": slow,
        "clock": clock,
    }
    async with gateway_of({**HOLD, "max_held_s": 20}, **more) as gateway:
        gateway.upstreams["a"].stream(*events[:3], Wait(event=go_on), Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day")[:3], Cut())
        asked = asyncio.ensure_future(gateway.chat(stream=True))
        await probed(gateway)
        await clock.advance(20)
        go_on.set()
        answer = await asked
    assert answer.text == "Good day", "the second answer is not held: the time was up"
    assert answer.error is not None


async def test_a_client_that_leaves_closes_the_upstream_and_frees_what_was_held(
    gateway_of: GatewayOf,
) -> None:
    slow = {"a": {"stall_timeout_ms": 60_000}}
    async with gateway_of(HOLD, below=["probe"], classes={"probe": Probe}, providers=slow) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", "lo")[:3], Wait(event=asyncio.Event()))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await probed(gateway)
        component: Any = gateway.process.gateway.pipeline.listed[1][1]
        assert component._memory.used > 0
        await client.close(reset=True)
        async with asyncio.timeout(1):
            await gateway.upstreams["a"].received[0].gone.wait()
        exchange = await gateway.ended()
        assert component._memory.used == 0
    assert exchange.ended == "cancelled"
    assert not gateway.upstreams["b"].received


async def test_whole_answers_are_not_its_business(gateway_of: GatewayOf) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].reply(chat_body("Hello"))
        answer = await gateway.chat()
    assert answer.text == "Hello"


class Canned(Component):
    """Answers itself, without an upstream."""

    def on_request(self, exchange: Exchange) -> Answer:
        import json

        return Answer(json.dumps(chat_body("from the shelf")).encode())


@pytest.mark.parametrize("settings", [HOLD, {"rescue": "continue", "prefill": ["*"]}])
async def test_an_answer_without_an_upstream_passes(gateway_of: GatewayOf, settings: dict[str, Any]) -> None:
    async with gateway_of(settings, below=["canned"], classes={"canned": Canned}) as gateway:
        answer = await gateway.chat(stream=True)
    assert (answer.status, answer.text) == (200, "from the shelf")


async def test_a_model_name_that_a_caller_made_up_is_no_label(
    gateway_of: GatewayOf, rescues: Rescues
) -> None:
    providers = {name: {"models": ["*"]} for name in "ab"}
    async with gateway_of(HOLD, providers=providers) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        answer = await gateway.chat(stream=True, model="made-up-by-the-caller")
    assert answer.status == 200
    assert rescues(gateway) == {("scripted/b:*", "complete"): 1}
