"""Keys that are fetched: when, how often, and what an identity provider that misbehaves brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lmg.testing import VirtualClock

Check = Callable[[Any], None]


async def settled() -> None:
    """Until sockets on loopback have had their turn."""
    await asyncio.sleep(0.05)


async def refetch(gateway: Any, kit: Any, clock: VirtualClock) -> Any:
    """Lets the clock pass until the background has fetched again, whatever came of it."""
    (issuer,) = kit.component(gateway)._issuers.values()
    began = issuer.source._began_at
    await clock.advance(issuer.source._config.refresh_s + 1)
    async with asyncio.timeout(10):
        while issuer.source._began_at == began or not issuer.source._flight.done():
            await asyncio.sleep(0.005)
    return issuer.source


def timed(idp: Any, clock: VirtualClock, number: int = 0, header: Any = None, **claims: Any) -> Any:
    """A token of the virtual present."""
    now = int(clock.now())
    return idp.token(number, header, **{"iat": now, "exp": now + 10**6, **claims})


async def test_discovery_finds_the_keys(kit: Any, idp: Any) -> None:
    async with kit.gateway({"issuer": idp.url, "audience": "mesh"}) as gateway:
        assert idp.received == ["/.well-known/openid-configuration", "/jwks"]
        assert (await gateway.chat(headers=kit.bearer(idp.token()))).status == 200
        assert len(idp.received) == 2
        assert kit.component(gateway).health() is None


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"issuer": "http://127.0.0.1:1", "jwks_uri": "/jwks"}, "another issuer"),
        ({"issuer": "{url}/", "jwks_uri": "{url}/jwks"}, "another issuer"),
        ({"issuer": ["{url}"], "jwks_uri": "{url}/jwks"}, "another issuer"),
        ({"jwks_uri": "{url}/jwks"}, "another issuer"),
        ({"issuer": "{url}"}, "names no keys"),
        ({"issuer": "{url}", "jwks_uri": 1}, "names no keys"),
        ({"issuer": "{url}", "jwks_uri": "http://id.example/jwks"}, "a URL that is not fetched"),
        ({"issuer": "{url}", "jwks_uri": "file:///etc/passwd"}, "a URL that is not fetched"),
        ([], "another issuer"),
    ],
)
async def test_a_discovery_document_that_does_not_fit_is_not_used(
    kit: Any, idp: Any, document: Any, why: str
) -> None:
    if isinstance(document, dict):
        document = {
            name: [one.format(url=idp.url) for one in value] if isinstance(value, list)
            else value.format(url=idp.url) if isinstance(value, str) else value
            for name, value in document.items()
        }  # fmt: skip
    idp.answers["/.well-known/openid-configuration"] = document
    async with kit.gateway({"issuer": idp.url, "audience": "mesh"}) as gateway:
        assert (await gateway.chat(headers=kit.bearer(idp.token()))).status == 503
        assert idp.fetches() == 0
        health = kit.component(gateway).health()
        assert health.state == "failed" and why in health.detail


async def test_a_remote_issuer_does_not_send_the_gateway_to_its_own_machine() -> None:
    from lmg_auth_jwt.fetching import url_fault

    assert url_fault("http://127.0.0.1/jwks", allow_http=False) is None
    assert url_fault("http://127.0.0.1/jwks", allow_http=False, loopback=False) is not None


@pytest.mark.parametrize(
    "mode", ["garbage", "empty", "failing", "huge", "redirect", "compressed", "hang", "slow"]
)
async def test_a_provider_that_misbehaves_leaves_the_last_good_keys(
    kit: Any, idp: Any, refused: Check, mode: str
) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        first = timed(idp, clock)
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        idp.mode = mode
        source = await refetch(gateway, kit, clock)
        assert source.fault is not None
        assert kit.component(gateway).health().state == "degraded"
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        assert (await gateway.chat(headers=kit.bearer(timed(idp, clock, sub="bob")))).status == 200
        refused(await gateway.chat(headers=kit.bearer(timed(idp, clock, header={"kid": "new"}))))
        assert "/elsewhere" not in idp.received
        idp.mode = "well"
        idp.held.set()
        await refetch(gateway, kit, clock)
        assert kit.component(gateway).health() is None


async def test_a_provider_that_goes_away_leaves_the_last_good_keys_for_a_stated_time(
    kit: Any, idp: Any
) -> None:
    clock = VirtualClock()
    issuer = kit.fetched(idp, refresh_s=300, max_stale_s=1000)
    async with kit.gateway(issuer, clock=clock) as gateway:
        token = timed(idp, clock)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        await idp.leave()
        await refetch(gateway, kit, clock)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        assert (await gateway.chat(headers=kit.bearer(timed(idp, clock, sub="bob")))).status == 200
        await clock.advance(700)
        # Too old now, also for what was verified before.
        for stale in (token, timed(idp, clock, sub="carol")):
            answer = await gateway.chat(headers=kit.bearer(stale))
            assert (answer.status, answer.error["code"]) == (503, "identity_unavailable")
            assert answer.headers["retry-after"] == "1"
        assert kit.component(gateway).health().state == "failed"
        await idp.start()
        await refetch(gateway, kit, clock)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200


async def test_a_provider_that_was_never_reached_is_a_503_and_comes_back_by_itself(
    kit: Any, idp: Any, refused: Check
) -> None:
    await idp.leave()
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        answer = await gateway.chat(headers=kit.bearer(timed(idp, clock)))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.error["type"] == "server_error"
        # What is wrong whatever the keys are is still a 401.
        refused(await gateway.chat(headers=kit.bearer(timed(idp, clock, exp=1))))
        shown = await gateway.get("/readyz")
        assert (shown.status, shown.json["degraded"]) == (200, {"auth_jwt": "failed"})
        await idp.start()
        await clock.advance(1.1)
        assert (await gateway.chat(headers=kit.bearer(timed(idp, clock)))).status == 200


async def test_a_provider_that_was_away_at_the_start_is_asked_again_without_a_request(
    kit: Any, idp: Any
) -> None:
    await idp.leave()
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        await idp.start()
        await clock.advance(2.1)
        async with asyncio.timeout(10):
            await idp.asked.wait()
            while kit.component(gateway).health() is not None:
                await asyncio.sleep(0.005)
        assert idp.fetches() == 1


async def test_a_rotated_key_is_found_at_once_and_the_old_one_serves_until_it_is_removed(
    kit: Any, idp: Any, refused: Check
) -> None:
    clock = VirtualClock()
    idp.signers.append(kit.Signer("k2", "ES256"))
    (old, new) = idp.signers
    idp.signers = [old]
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        first = timed(idp, clock)
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        await clock.advance(2)
        idp.signers = [new, old]
        second = timed(idp, clock)
        assert (await gateway.chat(headers=kit.bearer(second))).status == 200
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        assert idp.fetches() == 2
        idp.signers = [new]
        await refetch(gateway, kit, clock)
        # Removed: no longer good, though it is in the cache and has not expired.
        refused_now = asyncio.ensure_future(gateway.chat(headers=kit.bearer(first)))
        await settled()
        await clock.advance(2)
        refused(await refused_now)
        assert (await gateway.chat(headers=kit.bearer(second))).status == 200


async def test_a_key_that_is_replaced_under_the_same_name_stops_working(
    kit: Any, idp: Any, refused: Check
) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        token = timed(idp, clock)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        idp.signers = [kit.Signer("k1", "RS256", 2)]
        await refetch(gateway, kit, clock)
        refused(await gateway.chat(headers=kit.bearer(token)))
        assert (await gateway.chat(headers=kit.bearer(timed(idp, clock)))).status == 200


async def test_a_flood_of_unknown_kids_fetches_at_most_once_a_second(
    kit: Any, idp: Any, refused: Check
) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        known = timed(idp, clock)
        await clock.advance(5)
        before = idp.fetches()
        flood = [
            asyncio.ensure_future(
                gateway.chat(headers=kit.bearer(timed(idp, clock, header={"kid": f"x{n}"})))
            )
            for n in range(40)
        ]
        for second in range(1, 5):
            await settled()
            assert idp.fetches() - before <= second
            # Known keys go on meanwhile, and ask nobody.
            assert (await gateway.chat(headers=kit.bearer(known))).status == 200
            await clock.advance(0.5)
            await settled()
            assert idp.fetches() - before <= second
            await clock.advance(0.51)
        for answer in await asyncio.gather(*flood):
            refused(answer)
        assert 1 <= idp.fetches() - before <= 3


async def test_an_unknown_kid_waits_for_a_fetch_that_began_after_it(kit: Any, idp: Any) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp), clock=clock) as gateway:
        # Half a second after a fetch a new key is published, and used at once.
        await clock.advance(0.5)
        idp.signers = [kit.Signer("k9", "ES256"), *idp.signers]
        waiting = asyncio.ensure_future(gateway.chat(headers=kit.bearer(timed(idp, clock))))
        await settled()
        assert not waiting.done() and idp.fetches() == 1
        await clock.advance(0.51)
        assert (await waiting).status == 200
        assert idp.fetches() == 2


async def test_tokens_that_are_wrong_anyway_ask_for_no_key(kit: Any, idp: Any, refused: Check) -> None:
    async with kit.gateway(kit.fetched(idp)) as gateway:
        idp.received.clear()
        for claims in (
            {"exp": 1},
            {"aud": "x"},
            {"iss": "http://127.0.0.1:9"},
            {"nbf": 9e9},
            {"sub": "alice", "iat": 9e9},
        ):
            refused(await gateway.chat(headers=kit.bearer(idp.token(0, {"kid": "unknown"}, **claims))))
        assert idp.received == []


async def test_one_flight_serves_all_who_wait(kit: Any, idp: Any) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp, fetch_timeout_s=5), clock=clock) as gateway:
        await clock.advance(5)
        idp.signers = [kit.Signer("k2", "ES256")]
        idp.mode = "hang"
        idp.asked.clear()
        token = timed(idp, clock)
        waiting = [asyncio.ensure_future(gateway.chat(headers=kit.bearer(token))) for _ in range(30)]
        await idp.asked.wait()
        await settled()
        idp.held.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        assert idp.fetches() == 2


async def test_a_caller_who_leaves_does_not_end_the_fetch_for_the_others(kit: Any, idp: Any) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp, fetch_timeout_s=5), clock=clock) as gateway:
        await clock.advance(5)
        idp.signers = [kit.Signer("k2", "ES256")]
        idp.mode = "hang"
        idp.asked.clear()
        token = timed(idp, clock)
        leaver = await gateway.connect()
        await leaver.send(gateway.encode(gateway.body(), headers=kit.bearer(token)))
        await idp.asked.wait()
        stays = asyncio.ensure_future(gateway.chat(headers=kit.bearer(token)))
        await settled()
        await leaver.close(reset=True)
        await settled()
        idp.held.set()
        assert (await stays).status == 200


async def test_keys_rotate_under_load_without_one_wrong_answer(kit: Any, idp: Any) -> None:
    """Real time: twenty callers, and a new key every 0.4 s; the old one is removed two rotations later."""
    ring = [kit.Signer(f"r{n}", "ES256", n) for n in range(7)]
    idp.signers = [ring[0]]
    answers: list[int] = []
    async with kit.gateway(kit.fetched(idp, fetch_timeout_s=2, refresh_s=1)) as gateway:
        ending = asyncio.Event()

        async def call(caller: int) -> None:
            while not ending.is_set():
                token = idp.token(0, sub=f"caller-{caller}")
                answers.append((await gateway.chat(headers=kit.bearer(token))).status)

        callers = [asyncio.ensure_future(call(n)) for n in range(20)]
        for n in range(1, 7):
            await asyncio.sleep(0.4)
            idp.signers = [ring[n], *idp.signers][:3]
        await asyncio.sleep(0.4)
        ending.set()
        await asyncio.gather(*callers)
    assert len(answers) > 50
    assert set(answers) == {200}


async def test_the_keys_are_kept_fresh_in_the_background(kit: Any, idp: Any) -> None:
    clock = VirtualClock()
    async with kit.gateway(kit.fetched(idp, refresh_s=100), clock=clock) as gateway:
        for count in range(2, 5):
            await refetch(gateway, kit, clock)
            assert idp.fetches() == count


async def test_a_gateway_that_stops_leaves_no_task_behind(kit: Any, idp: Any) -> None:
    idp.mode = "hang"
    async with kit.gateway(kit.fetched(idp, fetch_timeout_s=0.1)) as gateway:
        host = gateway.host
    assert [task.get_name() for task in host._tasks if task.get_name().startswith("auth_jwt")] == []


async def test_a_reload_that_changes_nothing_here_keeps_keys_and_cache(kit: Any, idp: Any) -> None:
    mesh = kit.mesh(kit.fetched(idp))
    async with kit.gateway(kit.fetched(idp)) as gateway:
        before = kit.component(gateway)
        assert await gateway.reload({**mesh, "server": {"drain_s": 1}})
        assert kit.component(gateway) is before
        assert await gateway.reload(kit.mesh(kit.fetched(idp), max_depth=9))
        assert kit.component(gateway) is not before
        assert (await gateway.chat(headers=kit.bearer(idp.token()))).status == 200
        assert idp.fetches() == 2


async def test_a_set_with_unusable_keys_serves_the_others_and_says_so(
    kit: Any, idp: Any, refused: Check
) -> None:
    weak, good = kit.Signer("weak", "RS256", kind="RSA1024"), idp.signers[0]
    secret = {"kty": "oct", "k": kit.b64(b"a" * 40), "kid": "mac", "alg": "HS256"}
    encryption = {**kit.Signer("enc", "RS256", 3).jwk, "use": "enc"}
    idp.answers["/jwks"] = {"keys": [weak.jwk, secret, encryption, 1, {}, good.jwk]}
    idp.signers = [weak, good, kit.Signer("enc", "RS256", 3)]
    async with kit.gateway(kit.fetched(idp)) as gateway:
        assert (await gateway.chat(headers=kit.bearer(idp.token(1)))).status == 200
        for number in (0, 2):
            answer = await gateway.chat(headers=kit.bearer(idp.token(number)))
            refused(answer)
        (state,) = kit.component(gateway)._state()["issuers"]
        assert (state["unusable_keys"], len(state["keys"])) == (5, 1)
