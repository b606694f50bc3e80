"""Limits as clients and operators meet them, over real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from lmg import Answer, Attempt, Component, ConfigError, Exchange, Skip
from lmg.config import MeshConfig, validate
from lmg.dialects.registry import PLAIN
from lmg.dryrun import DryRun
from lmg.pipeline import draft
from lmg.records import Head
from lmg.testing import Harness, VirtualClock, Wait, chat_body, chat_events, check_component
from lmg_rate_limit import RateLimit

from .conftest import CLASSES, Caller, by, inside, limited, mesh

ABOVE = [("caller", Caller)]


@pytest.mark.parametrize(
    "settings",
    [
        {"requests": "100k/min", "tokens": "100M/min", "concurrency": 100},
        {"requests": "100k/min", "queue": {"max_wait_ms": 100}},
        {"per": "global", "tokens": "100M/min", "on_store_loss": "deny"},
    ],
)
async def test_it_conforms(settings: Mapping[str, Any]) -> None:
    await check_component(lambda: (RateLimit, settings), above=ABOVE)


async def test_without_an_authenticator_everybody_is_one_tenant() -> None:
    async with Harness({"pipeline": [{"rate_limit": {"requests": "2/day"}}]}, classes=CLASSES) as gateway:
        assert [(await gateway.chat()).status for _ in range(3)] == [200, 200, 429]


async def test_an_authenticator_below_is_an_error_of_order() -> None:
    whole = validate(MeshConfig, {"pipeline": [{"rate_limit": {"requests": "2/day"}}, "caller"]}, (), None)
    with pytest.raises(ConfigError, match="'caller' must stand above 'rate_limit'"):
        draft(whole, installed={}, classes=CLASSES)


async def test_200_clients_at_once_reach_the_limit_exactly() -> None:
    async with limited({"requests": "120/day"}) as gateway:
        answers = await asyncio.gather(*(gateway.chat() for _ in range(200)))
        assert Counter(answer.status for answer in answers) == {200: 120, 429: 80}
        assert len(gateway.upstream.received) == 120


async def test_tenants_do_not_share_what_is_each_ones_own() -> None:
    limits = [
        {"name": "each", "requests": "2/day"},
        {"name": "person", "per": "principal", "requests": "1/day"},
    ]
    async with limited({"limits": limits}) as gateway:
        callers = ["acme/ann", "acme/ann", "acme/bob", "acme/cid", "beta/ann", "beta/eve"]
        assert [(await gateway.chat(headers=by(c))).status for c in callers] == [200, 429, 200, 429, 429, 200]


async def test_patterns_say_which_tenants_and_models_a_limit_is_for() -> None:
    limits = [
        {"name": "trial", "tenant": "trial-*", "requests": "1/day"},
        {"name": "large", "per": ["tenant", "model"], "model": "large*", "requests": "1/day"},
    ]
    async with limited({"limits": limits}, models=("large-1", "large-2", "small")) as gateway:

        async def asks(tenant: str, model: str) -> int:
            return (await gateway.chat(model=model, headers=by(tenant))).status

        assert [await asks("acme", "small") for _ in range(3)] == [200] * 3
        assert [await asks("acme", m) for m in ("large-1", "large-2", "large-1", "large-2")] == [
            200,
            200,
            429,
            429,
        ]
        assert [await asks("trial-1", "small") for _ in range(2)] == [200, 429]


async def test_names_that_clients_make_up_are_a_bounded_number_of_keys() -> None:
    async with inside({"per": ["tenant", "model"], "requests": "1/day"}) as there:
        for n in range(3000):
            there.ask("t" * 500, model=f"made-up-{n}" + "x" * 200)
        await there.turn(40)
        keys = there.buckets()
        assert len(keys) <= 256
        assert max(map(len, keys)) < 100


async def test_a_model_that_a_reload_lists_has_a_key_of_its_own_from_then_on() -> None:
    limits = mesh({"per": "model", "requests": "9/day"})
    whole = {**limits, "providers": {"model": {"models": ["*"]}}}
    async with Harness(whole, classes=CLASSES) as gateway:
        asked = asyncio.create_task(gateway.chat(model="new"))
        store: Any = gateway.host.counters
        while not store._buckets:
            await asyncio.sleep(0.005)
        asked.cancel()
        assert [key[:-2] for key in store._buckets] == ["rl:rate_limit:default/requests:~"]
        assert await gateway.reload(
            {**limits, "providers": {"scripted": {"endpoint": gateway.upstream.url, "models": ["new"]}}}
        )
        assert (await gateway.chat(model="new")).status == 200
        assert "rl:rate_limit:default/requests:new" in store._buckets


# -- what clients are told ----------------------------------------------------------------------------


async def test_a_success_tells_what_is_left_and_a_refusal_when_to_come_again() -> None:
    clock = VirtualClock()
    async with limited({"requests": "2/min", "tokens": "60k/min"}, clock=clock) as gateway:
        first = (await gateway.chat(max_tokens=100)).headers
        assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]) == ("2", "1")
        assert first["x-ratelimit-reset-requests"] == "30s"
        assert first["x-ratelimit-limit-tokens"] == "60000"
        assert 59_700 < int(first["x-ratelimit-remaining-tokens"]) < 59_900
        assert first["x-ratelimit-reset-tokens"].endswith("ms")
        await gateway.chat(max_tokens=100)
        refused = await gateway.chat(max_tokens=100)
        assert refused.status == 429
        assert refused.error["type"] == "rate_limit_error"
        assert refused.error["code"] == "rate_limit_exceeded"
        assert "2 requests per minute" in refused.error["message"] and "30 s" in refused.error["message"]
        told = refused.headers
        assert (told["retry-after"], told["retry-after-ms"]) == ("30", "30000")
        assert (told["x-ratelimit-remaining-requests"], told["x-ratelimit-reset-requests"]) == ("0", "1m0s")
        assert "x-should-retry" not in told
        streamed = await gateway.chat(max_tokens=100, stream=True, headers=by("other"))
        assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
        assert not any(name.startswith("anthropic-ratelimit") for name in told | first | streamed.headers)


async def test_clients_of_the_anthropic_api_are_told_in_its_words() -> None:
    clock = VirtualClock(start=1_800_000_000.0)  # 2027-01-15T08:00:00Z
    limits = {"requests": "2/min", "input_tokens": "6k/min", "output_tokens": "600/min"}
    async with limited(limits, clock=clock) as gateway:
        body = {"model": "test-model", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(2):
            answer = await gateway.request(body, path="/v1/messages")
            assert answer.status == 200
        told = answer.headers
        assert (
            told["anthropic-ratelimit-requests-limit"],
            told["anthropic-ratelimit-requests-remaining"],
        ) == ("2", "0")
        assert told["anthropic-ratelimit-requests-reset"] == "2027-01-15T08:01:00Z"
        assert (
            told["anthropic-ratelimit-output-tokens-limit"],
            told["anthropic-ratelimit-output-tokens-remaining"],
        ) == ("600", "498")
        assert told["anthropic-ratelimit-input-tokens-limit"] == "6000"
        assert told["anthropic-ratelimit-tokens-limit"] == "600", "the limit with the least left"
        refused = await gateway.request(body, path="/v1/messages")
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "30"
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"


async def test_a_wait_that_is_longer_than_sdks_should_sleep_is_capped_and_says_so() -> None:
    async with limited({"requests": "1/day"}, clock=VirtualClock()) as gateway:
        await gateway.chat()
        refused = await gateway.chat()
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("120", "120000")
        assert refused.headers["x-should-retry"] == "false"
        assert refused.headers["x-ratelimit-reset-requests"] == "24h0m0s"
        assert "Try again in 24 h 0 min" in refused.error["message"]


async def test_of_several_limits_the_headers_tell_the_one_with_the_least_left() -> None:
    limits = [{"name": "fast", "requests": "2/s"}, {"name": "slow", "requests": "100/day"}]
    whole = mesh({"limits": limits})
    whole["pipeline"] += [{"rate_limit/wide": {"per": "global", "requests": "1000/day"}}]
    async with Harness(whole, classes=CLASSES, clock=VirtualClock()) as gateway:
        told = (await gateway.chat()).headers
        assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("2", "1")


async def test_the_official_sdks_wait_as_long_as_they_are_told_and_succeed() -> None:
    async with limited({"requests": "5/s", "burst": 1}) as gateway:
        ask: Any = {"model": "test-model", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=1) as client:
            for _ in range(4):
                assert (await client.chat.completions.create(**ask)).choices[0].message.content == "Hello!"
        async with anthropic.AsyncAnthropic(api_key="k", base_url=gateway.url, max_retries=1) as other:
            for _ in range(2):
                assert (await other.messages.create(**ask)).role == "assistant"
        assert len(gateway.upstream.received) == 6


async def test_an_sdk_does_not_retry_what_can_never_pass() -> None:
    async with limited({"tokens": "100/min"}) as gateway:
        seen = []

        async def note(response: httpx.Response) -> None:
            seen.append(response.status_code)

        async with (
            httpx.AsyncClient(event_hooks={"response": [note]}) as http,
            openai.AsyncOpenAI(api_key="k", base_url=f"{gateway.url}/v1", http_client=http) as client,
        ):
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(
                    model="test-model", max_tokens=500, messages=[{"role": "user", "content": "hi"}]
                )
        assert seen == [429]


# -- what counts --------------------------------------------------------------------------------------


async def test_limits_on_requests_refuse_before_the_body_is_read() -> None:
    async with limited({"requests": "1/day"}) as gateway:
        assert (await gateway.chat()).status == 200
        client = await gateway.connect()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        status, _ = await client.head()
        assert status == 429


class Open(Component):
    """A breaker that never lets anything through."""

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Any:
        raise Skip("open")
        yield


class Canned(Component):
    """Answers by itself, as a cache does."""

    def on_request(self, exchange: Exchange) -> Answer:
        import json

        return Answer(json.dumps(chat_body(usage=(500, 500))).encode())


@pytest.mark.parametrize(("below", "status"), [("open", 503), ("guard", 403), ("canned", 200)])
async def test_what_never_went_upstream_is_given_back_wholly(below: str, status: int) -> None:
    classes = CLASSES | {"open": Open, "canned": Canned}
    limits = {"requests": "2/day", "tokens": "10k/day", "concurrency": 1}
    async with Harness(mesh(limits, below), classes=classes) as gateway:
        for _ in range(6):
            assert (await gateway.chat("refuse me")).status == status
        store: Any = gateway.host.counters
        assert [(max(spent, 0), held) for spent, _, held in store._buckets.values()] == [(0.0, 0)] * 3
        assert not gateway.upstream.received


async def test_a_stream_holds_its_place_to_the_end_and_its_tokens_are_those_used() -> None:
    async with limited({"tokens": "10k/day", "concurrency": 1}) as gateway:
        more = asyncio.Event()
        events = chat_events("a", "b", usage=(30, 12))
        gateway.upstream.stream(*events[:2], Wait(event=more), *events[2:])
        streaming = asyncio.create_task(gateway.chat(stream=True, max_tokens=500))
        await gateway.upstream.arrival()
        refused = await gateway.chat(max_tokens=500)
        assert (refused.status, "1 request at a time" in refused.error["message"]) == (429, True)
        more.set()
        assert (await streaming).text == "ab"
        gateway.upstream.reply(chat_body())
        after = await gateway.chat(max_tokens=500)
        left = 10_000 - 42 - len(gateway.encode(gateway.body(max_tokens=500)).partition(b"\r\n\r\n")[2]) - 500
        assert (after.status, int(after.headers["x-ratelimit-remaining-tokens"])) == (200, left)


async def test_an_upstream_that_ignores_its_cap_is_counted_in_full_and_blocks_the_next() -> None:
    async with limited({"tokens": "1000/day"}) as gateway:
        gateway.host.metrics.enabled = True
        gateway.upstream.reply(chat_body(usage=(10, 5000)))
        assert (await gateway.chat(max_tokens=50)).status == 200
        refused = await gateway.chat(max_tokens=50)
        assert (refused.status, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "0")
        assert len(gateway.upstream.received) == 1
        counts = {f.name: getattr(f, "series", {}) for f in gateway.host.metrics.families()}
        assert counts["llm_rate_limit_overruns_total"] == {("default",): 1}
        assert counts["llm_rate_limited_total"] == {("default", "tokens"): 1}


async def test_in_shadow_it_counts_and_refuses_nobody() -> None:
    whole = mesh(
        {"requests": "2/day", "tokens": "10k/day", "mode": "shadow", "queue": {"max_wait_ms": 60_000}}
    )
    async with Harness(whole, classes=CLASSES) as gateway:
        gateway.host.metrics.enabled = True
        answers = [await gateway.chat() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert not any("ratelimit" in name for answer in answers for name in answer.headers)
        assert "max_tokens" not in gateway.upstream.received[0].json
        store: Any = gateway.host.counters
        assert {key: held for key, (_, _, held) in store._buckets.items()} == {
            "rl:rate_limit:default/requests:acme": 0, "rl:rate_limit:default/tokens:acme": 0,
        }  # fmt: skip
        (family,) = (f for f in gateway.host.metrics.families() if f.name == "llm_rate_limited_total")
        assert family.series == {("default", "requests"): 3}  # type: ignore[attr-defined]
        assert gateway.exchanges[-1].shadowed[0][2].startswith("Deny(rate_limit_exceeded)")


async def test_counters_outlive_a_reload_that_changes_the_limit() -> None:
    async with limited({"requests": "5/day"}) as gateway:
        for _ in range(3):
            await gateway.chat()
        assert await gateway.reload(mesh({"requests": "4/day"}))
        assert [(await gateway.chat()).status for _ in range(2)] == [200, 429]


async def test_operators_see_what_is_left() -> None:
    limits = [{"name": "each", "requests": "5/day"}, {"name": "all", "per": "global", "concurrency": 7}]
    async with limited({"limits": limits, "queue": {"max_wait_ms": 50}}) as gateway:
        await gateway.chat(headers=by("acme"))
        await gateway.chat(headers=by("beta"))
        shown = (await gateway.get("/admin/v1/rate_limit/levels")).json
        assert shown["store"] == "process" and shown["waiting"] == 0
        assert [(one["limit"], one["kind"], one["scope"], one["remaining"]) for one in shown["limits"]] == [
            ("all", "concurrency", {}, 7), ("each", "requests", {"tenant": "beta"}, 4), ("each", "requests", {"tenant": "acme"}, 4),
        ]  # fmt: skip
        of_acme = (await gateway.get("/admin/v1/rate_limit/levels?tenant=acme&limit=each")).json["limits"]
        assert [(one["scope"], one["remaining"]) for one in of_acme] == [({"tenant": "acme"}, 4)]
        # Another worker may have served whoever is asked for.
        unseen = (await gateway.get("/admin/v1/rate_limit/levels?tenant=nobody")).json["limits"]
        assert [(one["scope"], one["remaining"]) for one in unseen] == [({"tenant": "nobody"}, 5)]
        assert (await gateway.get("/admin/v1/rate_limit/levels?color=red")).json["limits"] == []


async def test_explain_takes_nothing_and_waits_for_nothing(tmp_path: Path) -> None:
    whole = {
        **mesh({"requests": "1/day", "queue": {"max_wait_ms": 60_000}}),
        "providers": {"model": {"models": ["m"]}},
    }
    blueprint = draft(
        validate(MeshConfig, {**whole, "server": {"state_dir": str(tmp_path)}}, (), None), classes=CLASSES
    )
    for _ in range(3):
        async with DryRun(blueprint) as dry:
            head = Head("POST", "/v1/chat/completions", [(b"content-type", b"application/json")])
            await dry.walk(PLAIN, head, b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
            assert [target.name for target in dry.targets] == ["model:m"]


UPSTREAM = [
    ("x-ratelimit-remaining-requests", "99"),
    ("x-ratelimit-limit-project-tokens", "7"),
    ("anthropic-ratelimit-tokens-limit", "3"),
]


@pytest.mark.parametrize("how", ["whole", "streamed", "refused"])
async def test_what_the_upstream_says_of_its_own_limits_is_not_mixed_with_ours(how: str) -> None:
    async with limited({"requests": "9/day"}) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        if how == "whole":
            gateway.upstream.reply(chat_body(), headers=UPSTREAM)
        elif how == "streamed":
            gateway.upstream.stream(*chat_events("a"), headers=UPSTREAM)
        else:
            gateway.upstream.reply({"error": {}}, status=429, headers=[*UPSTREAM, ("retry-after", "17")])
        answer = await client.post("/v1/chat/completions", json=gateway.body(stream=how == "streamed"))
        told = [(name, value) for name, value in answer.headers.multi_items() if "ratelimit" in name]
        assert dict(told)["x-ratelimit-remaining-requests"] == "8"
        assert len(told) == 3
        assert answer.headers.get("retry-after") == ("17" if how == "refused" else None), "that is still true"
