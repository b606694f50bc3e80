"""The redactor on the events of an answer: every dialect, text and tool arguments, however the upstream cuts them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmg import Component, Deny, Exchange, Response, Signal, StreamEvent, StreamFilter
from lmg.redaction import Patterns, Redactor, Rule
from lmg.redaction.filter import RedactingFilter, redact_segments
from lmg.testing import Harness, chat_events
from lmg.testing.guards import CHATS, asked, pieces, said, tool, tool_events

EMAIL = "A-Za-z0-9._%+@-"
SECRET = "ada@acme.example"
REDACTOR = Redactor(
    [
        Patterns(
            EMAIL, [Rule("email", rf"(?<![{EMAIL}])[A-Za-z0-9._%+-]{{1,64}}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")],
            max_length=320, anchor="@", within=65,
        )
    ],
    lambda one: f"[{one.name}]",
)  # fmt: skip


class Masks(Component):
    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return RedactingFilter(REDACTOR, lambda text: Deny(403, "signed_value"))

    def on_response(self, exchange: Exchange, response: Response) -> None:
        redact_segments(response, list(response.segments()), REDACTOR)


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("seed", range(5))
async def test_no_cut_of_a_streamed_text_shows_a_value(path: str, seed: int) -> None:
    text = f"Write to {SECRET}, or to {SECRET.upper()}; ends with {SECRET}"
    async with Harness({"pipeline": ["masks"]}, classes={"masks": Masks}) as gateway:
        gateway.upstream.stream(*chat_events(*pieces(text, seed)))
        answer = await gateway.request(asked(path, "hi", stream=True), path=path)
        assert answer.status == 200
        assert said(path, answer.events)[0] == "Write to [email], or to [email]; ends with [email]"
        assert SECRET.encode() not in answer.raw.lower()


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("seed", range(5))
async def test_tool_arguments_stay_json_and_show_no_value(path: str, seed: int) -> None:
    arguments = json.dumps({"to": SECRET, "cc": ["caf\u00e9", SECRET], "n": 1}).replace("@", "\\u0040")
    async with Harness({"pipeline": ["masks"]}, classes={"masks": Masks}) as gateway:
        gateway.upstream.stream(*tool_events(pieces(arguments, seed)))
        body = asked(path, "hi", stream=True, tools=[tool(path)])
        answer = await gateway.request(body, path=path)
        assert answer.status == 200
        found = json.loads(said(path, answer.events)[1])
        assert found == {"to": "[email]", "cc": ["café", "[email]"], "n": 1}
        assert b"acme.example" not in answer.raw


@pytest.mark.parametrize("path", CHATS)
async def test_a_whole_answer_becomes_the_same(path: str) -> None:
    async with Harness({"pipeline": ["masks"]}, classes={"masks": Masks}) as gateway:
        gateway.upstream.reply(
            {
                "id": "c", "object": "chat.completion", "created": 1, "model": "test-model",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"to {SECRET}"}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )  # fmt: skip
        answer = await gateway.request(asked(path, "hi"), path=path)
        assert answer.status == 200
        assert b"to [email]" in answer.raw
        assert SECRET.encode() not in answer.raw


async def test_text_that_is_held_when_a_stream_breaks_is_not_shown() -> None:
    async with Harness({"pipeline": ["masks"]}, classes={"masks": Masks}) as gateway:
        gateway.upstream.stream(*chat_events("to ", "ada@acme.exam", done=False)[:3])
        answer = await gateway.chat(stream=True)
        assert b"ada@" not in answer.raw
        assert answer.events[-1]["error"]


async def test_a_signed_text_with_a_value_in_it_ends_the_stream() -> None:
    thinking = [
        {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "test-model", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": piece}} for piece in ("to ada@ac", "me.example", " then")),
    ]  # fmt: skip
    from lmg.dialects.registry import DIALECTS

    dialect = DIALECTS[b"/v1/messages"]
    made = RedactingFilter(REDACTOR, lambda text: Deny(403, "signed_value"))
    said: list[Any] = []
    for value in thinking:
        event = dialect.make_event(value, "delta")
        said.append(made.feed(event))
        if any(delta.signed for delta in event.deltas):
            break
    assert any(delta.signed for value in thinking for delta in dialect.make_event(value, "delta").deltas)
    for value in thinking[3:]:
        said.append(made.feed(dialect.make_event(value, "delta")))
    assert any(isinstance(one, Deny) for one in said)


class Observes(Component):
    """Signals what it sees, as a guard does."""

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        class Filter(StreamFilter):
            def feed(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
                if event.deltas:
                    exchange.signal(Signal("seen", 1.0))
                return (event,)

            def finish(self) -> tuple[StreamEvent, ...]:
                exchange.signal(Signal("over", 1.0))
                return ()

        return Filter()


@pytest.mark.parametrize(("mode", "told"), [("enforce", {"seen", "over"}), ("shadow", set())])
async def test_what_a_filter_in_shadow_signals_only_shadows_see(mode: str, told: set[str]) -> None:
    async with Harness(
        {"pipeline": [{"observes": {"mode": mode}}]}, classes={"observes": Observes}
    ) as gateway:
        assert (await gateway.chat(stream=True)).status == 200
        exchange = await gateway.ended()
        assert {signal.name for signal in exchange.signals} == told
        exchange._reader_shadow = True
        assert {signal.name for signal in exchange.signals} == {"seen", "over"}
