"""A JWT from the outside in: its shape, its header, its signature, its claims. Every doubt is a ``TokenFault``.

RFC 7515 (compact serialization alone), RFC 7519, and the practices of RFC 8725. PyJWT and cryptography verify; what
they let pass is refused here: foreign ``typ``, members that stand twice, ``b64`` and ``zip``, encodings that are not
the canonical one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmg.jsontext import JsonTextError, strict_loads

from .keys import VerificationKey

__all__ = [
    "Compact",
    "Rules",
    "TokenFault",
    "UnknownKey",
    "check_audience",
    "check_claims",
    "check_times",
    "looks_signed",
    "read_claims",
    "read_compact",
    "verified_by",
]

_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
"""What a base64url text of this length (modulo 4) ends in when its unused bits are zero (RFC 4648, section 3.5)."""
_UNSUPPORTED: Final = ("crit", "b64", "zip", "cty", "enc")
MAX_HEADER: Final = 2048
MAX_TIME: Final = 253402300800.0  # the year 10000
MAX_KID: Final = 256


class TokenFault(Exception):
    """The token is refused. ``why`` is for the operator, one of few fixed texts: never the token's own."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class UnknownKey(TokenFault):
    """No key of that name is held; ``kid`` may be worth a fetch."""

    def __init__(self, kid: str | None) -> None:
        super().__init__("no key verifies it: unknown kid")
        self.kid = kid


@dataclass(frozen=True, slots=True)
class Compact:
    """The parts of a compact JWS, decoded and not yet believed."""

    algorithm: str
    kid: str | None
    type: str
    message: bytes
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What one issuer's tokens must be, as the configuration says."""

    issuer: str
    audiences: frozenset[str]
    types: frozenset[str]
    leeway_s: float


def looks_signed(credential: str) -> bool:
    """Whether this is to be judged as a JWT: two dots, or what begins like one (a JWE, a truncated token)."""
    dots = credential.count(".")
    return dots == 2 or (dots > 0 and credential.startswith("eyJ"))


def _decoded(part: str) -> bytes:
    """Base64url as RFC 7515, section 2, writes it: no padding, no other characters, no bits to spare."""
    rest = len(part) % 4
    if rest == 1 or (rest and part[-1] not in _LAST[rest]):
        raise TokenFault("malformed: base64url")
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _object(raw: bytes, max_depth: int, what: str) -> dict[str, Any]:
    try:
        value = strict_loads(raw, max_depth=max_depth)
    except JsonTextError as error:
        raise TokenFault(f"malformed {what}: {error.code}") from None
    if not isinstance(value, dict):
        raise TokenFault(f"malformed {what}: no object")
    return value


def read_compact(token: str, max_bytes: int) -> Compact:
    """The parts of ``token``.

    Raises:
        TokenFault: it is too long, no compact JWS, or its header says what is not supported.
    """
    if len(token) > max_bytes:
        raise TokenFault("too long")
    parts = _PARTS.fullmatch(token)
    if parts is None:
        raise TokenFault("malformed: no compact JWS")
    first, second, third = parts.groups()
    if len(first) > MAX_HEADER:
        raise TokenFault("malformed header: too long")
    header = _object(_decoded(first), 4, "header")
    for name in _UNSUPPORTED:
        if name in header:
            raise TokenFault(f"header: {name} is not supported")
    algorithm, kid, type_ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(type_, str):
        raise TokenFault("header: alg or typ is no text")
    if "kid" in header and (not isinstance(kid, str) or len(kid) > MAX_KID):
        raise TokenFault("header: kid is no text, or too long")
    message = token[: parts.end(2)].encode("ascii")
    return Compact(
        algorithm, kid, type_.lower().removeprefix("application/"), message, _decoded(second), _decoded(third)
    )


def verified_by(compact: Compact, keys: Collection[VerificationKey]) -> VerificationKey:
    """The key of ``keys`` that made the signature.

    Raises:
        TokenFault: none of them did, or there is none for the token's algorithm.
    """
    for key in keys:
        if compact.algorithm in key.algorithms and key.verifies(compact.message, compact.signature):
            return key
    raise TokenFault("the signature does not verify" if keys else "no key has its algorithm")


def read_claims(compact: Compact, max_depth: int) -> dict[str, Any]:
    """The claims, not yet believed.

    Raises:
        TokenFault: the payload is no strict JSON object.
    """
    return _object(compact.payload, max_depth, "payload")


def check_claims(compact: Compact, claims: Mapping[str, Any], rules: Rules, now: float) -> float:
    """The time at which the token expires (seconds since the epoch).

    Raises:
        TokenFault: it is of another type, issuer or audience, has expired, is not yet valid, or does not say.
    """
    if compact.type not in rules.types:
        raise TokenFault("header: typ is not allowed")
    if claims.get("iss") != rules.issuer:
        raise TokenFault("iss is another issuer")
    check_audience(claims.get("aud"), rules.audiences)
    return check_times(claims, rules.leeway_s, now, required=True)


def check_audience(named: object, audiences: frozenset[str]) -> None:
    """Raises ``TokenFault`` where ``aud`` (RFC 7519, section 4.1.3) names none of ``audiences``."""
    if isinstance(named, str):
        meets = named in audiences
    else:
        meets = (
            isinstance(named, list)
            and all(isinstance(one, str) for one in named)
            and not audiences.isdisjoint(named)
        )
    if not meets:
        raise TokenFault("aud is another audience")


def check_times(claims: Mapping[str, Any], leeway_s: float, now: float, *, required: bool) -> float:
    """When the claims expire; raises ``TokenFault`` where they have, or are not valid yet (RFC 7519, section 4.1)."""
    expires = _time(claims, "exp")
    if expires is None:
        if required:
            raise TokenFault("exp is missing")
        expires = MAX_TIME
    if expires + leeway_s <= now:
        raise TokenFault("expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins - leeway_s > now:
            raise TokenFault(f"not valid yet ({name})")
    return expires


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise TokenFault(f"{name} is no time")
    return float(value)
