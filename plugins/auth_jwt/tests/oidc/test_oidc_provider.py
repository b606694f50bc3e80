"""A certified OpenID provider (npm `oidc-provider`): discovery, access tokens of RFC 9068, rotation, introspection."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest

ROLES = {"reader": {"models": ["small"], "scopes": ["reads"]}}


def issuer_of(oidc: Any, **more: Any) -> dict[str, Any]:
    claims = {"tenant": "tenant", "roles": "realm_access.roles", "subject": "client_id"}
    return {"issuer": oidc.issuer, "audience": "mesh", "types": ["at+jwt"], "claims": claims, **more}


async def test_an_access_token_of_client_credentials_is_served(kit: Any, oidc: Any) -> None:
    await oidc.use(kit.Signer("first", "RS256"))
    async with kit.gateway(issuer_of(oidc), roles=ROLES, models=["small", "large"]) as gateway:
        token = await oidc.token()
        header = json.loads(urlsafe_b64decode(token.split(".")[0] + "=="))
        assert (header["typ"], header["alg"], header["kid"]) == ("at+jwt", "RS256", "first")
        assert (await gateway.chat(model="small", headers=kit.bearer(token))).status == 200
        assert (await gateway.chat(model="large", headers=kit.bearer(token))).status == 403
        await gateway.ended(1)
        principal = gateway.exchanges[0].principal
        assert (principal.subject, principal.tenant, principal.roles) == ("app", "acme", {"reader"})
        # The provider's own `admin` scope is nobody's operator here.
        assert principal.scopes == {"chat", "reads"}
        assert (await gateway.get("/admin/v1/pipeline", headers=kit.bearer(token))).status == 403


async def test_rotation_from_rs256_to_es256(kit: Any, oidc: Any, refused: Any) -> None:
    old, new = kit.Signer("old", "RS256"), kit.Signer("new", "ES256")
    await oidc.use(old)
    async with kit.gateway(issuer_of(oidc, refresh_s=1)) as gateway:
        first = await oidc.token()
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        await oidc.use(new, old)
        second = await oidc.token()
        assert (await gateway.chat(headers=kit.bearer(second))).status == 200
        assert (await gateway.chat(headers=kit.bearer(first))).status == 200
        await oidc.use(new)
        async with asyncio.timeout(20):
            while (await gateway.chat(headers=kit.bearer(first))).status == 200:
                await asyncio.sleep(0.1)
        refused(await gateway.chat(headers=kit.bearer(first)))
        assert (await gateway.chat(headers=kit.bearer(second))).status == 200


async def test_unknown_kids_are_one_fetch_a_second(kit: Any, oidc: Any, refused: Any) -> None:
    await oidc.use(kit.Signer("first", "RS256"))
    async with kit.gateway(issuer_of(oidc)) as gateway:
        before = await oidc.count("/jwks")
        began = asyncio.get_running_loop().time()
        stranger = kit.Signer("stranger", "ES256", 5)
        flood = [
            gateway.chat(
                headers=kit.bearer(stranger.token({"kid": f"x{n}", "typ": "at+jwt"}, iss=oidc.issuer))
            )
            for n in range(50)
        ]
        for answer in await asyncio.gather(*flood):
            refused(answer)
        took = asyncio.get_running_loop().time() - began
        assert await oidc.count("/jwks") - before <= took + 1
        assert (await gateway.chat(headers=kit.bearer(await oidc.token()))).status == 200


async def test_known_keys_go_on_when_the_provider_is_gone(kit: Any, oidc: Any) -> None:
    await oidc.use(kit.Signer("first", "RS256"))
    async with kit.gateway(issuer_of(oidc, refresh_s=1)) as gateway:
        tokens = [await oidc.token() for _ in range(2)]
        assert (await gateway.chat(headers=kit.bearer(tokens[0]))).status == 200
        oidc.process.kill()
        await oidc.process.wait()
        async with asyncio.timeout(20):
            while kit.component(gateway).health() is None:
                await asyncio.sleep(0.05)
        for token in tokens:
            assert (await gateway.chat(headers=kit.bearer(token))).status == 200


@pytest.mark.parametrize("auth", ["basic", "post"])
async def test_an_opaque_token_is_introspected(kit: Any, oidc: Any, refused: Any, auth: str) -> None:
    await oidc.use(kit.Signer("first", "RS256"))
    asked = {
        "endpoint": f"{oidc.issuer}/token/introspection", "client_id": "mesh", "client_secret": "mesh-secret", "auth": auth,
        "issuer": oidc.issuer, "audience": "opaque-mesh", "claims": {"subject": "client_id"},
    }  # fmt: skip
    async with kit.gateway(issuer_of(oidc), introspection=asked) as gateway:
        token = await oidc.token("urn:opaque")
        assert "." not in token
        assert (await gateway.chat(headers=kit.bearer(token))).status == 200
        refused(await gateway.chat(headers=kit.bearer(token[:-1] + ("A" if token[-1] != "A" else "B"))))
