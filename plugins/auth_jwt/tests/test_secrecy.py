"""Nothing of a token, a key or a secret is logged, shown or kept, in any form."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest
from pydantic import SecretStr

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import check_secrets
from lmg.testing.secrecy import forms_of
from lmg_auth_jwt import AuthJwt

SECRET = "a-shared-secret-of-more-than-32-bytes/0123456789"
CLIENT_SECRET = "client-secret-0123456789"
OPAQUE = "opaque-token-0123456789"


def assert_hidden(shown: str, *texts: str) -> None:
    for text in texts:
        # A whole token, and each of its parts that is no common header.
        for part in {text, *text.split(".")[1:], text[-20:]}:
            if part:
                for form in [*forms_of(part), hashlib.sha256(part.encode()).hexdigest()]:
                    assert form not in shown


def everything_in(value: object, seen: set[int]) -> list[str]:
    """The representations of an object and of all that it holds."""
    if id(value) in seen or isinstance(value, type | SecretStr):
        return []
    seen.add(id(value))
    out = [repr(value)]
    inner: list[object] = []
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner += list(value)
    inner += list(getattr(value, "__dict__", {}).values())
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    inner += [getattr(value, name, None) for name in slots if name not in ("_key", "_verifier")]
    for item in inner:
        out += everything_in(item, seen)
    return out


async def test_no_token_and_no_secret_is_logged_shown_or_kept(
    kit: Any, idp: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    idp.answers["/introspect"] = {"active": True, "sub": "carol"}
    issuer = kit.fetched(idp)
    mac = {
        "issuer": "https://mac.example",
        "audience": "mesh",
        "keys": [{"secret": SECRET, "algorithm": "HS256"}],
    }
    asked = {
        "endpoint": f"{idp.url}/introspect",
        "client_id": "mesh",
        "client_secret": CLIENT_SECRET,
        "auth": "post",
    }
    table = {"op": {"scopes": ["admin"]}}
    denied = {"jti": ["denied-jti-0123456789"], "shared": True}
    async with kit.gateway(
        issuer, mac, introspection=asked, roles=table, default_role="op", denied=denied
    ) as gateway:
        gateway.host.metrics.enabled = True
        good = idp.token(roles=["op"], jti="a-jti-of-its-own")
        tokens = [
            good,
            idp.token(exp=1, sub="expired-subject-0123"),
            idp.token(0, {"kid": "an-unknown-kid-0123456789"}),
            idp.token(jti="denied-jti-0123456789"),
            idp.token(iss="https://unknown.example"),
            good[:-6] + "AAAAAA",
            OPAQUE,
        ]
        for token in tokens:
            answer = await gateway.chat(headers=kit.bearer(token))
            assert_hidden(answer.raw.decode() + repr(answer.headers), token)
        await idp.leave()
        await gateway.chat(headers=kit.bearer(OPAQUE + "-2"))
        shown = await gateway.get("/admin/v1/auth_jwt/issuers", headers=kit.bearer(good))
        assert shown.status == 200
        pipeline = gateway.process.gateway.pipeline
        component = kit.component(gateway)
        held = {name: value for name, value in vars(component).items() if name != "host"}
        for text in (
            "\n".join(everything_in(held, set())),
            str(component.config) + component.config.model_dump_json(),
            repr(pipeline.describe()) + shown.raw.decode() + repr(component.health()),
            repr([(family.name, family.series) for family in (component._results,)]),
            repr([(e.principal, e.receipt) for e in gateway.exchanges]),
            repr(gateway.upstream.received),
        ):
            assert_hidden(text, *tokens, SECRET, CLIENT_SECRET)
    assert caplog.records
    logged = caplog.text + "\n".join(repr(vars(record)) for record in caplog.records)
    assert_hidden(logged, *tokens, OPAQUE + "-2", SECRET, CLIENT_SECRET)
    for private in ("an-unknown-kid-0123456789", "expired-subject-0123", "denied-jti-0123456789"):
        assert private not in logged


def test_secrets_do_not_show_in_the_configuration(kit: Any) -> None:
    asked = {"endpoint": "https://id.example/i", "client_id": "mesh", "client_secret": CLIENT_SECRET}
    issuer = {
        "issuer": "https://a.example",
        "audience": "mesh",
        "keys": [{"secret": SECRET, "algorithm": "HS256"}],
    }
    check_secrets(lambda: (AuthJwt, {"issuers": [issuer], "introspection": asked}))


def test_an_error_in_the_configuration_quotes_no_secret(kit: Any) -> None:
    for key in (
        {"secret": "too-short-a-secret", "algorithm": "HS256"},
        {"secret": SECRET},
        {"secret": SECRET, "pem": "x"},
    ):
        with pytest.raises(ConfigError) as caught:
            mesh = kit.mesh({"issuer": "https://a.example", "audience": "mesh", "keys": [key]})
            draft(validate(MeshConfig, mesh, (), None), installed={}, classes=kit.classes)
        assert_hidden(str(caught.value), SECRET, "too-short-a-secret")
