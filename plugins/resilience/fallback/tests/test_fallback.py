"""Five targets, bursts of failures, and what clients and operators are told of them."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Attempt, Component, Exchange, Outcome, Target, UpstreamError
from lmg.jsontext import JsonText
from lmg.testing import Cut, Harness, check_component
from lmg_fallback import Fallback
from lmg_fallback.announce import MAX_BYTES, MAX_ENTRIES, listed

from .conftest import ERROR, TOO_LONG, Skips, calls, gateway_of, malformed, reset, status, tried

BURST = (status(500), status(502), status(503), status(529))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_of_five_answers(stream: bool) -> None:
    async with gateway_of("abcde") as gateway:
        for fails, upstream in zip(BURST, gateway.upstreams.values(), strict=False):
            fails(upstream)
        answer = await gateway.chat(stream=stream)
        assert (answer.status, answer.text) == (200, "Hello!")
        assert calls(gateway) == [1, 1, 1, 1, 1]
        assert await tried(gateway) == [
            ("a:test-model", "status"), ("b:test-model", "status"), ("c:test-model", "overloaded"), ("d:test-model", "overloaded"),
            ("e:test-model", "complete"),
        ]  # fmt: skip
        assert answer.headers["x-lmg-attempts"] == (
            "scripted/a:test-model;status;500, scripted/b:test-model;status;502, "
            "scripted/c:test-model;overloaded;503, scripted/d:test-model;overloaded;529"
        )


@pytest.mark.parametrize(
    "last", [status(429, retry_after="7"), status(503, retry_after="7"), status(529, retry_after="7")]
)
async def test_when_all_five_fail_the_last_failure_is_the_answer(last: Any) -> None:
    async with gateway_of("abcde") as gateway:
        for fails, upstream in zip((*BURST, last), gateway.upstreams.values(), strict=True):
            fails(upstream)
        answer = await gateway.chat()
        assert answer.status in (429, 503)
        assert answer.error["code"] == "some_code"
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-lmg-attempts"].count(", ") == 4
        assert calls(gateway) == [1, 1, 1, 1, 1]
        exchange = await gateway.ended()
        assert exchange.receipt is not None
        assert (exchange.receipt.attempts, exchange.receipt.ended) == (5, exchange.ended)


async def test_each_kind_of_failure_in_turn() -> None:
    async with gateway_of("abcde", below=(Skips,)) as gateway:
        reset(gateway.upstreams["b"])
        malformed(gateway.upstreams["c"])
        status(401)(gateway.upstreams["d"])
        answer = await gateway.chat()
        assert answer.status == 200
        assert answer.headers["x-lmg-attempts"] == (
            "scripted/a:test-model;skipped, scripted/b:test-model;closed, scripted/c:test-model;protocol, "
            "scripted/d:test-model;credential;401"
        )
        assert calls(gateway) == [0, 1, 1, 1, 1]
        assert [outcome for _, outcome in await tried(gateway)] == [
            "open", "closed", "protocol", "credential", "complete",
        ]  # fmt: skip


async def test_a_callers_own_400_in_the_middle_ends_the_walk() -> None:
    async with gateway_of("abcde") as gateway:
        status(503)(gateway.upstreams["a"])
        status(400)(gateway.upstreams["b"])
        answer = await gateway.chat()
        assert (answer.status, answer.error["message"]) == (400, "It failed.")
        assert calls(gateway) == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("order", list(itertools.permutations("abc", 2)))
async def test_two_of_three_may_fail_in_any_order(order: tuple[str, str]) -> None:
    async with gateway_of("abc") as gateway:
        for name in order:
            reset(gateway.upstreams[name])
        assert (await gateway.chat()).status == 200


async def test_each_attempt_starts_from_the_clients_request() -> None:
    async with gateway_of("ab", upstreams={"a": {"model_map": {"test-model": "a-name"}}}) as gateway:
        status(500)(gateway.upstreams["a"])
        await gateway.chat("hello", temperature=0.5)
        first, second = (gateway.upstreams[name].received[0].json for name in "ab")
        assert first == {**second, "model": "a-name"}
        assert second["model"] == "test-model"


async def test_a_failure_before_anybody_answers_costs_only_what_the_answer_used() -> None:
    async with gateway_of("ab") as gateway:
        gateway.upstreams["a"].raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", Cut("rst")
        )
        await gateway.chat()
        receipt = (await gateway.ended()).receipt
        assert receipt is not None
        assert (receipt.provider, receipt.input_tokens, receipt.output_tokens) == ("scripted/b", 5, 2)


async def test_a_fork_is_for_one_target() -> None:
    class Judge(Component):
        requires = {"on_request": ("body",)}

        async def on_request(self, exchange: Exchange) -> None:
            try:
                await exchange.fork(exchange.candidates[0], "judge")
            except Exception:  # noqa: BLE001 - the judge is down
                return

    async with gateway_of("ab", above=(Judge,)) as gateway:
        status(503)(gateway.upstreams["a"])
        await gateway.chat()
        assert calls(gateway) == [2, 1]


async def test_another_dialects_request_falls_back_too() -> None:
    body = {"model": "test-model", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    async with gateway_of("ab") as gateway:
        status(529)(gateway.upstreams["a"])
        answer = await gateway.request(body, path="/v1/messages")
        assert (answer.status, answer.json["content"][0]["text"]) == (200, "Hello!")
        status(503)(gateway.upstreams["b"])
        answer = await gateway.request(body, path="/v1/messages")
        assert (answer.status, answer.json["type"]) == (503, "error")
        assert answer.headers["x-lmg-attempts"].count("overloaded") == 2


# What is told


async def test_an_answer_without_a_failure_tells_of_none() -> None:
    async with gateway_of("ab") as gateway:
        assert "x-lmg-attempts" not in (await gateway.chat()).headers


async def test_the_header_can_be_switched_off() -> None:
    async with gateway_of("ab", {"announce": False}) as gateway:
        status(503)(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert answer.status == 200
        assert "x-lmg-attempts" not in answer.headers


async def test_a_failure_that_does_not_move_on_is_announced_too() -> None:
    async with gateway_of("ab") as gateway:
        status(422)(gateway.upstreams["a"])
        answer = await gateway.chat(stream=True)
        assert answer.headers["x-lmg-attempts"] == "scripted/a:test-model;bad_request;422"


async def test_a_model_that_a_caller_made_up_cannot_break_the_header_or_name_a_series() -> None:
    given = {"a": {"models": ["*"]}, "b": {"models": ["known"], "fallback": True}}
    async with gateway_of("ab", upstreams=given) as gateway:
        gateway.host.metrics.enabled = True
        status(503)(gateway.upstreams["a"])
        answer = await gateway.chat(model="evil\r\nset-cookie: x=1;, ünd")
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-lmg-attempts"] == "scripted/a:evil??set-cookie:?x=1????nd;overloaded;503"
        await gateway.ended()
        assert moved(gateway) == {("scripted/a:*", "scripted/b:known", "overloaded"): 1}


def attempt(n: int, provider: str, model: str, outcome: Outcome | None) -> Attempt:
    made = Attempt(Target(provider, model, model), n, JsonText.of({}), 0.0, 1.0)
    made.outcome = outcome
    return made


@given(
    st.lists(
        st.tuples(
            st.text(max_size=400),
            st.text(max_size=400),
            st.sampled_from([
                None, Outcome("skipped", skip_reason="open"), Outcome("failed", UpstreamError("status", "rate_limited"), 429),
                Outcome("failed", UpstreamError("answer", "closed")),
            ]),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_the_header_is_bounded_and_plain_whatever_the_names(
    rows: list[tuple[str, str, Outcome | None]],
) -> None:
    line = listed([attempt(n, *row) for n, row in enumerate(rows, 1)])
    assert len(line) <= MAX_BYTES
    entries = line.decode("ascii").split(", ") if line else []
    assert len(entries) <= MAX_ENTRIES
    for entry in entries:
        assert re.fullmatch(r"[!-~]*;[a-z_]+(;\d{3})?", entry)


def moved(gateway: Harness) -> dict[tuple[str, ...], float]:
    family = next(f for f in gateway.host.metrics.families() if f.name == "llm_fallback_total")
    return dict(family.series)  # type: ignore[attr-defined]


async def test_moves_are_counted_when_they_are_made() -> None:
    mesh = {"server": {"max_attempts": 2}}
    async with gateway_of("abc", mesh=mesh) as gateway:
        gateway.host.metrics.enabled = True
        for upstream in gateway.upstreams.values():
            status(429)(upstream)
        await gateway.chat()
        await gateway.ended()
        # The third target is past the ceiling of attempts: nobody moved there.
        assert moved(gateway) == {("scripted/a:test-model", "scripted/b:test-model", "rate_limited"): 1}


async def test_in_shadow_nothing_moves_and_nothing_is_counted() -> None:
    settings = {"mode": "shadow", "context_length": {"*": ["test-model"]}}
    async with gateway_of("ab", settings) as gateway:
        gateway.host.metrics.enabled = True
        status(429)(gateway.upstreams["a"])
        answer = await gateway.chat()
        assert answer.status == 429
        assert "x-lmg-attempts" not in answer.headers
        assert calls(gateway) == [1, 0]
        exchange = await gateway.ended()
        assert ("fallback", "on_failure", "Next; reply, slot") in exchange.shadowed
        assert moved(gateway) == {}


async def test_it_passes_the_checks_that_every_component_passes() -> None:
    settings = {
        "chains": {"*": ["test-model"]},
        "context_length": {"*": ["test-model"]},
        "chains_first": True,
        "on": {"timeout": False},
    }
    await check_component(lambda: (Fallback, settings))


async def test_its_own_failure_leaves_the_exchange_as_it_was() -> None:
    class Broken(Fallback):
        def on_failure(self, exchange: Exchange, failure: object) -> None:
            raise RuntimeError

    async with gateway_of("ab", classes={"fallback": Broken}) as gateway:
        gateway.upstreams["a"].reply(TOO_LONG, status=400)
        assert (await gateway.chat()).status == 400
        gateway.upstreams["a"].reply(ERROR, status=503)
        assert (await gateway.chat()).status == 503
