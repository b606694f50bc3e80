"""Opaque tokens: the authorization server is asked, once, and its answers are kept briefly."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from lmg.testing import VirtualClock, check_component
from lmg_auth_jwt import AuthJwt

Check = Callable[[Any], None]
SECRET = "s3cret: with / signs"
OPAQUE = "opaque-token_0123456789~+/=="


def settings(idp: Any, **more: Any) -> dict[str, Any]:
    return {
        "endpoint": f"{idp.url}/introspect",
        "client_id": "mesh gateway",
        "client_secret": SECRET,
        "timeout_s": 0.5,
        **more,
    }


def gateway_with(kit: Any, idp: Any, clock: Any = None, **more: Any) -> Any:
    return kit.gateway(kit.static(kit.Signer()), introspection=settings(idp, **more), clock=clock)


@pytest.fixture
def active(idp: Any) -> Any:
    """An identity provider that calls every token active."""
    idp.answers["/introspect"] = {"active": True, "sub": "alice", "scope": "read write", "client_id": "app"}
    return idp


async def test_an_active_token_is_served_and_the_answer_is_kept_for_a_while(kit: Any, active: Any) -> None:
    clock = VirtualClock()
    async with gateway_with(kit, active, clock, cache_s=30, tenant="acme") as gateway:
        for _ in range(3):
            assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
        assert active.fetches("/introspect") == 1
        await clock.advance(30)
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
        assert active.fetches("/introspect") == 2
        await gateway.ended(1)
        assert (gateway.receipts[0].subject, gateway.receipts[0].tenant) == ("alice", "acme")
        assert gateway.exchanges[0].principal.scopes == {"read", "write"}


@pytest.mark.parametrize("auth", ["basic", "post"])
async def test_the_question_carries_token_and_client_credentials(kit: Any, active: Any, auth: str) -> None:
    async with gateway_with(kit, active, auth=auth) as gateway:
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
    (asked,) = active.bodies
    head, _, form = asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /introspect HTTP/1.1\r\n")
    assert b"token=opaque-token_0123456789~%2B%2F%3D%3D" in form
    assert b"token_type_hint=access_token" in form
    basic = base64.b64encode(b"mesh+gateway:s3cret%3A+with+%2F+signs")
    assert (basic in head) == (auth == "basic")
    assert (b"client_secret=s3cret%3A+with+%2F+signs" in form) == (auth == "post")


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {"active": False, "sub": "alice"},
        {"active": True},
        {"active": True, "sub": "alice", "iss": "https://other.example"},
        {"active": True, "sub": "alice", "aud": "other"},
        {"active": True, "sub": "alice", "aud": "mesh", "exp": 1},
        {"active": True, "sub": "alice", "aud": "mesh", "nbf": 9_000_000_000},
    ],
)
async def test_a_token_that_is_not_active_is_a_401_and_that_is_kept_too(
    kit: Any, idp: Any, refused: Check, answer: dict[str, Any]
) -> None:
    idp.answers["/introspect"] = answer
    async with gateway_with(kit, idp, issuer="https://id.example", audience="mesh") as gateway:
        for _ in range(2):
            refused(await gateway.chat(headers=kit.bearer(OPAQUE)))
        assert idp.fetches("/introspect") == 1


async def test_an_answer_does_not_outlive_the_token(kit: Any, idp: Any, refused: Check) -> None:
    clock = VirtualClock()
    idp.answers["/introspect"] = {"active": True, "sub": "alice", "exp": int(clock.now()) + 10}
    async with gateway_with(kit, idp, clock, cache_s=600, leeway_s=0) as gateway:
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
        await clock.advance(10)
        refused(await gateway.chat(headers=kit.bearer(OPAQUE)))


@pytest.mark.parametrize(
    "mode", ["garbage", "empty", "failing", "huge", "redirect", "compressed", "hang", "slow"]
)
async def test_an_endpoint_that_does_not_answer_is_a_503(kit: Any, idp: Any, mode: str) -> None:
    idp.mode = mode
    async with gateway_with(kit, idp, timeout_s=0.2) as gateway:
        answer = await gateway.chat(headers=kit.bearer(OPAQUE))
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (
            503,
            "identity_unavailable",
            "1",
        )
        assert kit.component(gateway).health().state == "degraded"
        # Tokens that need no answer go on.
        assert (await gateway.chat(headers=kit.bearer(kit.Signer().token()))).status == 200
        idp.mode = "well"
        idp.held.set()
        idp.answers["/introspect"] = {"active": True, "sub": "alice"}
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
        assert kit.component(gateway).health() is None


@pytest.mark.parametrize("active", ["true", 1, None, [True]])
async def test_active_is_true_or_it_is_not(kit: Any, idp: Any, active: Any) -> None:
    idp.answers["/introspect"] = {"active": active, "sub": "alice"}
    async with gateway_with(kit, idp) as gateway:
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 503


async def test_one_question_serves_all_who_wait(kit: Any, active: Any) -> None:
    active.mode = "hang"
    async with gateway_with(kit, active, timeout_s=5) as gateway:
        waiting = [asyncio.ensure_future(gateway.chat(headers=kit.bearer(OPAQUE))) for _ in range(20)]
        await active.asked.wait()
        await asyncio.sleep(0.05)
        active.held.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        assert active.fetches("/introspect") == 1


async def test_questions_at_a_time_are_bounded(kit: Any, active: Any) -> None:
    active.mode = "hang"
    async with gateway_with(kit, active, timeout_s=5, max_flights=2) as gateway:
        waiting = [
            asyncio.ensure_future(gateway.chat(headers=kit.bearer(f"opaque-token-{n}"))) for n in range(5)
        ]
        await active.asked.wait()
        await asyncio.sleep(0.05)
        active.held.set()
        assert sorted(answer.status for answer in await asyncio.gather(*waiting)) == [200, 200, 503, 503, 503]
        assert active.fetches("/introspect") == 2


async def test_kept_answers_are_bounded(kit: Any, active: Any) -> None:
    async with gateway_with(kit, active, max_tokens=2) as gateway:
        for n in (1, 2, 3, 1):
            assert (await gateway.chat(headers=kit.bearer(f"opaque-token-{n}"))).status == 200
        assert len(kit.component(gateway)._introspection._known) == 2
        assert active.fetches("/introspect") == 4


@pytest.mark.parametrize("credential", ["a b", "{}", "tok&en=x", "tok%00en", '"quoted"', "<script>"])
async def test_what_is_no_bearer_token_asks_nobody(kit: Any, active: Any, credential: str) -> None:
    async with gateway_with(kit, active) as gateway:
        assert (await gateway.chat(headers=kit.bearer(credential))).status == 401
        assert active.received == []


async def test_a_bad_jwt_is_never_asked_about(kit: Any, active: Any, refused: Check) -> None:
    async with gateway_with(kit, active) as gateway:
        for token in (kit.Signer().token(exp=1), kit.Signer().token(iss="x"), "eyJhbGciOiJub25lIn0.e30"):
            refused(await gateway.chat(headers=kit.bearer(token)))
        assert active.received == []


async def test_it_stands_without_issuers(kit: Any, active: Any, refused: Check) -> None:
    async with kit.gateway(introspection=settings(active)) as gateway:
        assert (await gateway.chat(headers=kit.bearer(OPAQUE))).status == 200
        refused(await gateway.chat(headers=kit.bearer(kit.Signer().token())))


async def test_it_passes_the_conformance_checks(kit: Any, active: Any) -> None:
    given = {"issuers": [kit.static(kit.Signer())], "introspection": settings(active)}
    await check_component(lambda: (AuthJwt, given))
