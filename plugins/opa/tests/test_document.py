"""The input: what a policy is shown, in one form for every dialect, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg import Exchange, Head, Principal, Request, Signal
from lmg.admin import AdminRequest
from lmg.dialects.registry import DIALECTS
from lmg.jsontext import JsonText
from lmg.testing import Harness, VirtualClock
from lmg_opa import Opa, OpaConfig
from lmg_opa.config import InputConfig
from lmg_opa.document import InputPlan
from lmg_opa.engine import PolicyFault

from .conftest import ALLOW_ALL, CLASSES, HEADER

Write = Callable[..., str]
CHAT = {
    "model": "test-model",
    "stream": True,
    "max_tokens": 100,
    "max_completion_tokens": 200,
    "temperature": 0.5,
    "n": 2,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Größe?"},
                {"type": "image_url", "image_url": {"url": "data:,"}},
            ],
        },
    ],
    "tools": [
        {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "function", "function": {"name": "search"}},
}


@pytest.fixture
async def gateway() -> Any:
    async with Harness({}, classes=CLASSES, clock=VirtualClock(), models=["test-model", "other"]) as running:
        yield running


def exchange_of(
    gateway: Harness,
    body: Any = CHAT,
    *,
    path: bytes = b"/v1/chat/completions",
    who: Principal | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    address: str = "10.0.0.1",
) -> Exchange:
    dialect = DIALECTS[path]
    head = Head("POST", path.decode(), headers, address)
    exchange = Exchange(
        gateway.host, gateway.process.gateway.pipeline, head, dialect.operation, dialect, "e-1"
    )
    if body is not None:
        exchange.request = Request(dialect, JsonText.parse(orjson.dumps(body)))
    if who is not None:
        exchange.set_fact("principal", who)
    return exchange


ANN = Principal(
    "ann",
    "acme",
    roles=frozenset({"b", "a"}),
    groups=frozenset({"g"}),
    scopes=frozenset({"s"}),
    issuer="https://id.acme.example",
    budget_class="gold",
    attributes={"department": ("research",), "clearance": "high"},
)


def shown(gateway: Harness, exchange: Exchange, reads: Any = None, facts: Any = (), **settings: Any) -> Any:
    plan = InputPlan(gateway.host, InputConfig(**settings), facts, reads)
    document = plan.encode(exchange)
    assert plan.encode(exchange) == document
    return json.loads(document)


async def test_the_whole_input(gateway: Harness) -> None:
    assert shown(gateway, exchange_of(gateway, who=ANN)) == {
        "principal": {
            "subject": "ann",
            "tenant": "acme",
            "issuer": "https://id.acme.example",
            "roles": ["a", "b"],
            "groups": ["g"],
            "scopes": ["s"],
            "budget_class": "gold",
            "attributes": {"clearance": "high", "department": ["research"]},
        },
        "request": {
            "model": "test-model",
            "dialect": "openai.chat",
            "operation": "chat",
            "stream": True,
            "parameters": {"temperature": 0.5, "n": 2, "max_output_tokens": 200},
            "tools": ["search", "web_search"],
            "tool_choice": {"mode": "named", "name": "search"},
            "token_estimate": 9,
            "segments": [
                {"role": "system", "bytes": 9, "format": "text"},
                {"role": "user", "bytes": 8, "format": "text"},
                {"role": "user", "bytes": 0, "format": "opaque"},
                {"role": "tool_definition", "bytes": 6, "format": "text"},
                {"role": "unknown", "bytes": 6, "format": "text"},
            ],
            "has_images": True,
            "has_opaque": True,
            "headers": {},
        },
        "candidates": [
            {
                "name": "scripted:test-model",
                "provider": "scripted",
                "model": "test-model",
                "region": "",
                "on_prem": False,
                "priority": 100,
            }
        ],
        "time": {
            "unix_s": 1_800_000_000,
            "rfc3339": "2027-01-15T08:00:00Z",
            "weekday": "friday",
            "hour": 8,
            "minute": 0,
        },
        "source": {"address": "10.0.0.1"},
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            b"/v1/messages",
            {
                "model": "m",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}],
                "tools": [{"name": "search", "input_schema": {}}],
                "tool_choice": {"type": "any"},
            },
            {"parameters": {"max_output_tokens": 5}, "tools": ["search"], "tool_choice": {"mode": "required"}, "has_images": True},
        ),
        (
            b"/v1/responses",
            {
                "model": "m",
                "max_output_tokens": 5,
                "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}],
                "tools": [{"type": "function", "name": "search"}, {"type": "web_search"}],
                "tool_choice": {"type": "function", "name": "search"},
            },
            {"parameters": {"max_output_tokens": 5}, "tools": ["search", "web_search"], "tool_choice": {"mode": "named", "name": "search"}, "has_images": True},
        ),
        (
            b"/v1/embeddings",
            {"model": "m", "input": "hello", "dimensions": 256},
            {"parameters": {"dimensions": 256}, "tools": [], "has_images": False},
        ),
    ],
)  # fmt: skip
async def test_every_dialect_is_shown_in_the_same_form(
    gateway: Harness, path: bytes, body: Any, expected: dict[str, Any]
) -> None:
    request = shown(gateway, exchange_of(gateway, body, path=path))["request"]
    assert {name: request.get(name) for name in expected} == expected
    assert ("tool_choice" in request) == ("tool_choice" in expected)


@pytest.mark.parametrize(
    ("stated", "cap"),
    [
        (2**53 + 1, 2**53 + 1),
        (2**64 - 1, 2**64 - 1),
        (10**30, 1e30),
        (1.5, 1.5),
        ("100", "invalid"),
        ([1], "invalid"),
        (True, "invalid"),
    ],
)
async def test_a_number_is_shown_as_it_is_and_what_is_none_is_above_every_limit(
    gateway: Harness, policy: Write, stated: Any, cap: Any
) -> None:
    exchange = exchange_of(gateway, None)
    exchange.request = Request(
        DIALECTS[b"/v1/chat/completions"],
        JsonText.parse(json.dumps({"model": "m", "messages": [], "max_tokens": stated, "n": 1}).encode()),
    )
    assert shown(gateway, exchange)["request"]["parameters"] == {"max_output_tokens": cap, "n": 1}
    limited = (
        HEADER
        + "default allow := false\nallow if not too_long\ntoo_long if input.request.parameters.max_output_tokens > 1\n"
    )
    opa = Opa(OpaConfig(bundle=policy(limited)), gateway.host, "opa")
    await opa.start()
    assert opa.on_request(exchange) is not None
    await opa.stop()


async def test_text_and_headers_are_shown_only_where_configured(gateway: Harness) -> None:
    exchange = exchange_of(
        gateway, headers=((b"x-team", b"blue"), (b"x-team", b'g"\x01r'), (b"authorization", b"Bearer k"))
    )
    plain = json.dumps(shown(gateway, exchange))
    assert "brief" not in plain and "blue" not in plain
    request = shown(gateway, exchange, text=True, headers=["x-team", "x-other"])["request"]
    assert [segment.get("text") for segment in request["segments"]] == [
        "Be brief.",
        "Größe?",
        None,
        "search",
        "search",
    ]
    assert request["headers"] == {"x-team": 'blue, g"\x01r'}


async def test_facts_of_guards_are_shown_only_where_configured(gateway: Harness) -> None:
    exchange = exchange_of(gateway)
    exchange.set_fact("risk", 0.75)
    exchange.signal(Signal("low", 0.1))
    exchange.signal(Signal("injection", 0.9, 0.5, "messages.0", "quotes the caller"))
    assert not {"risk", "signals"} & set(shown(gateway, exchange))
    both = shown(gateway, exchange, facts=["risk", "signals"])
    assert both["risk"] == 0.75
    assert both["signals"] == [
        {"name": "injection", "probability": 0.9, "weight": 0.5, "where": "messages.0"},
        {"name": "low", "probability": 0.1, "weight": 1.0, "where": ""},
    ]


async def test_an_admin_call_is_shown_as_one(gateway: Harness) -> None:
    exchange = exchange_of(gateway, None, who=ANN)
    exchange.set_fact(
        "admin", AdminRequest("POST", "auth_keys", "keys/{id}", {"id": "7"}, "c0ffee", frozenset({"bob"}))
    )
    document = shown(gateway, exchange)
    assert document["admin"] == {
        "method": "POST", "component": "auth_keys", "route": "keys/{id}", "params": {"id": "7"}, "change": "c0ffee", "approvers": ["bob"],
    }  # fmt: skip
    assert document["request"] == {"operation": "admin", "headers": {}}
    assert document["candidates"] == []


async def test_without_the_body_only_what_the_head_tells_is_shown(gateway: Harness) -> None:
    document = shown(gateway, exchange_of(gateway, None), body=False)
    assert document["request"] == {"dialect": "openai.chat", "operation": "chat", "headers": {}}
    with pytest.raises(PolicyFault, match=r"request\.model"):
        InputPlan(gateway.host, InputConfig(body=False), (), [("request", "model")])


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([], {}),
        ([("principal", "roles")], {"principal": {"roles": ["a", "b"]}}),
        (
            [("principal", "attributes", "clearance"), ("principal", "tenant")],
            {"principal": {"tenant": "acme", "attributes": {"clearance": "high"}}},
        ),
        (
            [("request", "parameters", "n", "deeper"), ("request", "parameters")],
            {"request": {"parameters": {"temperature": 0.5, "n": 2, "max_output_tokens": 200}}},
        ),
        (
            [("request", "model"), ("admin",), ("source", "address")],
            {"request": {"model": "test-model"}, "source": {"address": "10.0.0.1"}},
        ),
    ],
)
async def test_declared_paths_are_all_that_is_shown(gateway: Harness, reads: Any, expected: Any) -> None:
    assert shown(gateway, exchange_of(gateway, who=ANN), reads) == expected


async def test_the_whole_input_may_be_declared_as_such(gateway: Harness) -> None:
    exchange = exchange_of(gateway, who=ANN)
    assert shown(gateway, exchange, [()]) == shown(gateway, exchange)


async def test_time_moves_by_the_minute(gateway: Harness) -> None:
    clock, exchange = gateway.host.clock, exchange_of(gateway)
    assert isinstance(clock, VirtualClock)
    plan = InputPlan(gateway.host, InputConfig(), ())
    first = plan.encode(exchange)
    await clock.advance(59)
    assert plan.encode(exchange) == first
    await clock.advance(1)
    assert json.loads(plan.encode(exchange))["time"]["minute"] == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=40)
@given(subject=TEXT, role=TEXT, model=TEXT, tool=TEXT)
async def test_no_text_of_a_caller_leaves_its_place(subject: str, role: str, model: str, tool: str) -> None:
    async with Harness({}, classes=CLASSES) as gateway:
        body = {"model": model, "messages": [], "tools": [{"type": "function", "function": {"name": tool}}]}
        exchange = exchange_of(gateway, body, who=Principal(subject, roles=frozenset({role})))
        document = shown(gateway, exchange)
    assert document["principal"]["subject"] == subject and document["principal"]["roles"] == [role]
    assert document["request"]["model"] == model and document["request"]["tools"] == [tool]
    assert list(document) == ["principal", "request", "candidates", "time", "source"]


# -- the key of a decision --------------------------------------------------------------------------

DECLARED = """# METADATA
# custom:
#   reads: [principal.roles, request.model]
package lmg.authz

default allow := false

allow if {
    "engineer" in input.principal.roles
    input.request.model == "test-model"
}
"""
VARIED: list[dict[str, Any]] = [
    {"headers": {"x-caller": "other/bob/engineer"}},
    {"text": "something else entirely"},
    {"max_tokens": 7},
    {"temperature": 0.1},
    {"tools": [{"type": "function", "function": {"name": "search"}}]},
    {"stream": True},
    {"headers": {"x-team": "blue"}},
]


async def test_what_a_policy_does_not_read_neither_changes_its_decision_nor_misses_the_cache(
    policy: Write,
) -> None:
    mesh = {"pipeline": ["caller", {"opa": {"bundle": policy(DECLARED), "cache": {"ttl_s": 3600}}}]}
    clock = VirtualClock()
    async with Harness(mesh, classes=CLASSES, models=["test-model", "other"], clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        hits = gateway.host.metrics.counter("llm_policy_cache_hits_total", "", ("component",)).series
        assert (await gateway.chat()).status == 200
        for n, varied in enumerate(VARIED, 1):
            await clock.advance(60)
            assert (await gateway.chat(**varied)).status == 200
            assert hits == {("opa",): n}
        assert (await gateway.chat(model="other")).status == 403
        assert (await gateway.chat(headers={"x-caller": "acme/ann/intern"})).status == 403
        assert hits == {("opa",): len(VARIED)}


async def test_without_a_declaration_everything_is_in_the_key(policy: Write) -> None:
    mesh = {"pipeline": ["caller", {"opa": {"bundle": policy(ALLOW_ALL)}}]}
    async with Harness(mesh, classes=CLASSES, clock=VirtualClock()) as gateway:
        gateway.host.metrics.enabled = True
        hits = gateway.host.metrics.counter("llm_policy_cache_hits_total", "", ("component",)).series
        for varied in ({}, {"max_tokens": 7}, {"text": "another"}, {"headers": {"x-caller": "a/b/c"}}):
            await gateway.chat(**varied)
        assert not hits
        await gateway.chat()
        assert hits == {("opa",): 1}


async def test_a_policy_that_reads_the_clock_is_not_cached(policy: Write) -> None:
    text = HEADER + "default allow := false\nallow if time.now_ns() > 0\n"
    mesh = {"pipeline": ["caller", {"opa": {"bundle": policy(text)}}]}
    async with Harness(mesh, classes=CLASSES) as gateway:
        gateway.host.metrics.enabled = True
        hits = gateway.host.metrics.counter("llm_policy_cache_hits_total", "", ("component",)).series
        for _ in range(3):
            assert (await gateway.chat()).status == 200
        assert not hits
