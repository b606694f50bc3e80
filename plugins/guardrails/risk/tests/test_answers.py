"""Answers, streamed and whole: what the guards signal about them is judged last, with the answer's own thresholds."""

from __future__ import annotations

import pytest

from lmg.testing import Harness, chat_body, chat_events

from .conftest import CLASSES, harness


def replies(gateway: Harness, *texts: str, stream: bool) -> None:
    if stream:
        gateway.upstream.stream(*chat_events(*texts))
    else:
        gateway.upstream.reply(chat_body("".join(texts)))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_signalled_is_withheld(stream: bool) -> None:
    async with harness(answers={}) as gateway:
        replies(gateway, "!canary=1 the prompt", stream=stream)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.error["code"]) == (403, "risk_blocked")
        assert b"the prompt" not in answer.raw
        assert len(gateway.upstream.received) == 1


async def test_a_stream_that_has_begun_ends_in_an_error_and_without_the_text() -> None:
    async with harness(answers={}) as gateway:
        replies(gateway, "All is well. ", "!canary=1 the prompt", " and more", stream=True)
        answer = await gateway.chat(stream=True)
        assert answer.status == 200
        assert answer.error["code"] == "risk_blocked"
        assert "[DONE]" not in answer.events
        assert b"the prompt" not in answer.raw
        assert b"and more" not in answer.raw


async def test_what_a_guard_says_at_the_very_end_counts_too() -> None:
    async with harness(answers={}) as gateway:
        replies(gateway, "one ", "!late=0.9", stream=True)
        answer = await gateway.chat(stream=True)
        assert answer.error["code"] == "risk_blocked"
        assert "[DONE]" not in answer.events


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_have_thresholds_of_their_own(stream: bool) -> None:
    async with harness(
        answers={"thresholds": [{"directions": ["output"], "block_above": 0.8}], "flag_above": 0.3}
    ) as gateway:
        replies(gateway, "!toxic=0.7", stream=stream)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.error) == (200, None)
        assert answer.headers["x-lmg-risk"] == "flag"
        replies(gateway, "!toxic=0.7 ", "!toxic=0.7", stream=stream)
        answer = await gateway.chat(stream=stream)
        assert answer.error["code"] == "risk_blocked", "two signals together"


async def test_after_commit_there_is_no_header_and_no_failure() -> None:
    async with harness(answers={"flag_above": 0.3}) as gateway:
        gateway.host.metrics.enabled = True
        replies(gateway, "one ", "!toxic=0.4", stream=True)
        answer = await gateway.chat(stream=True)
        assert (answer.status, answer.error) == (200, None)
        assert "x-lmg-risk" not in answer.headers
        assert gateway.host.component_errors.series == {}
        series = next(
            f for f in gateway.host.metrics.families() if f.name == "llm_risk_decisions_total"
        ).series
        assert series == {("risk/out", "flag"): 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_judged_with_the_request_is_not_judged_again(stream: bool) -> None:
    async with harness({"block_above": 0.9}, answers={}) as gateway:
        replies(gateway, "fine", stream=stream)
        assert (await gateway.chat("!injection=0.8", stream=stream)).error is None


@pytest.mark.parametrize("stream", [False, True])
async def test_where_nobody_judges_requests_the_answer_is_judged_with_all(stream: bool) -> None:
    mesh = {"pipeline": ["users", {"risk": {"reviews": "answer"}}, "guard"]}
    async with Harness(mesh, classes=CLASSES) as gateway:
        replies(gateway, "fine", stream=stream)
        assert (await gateway.chat("!injection=0.8", stream=stream)).error["code"] == "risk_blocked"


@pytest.mark.parametrize("stream", [False, True])
async def test_there_too_answers_have_their_own_thresholds(stream: bool) -> None:
    mesh = {
        "pipeline": [
            "users",
            {"risk": {"reviews": "answer", "thresholds": [{"directions": ["output"], "block_above": 0.9}]}},
            "guard",
        ]
    }
    async with Harness(mesh, classes=CLASSES) as gateway:
        replies(gateway, "!toxic=0.8", stream=stream)
        assert (await gateway.chat(stream=stream)).error is None
        replies(gateway, "!toxic=0.95", stream=stream)
        assert (await gateway.chat(stream=stream)).error["code"] == "risk_blocked"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_guard_in_shadow_withholds_no_answer(stream: bool) -> None:
    mesh = {"pipeline": ["users", {"risk/out": {"reviews": "answer"}}, {"guard": {"mode": "shadow"}}]}
    async with Harness(mesh, classes=CLASSES) as gateway:
        replies(gateway, "!canary=1", stream=stream)
        assert (await gateway.chat(stream=stream)).error is None


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_in_shadow_pass_unchanged(stream: bool) -> None:
    async with harness(answers={"mode": "shadow", "flag_above": 0.1}) as gateway:
        replies(gateway, "!canary=1", stream=stream)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.error) == (200, None)
        assert "x-lmg-risk" not in answer.headers
        assert any(
            "risk_blocked" in what for name, _, what in (await gateway.ended()).shadowed if name == "risk/out"
        )
