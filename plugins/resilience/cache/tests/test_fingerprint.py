"""What counts as the same request, and what never does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmg import Exchange, Head, Principal, Request
from lmg.dialects.registry import DIALECTS
from lmg.jsontext import JsonText
from lmg.testing import Harness
from lmg_cache.fingerprint import Policy, canonical

from .conftest import cached, gateway_of

NONE: frozenset[str] = frozenset()
CHAT = DIALECTS[b"/v1/chat/completions"]


def text(body: str) -> bytes:
    return canonical(JsonText.parse(body.encode()), NONE)


def test_order_and_spaces_do_not_matter() -> None:
    assert text('{"a": 1, "b": {"x": 1.0, "y": "é"}}') == text('{"b":{"y":"\\u00e9","x":1.0},"a":1}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "true"),
        ('"1"', "1"),
        ("18446744073709551616", "18446744073709551617"),
        ("9007199254740993", "9007199254740992.0"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("123456789012345678", "123456789012345678.5"),
        ("1e-400", "0.0"),
        ("5e-324", "4e-324"),
        ("[1, 2]", "[2, 1]"),
    ],
)
def test_values_that_differ_stay_distinct(one: str, other: str) -> None:
    assert text(f'{{"a":{one}}}') != text(f'{{"a":{other}}}')


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=None),
    st.decimals(allow_nan=False, allow_infinity=False),
)
@settings(max_examples=300)
def test_numbers_that_differ_stay_distinct(one: Any, other: Any) -> None:
    if one == other or max(abs(one), abs(other)) > 10**300:
        return
    assert text(f'{{"a":{one:E}}}') != text(f'{{"a":{other:E}}}')


def test_a_number_that_a_component_wrote_is_told_apart_too() -> None:
    body = JsonText.parse(b'{"a":1}')
    assert canonical(body.set(("seed",), 2**70), NONE) != canonical(body.set(("seed",), 2**70 + 1), NONE)


def test_what_is_left_out_is_left_out_of_bytes_that_are_kept_as_written() -> None:
    one = JsonText.parse(b'{"seed": 18446744073709551616, "stream": true}')
    other = JsonText.parse(b'{"seed": 18446744073709551616, "stream": false}')
    assert canonical(one, frozenset({"stream"})) == canonical(other, frozenset({"stream"}))


def test_an_edited_request_is_known_by_what_leaves_and_not_by_what_came() -> None:
    came = JsonText.parse(b'{"a":"a 4111111111111111 b"}')
    masked = came.set(("a",), "a <CARD> b")
    assert b"4111" not in canonical(masked, NONE)


# -- exchanges ------------------------------------------------------------------------------------


def exchange_of(
    gateway: Harness,
    body: dict[str, Any],
    principal: Principal,
    path: bytes = b"/v1/chat/completions",
    headers: Any = (),
) -> Exchange:
    dialect = DIALECTS[path]
    pipeline = gateway.process.gateway.pipeline
    exchange = Exchange(
        gateway.host, pipeline, Head("POST", path.decode(), headers), dialect.operation, dialect, "req_1"
    )
    exchange.request = Request(dialect, JsonText.parse(json.dumps(body).encode()))
    exchange.set_fact("principal", principal)
    return exchange


def print_of(
    gateway: Harness, body: dict[str, Any], principal: Principal, scope: Any = "tenant", **more: Any
) -> bytes:
    policy = Policy(gateway.process.gateway.pipeline, scope, None)
    return policy.fingerprint(exchange_of(gateway, body, principal, **more), principal)


ME = Principal("me", "acme")
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
BODIES = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), ANY_JSON, max_size=4)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
WHO = st.builds(
    Principal,
    NAMES,
    NAMES,
    roles=st.frozensets(NAMES, max_size=3),
    groups=st.frozensets(NAMES, max_size=3),
    issuer=NAMES,
)


async def test_tenants_never_share_whatever_they_write() -> None:
    async with gateway_of(cached()) as gateway:
        policies = [
            Policy(gateway.process.gateway.pipeline, scope, None) for scope in ("tenant", "principal")
        ]  # type: ignore[arg-type]

        @given(BODIES, BODIES, WHO, WHO)
        @example({}, {}, Principal("u", "a"), Principal("u", "ab"))
        @example({}, {}, Principal("bu", "a"), Principal("u", "ab"))
        @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
        def claim(one: Any, other: Any, me: Principal, you: Principal) -> None:
            for policy in policies:
                mine = policy.fingerprint(exchange_of(gateway, one, me), me)
                yours = policy.fingerprint(exchange_of(gateway, other, you), you)
                if me.tenant != you.tenant:
                    assert mine != yours
                if policy is policies[1] and (me.issuer, me.subject) != (you.issuer, you.subject):
                    assert mine != yours

        claim()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"temperature": 0.1},
        {"seed": 1},
        {"n": 2},
        {"max_tokens": 5},
        {"tools": []},
        {"store": True},
        {"x_new": 1},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_changes_the_answer_changes_the_fingerprint(change: dict[str, Any]) -> None:
    async with gateway_of(cached()) as gateway:
        assert print_of(gateway, ASK, ME) != print_of(gateway, ASK | change, ME)


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True, "stream_options": {"include_usage": True}}, {"user": "u1"}, {"metadata": {"a": "b"}},
        {"safety_identifier": "x"}, {"prompt_cache_key": "k"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_what_does_not_change_the_answer_is_left_out(change: dict[str, Any]) -> None:
    async with gateway_of(cached()) as gateway:
        assert print_of(gateway, ASK, ME) == print_of(gateway, ASK | change, ME)


async def test_metadata_counts_where_the_answer_repeats_it() -> None:
    async with gateway_of(cached()) as gateway:
        ask = {"model": "m", "input": "hello"}
        path = b"/v1/responses"
        assert print_of(gateway, ask, ME, path=path) == print_of(
            gateway, ask | {"stream": True}, ME, path=path
        )
        assert print_of(gateway, ask, ME, path=path) != print_of(
            gateway, ask | {"metadata": {"a": "b"}}, ME, path=path
        )


async def test_log_probabilities_keep_streams_and_whole_answers_apart() -> None:
    async with gateway_of(cached()) as gateway:
        ask = ASK | {"logprobs": True}
        assert print_of(gateway, ask, ME) != print_of(gateway, ask | {"stream": True}, ME)


async def test_dialects_and_the_headers_that_travel_on_count() -> None:
    async with gateway_of(cached()) as gateway:
        ask = ASK | {"max_tokens": 5}
        beta = [(b"anthropic-beta", b"x")]
        messages = print_of(gateway, ask, ME, path=b"/v1/messages")
        assert messages != print_of(gateway, ask, ME)
        assert messages != print_of(gateway, ask, ME, path=b"/v1/messages", headers=beta)
        assert print_of(gateway, ask, ME) == print_of(gateway, ask, ME, headers=beta)


@pytest.mark.parametrize(
    "bounds",
    [
        {"regions": frozenset({"eu"})}, {"providers": frozenset({"a"})}, {"on_prem": True}, {"max_output_tokens": 5},
        {"redact": frozenset({"x"})},
    ],
    ids=lambda bounds: next(iter(bounds)),
)  # fmt: skip
async def test_bounds_count(bounds: dict[str, Any]) -> None:
    async with gateway_of(cached()) as gateway:
        policy = Policy(gateway.process.gateway.pipeline, "tenant", None)
        free, bound, again = (exchange_of(gateway, ASK, ME) for _ in range(3))
        bound.narrow(**bounds)
        again.narrow(**bounds)
        assert policy.fingerprint(free, ME) != policy.fingerprint(bound, ME)
        assert policy.fingerprint(bound, ME) == policy.fingerprint(again, ME)


async def test_a_routing_hint_counts() -> None:
    async with gateway_of(cached()) as gateway:
        policy = Policy(gateway.process.gateway.pipeline, "tenant", None)
        plain, hinted = (exchange_of(gateway, ASK, ME) for _ in range(2))
        hinted.set_fact("routing_hint", {"prefer": "cheap"})
        assert policy.fingerprint(plain, ME) != policy.fingerprint(hinted, ME)


async def test_processes_with_the_same_configuration_agree_and_others_do_not() -> None:
    async with gateway_of(cached()) as gateway:
        pipeline = gateway.process.gateway.pipeline
        roles = Principal("me", "acme", roles=frozenset({"a", "b", "c"}), groups=frozenset("xyz"))
        exchange = exchange_of(gateway, ASK, roles)
        one, other = (Policy(pipeline, "tenant", None).fingerprint(exchange, roles) for _ in range(2))
        assert one == other
        mesh = cached(max_entries=5)
        await gateway.reload(mesh)
        changed = Policy(gateway.process.gateway.pipeline, "tenant", None)
        assert changed.fingerprint(exchange, roles) != one


async def test_what_is_remembered_of_callers_is_bounded() -> None:
    async with gateway_of(cached()) as gateway:
        policy = Policy(gateway.process.gateway.pipeline, "tenant", None)
        for n in range(5000):
            somebody = Principal("u", f"tenant-{n}")
            policy.fingerprint(exchange_of(gateway, ASK, somebody), somebody)
        assert len(policy._primed) <= 4096
