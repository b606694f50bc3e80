"""`rescue: continue`: another model goes on where the text broke off; nothing is said twice and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lmg import Component, Exchange, Target
from lmg.testing import Cut, Harness, Wait, chat_events, sse

CONTINUE = {"rescue": "continue", "prefill": ["scripted"]}
GatewayOf = Callable[..., Harness]
Breaks = Callable[..., None]
Rescues = Callable[[Harness], dict[tuple[str, str], float]]


def calls(gateway: Harness) -> list[int]:
    return [len(upstream.received) for upstream in gateway.upstreams.values()]


def begun(gateway: Harness, name: str) -> Any:
    """The last message that an upstream was sent."""
    return gateway.upstreams[name].received[0].json["messages"][-1]


# -- the rescue -----------------------------------------------------------------------------------


async def test_what_was_delivered_and_what_follows_make_one_answer(
    gateway_of: GatewayOf, breaks: Breaks, rescues: Rescues
) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.host.metrics.enabled = True
        breaks(gateway.upstreams["a"], chat_events("Hel", "lo")[:3])
        gateway.upstreams["b"].stream(*chat_events(" wor", "ld", usage=(9, 3)))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Hello world"
    assert answer.events[-1] == "[DONE]" and answer.events.count("[DONE]") == 1
    assert answer.error is None
    assert calls(gateway) == [1, 1]
    assert begun(gateway, "b") == {"role": "assistant", "content": "Hello"}
    finishes = [e["choices"][0]["finish_reason"] for e in answer.events[:-1] if e["choices"]]
    assert [reason for reason in finishes if reason] == ["stop"]
    assert rescues(gateway) == {("scripted/b:test-model", "complete"): 1}
    first, second = (attempt.outcome for attempt in exchange.attempts)
    assert first is not None and second is not None and exchange.receipt is not None
    assert (first.status, second.status, exchange.ended) == ("failed", "complete", "complete")
    assert exchange.receipt.output_tokens == first.usage.output_tokens + 3 == 2 + 3
    assert exchange.receipt.input_tokens == first.usage.input_tokens + 9
    assert [tried.target for tried in exchange.receipt.tried] == [
        "scripted/a:test-model", "scripted/b:test-model",
    ]  # fmt: skip


async def test_a_second_one_that_breaks_too_is_gone_on_with(
    gateway_of: GatewayOf, breaks: Breaks, rescues: Rescues
) -> None:
    async with gateway_of({**CONTINUE, "max_rescues": 4}, "abcde") as gateway:
        gateway.host.metrics.enabled = True
        for name, texts in zip(
            "abcd", (("Hel", "lo"), (" wo", "r"), ("ld", ","), (" good", " ")), strict=True
        ):
            breaks(gateway.upstreams[name], chat_events(*texts)[:3])
        gateway.upstreams["e"].stream(*chat_events("day"))
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert answer.text == "Hello world, good day"
    assert answer.events[-1] == "[DONE]" and answer.error is None
    assert calls(gateway) == [1] * 5
    assert [begun(gateway, name)["content"] for name in "bcde"] == [
        "Hello", "Hello wor", "Hello world,", "Hello world, good ",
    ]  # fmt: skip
    assert len(gateway.upstreams["e"].received[0].json["messages"]) == 2
    assert exchange.receipt is not None and exchange.receipt.output_tokens == 4 * 2 + 2
    assert rescues(gateway) == {
        **{(f"scripted/{name}:test-model", "failed"): 1 for name in "bcd"},
        ("scripted/e:test-model", "complete"): 1,
    }


@pytest.mark.parametrize("sent", [2, 3, 4])
async def test_it_makes_no_difference_where_the_text_breaks(gateway_of: GatewayOf, sent: int) -> None:
    texts = ["one", " two", " three"]
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*chat_events(*texts)[:sent], Cut())
        gateway.upstreams["b"].stream(*chat_events(*texts[sent - 1 :], " four"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "one two three four"
    assert begun(gateway, "b")["content"] == "".join(texts[: sent - 1])


async def test_what_came_in_the_same_read_as_the_fault_is_not_said_again(gateway_of: GatewayOf) -> None:
    events, fault = chat_events("Hel", "lo"), sse({"error": {"message": "overloaded", "code": 503}})
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*events[:2], Wait(0.02), b"".join([events[2], *fault]))
        gateway.upstreams["b"].stream(b"".join(chat_events(" wor", "ld")))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello world"
    assert begun(gateway, "b")["content"] == "Hello"


async def test_an_answer_of_which_nothing_has_left_is_asked_for_anew(gateway_of: GatewayOf) -> None:
    fault = sse({"error": {"message": "overloaded", "code": 503}})
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(b"".join([*chat_events("Hel", "lo")[:3], *fault]))
        gateway.upstreams["b"].stream(*chat_events("Good", " day"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Good day"
    assert begun(gateway, "b")["role"] == "user"


async def test_what_nobody_can_go_on_with_ends_in_an_honest_error(
    gateway_of: GatewayOf, breaks: Breaks, rescues: Rescues
) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.host.metrics.enabled = True
        for upstream in gateway.upstreams.values():
            breaks(upstream, chat_events("Hel", "lo")[:3])
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert (answer.status, answer.text) == (200, "HelloHello")
    assert answer.error is not None and "[DONE]" not in answer.events
    assert exchange.ended == "failed"
    assert calls(gateway) == [1, 1]
    assert rescues(gateway) == {
        ("scripted/b:test-model", "failed"): 1, ("scripted/b:test-model", "max_rescues"): 1,
    }  # fmt: skip


async def test_a_rescue_that_fails_before_its_first_event_goes_on_to_the_next(
    gateway_of: GatewayOf, rescues: Rescues
) -> None:
    async with gateway_of({**CONTINUE, "max_rescues": 4}, "abcd") as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].reply({"error": {"message": "no prefill here"}}, status=400)
        gateway.upstreams["c"].stream(Cut("rst"))
        gateway.upstreams["d"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello" and answer.events[-1] == "[DONE]"
    assert calls(gateway) == [1] * 4


async def test_a_content_filter_is_not_taken_to_the_next(gateway_of: GatewayOf) -> None:
    refused = {"error": {"message": "x", "code": "content_filter"}}
    async with gateway_of({**CONTINUE, "max_rescues": 4}, "abc") as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].reply(refused, status=400)
        answer = await gateway.chat(stream=True)
    assert answer.error is not None
    assert calls(gateway) == [1, 1, 0]


async def test_the_routed_order_is_kept_and_what_routing_left_out_is_not_asked(gateway_of: GatewayOf) -> None:
    class Route(Component):
        def on_route(self, exchange: Exchange, targets: Sequence[Target]) -> list[Target]:
            by = {target.provider[-1]: target for target in targets}
            return [by["a"], by["d"], by["c"]]

    async with gateway_of(
        {**CONTINUE, "max_rescues": 4}, "abcd", above=["route"], classes={"route": Route}
    ) as gateway:
        for name in "acd":
            gateway.upstreams[name].stream(*chat_events(f"{name} ")[:2], Cut())
        answer = await gateway.chat(stream=True)
        exchange = await gateway.ended()
    assert [attempt.target.provider[-1] for attempt in exchange.attempts] == ["a", "d", "c"]
    assert answer.error is not None and answer.text == "a d c "


async def test_a_target_that_is_skipped_costs_no_rescue(gateway_of: GatewayOf, rescues: Rescues) -> None:
    class Open(Component):
        def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
            from lmg import Skip

            if attempt.target.provider == "scripted/b":
                raise Skip("open")
            yield

    async with gateway_of(CONTINUE, "abc", below=["open"], classes={"open": Open}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["c"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello"
    assert calls(gateway) == [1, 0, 1]
    assert rescues(gateway) == {
        ("scripted/b:test-model", "skipped"): 1, ("scripted/c:test-model", "complete"): 1,
    }  # fmt: skip


async def test_to_names_models_beyond_the_routed_ones(gateway_of: GatewayOf) -> None:
    settings = {**CONTINUE, "to": {"*": ["never"], "test-model": ["nobody", "spare"]}}
    async with gateway_of(settings, providers={"b": {"models": ["never", "spare"]}}) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello"
    assert gateway.upstreams["b"].received[0].json["model"] == "spare"


# -- both, and twice ----------------------------------------------------------------------------------


async def test_held_first_and_gone_on_with_beyond_the_bound(gateway_of: GatewayOf) -> None:
    texts = [f"word{n} " for n in range(20)]
    hold = {"stream_rescue/held": {"rescue": "hold", "max_held_bytes": 5_000}}
    async with gateway_of(CONTINUE, above=[hold]) as gateway:
        gateway.upstreams["a"].stream(*chat_events(*texts)[:21], Cut())
        gateway.upstreams["b"].stream(*chat_events("and the end"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "".join(texts) + "and the end"
    assert answer.events[-1] == "[DONE]"


async def test_an_answer_given_up_before_commit_is_no_part_of_what_is_gone_on_with(
    gateway_of: GatewayOf,
) -> None:
    texts = [f"word{n} " for n in range(20)]
    hold = {"stream_rescue/held": {"rescue": "hold", "max_held_bytes": 5_000}}
    async with gateway_of(CONTINUE, "abc", above=[hold]) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Never", " seen")[:3], Cut())
        gateway.upstreams["b"].stream(*chat_events(*texts)[:21], Cut())
        gateway.upstreams["c"].stream(*chat_events("and the end"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "".join(texts) + "and the end"
    assert begun(gateway, "c")["content"] == "".join(texts)
