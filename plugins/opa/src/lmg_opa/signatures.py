"""Signed bundles: ``.signatures.json`` holds one JWT with the hash of every file.

OPA's specification: https://www.openpolicyagent.org/docs/management-bundles#signature-format. Stricter here: the algorithm
is the key's own, hashes weaker than SHA-256 are not taken, and the files and the list must be the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import jwt

from lmg.jsontext import JsonTextError, strict_loads

from .bundles import MANIFEST, read_yaml
from .engine import PolicyFault

if TYPE_CHECKING:
    from .config import BundleKeyConfig

__all__ = ["SIGNATURES", "content_hash", "verify"]

SIGNATURES: Final = ".signatures.json"
_HASHES: Final = {
    "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512", "SHA-512-256": "sha512_256",
}  # fmt: skip
_OWN_VERIFIER: Final = "_default"
_STRUCTURED: Final = (MANIFEST, "data.json", "data.yaml", "data.yml")


def verify(files: Mapping[str, bytes], keys: Mapping[str, BundleKeyConfig]) -> None:
    """Refuses a bundle unless one of ``keys`` has signed exactly these ``files``.

    Raises:
        PolicyFault: it is not signed, by another key, or not what was signed.
    """
    if SIGNATURES not in files:
        raise PolicyFault("the bundle is not signed: it has no .signatures.json")
    listed = _listed(_payload(files[SIGNATURES], keys))
    for name in files:
        if name == SIGNATURES:
            continue
        if name not in listed:
            raise PolicyFault(f"the signature does not name {name!r}")
        algorithm, stated = listed.pop(name)
        if not hmac.compare_digest(content_hash(name, files[name], algorithm), stated):
            raise PolicyFault(f"{name!r} is not what was signed")
    if listed:
        raise PolicyFault(f"the signature names {min(listed)!r}, which the bundle does not hold")


def content_hash(name: str, raw: bytes, algorithm: str) -> str:
    """The hash of one file in hexadecimal: of its bytes, or of the canonical form of data and manifest.

    Raises:
        PolicyFault: an algorithm that is not taken, or a file that cannot be read.
    """
    if algorithm not in _HASHES:
        raise PolicyFault(
            f"the signature hashes {name!r} with {algorithm[:32]!r}; one of {', '.join(_HASHES)} is taken"
        )
    digest = hashlib.new(_HASHES[algorithm])
    base = name.rpartition("/")[2]
    if base not in _STRUCTURED:
        digest.update(raw)
        return digest.hexdigest()
    try:
        value: Any = read_yaml(name, raw) if base.endswith(("yaml", "yml")) else _kept_numbers(raw)
    except (ValueError, RecursionError):
        raise PolicyFault(f"{name}: not JSON") from None
    for piece in _canonical(value):
        digest.update(piece.encode())
    return digest.hexdigest()


class _Number(str):
    """A number's digits as they were written: they are what is hashed."""

    __slots__ = ()


def _kept_numbers(raw: bytes) -> object:
    return json.loads(raw, parse_int=_Number, parse_float=_Number)


def _canonical(value: Any) -> Iterator[str]:
    """The pieces that OPA's signer hashes: members in the order of their names, nothing between the tokens."""
    if isinstance(value, dict):
        yield "{"
        for n, key in enumerate(sorted(value, key=lambda key: str(key).encode())):
            yield f"{',' if n else ''}{_primitive(key)}:"
            yield from _canonical(value[key])
        yield "}"
    elif isinstance(value, list):
        yield "["
        for n, item in enumerate(value):
            if n:
                yield ","
            yield from _canonical(item)
        yield "]"
    else:
        yield str(value) if isinstance(value, _Number) else _primitive(value)


def _primitive(value: Any) -> str:
    # Go writes these two escaped even where it escapes nothing else beyond ASCII.
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _payload(raw: bytes, keys: Mapping[str, BundleKeyConfig]) -> dict[str, Any]:
    try:
        stated: Any = strict_loads(raw)
    except JsonTextError:
        raise PolicyFault(".signatures.json is not JSON") from None
    tokens = stated.get("signatures") if type(stated) is dict else None
    if type(tokens) is not list or len(tokens) != 1 or type(tokens[0]) is not str:
        raise PolicyFault(".signatures.json must hold exactly one signature")
    if stated.get("plugin", "") not in ("", _OWN_VERIFIER):
        raise PolicyFault(".signatures.json asks for a verifier of its own; there is none")
    key = keys[_key_id(tokens[0], keys)]
    try:
        payload = jwt.decode(
            tokens[0], key.key.get_secret_value(), algorithms=[key.algorithm], options={"verify_aud": False, "verify_iat": False}
        )  # fmt: skip
    except (jwt.PyJWTError, ValueError) as error:
        raise PolicyFault(f"the bundle's signature does not hold: {type(error).__name__}") from None
    if payload.get("scope", "") != key.scope:
        raise PolicyFault("the bundle is signed for another scope")
    return payload


def _key_id(token: str, keys: Mapping[str, BundleKeyConfig]) -> str:
    """Which key is meant: what the header says, else the (older) claim ``keyid``, else the only one there is."""
    try:
        stated = jwt.get_unverified_header(token).get("kid")
        if stated is None:
            stated = jwt.decode(token, options={"verify_signature": False}).get("keyid")
    except (jwt.PyJWTError, ValueError) as error:
        raise PolicyFault(f"the bundle's signature cannot be read: {type(error).__name__}") from None
    if stated is None and len(keys) == 1:
        return next(iter(keys))
    if not isinstance(stated, str) or stated not in keys:
        raise PolicyFault("the bundle is signed with a key that is not known here")
    return stated


def _listed(payload: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Algorithm and hash of each file that was signed."""
    files = payload.get("files")
    if type(files) is not list:
        raise PolicyFault("the bundle's signature lists no files")
    listed: dict[str, tuple[str, str]] = {}
    for item in files:
        try:
            name, algorithm, stated = (item[key] for key in ("name", "algorithm", "hash"))
            name, stated = name.removeprefix("/"), stated.lower()
        except (TypeError, KeyError, AttributeError):
            raise PolicyFault("the bundle's signature lists a file without name, algorithm or hash") from None
        if name in listed:
            raise PolicyFault(f"the bundle's signature lists {name!r} twice")
        listed[name] = (str(algorithm), stated)
    return listed
