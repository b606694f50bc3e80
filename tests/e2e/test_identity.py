"""Several authenticators in one pipeline: each judges its own kind of credential, and policy sees who it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt

from lmg.testing import Harness

SECRET = "a-secret-of-the-batch-that-is-long-enough-0123456789"
STATIC = "sk-static-0123456789abcdef"
OPERATOR = "sk-operator-0123456789abcdef"
POLICY = """package lmg.authz

default allow := false

allow if "user" in input.principal.roles

reasons contains "no_role" if not allow

obligations := {"tags": {"issuer": input.principal.issuer}} if input.principal.issuer
"""


def mesh(folder: Path) -> dict[str, Any]:
    (folder / "policy.rego").write_text(POLICY)
    issuer = {
        "issuer": "batch", "audience": "mesh", "claims": {"roles": "roles"},
        "keys": [{"secret": SECRET, "algorithm": "HS256", "kid": "1"}],
    }  # fmt: skip
    operators = {"keys": [{"key": OPERATOR, "subject": "op", "scopes": ["admin"]}]}
    return {
        "admin": {"pipeline": [{"auth_static/operators": operators}]},
        "pipeline": [
            {"auth_keys": {"pepper": "0123456789abcdef" * 4, "database": f"sqlite:///{folder}/keys.sqlite"}},
            {"auth_jwt": {"issuers": [issuer]}},
            {"auth_static": {"keys": [{"key": STATIC, "subject": "static", "roles": ["user"]}]}},
            {"opa": {"bundle": str(folder)}},
        ],
    }


def token(**claims: Any) -> str:
    body = {
        "iss": "batch",
        "aud": "mesh",
        "sub": "job",
        "exp": int(time.time()) + 60,
        "roles": ["user"],
        **claims,
    }
    return jwt.encode(body, SECRET, "HS256", headers={"kid": "1"})


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


async def test_each_authenticator_takes_its_own_and_policy_sees_who_it_was(tmp_path: Path) -> None:
    async with Harness(mesh(tmp_path)) as gateway:
        made = await gateway.request(
            {"subject": "ann", "roles": ["user"]}, path="/admin/v1/auth_keys/keys", headers=bearer(OPERATOR)
        )
        key = made.json["key"]
        for credential in (key, token(), STATIC):
            assert (await gateway.chat(headers=bearer(credential))).status == 200
            assert (await gateway.chat(headers={"x-api-key": credential}, stream=True)).status == 200
        await gateway.ended(6)
        assert [one.subject for one in gateway.receipts[::2]] == ["ann", "job", "static"]
        assert [one.tags["issuer"] for one in gateway.receipts[::2]] == ["auth_keys", "batch", "auth_static"]


async def test_a_credential_that_none_of_them_takes_is_a_401_and_calls_nobody(tmp_path: Path) -> None:
    async with Harness(mesh(tmp_path)) as gateway:
        wrong = [
            token(aud="other"), token(iss="other"), token(exp=1), token() + "x", "eyJhbGciOiJub25lIn0.e30.",
            "lmg_000000000000_" + "0" * 49, STATIC + "x", OPERATOR,
        ]  # fmt: skip
        for credential in wrong:
            answer = await gateway.chat(headers=bearer(credential))
            assert answer.status == 401, credential
            assert credential.encode() not in answer.raw
        assert (await gateway.chat()).status == 401
        assert (await gateway.chat(headers={**bearer(STATIC), "x-api-key": token()})).error[
            "code"
        ] == "ambiguous_credential"
        assert not gateway.upstream.received


async def test_who_may_not_is_a_403_and_an_operators_key_opens_no_model(tmp_path: Path) -> None:
    async with Harness(mesh(tmp_path)) as gateway:
        refused = await gateway.chat(headers=bearer(token(roles=["guest"])))
        assert (refused.status, refused.error["code"]) == (403, "policy_denied")
        assert b"no_role" not in refused.raw
        assert (await gateway.get("/admin/v1/pipeline", headers=bearer(token(scope="admin")))).status == 401
        assert (await gateway.get("/admin/v1/pipeline", headers=bearer(OPERATOR))).status == 200
        assert not gateway.upstream.received
