"""Which tokens get in: one good one in every form, and all the others."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lmg.testing import Harness, VirtualClock

NOW = int(time.time())
GOOD = {"iss": "https://id.example", "aud": "mesh", "sub": "alice", "iat": NOW, "exp": NOW + 3600}


@pytest.mark.parametrize(
    "algorithm",
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
)
async def test_a_good_token_of_each_algorithm_is_served(kit: Any, algorithm: str) -> None:
    signer = kit.Signer("k", algorithm)
    async with kit.gateway(kit.static(signer)) as gateway:
        assert (await gateway.chat(headers=kit.bearer(signer.token()))).status == 200
        assert (await gateway.chat(headers={"x-api-key": signer.token(sub="bob")})).status == 200
        await gateway.ended(2)
        assert [receipt.subject for receipt in gateway.receipts] == ["alice", "bob"]


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "at+jwt"}, {}),
        ({"typ": "application/at+jwt"}, {}),
        ({"typ": "AT+JWT"}, {}),
        ({"typ": "jwt"}, {}),
        ({"typ": None}, {}),
        ({"kid": None}, {}),
        ({"x5t": "thumbprint", "unknown": {"a": 1}}, {}),
        ({}, {"aud": ["other", "mesh"]}),
        ({}, {"iat": None}),
        ({}, {"exp": time.time() + 36000.5}),
        ({}, {"deep": {"a": {"b": {"c": [1, 2]}}}}),
    ],
)
async def test_what_is_allowed_is_served(kit: Any, header: dict[str, Any], claims: dict[str, Any]) -> None:
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer)) as gateway:
        assert (await gateway.chat(headers=kit.bearer(signer.token(header, **claims)))).status == 200


async def test_clocks_may_be_apart_by_the_leeway(kit: Any) -> None:
    signer, clock = kit.Signer(), VirtualClock()
    now = int(clock.now())
    async with kit.gateway(kit.static(signer, leeway_s=30), clock=clock) as gateway:
        for claims, good in (
            ({"exp": now - 29}, True),
            ({"exp": now - 30}, False),
            ({"nbf": now + 30}, True),
            ({"nbf": now + 31}, False),
            ({"iat": now + 30}, True),
            ({"iat": now + 31}, False),
        ):
            token = signer.token(**{"iat": now, "exp": now + 600, **claims})
            answer = await gateway.chat(headers=kit.bearer(token))
            assert (answer.status == 200) == good, claims


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def hostile(kit: Any) -> dict[str, str]:
    """Tokens by what is wrong with them."""
    signer, stranger = kit.Signer(), kit.Signer("k1", "ES256", 2)
    head = {"alg": "ES256", "kid": "k1", "typ": "JWT"}
    good = signer.token()
    first, second, third = good.split(".")
    b64 = kit.b64
    pem = signer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def with_claims(raw: bytes) -> str:
        return str(signer.sign(encoded(head), raw))

    def with_header(raw: bytes) -> str:
        return str(signer.sign(raw, encoded(GOOD)))

    def mac(key: bytes) -> str:
        message = f"{b64(encoded({**head, 'alg': 'HS256'}))}.{b64(encoded(GOOD))}"
        return f"{message}.{b64(hmac.new(key, message.encode(), hashlib.sha256).digest())}"

    return {
        # RFC 8725, 2.1: algorithms
        "none": f"{b64(encoded({'alg': 'none'}))}.{second}.",
        "none with a signature": f"{b64(encoded({'alg': 'none', 'kid': 'k1'}))}.{second}.{third}",
        "None": f"{b64(encoded({'alg': 'None'}))}.{second}.AAAA",
        "nOnE": f"{b64(encoded({'alg': 'nOnE'}))}.{second}.",
        "hmac with the public key in PEM": mac(pem),
        "hmac with the public key in DER": mac(signer.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "hmac with the JWK": mac(encoded(signer.jwk)),
        "hmac with nothing": mac(b""),
        "another algorithm of the family": signer.token({"alg": "ES384"}),
        "the algorithm in lower case": signer.token({"alg": "es256"}),
        "no algorithm": signer.token({"alg": None}),
        "an algorithm that is no text": with_header(encoded({**head, "alg": ["ES256"]})),
        "an unknown algorithm": signer.token({"alg": "ES256K"}),
        # the signature
        "a stranger's key": stranger.token(),
        "no signature": f"{first}.{second}.",
        "no signature and no dot": f"{first}.{second}",
        "an empty first part": f".{second}.{third}",
        "an empty payload": f"{first}..{third}",
        "a fourth part": f"{good}.",
        "a changed payload": f"{first}.{b64(encoded({**GOOD, 'sub': 'root'}))}.{third}",
        "a changed header": f"{b64(encoded({**head, 'x': 1}))}.{second}.{third}",
        "all zeros": f"{first}.{second}.{b64(bytes(64))}",
        "an ASN.1 signature": f"{first}.{second}.{b64(bytes.fromhex('3006020101020101'))}",
        "a short signature": f"{first}.{second}.{third[:-4]}",
        "a long signature": f"{good}AAAA",
        # encodings
        "padding": f"{first}.{second}.{third}==",
        "the other alphabet": f"{first}.{second}.{'+' + third[1:]}",
        "bits to spare": f"{first}.{second}.{third[:-1]}{'B' if third[-1] != 'B' else 'C'}",
        "a length that no text has": f"{first}.{second}.{third}AAA",
        "a space": f"{first}. {second}.{third}",
        "percent signs": good.replace(".", "%2E", 1) + ".a",
        "a header in UTF-16": f"{b64(json.dumps(head).encode('utf-16'))}.{second}.{third}",
        # keys in the header
        "an embedded jwk": stranger.token({"jwk": stranger.jwk, "kid": None}),
        "an embedded jwk with the kid": stranger.token({"jwk": stranger.jwk}),
        "jku": stranger.token({"jku": "http://127.0.0.1:9/jwks"}),
        "x5u": stranger.token({"x5u": "http://127.0.0.1:9/cert"}),
        "x5c": stranger.token({"x5c": ["MIIB"]}),
        "an unknown kid": signer.token({"kid": "k2"}),
        "a kid with a path": signer.token({"kid": "../../../../dev/null"}),
        "a kid with SQL": signer.token({"kid": "k1' OR '1'='1"}),
        "a kid that is no text": with_header(encoded({**head, "kid": 1})),
        "a kid that is null": with_header(encoded({**head, "kid": None})),
        "a long kid": signer.token({"kid": "k" * 300}),
        # header members
        "crit": signer.token({"crit": ["exp"]}),
        "an empty crit": signer.token({"crit": []}),
        "b64 false": signer.token({"b64": False, "crit": ["b64"]}),
        "b64 true": signer.token({"b64": True}),
        "zip": signer.token({"zip": "DEF"}),
        "a token in a token": signer.token({"cty": "JWT"}),
        "enc": signer.token({"enc": "A256GCM"}),
        "another typ": signer.token({"typ": "logout+jwt"}),
        "an ID token's neighbour": signer.token({"typ": "secevent+jwt"}),
        "typ that is no text": with_header(encoded({**head, "typ": 1})),
        "a header that is a list": with_header(b"[]"),
        "a header that is nothing": with_header(b""),
        "a header with a member twice": with_header(b'{"alg":"ES256","kid":"k1","alg":"ES256"}'),
        "a header with escapes that hide a member": with_header(b'{"alg":"none","\\u0061lg":"ES256","kid":"k1"}'),
        "a huge header": with_header(encoded({**head, "x": "a" * 3000})),
        # claims
        "expired": signer.token(exp=NOW - 3600),
        "expired at the leeway's end": signer.token(exp=NOW - 31),
        "no exp": signer.token(exp=None),
        "exp that is a text": signer.token(exp=str(NOW + 600)),
        "exp that is true": signer.token(exp=True),
        "exp beyond time": signer.token(exp=10**18),
        "exp that is infinite": with_claims(encoded(GOOD).replace(str(GOOD["exp"]).encode(), b"1e999")),
        "exp that is no number": with_claims(encoded(GOOD).replace(str(GOOD["exp"]).encode(), b"NaN")),
        "exp below zero": signer.token(exp=-1),
        "not valid yet": signer.token(nbf=NOW + 3600),
        "nbf that is a text": signer.token(nbf="now"),
        "issued in the future": signer.token(iat=NOW + 3600),
        "another issuer": signer.token(iss="https://evil.example"),
        "an issuer with a slash": signer.token(iss="https://id.example/"),
        "a part of the issuer": signer.token(iss="https://id.exampl"),
        "issuers in a list": signer.token(iss=["https://id.example"]),
        "no issuer": signer.token(iss=None),
        "another audience": signer.token(aud="mash"),
        "a longer audience": signer.token(aud="mesh2"),
        "no audience": signer.token(aud=None),
        "an empty audience": signer.token(aud=[]),
        "an audience of numbers": signer.token(aud=["mesh", 1]),
        "an audience that is an object": signer.token(aud={"mesh": True}),
        "no subject": signer.token(sub=None),
        "a subject that is a number": signer.token(sub=1),
        "an empty subject": signer.token(sub=""),
        "a subject with a line break": signer.token(sub="alice\nroot"),
        "a long subject": signer.token(sub="a" * 300),
        "jti that is a number": signer.token(jti=1),
        "roles that are an object": signer.token(roles={"admin": True}),
        "claims with a member twice": with_claims(encoded(GOOD)[:-1] + b',"sub":"root"}'),
        "claims with a number twice": with_claims(encoded(GOOD)[:-1] + b',"exp":' + str(NOW + 9).encode() + b"}"),
        "claims that are a list": with_claims(b"[1]"),
        "claims that are a text": with_claims(b'"alice"'),
        "claims that are null": with_claims(b"null"),
        "claims in Latin-1": with_claims('{"sub":"é"}'.encode("latin-1")),
        "claims with a lone surrogate": with_claims(encoded(GOOD)[:-1] + b',"x":"\\ud800"}'),
        "deep claims": signer.token(x=nested(20)),
        "very deep claims": with_claims(b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}"),
        "too long": signer.token(x="a" * 9000),
        # other forms
        "a JWE": "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d",
        "three dots": f"{good}.a",
        "dots": "..",
        "words": "a.b.c",
    }  # fmt: skip


async def test_every_hostile_token_is_a_401_and_calls_nobody(
    kit: Any, refused: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kit.gateway(kit.static(kit.Signer())) as gateway:
        calls: list[Any] = []
        monkeypatch.setattr(gateway.host.http, "send", lambda *args, **more: calls.append(args))
        for what, token in hostile(kit).items():
            started = time.monotonic()
            answer = await gateway.chat(headers=kit.bearer(token))
            assert answer.status == 401, what
            refused(answer)
            assert time.monotonic() - started < 5, what
            assert token not in answer.raw.decode()
        assert calls == []
        assert gateway.upstream.received == []


UNKNOWN_KIDS = {"an unknown kid", "a kid with a path", "a kid with SQL"}


async def test_hostile_tokens_fetch_nothing_but_for_a_well_formed_unknown_kid(
    kit: Any, idp: Any, refused: Callable[[Any], None]
) -> None:
    idp.signers = [kit.Signer()]
    issuer = {"issuer": "https://id.example", "audience": "mesh", "jwks_url": idp.jwks_url}
    async with kit.gateway(issuer) as gateway:
        assert (await gateway.chat(headers=kit.bearer(kit.Signer().token()))).status == 200
        for what, token in hostile(kit).items():
            if what not in UNKNOWN_KIDS:
                refused(await gateway.chat(headers=kit.bearer(token)))
        assert idp.received == ["/jwks"]
        refused(await gateway.chat(headers=kit.bearer(hostile(kit)["a kid with a path"])))
        assert idp.received == ["/jwks", "/jwks"]


@pytest.mark.parametrize(
    "form", ["{'payload': 'e30', 'signatures': []}", "opaque-token-0123456789", "no.dots-but-one"]
)
async def test_what_is_no_jwt_is_left_to_other_authenticators(kit: Any, form: str) -> None:
    async with kit.gateway(kit.static(kit.Signer())) as gateway:
        answer = await gateway.chat(headers=kit.bearer(form))
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_refusal_comes_before_the_body_is_read(kit: Any) -> None:
    async with kit.gateway(kit.static(kit.Signer())) as gateway:
        client = await gateway.connect()
        await client.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{gateway.process.port}\r\ncontent-type: application/json\r\n"
            f"content-length: 1000\r\nauthorization: Bearer {kit.Signer().token(exp=1)}\r\n\r\n".encode()
        )
        assert (await client.head())[0] == 401


async def test_the_operator_is_told_what_was_wrong_and_the_caller_is_not(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    signer = kit.Signer()
    tokens = {
        "expired": signer.token(exp=1),
        "aud is another audience": signer.token(aud="x"),
        "the signature does not verify": kit.Signer("k1", "ES256", 2).token(),
        "header: crit is not supported": signer.token({"crit": ["exp"]}),
    }
    async with kit.gateway(kit.static(signer)) as gateway:
        answers = [await gateway.chat(headers=kit.bearer(token)) for token in tokens.values()]
        shown = [{k: v for k, v in answer.error.items() if k != "request_id"} for answer in answers]
        assert all(one == shown[0] for one in shown)
        await gateway.ended(4)
    for reason in tokens:
        assert f"reason=auth_jwt: {reason}" in caplog.text


async def test_types_can_be_access_tokens_alone(kit: Any, refused: Callable[[Any], None]) -> None:
    signer = kit.Signer()
    async with kit.gateway(kit.static(signer, types=["at+jwt"])) as gateway:
        assert (await gateway.chat(headers=kit.bearer(signer.token({"typ": "at+jwt"})))).status == 200
        refused(await gateway.chat(headers=kit.bearer(signer.token())))
        refused(await gateway.chat(headers=kit.bearer(signer.token({"typ": None}))))


async def test_issuers_do_not_speak_for_each_other(kit: Any, refused: Callable[[Any], None]) -> None:
    a, b = kit.Signer("k", "ES256", 1), kit.Signer("k", "ES256", 2)
    first = kit.static(a, issuer="https://a.example", audience="one", tenant="a")
    second = kit.static(b, issuer="https://b.example", audience=["two", "three"], tenant="b")
    async with kit.gateway(first, second) as gateway:
        assert (
            await gateway.chat(headers=kit.bearer(a.token(iss="https://a.example", aud="one")))
        ).status == 200
        assert (
            await gateway.chat(headers=kit.bearer(b.token(iss="https://b.example", aud="three")))
        ).status == 200
        refused(await gateway.chat(headers=kit.bearer(a.token(iss="https://b.example", aud="two"))))
        refused(await gateway.chat(headers=kit.bearer(a.token(iss="https://a.example", aud="two"))))
        await gateway.ended(2)
        assert [receipt.tenant for receipt in gateway.receipts[:2]] == ["a", "b"]


async def test_a_secret_verifies_hmac_and_nothing_else(kit: Any, refused: Callable[[Any], None]) -> None:
    secret = b"a-secret-of-more-than-32-bytes-0123456789"
    keys = [{"secret": secret.decode(), "algorithm": "HS256", "kid": "s"}]
    issuer = {"issuer": "https://id.example", "audience": "mesh", "keys": keys}

    def made(algorithm: str, digest: str) -> str:
        message = f"{kit.b64(encoded({'alg': algorithm, 'kid': 's'}))}.{kit.b64(encoded(GOOD))}"
        return f"{message}.{kit.b64(hmac.new(secret, message.encode(), digest).digest())}"

    async with kit.gateway(issuer) as gateway:
        assert (await gateway.chat(headers=kit.bearer(made("HS256", "sha256")))).status == 200
        refused(await gateway.chat(headers=kit.bearer(made("HS384", "sha384"))))
        refused(await gateway.chat(headers=kit.bearer(made("HS512", "sha512"))))
        refused(await gateway.chat(headers=kit.bearer(kit.Signer("s").token())))


async def test_an_authenticator_above_is_not_overruled(kit: Any) -> None:
    keys = pytest.importorskip("lmg_auth_keys")
    mesh = kit.mesh(kit.static(kit.Signer()))
    mesh["pipeline"].insert(
        0, {"auth_static": {"keys": [{"key": "a.key.with-two-dots", "subject": "machine"}]}}
    )
    mesh["pipeline"].append(
        {"auth_static/below": {"keys": [{"key": "sk-of-the-one-below", "subject": "below"}]}}
    )
    async with Harness(mesh, classes={**kit.classes, "auth_static": keys.AuthStatic}) as gateway:
        for credential in ("a.key.with-two-dots", "sk-of-the-one-below", kit.Signer().token()):
            assert (await gateway.chat(headers=kit.bearer(credential))).status == 200
        await gateway.ended(3)
        assert [receipt.subject for receipt in gateway.receipts] == ["machine", "below", "alice"]
