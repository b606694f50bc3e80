"""Keys: which are taken, with which algorithm, and what becomes of one that its issuer takes back."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lmg_auth_jwt.keys import KeyFault, KeyRing, key_of_jwk, key_of_pem, key_of_secret, keys_of_set

ALLOWED = ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


@pytest.mark.parametrize(
    ("algorithm", "stated", "bound"),
    [
        ("RS256", None, ("RS256",)),
        ("PS256", "PS256", ("PS256",)),
        ("ES256", None, ("ES256",)),
        ("ES384", None, ("ES384",)),
        ("ES512", "ES512", ("ES512",)),
        ("EdDSA", None, ("EdDSA", "Ed25519")),
        ("EdDSA", "Ed25519", ("Ed25519",)),
    ],
)
def test_a_key_knows_its_one_algorithm(
    kit: Any, algorithm: str, stated: str | None, bound: tuple[str, ...]
) -> None:
    jwk = {**kit.Signer("k", algorithm).jwk, "alg": stated}
    if stated is None:
        del jwk["alg"]
    assert key_of_jwk(jwk, allowed=ALLOWED).algorithms == bound


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("ES256", {"alg": "ES384"}),
        ("ES256", {"alg": "RS256"}),
        ("RS256", {"alg": "HS256"}),
        ("RS256", {"alg": "none"}),
        ("RS256", {"alg": "RS512"}),  # not among the allowed ones
        ("RS256", {"alg": ["RS256"]}),
        ("RS256", {"use": "enc"}),
        ("RS256", {"key_ops": ["encrypt"]}),
        ("RS256", {"key_ops": "verify"}),
        ("RS256", {"n": "AQAB"}),
        ("RS256", {"e": "AQ"}),
        ("RS256", {"e": 65537}),
        ("RS256", {"d": "AQAB"}),
        ("RS256", {"kid": 1}),
        ("RS256", {"kty": "oct", "k": "AAAA"}),
        ("RS256", {"kty": "rsa"}),
        ("RS256", {"kty": ["RSA"]}),
        ("ES256", {"crv": "P-384"}),
        ("ES256", {"crv": "secp256k1"}),
        ("ES256", {"x": "AAAA"}),
        ("ES256", {"y": "A" * 43}),  # not on the curve
        ("EdDSA", {"crv": "X25519"}),
        ("EdDSA", {"crv": "Ed448"}),
    ],
)
def test_a_jwk_that_does_not_fit_is_refused(kit: Any, algorithm: str, changes: dict[str, Any]) -> None:
    with pytest.raises(KeyFault):
        key_of_jwk({**kit.Signer("k", algorithm).jwk, **changes}, allowed=ALLOWED)


def test_small_and_strange_rsa_keys_are_refused(kit: Any) -> None:
    with pytest.raises(KeyFault, match="2048 to 8192 bits, not 1024"):
        key_of_jwk(kit.Signer("k", "RS256", kind="RSA1024").jwk, allowed=ALLOWED)
    jwk = kit.Signer("k", "RS256").jwk
    with pytest.raises(KeyFault):
        key_of_jwk({**jwk, "e": kit.b64(((1 << 200) + 1).to_bytes(26, "big"))}, allowed=ALLOWED)
    with pytest.raises(KeyFault):
        key_of_jwk({**jwk, "n": kit.b64(b"\xff" * 2000)}, allowed=ALLOWED)


def test_an_rsa_key_without_an_algorithm_has_the_first_allowed_one(kit: Any) -> None:
    jwk = kit.Signer("k", "RS256").jwk
    del jwk["alg"]
    assert key_of_jwk(jwk, allowed=["ES256", "PS256", "RS256"]).algorithms == ("PS256",)
    with pytest.raises(KeyFault):
        key_of_jwk(jwk, allowed=["ES256"])


def test_pem_is_a_public_key_or_a_certificate_and_never_a_private_key() -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert key_of_pem(public, None, "k").algorithms == ("RS256",)
    assert key_of_pem(public, "PS512", "k").algorithms == ("PS512",)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for wrong in (secret, "text", public.replace("A", "B", 30)):
        with pytest.raises(KeyFault):
            key_of_pem(wrong, None, None)
    with pytest.raises(KeyFault):
        key_of_pem(public, "ES256", None)


def test_a_certificate_gives_its_key() -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    private = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, private.public_key(), 1, now, now + datetime.timedelta(1))
    pem = made.sign(private, SHA256()).public_bytes(Encoding.PEM).decode()
    assert key_of_pem(pem, None, None).algorithms == ("RS256",)


@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [
        ("a" * 31, "HS256"),
        ("a" * 47, "HS384"),
        ("a" * 63, "HS512"),
        ("-----BEGIN PUBLIC KEY-----\n" + "a" * 40 + "\n-----END PUBLIC KEY-----", "HS256"),
    ],
)
def test_a_short_secret_and_one_that_is_public_are_refused(secret: str, algorithm: str) -> None:
    with pytest.raises(KeyFault) as caught:
        key_of_secret(secret, algorithm, None)
    assert secret not in str(caught.value)


def test_a_key_that_stays_is_the_same_and_one_that_goes_is_dead(kit: Any) -> None:
    jwks = [kit.Signer(f"k{n}", "ES256", n).jwk for n in range(3)]
    ring = KeyRing(keys_of_set({"keys": jwks[:2]}, ALLOWED)[0], 1.0)
    first, second = ring.keys
    ring.replace(keys_of_set({"keys": jwks[1:]}, ALLOWED)[0], 2.0)
    assert not first.live and second.live
    assert ring.keys[0] is second
    assert (ring.knows("k0"), ring.knows("k1"), ring.knows("k2")) == (False, True, True)
    # The same key under another name, or bound to another algorithm, is another key.
    ring.replace([key_of_jwk({**jwks[1], "kid": "other"}, allowed=ALLOWED)], 3.0)
    assert not second.live


def test_a_token_without_kid_tries_few_keys(kit: Any) -> None:
    keys = [key_of_jwk(kit.Signer(f"k{n}", "ES256", n).jwk, allowed=ALLOWED) for n in range(6)]
    ring = KeyRing(keys, 1.0)
    assert len(ring.find(None, "ES256")) == 4
    assert ring.find(None, "RS256") == ()
    assert len(ring.find("k5", "ES256")) == 1
    assert ring.find("k5", "RS256") == ()


@pytest.mark.parametrize(
    "document", [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [{}]}, {"keys": [{}] * 101}]
)
def test_what_is_no_set_of_keys_is_refused(document: Any) -> None:
    with pytest.raises(KeyFault):
        keys_of_set(document, ALLOWED)
