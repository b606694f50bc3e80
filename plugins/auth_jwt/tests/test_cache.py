"""Tokens that were verified before, and tokens that are denied."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmg import Host, Principal, ServiceError
from lmg.testing import Harness, VirtualClock
from lmg_auth_jwt.cache import Verified, VerifiedTokens, token_digests
from lmg_auth_jwt.keys import KeyRing, VerificationKey, key_of_jwk

Check = Callable[[Any], None]


def entry(key: VerificationKey, **more: Any) -> Verified:
    settings: dict[str, Any] = {
        "until": 100.0,
        "ring": KeyRing([key], math.inf),
        "jti": None,
        "asked_at": 0.0,
        **more,
    }
    return Verified(Principal("alice"), key=key, **settings)


def test_every_hit_looks_at_expiry_key_and_age_again(kit: Any) -> None:
    key = key_of_jwk(kit.Signer().jwk)
    ring = KeyRing([key], 50.0)
    tokens = VerifiedTokens(10)
    tokens.keep(b"a", entry(key, ring=ring))
    assert tokens.get(b"a", 99.9, 49.9) is not None
    assert tokens.get(b"a", 100.0, 0.0) is None
    assert len(tokens) == 0
    tokens.keep(b"a", entry(key, ring=ring))
    assert tokens.get(b"a", 0.0, 50.0) is None
    tokens.keep(b"a", entry(key, ring=ring))
    ring.replace([], 50.0)
    assert tokens.get(b"a", 0.0, 0.0) is None


def test_the_cache_is_bounded_and_forgets_the_oldest(kit: Any) -> None:
    key = key_of_jwk(kit.Signer().jwk)
    tokens = VerifiedTokens(3)
    for name in (b"a", b"b", b"c", b"c", b"d"):
        tokens.keep(name, entry(key))
    assert [tokens.get(name, 0.0, 0.0) is not None for name in (b"a", b"b", b"c", b"d")] == [
        False,
        True,
        True,
        True,
    ]
    none = VerifiedTokens(0)
    none.keep(b"a", entry(key))
    assert len(none) == 0


def test_a_digest_is_of_the_whole_token_the_issuers_and_the_audiences() -> None:
    def digest(parts: list[str], token: str) -> bytes:
        hashed = token_digests(parts).copy()
        hashed.update(token.encode())
        return hashed.digest()

    token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.e30." + "A" * 86
    made = {
        digest(["i", "a"], token),
        digest(["i", "a"], token[:-1] + "B"),
        digest(["i", "b"], token),
        digest(["j", "a"], token),
        digest(["ia", ""], token),
        digest(["i"], "a" + token),
    }
    assert len(made) == 6


async def test_a_token_is_verified_once(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = kit.Signer()
    verified: list[int] = []
    known = VerificationKey.verifies
    monkeypatch.setattr(VerificationKey, "verifies", lambda *args: verified.append(1) or known(*args))
    async with kit.gateway(kit.static(signer)) as gateway:
        gateway.host.metrics.enabled = True
        token = signer.token()
        for _ in range(3):
            assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        assert len(verified) == 1
        assert kit.component(gateway)._results.series == {
            ("https://id.example", "verified"): 1,
            ("https://id.example", "cached"): 2,
        }


async def test_a_cached_token_expires(kit: Any, refused: Check) -> None:
    signer, clock = kit.Signer(), VirtualClock()
    async with kit.gateway(kit.static(signer, leeway_s=0), clock=clock) as gateway:
        token = signer.token(iat=int(clock.now()), exp=int(clock.now()) + 100)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        await clock.advance(99)
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        await clock.advance(1)
        refused(await gateway.chat(headers=kit.bearer(token)))


async def test_two_tokens_that_begin_alike_are_two(kit: Any) -> None:
    signer = kit.Signer()
    padding = "x" * 200
    async with kit.gateway(kit.static(signer)) as gateway:
        for name in ("alice", "bob"):
            token = signer.token(aaa=padding, sub=name)
            assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        await gateway.ended(2)
        assert [receipt.subject for receipt in gateway.receipts] == ["alice", "bob"]


# -- denied tokens


async def test_a_listed_jti_is_refused(kit: Any, refused: Check) -> None:
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer), denied={"jti": ["stolen"]}) as gateway:
        refused(await gateway.chat(headers=kit.bearer(signer.token(jti="stolen"))))
        assert (await gateway.chat(headers=kit.bearer(signer.token(jti="mine")))).status == 200


async def test_a_file_of_jti_is_read_again_when_it_changes(kit: Any, refused: Check, tmp_path: Path) -> None:
    signer, clock = kit.Signer(), VirtualClock()
    path = tmp_path / "denied"
    path.write_text("# stolen in May\nfirst\n\n")
    now = int(clock.now())
    tokens = {
        name: kit.bearer(signer.token(jti=name, iat=now, exp=now + 9999)) for name in ("first", "second")
    }
    async with kit.gateway(kit.static(signer), denied={"file": str(path)}, clock=clock) as gateway:
        denied = kit.component(gateway)._denied

        async def reread() -> None:
            await clock.advance(6)
            await denied._read(path) if path.exists() else None

        refused(await gateway.chat(headers=tokens["first"]))
        assert (await gateway.chat(headers=tokens["second"])).status == 200
        path.write_text("first\nsecond\n")
        os.utime(path, (1, 1))
        await reread()
        refused(await gateway.chat(headers=tokens["second"]))
        path.write_text("none\n")
        os.utime(path, (2, 2))
        await reread()
        assert (await gateway.chat(headers=tokens["first"])).status == 200


async def test_a_file_that_goes_leaves_the_list_as_it_was(kit: Any, refused: Check, tmp_path: Path) -> None:
    path = tmp_path / "denied"
    path.write_text("first\n")
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer), denied={"file": str(path), "recheck_s": 0.1}) as gateway:
        component = kit.component(gateway)
        path.unlink()
        for _ in range(200):
            if component.health() is not None:
                break
            await gateway.host.clock.sleep(0.02)
        assert component.health().state == "degraded"
        refused(await gateway.chat(headers=kit.bearer(signer.token(jti="first"))))


async def test_a_token_that_is_denied_at_run_time_stops_for_all_replicas(kit: Any, refused: Check) -> None:
    signer, clock = kit.Signer(), VirtualClock()
    host = Host(clock=clock)
    table = {"op": {"scopes": ["admin"]}}
    mesh = kit.mesh(kit.static(signer), denied={"shared": True, "recheck_s": 5}, roles=table)
    now = int(clock.now())
    token, operator = (
        kit.bearer(signer.token(jti=jti, roles=["op"], iat=now, exp=now + 9999)) for jti in ("t", "o")
    )
    async with Harness(mesh, classes=kit.classes, host=host) as gateway:
        assert (await gateway.chat(headers=token)).status == 200
        # What another replica writes into the store that both share.
        answer = await gateway.request(
            {"jti": "t", "ttl_s": 60}, path="/admin/v1/auth_jwt/denied", headers=operator
        )
        assert answer.status == 200, answer.raw
        await clock.advance(5.1)
        refused(await gateway.chat(headers=token))
        assert (await gateway.chat(headers=operator)).status == 200
        await clock.advance(60)
        assert (await gateway.chat(headers=token)).status == 200


@pytest.mark.parametrize(
    ("shared", "body", "status"),
    [
        (False, {"jti": "t"}, 409),
        (True, {}, 400),
        (True, {"jti": ""}, 400),
        (True, {"jti": 1}, 400),
        (True, {"jti": "t", "ttl_s": 0}, 400),
        (True, {"jti": "t", "ttl_s": 10**9}, 400),
        (True, {"jti": "t", "tenant": "x"}, 400),
        (True, {"jti": "t"}, 200),
    ],
)
async def test_what_the_admin_route_takes(kit: Any, shared: bool, body: dict[str, Any], status: int) -> None:
    signer = kit.Signer()
    table = {"op": {"scopes": ["admin"]}, "dev": {}}
    async with kit.gateway(kit.static(signer), denied={"shared": shared}, roles=table) as gateway:
        path = "/admin/v1/auth_jwt/denied"
        answer = await gateway.request(body, path=path, headers=kit.bearer(signer.token(roles=["op"])))
        assert answer.status == status, answer.raw
        answer = await gateway.request(body, path=path, headers=kit.bearer(signer.token(roles=["dev"])))
        assert answer.status == 403


class LostStore:
    """A counter store that is gone."""

    shared = True

    async def get(self, keys: Any) -> Any:
        raise ServiceError("gone")


@pytest.mark.parametrize(("on_store_loss", "status"), [("deny", 503), ("allow", 200)])
async def test_a_lost_store_denies_unless_told_otherwise(kit: Any, on_store_loss: str, status: int) -> None:
    signer = kit.Signer()
    denied = {"shared": True, "on_store_loss": on_store_loss}
    async with kit.gateway(kit.static(signer), denied=denied) as gateway:
        gateway.host.counters = LostStore()
        assert (await gateway.chat(headers=kit.bearer(signer.token(jti="t")))).status == status
        # A token without jti is nobody's to deny.
        assert (await gateway.chat(headers=kit.bearer(signer.token()))).status == 200
