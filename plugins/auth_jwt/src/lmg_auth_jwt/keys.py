"""Keys that verify, each bound to its algorithm; and the ring of an issuer's keys.

RFC 8725, sections 3.1 and 3.2: the key says with which algorithm it is used. What a token writes into ``alg`` is
compared with that and selects nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import InvalidKeyError

__all__ = [
    "ASYMMETRIC", "MAC_BYTES", "KeyFault", "KeyRing", "VerificationKey", "key_of_jwk", "key_of_pem", "key_of_secret",
    "keys_of_set",
]  # fmt: skip

MIN_RSA_BITS: Final = 2048  # RFC 7518, sections 3.3 and 3.5
MAX_RSA_BITS: Final = 8192  # a larger one makes every verification a burden
MAX_RSA_EXPONENT_BITS: Final = 33  # 65537 has 17; a long one is slow on purpose
MAX_KEYS: Final = 100
MAX_TRIED: Final = 4
"""Keys that are tried for a token without ``kid``."""

MAC_BYTES: Final[Mapping[str, int]] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret of each (RFC 7518, section 3.2)."""
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = ((SECP256R1, "ES256"), (SECP384R1, "ES384"), (SECP521R1, "ES512"))
_ED25519: Final = ("EdDSA", "Ed25519")  # RFC 8037 and its fully specified name of RFC 9864
ASYMMETRIC: Final = frozenset({*_RSA, *(name for _, name in _CURVES), *_ED25519})

_VERIFIERS: Final[dict[str, Algorithm]] = get_default_algorithms()
_VERIFIERS["Ed25519"] = _VERIFIERS["EdDSA"]
del _VERIFIERS["none"]
_ANY: Final = ("RS256", *sorted(ASYMMETRIC))
"""What a key of the configuration may be used with; RSA means RS256 unless it says otherwise."""


class KeyFault(ValueError):
    """A key cannot be used safely; the message quotes nothing of it."""


class VerificationKey:
    """A key, and the one algorithm that it is used with (by both its names, where it has two).

    ``live`` turns False when its issuer has taken it back, also for what was verified before.
    """

    __slots__ = ("_key", "_verifier", "algorithms", "identity", "kid", "live")

    def __init__(self, kid: str | None, algorithms: tuple[str, ...], key: Any, identity: bytes) -> None:
        self.kid = kid
        self.algorithms = algorithms
        self.identity = identity
        self.live = True
        self._key = key
        self._verifier = _VERIFIERS[algorithms[0]]

    def __repr__(self) -> str:
        return f"VerificationKey({'/'.join(self.algorithms)})"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` over ``message`` was made with this key's other half."""
        return self._verifier.verify(message, self._key, signature)


def _bound(public: Any, algorithm: str | None, kid: str | None, allowed: Sequence[str]) -> VerificationKey:
    """``public`` with its algorithm: the stated one if its kind fits, else what the kind says."""
    names: tuple[str | None, ...]
    if isinstance(public, RSAPublicKey):
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
            raise KeyFault(f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {public.key_size}")
        if public.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS:
            raise KeyFault("the public exponent of an RSA key is too long")
        fitting: tuple[str, ...] = _RSA
        default = next((name for name in allowed if name in _RSA), None)
        names = (algorithm or default,)
    elif isinstance(public, EllipticCurvePublicKey):
        fitting = tuple(name for curve, name in _CURVES if isinstance(public.curve, curve))
        names = (algorithm or next(iter(fitting), None),)
    elif isinstance(public, Ed25519PublicKey):
        fitting = _ED25519
        names = (algorithm,) if algorithm else _ED25519
    else:
        raise KeyFault("the key is of a kind that no allowed algorithm uses")
    bound = tuple(name for name in names if name is not None and name in fitting and name in allowed)
    if not bound:
        raise KeyFault("the key does not fit its algorithm, or the algorithm is not allowed")
    try:
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise KeyFault("the key cannot be read") from None
    seal = "\0".join((kid or "", *bound)).encode("utf-8", "surrogatepass")
    return VerificationKey(kid, bound, public, hashlib.sha256(seal + b"\0" + der).digest())


def key_of_jwk(
    jwk: Mapping[str, Any], algorithm: str | None = None, *, kid: str | None = None, allowed: Sequence[str] = _ANY
) -> VerificationKey:  # fmt: skip
    """A public key from its JWK (RFC 7517).

    Raises:
        KeyFault: it is symmetric, private, weak, meant for something else, or no key.
    """
    kty = jwk.get("kty")
    if kty == "oct":
        raise KeyFault("a symmetric key is no JWK here: give it as `secret`")
    if "d" in jwk or "p" in jwk:
        raise KeyFault("the JWK holds a private key, which only its issuer may have")
    use, operations = jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise KeyFault("the JWK is not meant for signatures")
    stated = jwk.get("alg")
    if stated is not None and algorithm is not None and stated != algorithm:
        raise KeyFault("the JWK names another algorithm than the setting beside it")
    if stated is not None and (not isinstance(stated, str) or stated not in ASYMMETRIC):
        raise KeyFault("the JWK names an algorithm that is not supported")
    kid = jwk.get("kid") if kid is None else kid
    if kid is not None and not isinstance(kid, str):
        raise KeyFault("the `kid` of a JWK is a text")
    reader: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}.get(
        kty if isinstance(kty, str) else ""
    )
    if reader is None:
        raise KeyFault("the JWK is of an unknown kind")
    try:
        public = reader.from_jwk(dict(jwk))
    except (
        InvalidKeyError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        UnsupportedAlgorithm,
    ):
        raise KeyFault("the JWK cannot be read") from None
    return _bound(public, stated or algorithm, kid, allowed)


def key_of_pem(pem: str, algorithm: str | None, kid: str | None) -> VerificationKey:
    """A public key from PEM: of the key itself, or of a certificate.

    Raises:
        KeyFault: it is none, is private, or is weak.
    """
    if "PRIVATE KEY" in pem:
        raise KeyFault("the PEM holds a private key, which only its issuer may have")
    try:
        if "BEGIN CERTIFICATE" in pem:
            public: Any = load_pem_x509_certificate(pem.encode()).public_key()
        else:
            public = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault("the PEM holds no public key and no certificate") from None
    return _bound(public, algorithm, kid, _ANY)


def key_of_secret(secret: str, algorithm: str, kid: str | None, encoding: str = "text") -> VerificationKey:
    """A key for HMAC. There is no other way to one: what is fetched is never symmetric.

    Raises:
        KeyFault: it is shorter than its algorithm's hash, or no secret at all.
    """
    try:
        raw = (
            base64.b64decode(secret + "=" * (-len(secret) % 4), b"-_", validate=True)
            if encoding == "base64url"
            else secret.encode()
        )
    except (binascii.Error, ValueError):
        raise KeyFault("the secret is not base64url") from None
    if len(raw) < MAC_BYTES[algorithm]:
        raise KeyFault(
            f"a secret for {algorithm} has at least {MAC_BYTES[algorithm]} bytes (RFC 7518, section 3.2)"
        )
    verifier = _VERIFIERS[algorithm]
    assert isinstance(verifier, HMACAlgorithm)
    try:
        verifier.prepare_key(raw)
    except InvalidKeyError:
        raise KeyFault("the secret is a public key, which anybody may know") from None
    seal = f"{kid or ''}\0{algorithm}\0".encode("utf-8", "surrogatepass")
    return VerificationKey(kid, (algorithm,), raw, hashlib.sha256(seal + raw).digest())


def keys_of_set(document: object, allowed: Sequence[str]) -> tuple[list[VerificationKey], int]:
    """The usable keys of a JWK set (RFC 7517, section 5), and how many of it are not.

    Raises:
        KeyFault: it is no set, is too large, or holds no usable key.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeyFault("the document is no set of keys")
    if len(entries) > MAX_KEYS:
        raise KeyFault(f"the set has more than {MAX_KEYS} keys")
    found, unusable = [], 0
    for entry in entries:
        try:
            found.append(key_of_jwk(entry if isinstance(entry, dict) else {}, allowed=allowed))
        except KeyFault:
            unusable += 1
    if not found:
        raise KeyFault("the set has no usable key")
    return found, unusable


class KeyRing:
    """The keys of one issuer. ``stale_at`` is the monotonic time after which they serve no longer."""

    __slots__ = ("_by_kid", "keys", "stale_at")

    def __init__(self, keys: Iterable[VerificationKey] = (), stale_at: float = -math.inf) -> None:
        self.keys: tuple[VerificationKey, ...] = ()
        self._by_kid: dict[str, tuple[VerificationKey, ...]] = {}
        self.stale_at = stale_at
        self.replace(keys, stale_at)

    def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The keys that may have signed: of ``kid`` if there is one, and bound to ``algorithm``."""
        found = self.keys if kid is None else self._by_kid.get(kid, ())
        return tuple(key for key in found if algorithm in key.algorithms)[:MAX_TRIED]

    def knows(self, kid: str) -> bool:
        """Whether there is a key of that name."""
        return kid in self._by_kid

    def replace(self, keys: Iterable[VerificationKey], stale_at: float) -> None:
        """Takes ``keys`` instead; one that stays is the same object, one that goes is no longer ``live``."""
        before = {key.identity: key for key in self.keys}
        now: dict[bytes, VerificationKey] = {}
        for key in keys:
            now.setdefault(key.identity, before.get(key.identity, key))
        for identity, key in before.items():
            if identity not in now:
                key.live = False
        by_kid: dict[str, tuple[VerificationKey, ...]] = {}
        for key in now.values():
            if key.kid is not None:
                by_kid[key.kid] = (*by_kid.get(key.kid, ()), key)
        self.keys, self._by_kid, self.stale_at = tuple(now.values()), by_kid, stale_at
