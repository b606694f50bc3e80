"""What the configuration may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lmg import ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import Trace

URL = "https://id.example"
ASKED = {"endpoint": f"{URL}/introspect", "client_id": "mesh", "client_secret": "secret"}


def loaded(kit: Any, settings: dict[str, Any]) -> Any:
    mesh = {"pipeline": [{"auth_jwt": settings}]}
    return draft(validate(MeshConfig, mesh, (), None), installed={}, classes=kit.classes)


@pytest.mark.parametrize(
    ("issuer", "why"),
    [
        ({"issuer": URL}, "required"),
        ({"audience": "mesh"}, "required"),
        ({"issuer": URL, "audience": []}, "name at least one"),
        ({"issuer": URL, "audience": ""}, ""),
        ({"issuer": "http://id.example", "audience": "mesh"}, "over https alone"),
        ({"issuer": "id.example", "audience": "mesh"}, "not a URL of http or https"),
        ({"issuer": "https://user:pass@id.example", "audience": "mesh"}, "a user or a password"),
        ({"issuer": URL, "audience": "mesh", "jwks_url": "http://id.example/jwks"}, "jwks_url: keys are fetched over https"),
        ({"issuer": URL, "audience": "mesh", "jwks_url": "file:///etc/passwd"}, "not a URL of http or https"),
        ({"issuer": URL, "audience": "mesh", "jwks_url": f"{URL}/#x"}, "fragment"),
        ({"issuer": URL, "audience": "mesh", "jwks_url": URL, "discovery_url": URL}, "keys come from one place"),
        ({"issuer": URL, "audience": "mesh", "algorithms": ["HS256"]}, ""),
        ({"issuer": URL, "audience": "mesh", "algorithms": ["none"]}, ""),
        ({"issuer": URL, "audience": "mesh", "algorithms": []}, ""),
        ({"issuer": URL, "audience": "mesh", "types": ["application/at+jwt"]}, "without 'application/'"),
        ({"issuer": URL, "audience": "mesh", "max_stale_s": 10}, "less than refresh_s"),
        ({"issuer": URL, "audience": "mesh", "leeway_s": 3600}, ""),
        ({"issuer": URL, "audience": "mesh", "keys": [{}]}, "exactly one"),
        ({"issuer": URL, "audience": "mesh", "keys": [{"secret": "a" * 64}]}, "needs its algorithm"),
        ({"issuer": URL, "audience": "mesh", "keys": [{"pem": "text"}]}, "no public key"),
        ({"issuer": URL, "audience": "mesh", "keys": [{"pem": "text", "algorithm": "HS256"}]}, "never a public key"),
        ({"issuer": URL, "audience": "mesh", "keys": [{"jwk": {"kty": "oct", "k": "AAAA"}}]}, "give it as `secret`"),
        ({"issuer": URL, "audience": "mesh", "keys": [{"secret": "a" * 16, "algorithm": "HS256"}]}, "at least 32 bytes"),
    ],
)  # fmt: skip
def test_an_issuer_that_is_not_safe_is_an_error(kit: Any, issuer: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(kit, {"issuers": [issuer]})
    assert why in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "at least one of `issuers`"),
        ({"issuers": [{"issuer": URL, "audience": "a"}, {"issuer": URL, "audience": "b"}]}, "listed twice"),
        ({"issuers": [{"issuer": URL, "audience": "a"}], "default_role": "x"}, "not in the table"),
        ({"issuers": [{"issuer": URL, "audience": "a"}], "roles": {"x": {"operations": ["cat"]}}}, ""),
        (
            {"issuers": [{"issuer": URL, "audience": "a"}], "roles": {"x": {"model": []}}},
            "'model' is not a setting",
        ),
        ({"issuers": [{"issuer": URL, "audience": "a"}], "denied": {"file": "/nowhere/at/all"}}, "not there"),
        ({"introspection": {**ASKED, "claims": {"subject": ""}}}, "at least 1 character"),
        (
            {"issuers": [{"issuer": URL, "audience": "a"}], "denied": {"jti": ["a", ""]}},
            "1 to 256 characters",
        ),
        ({"issuers": [{"issuer": URL, "audience": "a"}], "roles": {"": {}}}, "1 to 256 characters"),
        ({"introspection": {**ASKED, "endpoint": "http://id.example/i"}}, "over https alone"),
        ({"introspection": {"endpoint": f"{URL}/i", "client_id": "mesh"}}, "required"),
        ({"issuers": [{"issuer": URL, "audience": "a"}], "mode": "shadow"}, "shadow"),
    ],
)
def test_settings_that_do_not_fit_are_an_error(kit: Any, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(kit, settings)
    assert why in str(caught.value), str(caught.value)


def test_what_is_safe_loads(kit: Any, tmp_path: Path) -> None:
    public = kit.Signer("k", "RS256").private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    (tmp_path / "denied").write_text("a\n")
    for issuer in (
        {"issuer": URL, "audience": "mesh"},
        {"issuer": "http://127.0.0.1:8080", "audience": "mesh"},
        {"issuer": "http://localhost:8080/realms/x", "audience": ["a", "b"]},
        {"issuer": "http://[::1]:8080", "audience": "mesh"},
        {"issuer": "http://id.internal", "audience": "mesh", "allow_http": True},
        {"issuer": "any text", "audience": "mesh", "jwks_url": f"{URL}/jwks"},
        {"issuer": "any text", "audience": "mesh", "keys": [{"pem": pem, "kid": "k"}]},
    ):
        assert loaded(
            kit, {"issuers": [issuer], "denied": {"file": str(tmp_path / "denied")}, "introspection": ASKED}
        )


async def test_it_stands_above_what_needs_to_know_who_calls(kit: Any) -> None:
    class NeedsPrincipal(Trace):
        requires = {"on_request": ("principal",)}

    classes = {**kit.classes, "trace": NeedsPrincipal}
    listed = {"auth_jwt": {"issuers": [{"issuer": URL, "audience": "mesh"}]}}
    draft(validate(MeshConfig, {"pipeline": [listed, "trace"]}, (), None), installed={}, classes=classes)
    with pytest.raises(ConfigError, match="principal"):
        draft(validate(MeshConfig, {"pipeline": ["trace", listed]}, (), None), installed={}, classes=classes)


def test_it_lets_a_gateway_listen_on_every_address(kit: Any) -> None:
    mesh = {"server": {"host": "0.0.0.0"}, **kit.mesh({"issuer": URL, "audience": "mesh"})}
    assert draft(validate(MeshConfig, mesh, (), None), installed={}, classes=kit.classes)
