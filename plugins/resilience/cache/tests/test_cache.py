"""`cache` in a running gateway: what is given again, to whom, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmg.testing import VirtualClock, chat_body, chat_events

from .conftest import (
    CHAT,
    CUT,
    MESSAGES,
    RESPONSES,
    Spoken,
    cached,
    calls,
    control,
    every_dialect,
    gateway_of,
    messages_events,
    of,
    responses_events,
    said,
    told,
)

# -- hits -----------------------------------------------------------------------------------------


async def test_the_same_request_again_gets_the_same_bytes_without_a_call() -> None:
    async with gateway_of(cached()) as gateway:
        first, again = await gateway.chat("hello"), await gateway.chat("hello")
        assert (said(first), said(again), again.headers["age"]) == ("miss", "hit", "0")
        assert again.raw == first.raw and again.headers["content-type"] == first.headers["content-type"]
        assert calls(gateway) == 1


async def test_another_request_is_another_call() -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello")
        assert said(await gateway.chat("hello!")) == "miss"
        assert calls(gateway) == 2


async def test_a_hit_uses_nothing_and_has_a_receipt_of_its_own() -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello")
        await gateway.chat("hello")
        await gateway.ended(2)
        first, again = gateway.receipts
        assert (first.input_tokens, first.output_tokens, first.attempts) == (5, 2, 1)
        assert (again.input_tokens, again.output_tokens, again.attempts) == (0, 0, 0)
        assert len(await gateway.host.ledger.recent()) == 2


@every_dialect
async def test_a_stream_is_told_from_a_whole_answer(spoken: Spoken) -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply(spoken.body("Good morning"))
        whole = await spoken.request(gateway)
        streamed = await spoken.request(gateway, stream=True)
        assert (said(whole), said(streamed), calls(gateway)) == ("miss", "hit", 1)
        assert streamed.headers["content-type"].startswith("text/event-stream") and not streamed.broken
        assert spoken.text(streamed) == spoken.text(whole) == "Good morning"
        assert spoken.usage(streamed) == spoken.usage(whole) == (5, 2)


@every_dialect
async def test_a_whole_answer_is_told_from_a_stream(spoken: Spoken) -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.stream(*spoken.events("Good ", "mor", "ning"))
        streamed = await spoken.request(gateway, stream=True)
        whole = await spoken.request(gateway)
        again = await spoken.request(gateway, stream=True)
        assert (said(streamed), said(whole), said(again), calls(gateway)) == ("miss", "hit", "hit", 1)
        assert spoken.text(whole) == spoken.text(streamed) == spoken.text(again) == "Good morning"
        assert spoken.usage(whole) == spoken.usage(streamed) == spoken.usage(again) == (5, 2)


@every_dialect
async def test_listening_changes_no_byte_of_a_stream(spoken: Spoken) -> None:
    answers = []
    for mesh in (cached(), {"pipeline": ["who"]}):
        async with gateway_of(mesh) as gateway:
            gateway.upstream.stream(*spoken.events("Good ", "mor", "ning"))
            answers.append((await spoken.request(gateway, stream=True)).raw)
    assert answers[0] == answers[1]


async def test_embeddings_are_kept() -> None:
    async with gateway_of(cached()) as gateway:
        ask = {"model": "test-model", "input": "hello"}
        answers = [await gateway.request(ask, path="/v1/embeddings") for _ in range(2)]
        assert [said(one) for one in answers] == ["miss", "hit"] and answers[0].raw == answers[1].raw


async def test_an_answer_grows_old_and_is_asked_for_anew() -> None:
    clock = VirtualClock()
    async with gateway_of(cached(routes=[{"model": "*", "ttl_s": 60}]), clock=clock) as gateway:
        await gateway.chat("hello")
        await clock.advance(59)
        assert (await gateway.chat("hello")).headers["age"] == "59"
        await clock.advance(1)
        assert said(await gateway.chat("hello")) == "miss"
        assert calls(gateway) == 2


# -- who shares -----------------------------------------------------------------------------------


async def test_tenants_do_not_share() -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello", headers=of("acme"))
        assert said(await gateway.chat("hello", headers=of("rival"))) == "miss"
        assert said(await gateway.chat("hello", headers=of("acme", user="other"))) == "hit"
        assert calls(gateway) == 2


async def test_scope_principal_keeps_callers_apart() -> None:
    async with gateway_of(cached(scope="principal")) as gateway:
        await gateway.chat("hello", headers=of("acme", user="a"))
        assert said(await gateway.chat("hello", headers=of("acme", user="b"))) == "miss"
        assert said(await gateway.chat("hello", headers=of("acme", user="a"))) == "hit"


async def test_roles_and_bounds_are_part_of_what_is_asked() -> None:
    async with gateway_of(cached("within")) as gateway:
        for headers in (of("acme"), of("acme", roles="auditor"), of("acme", region="eu")):
            assert said(await gateway.chat("hello", headers=headers)) == "miss"
            assert said(await gateway.chat("hello", headers=headers)) == "hit"
        assert calls(gateway) == 3


async def test_a_header_that_travels_on_is_part_of_what_is_asked() -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello", headers={"x-variant": "a"})
        assert said(await gateway.chat("hello", headers={"x-variant": "b"})) == "miss"
        assert said(await gateway.chat("hello", headers={"x-variant": "a"})) == "hit"


async def test_who_may_not_use_the_model_is_refused_though_an_answer_is_kept() -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello")
        refused = await gateway.chat("hello", headers=of("acme", models="other-model"))
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert said(await gateway.chat("hello", headers=of("acme", models="test-model"))) == "hit"


async def test_a_reload_that_changes_the_gateway_forgets_what_it_answered() -> None:
    async with gateway_of(cached("within")) as gateway:
        await gateway.chat("hello")
        assert await gateway.reload({**cached("within"), "server": {"deadline_s": 60}})
        assert said(await gateway.chat("hello")) == "hit"  # nothing that an answer depends on
        assert await gateway.reload(cached("within", "mask"))
        assert said(await gateway.chat("hello")) == "miss"


# -- guards above ---------------------------------------------------------------------------------


@every_dialect
@pytest.mark.parametrize("filled", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("asked", [False, True], ids=["whole", "streamed"])
async def test_a_hit_is_unmasked_for_its_own_caller(spoken: Spoken, filled: bool, asked: bool) -> None:
    """The model sees a mask, the cache keys and keeps it, and each caller reads the name that it wrote itself."""
    async with gateway_of(cached("mask")) as gateway:
        if filled:
            gateway.upstream.stream(*spoken.events("Hello ", "<NAME>"))
        else:
            gateway.upstream.reply(spoken.body("Hello <NAME>"))
        member = next(iter(spoken.ask))
        for n, (name, stream) in enumerate([("Ada", filled), ("Bob", asked)]):
            text = f"I am {name}"
            wording: Any = text if member == "input" else [{"role": "user", "content": text}]
            answer = await spoken.request(
                gateway, stream=stream, headers={"x-name": name}, **{member: wording}
            )
            assert said(answer) == ("hit" if n else "miss")
            assert spoken.text(answer) == f"Hello {name}"
        assert calls(gateway) == 1
        (call,) = gateway.upstream.received
        assert b"Ada" not in call.body and b"<NAME>" in call.body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_hit_is_reviewed_by_the_guards_above(stream: bool) -> None:
    async with gateway_of(cached("forbid")) as gateway:
        gateway.upstream.reply(chat_body("the launch code"))
        assert (await gateway.chat("hello")).status == 200
        withheld = await gateway.chat("hello", stream=stream, headers={"x-forbid": "launch"})
        assert (withheld.status, withheld.error["code"]) == (403, "withheld")
        assert calls(gateway) == 1


# -- routes ---------------------------------------------------------------------------------------


async def test_nothing_is_kept_without_a_route() -> None:
    async with gateway_of({"pipeline": ["who", "cache"]}) as gateway:
        assert [said(await gateway.chat("hello")) for _ in range(2)] == ["bypass", "bypass"]
        assert calls(gateway) == 2


async def test_the_first_route_that_matches_decides() -> None:
    routes = [
        {"model": "test-*", "operation": ["embeddings"]},
        {"model": "test-*", "operation": ["chat"], "ttl_s": 10},
        {"model": "*"},
    ]
    clock = VirtualClock()
    async with gateway_of(cached(routes=routes), models=["test-model", "else"], clock=clock) as gateway:
        await gateway.chat("hello")
        await gateway.chat("hello", model="else")
        await clock.advance(11)
        assert said(await gateway.chat("hello")) == "miss"
        assert said(await gateway.chat("hello", model="else")) == "hit"


@pytest.mark.parametrize(
    ("temperature", "kept"),
    [(0, True), (0.0, True), (0.1, False), (None, False), (False, False), ("0", False)],
)
async def test_when_temperature_zero_wants_it_stated(temperature: Any, kept: bool) -> None:
    more = {} if temperature is None else {"temperature": temperature}
    async with gateway_of(cached(routes=[{"model": "*", "when_temperature": "zero"}])) as gateway:
        answers = [await gateway.chat("hello", **more) for _ in range(2)]
        assert [said(one) for one in answers] == (["miss", "hit"] if kept else ["bypass", "bypass"])


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = {
    "index": 0,
    "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "finish_reason": "tool_calls",
}
FILTERED = CUT | {"finish_reason": "content_filter"}
EMPTY = CUT | {"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("choice", "allowing"),
    [(TOOLS, {"tool_calls": True}), (CUT, {"truncated": True}), (FILTERED, None), (EMPTY, None)],
    ids=["tool_calls", "length", "content_filter", "empty"],
)
async def test_some_answers_are_kept_only_where_a_route_says_so(
    choice: Any, allowing: dict[str, bool] | None
) -> None:
    everything = {"tool_calls": True, "truncated": True}
    for more, kept in (({}, False), (everything if allowing is None else allowing, allowing is not None)):
        async with gateway_of(cached(routes=[{"model": "*", **more}])) as gateway:
            gateway.upstream.reply(chat_body(choices=[choice]))
            answers = [await gateway.chat("hello") for _ in range(2)]
            assert [said(one) for one in answers] == ["miss", "hit" if kept else "miss"], more


HOSTED = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
SEARCHED = {
    "type": "web_search_call",
    "id": "w",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}


@pytest.mark.parametrize(
    ("spoken", "body"),
    [
        (MESSAGES, MESSAGES.body(content=[HOSTED, {"type": "text", "text": "found"}])),
        (RESPONSES, RESPONSES.body(output=[SEARCHED, *RESPONSES.body()["output"]])),
        (MESSAGES, MESSAGES.body(stop_reason="max_tokens")),
        (MESSAGES, MESSAGES.body(stop_reason="pause_turn")),
        (MESSAGES, MESSAGES.body(stop_reason="refusal")),
        (RESPONSES, RESPONSES.body(status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
    ],
    ids=["hosted-messages", "hosted-responses", "max_tokens", "pause_turn", "refusal", "incomplete"],
)
async def test_what_other_dialects_call_it_is_not_kept_either(spoken: Spoken, body: dict[str, Any]) -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply(body)
        assert [said(await spoken.request(gateway)) for _ in range(2)] == ["miss", "miss"]


async def test_a_refusal_in_words_is_an_answer() -> None:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "refusal": "I will not."},
        "finish_reason": "stop",
    }
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply(chat_body(choices=[choice]))
        assert [said(await gateway.chat("hello")) for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize(("status", "seen"), [(400, 400), (429, 429), (500, 502), (503, 503)])
async def test_errors_are_never_kept(status: int, seen: int) -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply({"error": {"message": "no"}}, status=status)
        assert (await gateway.chat("hello")).status == seen
        gateway.upstream.reply(chat_body())
        answer = await gateway.chat("hello")
        assert (answer.status, said(answer)) == (200, "miss")


async def test_an_answer_beyond_the_bound_is_not_kept() -> None:
    async with gateway_of(cached(max_entry_bytes=2048)) as gateway:
        gateway.upstream.reply(chat_body("x" * 3000))
        assert [said(await gateway.chat("hello")) for _ in range(2)] == ["miss", "miss"]
        gateway.upstream.stream(*chat_events(*["x" * 100] * 30))
        assert [said(await gateway.chat("hello", stream=True)) for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize("member", ["previous_response_id", "conversation", "prompt", "background"])
async def test_what_depends_on_a_providers_state_is_not_kept(member: str) -> None:
    value: Any = True if member == "background" else {"id": "x"} if member == "prompt" else "x_1"
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply(RESPONSES.body())
        answers = [await RESPONSES.request(gateway, **{member: value}) for _ in range(2)]
        assert [said(one) for one in answers] == ["bypass", "bypass"]


# -- streams that are not what they seem ----------------------------------------------------------


@every_dialect
@pytest.mark.parametrize("hide", [False, True], ids=["usage", "no-usage"])
async def test_a_broken_stream_is_never_kept(spoken: Spoken, hide: bool) -> None:
    for events in (spoken.events("Good ", "mor", done=False), spoken.events("Good ", "mor")[:3]):
        async with gateway_of(cached()) as gateway:
            gateway.upstream.stream(*events)
            more = {"stream_options": {"include_usage": not hide}} if spoken is CHAT else {}
            broken = await gateway.request(
                {"model": "test-model", **spoken.ask, "stream": True, **more},
                path=spoken.path,
                headers=spoken.headers,
            )
            assert broken.error is not None or "error" in json.dumps(broken.events[-1])
            gateway.upstream.stream(*spoken.events("Good ", "morning"))
            again = await spoken.request(gateway, stream=True)
            assert said(again) == "miss" and spoken.text(again) == "Good morning"


@pytest.mark.parametrize(
    ("spoken", "events"),
    [
        (CHAT, [one.replace(b'"stop"', b'"length"') for one in chat_events("Hel")]),
        (CHAT, [one.replace(b'"stop"', b"null") for one in chat_events("Hel")]),
        (MESSAGES, messages_events("Hel", stop_reason="max_tokens")),
        (RESPONSES, responses_events("Hel", status="incomplete")),
    ],
    ids=["length", "no-reason", "max_tokens", "incomplete"],
)
async def test_a_stream_that_ended_early_is_not_taken_for_whole(spoken: Spoken, events: list[bytes]) -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.stream(*events)
        assert [said(await spoken.request(gateway, stream=True)) for _ in range(2)] == ["miss", "miss"]


async def test_a_stream_with_log_probabilities_is_not_put_together() -> None:
    events = [
        one.replace(b'"delta"', b'"logprobs": {"content": []}, "delta"') for one in chat_events("Hello")
    ]
    async with gateway_of(cached()) as gateway:
        gateway.upstream.stream(*events)
        answers = [await gateway.chat("hello", stream=True, logprobs=True) for _ in range(2)]
        assert [said(one) for one in answers] == ["miss", "miss"]


async def test_a_streamed_call_of_a_tool_is_kept_whole_where_a_route_says_so() -> None:
    opening = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]}
    opening["tool_calls"][0]["function"] = {"name": "f", "arguments": ""}
    more = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}

    def chunk(delta: Any, finish: Any = None) -> bytes:
        value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}  # fmt: skip
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    async with gateway_of(cached(routes=[{"model": "*", "tool_calls": True}])) as gateway:
        gateway.upstream.stream(chunk(opening), chunk(more), chunk({}, "tool_calls"), b"data: [DONE]\n\n")
        assert said(await gateway.chat("hello", stream=True)) == "miss"
        whole = await gateway.chat("hello")
        assert said(whole) == "hit"
        assert whole.json["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


# -- Cache-Control --------------------------------------------------------------------------------


async def test_no_store_neither_reads_nor_stores() -> None:
    async with gateway_of(cached()) as gateway:
        assert said(await gateway.chat("hello", headers=control("no-store"))) == "bypass"
        assert said(await gateway.chat("hello")) == "miss"
        assert said(await gateway.chat("hello", headers=control("no-store"))) == "bypass"
        assert calls(gateway) == 3


async def test_no_cache_does_not_read_and_stores() -> None:
    async with gateway_of(cached()) as gateway:
        gateway.upstream.reply(chat_body("old"))
        await gateway.chat("hello")
        gateway.upstream.reply(chat_body("new"))
        assert said(await gateway.chat("hello", headers=control("no-cache"))) == "miss"
        assert (await gateway.chat("hello")).text == "new"
        assert calls(gateway) == 2


async def test_max_age_bounds_how_old_an_answer_may_be() -> None:
    clock = VirtualClock()
    async with gateway_of(cached(), clock=clock) as gateway:
        await gateway.chat("hello")
        await clock.advance(30)
        assert said(await gateway.chat("hello", headers=control("max-age=30"))) == "hit"
        assert said(await gateway.chat("hello", headers=control("max-age=29"))) == "miss"
        assert (await gateway.chat("hello")).headers["age"] == "0"


async def test_only_if_cached_is_answered_from_what_is_kept_or_not_at_all() -> None:
    async with gateway_of(cached()) as gateway:
        wants = control("only-if-cached")
        refused = await gateway.chat("hello", headers=wants)
        assert (refused.status, refused.error["code"]) == (504, "not_cached")
        assert refused.headers["x-should-retry"] == "false"
        await gateway.chat("hello")
        assert said(await gateway.chat("hello", headers=wants)) == "hit"
        assert calls(gateway) == 1


async def test_only_if_cached_is_never_charged_where_nothing_can_be_kept() -> None:
    async with gateway_of({"pipeline": ["who", "cache"]}) as gateway:
        assert (await gateway.chat("hello", headers=control("only-if-cached"))).status == 504
        assert calls(gateway) == 0


# -- modes ----------------------------------------------------------------------------------------


async def test_shadow_counts_and_answers_nothing() -> None:
    async with gateway_of(cached(mode="shadow")) as gateway:
        gateway.host.metrics.enabled = True
        answers = [await gateway.chat("hello") for _ in range(2)]
        assert [said(one) for one in answers] == ["", ""] and calls(gateway) == 2
        await gateway.ended(2)
        assert told(gateway, "llm_cache_requests_total") == {("miss",): 1, ("hit",): 1}


async def test_metrics_tell_requests_and_what_is_kept() -> None:
    async with gateway_of(cached()) as gateway:
        gateway.host.metrics.enabled = True
        await gateway.chat("hello")
        await gateway.chat("hello")
        await gateway.chat("hello", headers=control("no-store"))
        assert told(gateway, "llm_cache_requests_total") == {("miss",): 1, ("hit",): 1, ("bypass",): 1}
        assert told(gateway, "llm_cache_entries") == {(): 1}
        assert told(gateway, "llm_cache_bytes")[()] > 500
        await gateway.reload(cached(max_entries=7))
        await gateway.ended(3)
        for task in list(gateway.process.gateway.retiring):
            await task
        assert told(gateway, "llm_cache_entries") == {(): 0}
