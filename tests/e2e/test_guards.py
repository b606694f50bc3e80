"""The guards in one pipeline: what goes out is masked, what comes back is restored, and one score decides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmg.testing import Harness, chat_events

CARD = "4111 1111 1111 1111"
TOKEN = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
PIPELINE: list[Any] = [
    {"risk/out": {"reviews": "answer"}},
    {"pii_filter": {"entities": ["email", "card"], "reversible": True, "uninspected": "allow"}},
    {"dlp": {"uninspected": "allow"}},
    {"risk/in": {"flag_above": 0.01}},
]


def sent(gateway: Harness) -> str:
    body = json.loads(gateway.upstream.received[-1].body)
    return str(body["messages"][0]["content"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_with_personal_data_goes_out_masked_and_comes_back_restored(stream: bool) -> None:
    async with Harness({"pipeline": PIPELINE}) as gateway:
        text = f"Mail ada@acme.example about the card {CARD}."
        first = await gateway.chat(text, stream=stream)
        assert first.status == 200
        masked = sent(gateway)
        assert "ada@acme.example" not in masked and CARD not in masked
        mail, card = masked.split()[1], masked.removesuffix(".").split()[-1]
        if stream:
            said = f"I will write to {mail} about {card}"
            gateway.upstream.stream(*chat_events(*said))  # one character at a time
        else:
            gateway.upstream.reply(
                {
                    "id": "c", "object": "chat.completion", "created": 1, "model": "test-model",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"I will write to {mail} about {card}"}}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
            )  # fmt: skip
        answer = await gateway.chat(text, stream=stream)
        assert answer.text == f"I will write to ada@acme.example about {CARD}"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_secret_in_a_prompt_does_not_leave_and_raises_the_score(stream: bool) -> None:
    async with Harness({"pipeline": PIPELINE}) as gateway:
        answer = await gateway.chat(f"Deploy with {TOKEN} please", stream=stream)
        assert answer.status == 200
        assert TOKEN not in sent(gateway)
        assert "x-lmg-risk" in answer.headers
        exchange = await gateway.ended()
        assert exchange.fact("risk") > 0
        assert {signal.name for signal in exchange.signals} >= {"dlp"}


@pytest.mark.parametrize("stream", [False, True])
async def test_in_shadow_they_change_nothing_and_tell_what_they_would_have_done(stream: bool) -> None:
    shadows = [{name: {**settings, "mode": "shadow"}} for item in PIPELINE for name, settings in item.items()]
    async with Harness({"pipeline": shadows}) as gateway:
        text = f"Mail ada@acme.example with {TOKEN}"
        answer = await gateway.chat(text, stream=stream)
        assert (answer.status, sent(gateway)) == (200, text)
        assert "x-lmg-risk" not in answer.headers
        exchange = await gateway.ended()
        assert {name for name, _, _ in exchange.shadowed} >= {"pii_filter", "dlp"}
        assert exchange.signals == ()


async def test_a_policy_has_a_guard_redact_that_would_only_have_told() -> None:
    from lmg import Component, Exchange

    class Obliges(Component):
        requires = {"on_request": ("body",)}

        def on_request(self, exchange: Exchange) -> None:
            exchange.oblige(self, "redact:email")

    pipeline: list[Any] = ["obliges", {"pii_filter": {"entities": {"email": "tag"}}}]
    async with Harness({"pipeline": pipeline}, classes={"obliges": Obliges}) as gateway:
        assert (await gateway.chat("Mail ada@acme.example")).status == 200
        assert "ada@acme.example" not in sent(gateway)
