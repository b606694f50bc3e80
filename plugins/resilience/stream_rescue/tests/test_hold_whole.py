"""A held answer is held whole: neither a comment nor the usage commits it, and what is given up is paid for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmg.testing import Cut, Harness, Wait, chat_events

HOLD = {"rescue": "hold"}
GatewayOf = Callable[..., Harness]


async def test_a_comment_does_not_commit(gateway_of: GatewayOf) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], b": still here\n\n", Wait(0.02), Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Good day" and answer.events[-1] == "[DONE]"


async def test_an_answer_whose_end_never_comes_is_rescued_though_its_usage_came(
    gateway_of: GatewayOf,
) -> None:
    async with gateway_of(HOLD) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel", done=False), Wait(0.02), Cut())
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.text == "Good day" and answer.events[-1] == "[DONE]"


async def test_what_the_broken_answer_used_is_in_the_receipt(gateway_of: GatewayOf, breaks: Any) -> None:
    async with gateway_of(HOLD) as gateway:
        breaks(gateway.upstreams["a"], chat_events("Hel", "lo")[:3])
        gateway.upstreams["b"].stream(*chat_events("Good", " day", usage=(5, 9)))
        await gateway.chat(stream=True)
        exchange = await gateway.ended()
    first = exchange.attempts[0].outcome
    assert first is not None and exchange.receipt is not None
    assert first.usage.output_tokens == 2
    assert exchange.receipt.output_tokens == 2 + 9
