"""Who is asked to go on from a begun answer, and how each is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lmg import Target
from lmg.dialects.anthropic_messages import AnthropicMessages, wire_for
from lmg.testing import Cut, Harness, chat_events
from lmg.testing.gateway import Scripted

CONTINUE = {"rescue": "continue", "prefill": ["scripted"]}
GatewayOf = Callable[..., Harness]
Rescues = Callable[[Harness], dict[tuple[str, str], float]]


def calls(gateway: Harness) -> list[int]:
    return [len(upstream.received) for upstream in gateway.upstreams.values()]


def begun(gateway: Harness, name: str) -> Any:
    """The last message that an upstream was sent."""
    return gateway.upstreams[name].received[0].json["messages"][-1]


# -- who is asked, and how --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefill", "asked"),
    [
        (["scripted"], True), (["scripted/b"], True), (["scripted/*"], True), (["*:test-*"], True),
        (["scripted/b:test-model"], True), (["scripted/a"], False), (["scripted/b:other"], False), (["vllm"], False),
    ],
)  # fmt: skip
async def test_only_who_is_named_is_asked_to_go_on(
    gateway_of: GatewayOf, rescues: Rescues, prefill: list[str], asked: bool
) -> None:
    async with gateway_of({"rescue": "continue", "prefill": prefill}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert calls(gateway) == [1, int(asked)]
    assert answer.text == ("Hello" if asked else "Hel")
    if not asked:
        assert answer.error is not None
        assert rescues(gateway) == {("scripted/a:test-model", "no_target"): 1}


@pytest.mark.parametrize(
    ("style", "last", "beside"),
    [
        ("message", {"role": "assistant", "content": "Hel"}, {}),
        ("prefix", {"role": "assistant", "content": "Hel", "prefix": True}, {}),
        (
            "continue_final_message", {"role": "assistant", "content": "Hel"},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
    ],
)  # fmt: skip
async def test_each_is_told_in_its_own_way(
    gateway_of: GatewayOf, style: str, last: dict[str, Any], beside: dict[str, Any]
) -> None:
    async with gateway_of({**CONTINUE, "prefill_style": {"scripted/b": style}}) as gateway:
        gateway.upstreams["a"].stream(*chat_events("Hel")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events("lo"))
        answer = await gateway.chat(stream=True)
    assert answer.text == "Hello"
    first, sent = gateway.upstreams["a"].received[0].json, gateway.upstreams["b"].received[0].json
    assert sent == {**first, "messages": [*first["messages"], last], **beside}


@pytest.mark.parametrize(
    ("provider", "style"),
    [
        ("vllm", "continue_final_message"), ("vllm/gpu1", "continue_final_message"), ("mistral", "prefix"),
        ("deepseek", "prefix"), ("llamacpp", "message"), ("anthropic", "message"), ("openai/mine", "message"),
    ],
)  # fmt: skip
def test_the_type_of_a_provider_says_how_it_is_told(provider: str, style: str) -> None:
    from lmg import Host
    from lmg_stream_rescue import StreamRescueConfig
    from lmg_stream_rescue.continuing import Continuation

    config = StreamRescueConfig.model_validate({"rescue": "continue", "prefill": ["*"]})
    assert Continuation(config, Host()).style(Target(provider, "m", "m")) == style


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
async def test_the_cap_on_the_answer_holds_for_both_parts_together(gateway_of: GatewayOf, cap: str) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.upstreams["a"].stream(*chat_events("twelve bytes")[:2], Cut())
        gateway.upstreams["b"].stream(*chat_events(" more"))
        await gateway.chat(stream=True, **{cap: 10})
    assert gateway.upstreams["a"].received[0].json[cap] == 10
    assert gateway.upstreams["b"].received[0].json[cap] == 10 - 3


async def test_an_answer_as_long_as_it_may_be_is_not_gone_on_with(
    gateway_of: GatewayOf, rescues: Rescues
) -> None:
    async with gateway_of(CONTINUE) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstreams["a"].stream(*chat_events("twelve bytes")[:2], Cut())
        answer = await gateway.chat(stream=True, max_tokens=3)
    assert answer.error is not None
    assert calls(gateway) == [1, 0]
    assert rescues(gateway) == {("scripted/a:test-model", "no_tokens_left"): 1}


# -- a wire of another kind ---------------------------------------------------------------------------


class Claude(Scripted):
    """Speaks Anthropic's API, of which newer models take no begun answer."""

    wires: ClassVar[Any] = {"chat": (AnthropicMessages(),)}

    def wire(self, operation: Any, dialect: str, model: str) -> Any:
        return wire_for(model)


def claude_events(*texts: str) -> list[bytes]:
    """The events of a message that is still being written."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1},
    }  # fmt: skip
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        ),
    ]
    return [f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode() for value in values]


def claude_end(output_tokens: int) -> list[bytes]:
    values: list[dict[str, Any]] = [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": output_tokens},
        },
        {"type": "message_stop"},
    ]  # fmt: skip
    return [f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode() for value in values]


@pytest.mark.parametrize(
    ("model", "text", "goes_on"),
    [
        ("claude-sonnet-4-5", "Hel", True),
        ("claude-sonnet-4-5", "Hel ", False),
        ("claude-opus-4-6", "Hel", False),
    ],
    ids=["taken", "white space at the end", "a model that takes none"],
)
async def test_a_translated_request_is_begun_only_where_its_api_takes_it(
    gateway_of: GatewayOf, model: str, text: str, goes_on: bool
) -> None:
    both = {name: {"models": [model]} for name in "ab"}
    async with gateway_of(CONTINUE, providers=both, classes={"scripted": Claude}) as gateway:
        gateway.upstreams["a"].stream(*claude_events(text), Cut())
        gateway.upstreams["b"].stream(*claude_events("lo"), *claude_end(4))
        answer = await gateway.chat(stream=True, model=model, max_tokens=50)
        exchange = await gateway.ended()
    assert calls(gateway) == [1, int(goes_on)]
    assert (answer.error is None) is goes_on
    if goes_on:
        assert answer.text == "Hello" and answer.events[-1] == "[DONE]"
        assert begun(gateway, "b") == {"role": "assistant", "content": "Hel"}
        assert gateway.upstreams["b"].received[0].json["max_tokens"] == 49
        assert exchange.receipt is not None
        assert (exchange.receipt.input_tokens, exchange.receipt.output_tokens) == (7 + 7, 1 + 4)
