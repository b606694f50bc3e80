"""Whatever a caller sends is a 401: never a 500, never a call to anybody."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmg import Deny, Exchange, Host, Refusal
from lmg.config import MeshConfig, validate
from lmg.dialects.registry import PLAIN
from lmg.exchange import Head
from lmg.pipeline import draft
from lmg_auth_jwt.keys import KeyFault, keys_of_set

QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["alg", "kid", "typ", "crit", "b64", "zip", "jwk", "jku", "x5u", "x5c", "cty", "enc", "x"]
)
claim_names = st.sampled_from(
    ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope", "roles", "groups", "x"]
)
likely = st.sampled_from(
    ["ES256", "HS256", "none", "k1", "JWT", "https://id.example", "mesh", "alice", [], {}, 0, -1, 1e300]
)


class Rig:
    """The component without a gateway: what it says of a credential, and whom it has called."""

    def __init__(self, kit: Any) -> None:
        self.signer = kit.Signer()
        self.b64 = kit.b64
        self.calls: list[Any] = []
        host = Host()
        host.spawn = self.called  # type: ignore[assignment]
        mesh = validate(MeshConfig, kit.mesh(kit.static(self.signer)), (), None)
        self.pipeline = draft(mesh, installed={}, classes=kit.classes).build(host)
        self.component: Any = self.pipeline.listed[0][1]

    def called(self, work: Any, **more: Any) -> Any:
        work.close()
        self.calls.append(more)
        raise AssertionError("a task was started")

    def judge(self, credential: str) -> Any:
        head = Head(
            "POST", "/", [(b"authorization", b"Bearer " + credential.encode("utf-8", "surrogatepass"))]
        )
        exchange = Exchange(self.component.host, self.pipeline, head, "chat", PLAIN, "req")
        try:
            verdict = self.component.on_request(exchange)
        except Refusal as refusal:
            assert refusal.status == 401
            return None, None
        assert self.calls == []
        assert verdict is None or isinstance(verdict, Deny)
        if isinstance(verdict, Deny):
            assert (verdict.status, verdict.code) == (401, "invalid_token")
            assert credential not in verdict.reason
        return verdict, exchange.principal


@pytest.fixture
def rig(kit: Any) -> Rig:
    return Rig(kit)


def test_the_rig_takes_a_good_token(rig: Rig) -> None:
    verdict, principal = rig.judge(rig.signer.token())
    assert verdict is None and principal.subject == "alice"


@QUIET
@given(text=st.text(st.characters(codec="ascii"), max_size=200))
def test_any_text_is_refused_or_left_to_others(rig: Rig, text: str) -> None:
    assert rig.judge(text)[1] is None


@QUIET
@given(parts=st.lists(st.text("ABZabz059-_=+/ eyJ", max_size=30), min_size=2, max_size=6))
def test_any_dotted_text_is_refused(rig: Rig, parts: list[str]) -> None:
    assert rig.judge(".".join(parts))[1] is None


@QUIET
@given(header=st.binary(max_size=120), payload=st.binary(max_size=200), signature=st.binary(max_size=80))
def test_any_bytes_in_the_parts_are_refused(
    rig: Rig, header: bytes, payload: bytes, signature: bytes
) -> None:
    verdict, principal = rig.judge(".".join(map(rig.b64, (header, payload, signature))))
    assert isinstance(verdict, Deny) and principal is None


@QUIET
@given(header=st.dictionaries(names, likely | values, max_size=6))
def test_any_header_is_a_401_or_verified(rig: Rig, header: dict[str, Any]) -> None:
    now = int(time.time())
    claims = {"iss": "https://id.example", "aud": "mesh", "sub": "alice", "exp": now + 600}
    raw = json.dumps(header).encode("utf-8", "surrogatepass")
    verdict, principal = rig.judge(rig.signer.sign(raw, json.dumps(claims).encode()))
    if verdict is None:
        assert header["alg"] == "ES256" and not {"crit", "b64", "zip", "cty", "enc"} & set(header)
        assert header.get("kid", "k1") == "k1" and principal.subject == "alice"


@QUIET
@given(
    changes=st.dictionaries(claim_names, likely | values, max_size=6), gone=st.sets(claim_names, max_size=3)
)
def test_any_signed_claims_are_a_401_or_right(rig: Rig, changes: dict[str, Any], gone: set[str]) -> None:
    now = int(time.time())
    claims = {"iss": "https://id.example", "aud": "mesh", "sub": "alice", "exp": now + 600, **changes}
    claims = {name: value for name, value in claims.items() if name not in gone}
    head = json.dumps({"alg": "ES256", "kid": "k1"}).encode()
    verdict, principal = rig.judge(rig.signer.sign(head, json.dumps(claims).encode("utf-8", "surrogatepass")))
    if verdict is None:
        assert claims["iss"] == "https://id.example" and claims["exp"] > now - 40
        assert "mesh" in claims["aud"] and principal.subject == claims["sub"]


@QUIET
@given(raw=st.binary(max_size=60), at=st.integers(0, 400), data=st.data())
def test_a_good_token_with_any_change_is_refused(rig: Rig, raw: bytes, at: int, data: st.DataObject) -> None:
    good = rig.signer.token()
    at %= len(good)
    put = data.draw(st.sampled_from("AQgwxyz09-_.= ~"))
    changed = good[:at] + put + good[at + 1 :]
    if changed != good:
        assert rig.judge(changed)[1] is None


members = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "d", "k", "x5c"])
known = st.sampled_from(
    [
        "RSA",
        "EC",
        "OKP",
        "oct",
        "P-256",
        "P-521",
        "Ed25519",
        "RS256",
        "ES256",
        "sig",
        "AQAB",
        "AA",
        ["verify"],
    ]
)
jwks = st.dictionaries(members, known | values, max_size=9)


@QUIET
@given(document=values | st.fixed_dictionaries({"keys": st.lists(jwks | values, max_size=4)}))
def test_any_set_of_keys_is_read_or_refused(document: Any) -> None:
    with suppress(KeyFault):
        keys_of_set(document, ["RS256", "ES256", "ES512", "EdDSA"])


@QUIET
@given(
    changes=st.dictionaries(members, known | values, max_size=4),
    algorithm=st.sampled_from(["RS256", "ES256", "EdDSA"]),
)
def test_any_change_to_a_key_is_read_or_refused(rig: Rig, changes: dict[str, Any], algorithm: str) -> None:
    with suppress(KeyFault):
        keys_of_set(
            {"keys": [{**type(rig.signer)("k", algorithm).jwk, **changes}]}, ["RS256", "ES256", "EdDSA"]
        )
