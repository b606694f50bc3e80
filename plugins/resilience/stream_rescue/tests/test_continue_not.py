"""What `rescue: continue` leaves alone: the stream ends in an error event, as without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lmg import Component, Exchange
from lmg.testing import Cut, Harness, Wait, chat_events, sse

CONTINUE = {"rescue": "continue", "prefill": ["scripted"]}
GatewayOf = Callable[..., Harness]
Rescues = Callable[[Harness], dict[tuple[str, str], float]]


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def calls(gateway: Harness) -> list[int]:
    return [len(upstream.received) for upstream in gateway.upstreams.values()]


# -- what cannot be gone on with -------------------------------------------------------------------


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"ci'}}
NAMED = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("events", "asked"),
    [
        ([chunk({"role": "assistant"}), chunk({"content": "I"}), chunk({"tool_calls": [CALL]})], {}),
        ([chunk({"role": "assistant"}), chunk({"content": "I"}), chunk({"tool_calls": [NAMED]})], {}),
        ([chunk({"role": "assistant"}), chunk({"reasoning_content": "Hm"}), chunk({"content": "I"})], {}),
        ([chunk({"role": "assistant"}), chunk({"refusal": "I will not"})], {}),
        (
            [chunk({"role": "assistant"}), chunk({"content": "I"}), chunk({"content": "Me"}, index=1)],
            {"n": 2},
        ),
        ([chunk({"role": "assistant"}), chunk({"content": "{"})], {"response_format": SCHEMA}),
        (
            [chunk({"role": "assistant"}), chunk({"content": "{"})],
            {"response_format": {"type": "json_object"}},
        ),
        ([chunk({"role": "assistant"}), chunk({"content": "I"}), chunk({}, "stop")], {}),
    ],
    ids=["tool call", "its name", "reasoning", "refusal", "two choices", "schema", "json", "finished"],
)
async def test_what_is_no_plain_unfinished_text_ends_in_an_honest_error(
    gateway_of: GatewayOf, rescues: Rescues, events: list[Any], asked: dict[str, Any]
) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*sse(*events), Cut())
        answer = await gateway.chat(stream=True, **asked)
    assert answer.status == 200
    assert answer.error is not None and "[DONE]" not in answer.events
    assert calls(gateway) == [1, 0]
    assert rescues(gateway) == {("scripted/a:test-model", "unsupported"): 1}


@pytest.mark.parametrize("empty", [{"tool_calls": None}, {"tool_calls": []}, {"function_call": None}])
async def test_a_member_for_calls_that_holds_none_is_no_call(
    gateway_of: GatewayOf, empty: dict[str, Any]
) -> None:
    events = sse(chunk({"role": "assistant", **empty}), chunk({"content": "Hel", **empty}))
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*events, Cut())
        gateway.upstreams["b"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello"


async def test_json_is_gone_on_with_where_that_is_allowed(gateway_of: GatewayOf) -> None:
    async with gateway_of({**CONTINUE, "allow_json": True}) as gateway:
        gateway.upstreams["a"].stream(*chat_events('{"a":')[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events(" 1}"))
        answer = await gateway.chat(stream=True, response_format={"type": "json_object"})
    assert answer.text == '{"a": 1}'


async def test_an_answer_that_the_client_had_begun_is_not_gone_on_with(gateway_of: GatewayOf) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Oh, "}]
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*chat_events("hel")[:2], Cut())
        answer = await gateway.chat(stream=True, messages=messages)
    assert answer.error is not None
    assert calls(gateway) == [1, 0]


@pytest.mark.parametrize(("size", "goes_on"), [(20, True), (21, False)])
async def test_a_text_over_its_bound_is_not_sent_again(
    gateway_of: GatewayOf, rescues: Rescues, size: int, goes_on: bool
) -> None:
    async with gateway_of({**CONTINUE, "max_prefill_bytes": 20}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("ö" * (size // 2) + "x" * (size % 2))[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("!"))
        answer = await gateway.chat(stream=True)
    assert (answer.error is None) is goes_on
    assert rescues(gateway) == {
        ("scripted/b:test-model", "complete") if goes_on else ("scripted/a:test-model", "too_large"): 1
    }


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_an_error_event_that_is_the_requests_fault_is_not_gone_on_with(
    gateway_of: GatewayOf, status: int
) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(
            *chat_events("Hel")[:2], *sse({"error": {"message": "no", "code": status}})
        )
        answer = await gateway.chat(stream=True)
    assert answer.error is not None
    assert calls(gateway) == [1, 0]


async def test_before_commit_a_failure_is_somebody_elses(gateway_of: GatewayOf) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(chat_events("Hel")[0], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.status == 502
    assert calls(gateway) == [1, 0]


class Narrow(Component):
    def on_request(self, exchange: Exchange) -> None:
        exchange.narrow(providers=frozenset({"scripted/a"}))


async def test_going_on_stays_within_the_bounds(gateway_of: GatewayOf) -> None:
    settings = {**CONTINUE, "to": {"*": ["scripted/b:test-model"]}}
    async with gateway_of(settings, above=["narrow"], classes={"narrow": Narrow}) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        answer = await gateway.chat(stream=True)
    assert answer.error is not None
    assert calls(gateway) == [1, 0]


async def test_a_dialect_that_cannot_be_gone_on_with_ends_in_its_own_error_event(
    gateway_of: GatewayOf,
) -> None:
    body = {
        "model": "test-model",
        "max_tokens": 64,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        answer = await gateway.request(body, path="/v1/messages")
    assert b"event: error" in answer.raw and b"message_stop" not in answer.raw
    assert calls(gateway) == [1, 0]


async def test_a_client_that_leaves_ends_the_rescue(gateway_of: GatewayOf) -> None:
    slow = {"b": {"stall_timeout_ms": 60_000}}
    async with gateway_of(CONTINUE, providers=slow) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("lo")[:2], Wait(event=asyncio.Event()))
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        received = await gateway.upstreams["b"].arrival()
        await client.close(reset=True)
        async with asyncio.timeout(1):
            await received.gone.wait()
        exchange = await gateway.ended()
    assert exchange.ended == "cancelled"
