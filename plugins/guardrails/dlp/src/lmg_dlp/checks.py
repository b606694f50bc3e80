"""What tells a secret from a text that only looks like one: entropy, check digits, placeholders."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections import Counter
from math import log2
from typing import Final

__all__ = ["decoded", "entropy", "github_checksum", "is_jwt", "looks_made_up", "mixed"]

_MADE_UP: Final = re.compile(
    r"x{5,}|\*{3,}|\.{3}|-{4,}|_{4,}|your|example|placeholder|change_?me|redacted|dummy|fake|sample|insert|replace_|todo|"
    r"0{10,}|123456789|abcdefgh|deadbeef|<|>|\$\{|\{\{|%s|process\.env|os\.environ|getenv",
    re.IGNORECASE,
)
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_BASE32: Final = re.compile(r"(?:[A-Z2-7]{16,}|[a-z2-7]{16,})=*")
_UPPER, _LOWER, _DIGIT = re.compile("[A-Z]"), re.compile("[a-z]"), re.compile("[0-9]")


def entropy(text: str) -> float:
    """Shannon's entropy of ``text``, in bits a character; 0 for an empty one."""
    length = len(text)
    return -sum(n / length * log2(n / length) for n in Counter(text).values()) if length else 0.0


def looks_made_up(text: str) -> bool:
    """Whether ``text`` is a placeholder, a reference to a variable, or an example of the documentation."""
    return _MADE_UP.search(text) is not None


def mixed(text: str) -> bool:
    """Whether capitals, small letters and digits stand in ``text``: as in random base62, hardly ever in words."""
    return bool(_UPPER.search(text) and _LOWER.search(text) and _DIGIT.search(text))


def github_checksum(token: str) -> bool:
    """Whether the last six characters of a GitHub token are the CRC-32 (base62) of the thirty before them.

    Source: "Behind GitHub's new authentication token formats" (2021). Test data seldom has it: it makes a finding
    certain, and its absence none impossible.
    """
    body, check = token[-36:-6], token[-6:]
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return digits.rjust(6, "0") == check


def decoded(text: str) -> str:
    """What ``text`` says in base64, base32 or hexadecimal, where that is readable text; else nothing."""
    if _BASE64.fullmatch(text) is None:
        return ""
    if len(text) % 2 == 0 and not text.strip("0123456789abcdefABCDEF"):
        raw = bytes.fromhex(text)
        if _readable(raw):
            return raw.decode()
    if _BASE32.fullmatch(text):
        try:
            raw = base64.b32decode(text.rstrip("=").upper() + "=" * (-len(text.rstrip("=")) % 8))
        except binascii.Error:
            raw = b"\0"
        if _readable(raw):
            return raw.decode()
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return ""
    return raw.decode() if _readable(raw) else ""


def is_jwt(token: str) -> bool:
    """Whether the first part of a JWS or JWE says in base64url that it is a header: JSON with ``alg`` or ``typ``."""
    head = token.split(".", 1)[0]
    try:
        said = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return False
    return (
        said.startswith(b"{") and said.rstrip(b"\0").endswith(b"}") and (b'"alg"' in said or b'"typ"' in said)
    )


def _readable(raw: bytes) -> bool:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return False
    return len(text) >= 8 and sum(one.isprintable() or one in "\r\n\t" for one in text) == len(text)
