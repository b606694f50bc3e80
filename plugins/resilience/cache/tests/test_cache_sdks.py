"""The official clients read a kept answer as they read the first, and so do they what was translated or put together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from lmg import Component, Exchange, Failure, Resume
from lmg.testing import Cut, Harness, chat_body, chat_events

from .conftest import (
    CLASSES,
    HI,
    Spoken,
    cached,
    calls,
    every_dialect,
    gateway_of,
    key,
    messages_events,
    replayed,
    responses_events,
    said,
)


@pytest.fixture
async def gateway() -> AsyncIterator[Harness]:
    async with gateway_of(cached()) as running:
        yield running


async def test_openai_chat_reads_hits_whole_and_streamed(gateway: Harness) -> None:
    gateway.upstream.reply(chat_body("Good morning"))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0) as client:
        for _ in range(2):
            whole = await client.chat.completions.create(model="test-model", messages=HI)
            assert whole.choices[0].message.content == "Good morning"
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="test-model", messages=HI, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Good morning"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 7
    assert calls(gateway) == 1


async def test_openai_responses_reads_hits_whole_and_streamed(gateway: Harness) -> None:
    gateway.upstream.stream(*responses_events("Good ", "morning"))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0) as client:
        for _ in range(2):
            async with client.responses.stream(model="test-model", input="hi") as stream:
                final = await stream.get_final_response()
            assert final.output_text == "Good morning" and final.status == "completed"
        whole = await client.responses.create(model="test-model", input="hi")
    assert whole.output_text == "Good morning" and whole.usage is not None and whole.usage.total_tokens == 7
    assert calls(gateway) == 1


async def test_anthropic_reads_hits_whole_and_streamed(gateway: Harness) -> None:
    gateway.upstream.stream(*messages_events("Good ", "morning"))
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="k", max_retries=0) as client:
        for _ in range(2):
            async with client.messages.stream(model="test-model", max_tokens=9, messages=HI) as stream:
                final = await stream.get_final_message()
            assert final.content[0].text == "Good morning"  # type: ignore[union-attr]
            assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 2)
        whole = await client.messages.create(model="test-model", max_tokens=9, messages=HI)
    assert whole.content[0].text == "Good morning" and whole.stop_reason == "end_turn"  # type: ignore[union-attr]
    assert calls(gateway) == 1


@every_dialect
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("part", ["cache", "idempotency"])
async def test_an_answer_that_was_translated_is_kept_in_the_callers_dialect(
    spoken: Spoken, stream: bool, part: str
) -> None:
    """The upstream speaks chat completions, whatever its clients speak."""
    classes = {name: one for name, one in CLASSES.items() if name != "scripted"}
    mesh = cached() if part == "cache" else {"pipeline": ["who", "idempotency"]}
    async with Harness(mesh, classes=classes) as gateway:
        if stream:
            gateway.upstream.stream(*chat_events("Good ", "morning"))
        else:
            gateway.upstream.reply(chat_body("Good morning"))
        headers = key() if part == "idempotency" else {}
        first, again = [await spoken.request(gateway, stream=stream, headers=headers) for _ in range(2)]
        assert said(again) == "hit" or replayed(again)
        assert spoken.text(first) == spoken.text(again) == "Good morning"
        assert spoken.usage(first) == spoken.usage(again) == (5, 2)
        assert calls(gateway) == 1


class Rescue(Component):
    """Has another target go on where a stream broke."""

    needs_written = True

    def on_failure(self, exchange: Exchange, failure: Failure) -> Resume | None:
        return Resume(exchange.candidates[0].name, exchange.written or "") if failure.committed else None


async def test_half_of_one_answer_and_half_of_another_is_repeated_and_not_kept() -> None:
    classes = {"classes": {**CLASSES, "rescue": Rescue}}
    for above, again_is in (([], "miss"), (["idempotency"], "")):
        mesh = cached(*above)
        mesh["pipeline"].append("rescue")
        async with Harness(mesh, **classes) as gateway:
            gateway.upstream.stream(*chat_events("Good ")[:2], Cut("rst"))
            gateway.upstream.stream(*chat_events("morning"))
            first = await gateway.chat("hello", stream=True, headers=key())
            assert first.text == "Good morning" and calls(gateway) == 2
            again = await gateway.chat("hello", stream=True, headers=key())
            assert said(again) == again_is and replayed(again) == bool(above)
            assert above == [] or again.text == "Good morning"
