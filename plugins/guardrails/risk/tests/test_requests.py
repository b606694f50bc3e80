"""Requests through a running gateway: every action, per tenant and direction; what was refused called nobody."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from lmg import Component, Deny, Exchange, Finding, Later, Signal
from lmg.errors import OrderError
from lmg.testing import Harness

from .conftest import CLASSES, harness, user


class Reader(Component):
    """What a policy further down reads."""

    requires: ClassVar[Any] = {"on_request": ("risk", "risk_reasons")}

    def on_request(self, exchange: Exchange) -> Deny | None:
        exchange.reply_header(
            b"x-seen", f"{exchange.fact('risk')} {','.join(exchange.fact('risk_reasons'))}".encode()
        )
        return Deny(403, "policy") if exchange.fact("risk") > 0.3 else None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_without_signals_passes(stream: bool) -> None:
    async with harness({"flag_above": 0.0, "approval_above": 0.1}) as gateway:
        answer = await gateway.chat("hello", stream=stream)
        assert answer.status == 200
        assert "x-lmg-risk" not in answer.headers
        assert len(gateway.upstream.received) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_above_the_threshold_it_is_blocked_and_nobody_is_called(stream: bool) -> None:
    async with harness() as gateway:
        answer = await gateway.chat("!injection=0.6 secret words", stream=stream)
        assert (answer.status, answer.error["code"]) == (403, "risk_blocked")
        assert answer.headers["x-should-retry"] == "false"
        assert b"secret words" not in answer.raw
        assert b"injection" not in answer.raw
        assert gateway.upstream.received == []
        assert (await gateway.chat("!injection=0.5")).status == 200


async def test_a_certain_injection_blocks_alone_whatever_its_weight() -> None:
    class Light(Component):
        provides: ClassVar[Any] = {"on_request": ("signals",)}

        def on_request(self, exchange: Exchange) -> None:
            exchange.signal(Signal("injection", float((exchange.head.get(b"x-p") or b"0").decode()), 0.1))

    async with harness(classes={"guard": Light}) as gateway:
        assert (await gateway.chat(headers={"x-p": "0.98"})).status == 200
        assert (await gateway.chat(headers={"x-p": "0.99"})).status == 403


async def test_it_is_flagged_by_its_level_or_its_score() -> None:
    async with harness({"flag_above": 0.2}) as gateway:
        answer = await gateway.chat("!injection=0.3")
        assert (answer.status, answer.headers["x-lmg-risk"]) == (200, "flag")
        refused = await gateway.chat("!injection=0.7")
        assert (refused.status, refused.headers["x-lmg-risk"]) == (403, "block")
        assert "x-lmg-risk" not in (await gateway.chat("!injection=0.2")).headers
    async with harness({"flag_above": 0.2, "flag_shows": "score"}) as gateway:
        assert (await gateway.chat("!injection=0.3")).headers["x-lmg-risk"] == "0.30"


async def test_what_stands_below_is_obliged_to_redact() -> None:
    settings = {"redact_above": 0.2, "redact": ["email"]}
    async with harness(settings, below=["redactor"]) as gateway:
        assert (await gateway.chat("!injection=0.3 bob@example.com")).status == 200
        assert (await gateway.chat("!injection=0.1 bob@example.com")).status == 200
        first, second = (one.body for one in gateway.upstream.received)
        assert b"bob@example.com" not in first
        assert b"[email]" in first
        assert b"bob@example.com" in second


async def test_a_guard_that_signals_may_be_the_one_that_redacts() -> None:
    settings = {"redact_above": 0.2, "redact": ["email"]}
    async with harness(settings, below=["guard/again"]) as gateway:
        assert (await gateway.chat("!injection=0.3")).status == 200


async def test_where_nobody_can_redact_the_request_goes_nowhere() -> None:
    async with harness({"redact_above": 0.2, "redact": ["email"]}) as gateway:
        answer = await gateway.chat("!injection=0.3 bob@example.com")
        assert (answer.status, answer.error["code"]) == (403, "obligation_unmet")
        assert gateway.upstream.received == []


async def test_each_tenant_and_direction_has_its_own_threshold() -> None:
    settings = {"thresholds": [
        {"tenants": ["bank-*"], "block_above": 0.1},
        {"tenants": ["lab"], "block_above": None},
        {"directions": ["tool"], "block_above": 0.2},
    ]}  # fmt: skip
    tool = {"messages": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "!injection=0.3"},
    ]}  # fmt: skip
    async with harness(settings) as gateway:
        assert (await gateway.chat("!injection=0.3")).status == 200
        assert (await gateway.chat(**tool)).status == 403
        assert (await gateway.chat("!injection=0.3", headers=user("bank-one/bob"))).status == 403
        assert (await gateway.chat("!injection=0.9", headers=user("lab/bob"))).status == 200
        assert (await gateway.chat(**tool, headers=user("lab/bob"))).status == 200
        assert len(gateway.upstream.received) == 3


async def test_the_documented_sum() -> None:
    async with harness({"score": "additive", "flag_above": 0.0, "flag_shows": "score"}) as gateway:

        async def score(text: str, **more: Any) -> tuple[int, str | None]:
            answer = await gateway.chat(text, **more)
            return answer.status, answer.headers.get("x-lmg-risk")

        assert await score("hello") == (200, None)
        assert await score("!jailbreak=1") == (200, "0.40")
        assert await score("hello", max_tokens=10_000) == (200, None)
        assert await score("hello", max_tokens=10_001) == (200, "0.10")
        assert await score("!jailbreak=1", max_completion_tokens=20_000) == (200, "0.50")
        assert await score("!jailbreak=1 !tool_frequency=1") == (403, "0.60")
        assert await score("!jailbreak=1 !pii.email=1") == (403, "0.70")
        assert await score("!pii.email=1 !tool_frequency=1") == (200, "0.50")


async def test_policies_read_the_score_and_its_reasons() -> None:
    async with harness(below=["reader"], classes={"reader": Reader}) as gateway:
        assert (await gateway.chat("hello")).headers["x-seen"] == "0.0"
        answer = await gateway.chat("!injection=0.2 !pii.email=0.1")
        assert (answer.status, answer.headers["x-seen"]) == (200, "0.28 injection,pii.email")
        answer = await gateway.chat("!injection=0.4")
        assert (answer.status, answer.error["code"]) == (403, "policy")


async def test_the_receipt_tells_the_score_and_why() -> None:
    async with harness() as gateway:
        await gateway.chat("!injection=0.4 !pii.email=0.1")
        tags = (await gateway.ended()).tags
        assert tags == {"risk": "0.460", "risk_reasons": "injection,pii.email"}


async def test_what_a_check_finds_while_others_run_counts() -> None:
    class Slowly(Component):
        provides: ClassVar[Any] = {"on_request": ("signals",)}

        def on_request(self, exchange: Exchange) -> Later:
            async def check() -> Finding:
                return Finding(signals=[Signal("injection", 0.9)])

            return Later(check())

    async with harness(classes={"guard": Slowly}) as gateway:
        assert (await gateway.chat()).status == 403
        assert gateway.upstream.received == []


async def test_every_dialect_is_refused_in_its_own_words() -> None:
    body = {
        "model": "test-model",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "!injection=0.9"}],
    }
    async with harness() as gateway:
        answer = await gateway.request(body, path="/v1/messages", headers={"anthropic-version": "2023-06-01"})
        assert answer.status == 403
        assert answer.json["type"] == "error"
        embedded = await gateway.request(
            {"model": "test-model", "input": "!injection=0.9"}, path="/v1/embeddings"
        )
        assert (embedded.status, embedded.error["code"]) == (403, "risk_blocked")
        assert gateway.upstream.received == []


async def test_shadow_lets_everything_pass_and_tells_what_would_have_been() -> None:
    async with harness({"mode": "shadow", "flag_above": 0.1}) as gateway:
        answer = await gateway.chat("!injection=0.9")
        assert answer.status == 200
        assert "x-lmg-risk" not in answer.headers
        assert ("risk/in", "on_request", "Deny(risk_blocked); fact, reply, tags") in (
            await gateway.ended()
        ).shadowed


async def test_a_shadow_guards_signals_do_not_count() -> None:
    mesh = {"pipeline": ["users", {"guard": {"mode": "shadow"}}, "risk"]}
    async with Harness(mesh, classes=CLASSES) as gateway:
        assert (await gateway.chat("!injection=0.9")).status == 200


async def test_it_must_stand_below_the_guards_that_signal() -> None:
    with pytest.raises(OrderError, match="'guard' must stand above 'risk'"):
        async with Harness({"pipeline": ["users", "risk", "guard"]}, classes=CLASSES):
            pass
    with pytest.raises(OrderError, match="'risk/out' must stand above 'guard'"):
        mesh = {"pipeline": ["users", "guard", {"risk/out": {"reviews": "answer"}}]}
        async with Harness(mesh, classes=CLASSES):
            pass


async def test_scores_and_decisions_are_counted_without_what_callers_choose() -> None:
    async with harness() as gateway:
        gateway.host.metrics.enabled = True
        for text in ("hello", "!injection=0.4", "!injection=0.9", "!a.b=0.1"):
            await gateway.chat(text)
        families = {family.name: family for family in gateway.host.metrics.families()}
        assert families["llm_risk_decisions_total"].series == {("risk/in", "log"): 2, ("risk/in", "block"): 1}
        assert sum(families["llm_risk_score"].series["risk/in",][:-1]) == 4


async def test_no_text_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with harness() as gateway:
        await gateway.chat("!injection=0.9 my private words")
    assert "risk_scored" in caplog.text
    assert "private words" not in caplog.text
