"""Reads `x-forwarded-client-cert`, in which Envoy says whose certificate it has verified.

Source: Envoy, "HTTP header manipulation", x-forwarded-client-cert. Elements are separated by `,`, an element's pairs by
`;`, a key (any case) from its value by the first `=`; a value that holds one of the three is quoted, and a quote inside
it is written `\\"`. Every proxy appends one element at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Element", "MalformedXfcc", "read_xfcc"]

MAX_ELEMENTS: Final = 16
MAX_PAIRS: Final = 64
_ONCE: Final = frozenset({"hash", "cert", "chain", "subject"})
_REPEATED: Final = frozenset({"by", "uri", "dns"})
# A backslash takes the character after it along, whatever that is: a subject's own `\\` (RFC 4514 §2.4) stands before
# the closing quote as it is, and must not hide it.
_PAIR: Final = re.compile(r'[ \t]*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))[ \t]*(.?)')
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e\t]+")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


class MalformedXfcc(ValueError):
    """The value is none that Envoy writes. The message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Element:
    """What one proxy said of the peer that was connected to it.

    ``subject`` is a distinguished name (RFC 4514), ``sha256`` the certificate's fingerprint in lower-case hex; both are
    empty where the proxy did not say. ``by`` names the proxy's own certificate.
    """

    by: tuple[str, ...] = ()
    sha256: str = ""
    subject: str = ""
    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


def read_xfcc(raw: bytes) -> tuple[Element, ...]:
    """The elements of a header's value, leftmost (farthest from here) first; at least one.

    Every element must be well-formed, also those that nobody asks for: a value that is half understood is not trusted.

    Raises:
        MalformedXfcc: for characters that no header has, an unknown or repeated key, a bad fingerprint, a quote in the
            wrong place, an element without pairs, and more elements or pairs than there can be.
    """
    if not _PRINTABLE.fullmatch(raw):
        raise MalformedXfcc("the value is empty or has characters that are not printable")
    text = raw.decode("ascii")
    elements: list[Element] = []
    pairs: list[tuple[str, str]] = []
    at = 0
    while True:
        found = _PAIR.match(text, at)
        if found is None:
            raise MalformedXfcc("a pair is not key=value, or its quotes do not close")
        key, quoted, plain, mark = found.groups()
        pairs.append((key.lower(), quoted if quoted is not None else plain.rstrip(" \t")))
        if len(pairs) > MAX_PAIRS:
            raise MalformedXfcc(f"an element has more than {MAX_PAIRS} pairs")
        at = found.end()
        if mark == ";":
            continue
        if mark not in ("", ","):
            raise MalformedXfcc("a value goes on after its closing quote")
        elements.append(_element(pairs))
        if len(elements) > MAX_ELEMENTS:
            raise MalformedXfcc(f"there are more than {MAX_ELEMENTS} elements")
        if not mark:
            return tuple(elements)
        pairs = []


def _element(pairs: list[tuple[str, str]]) -> Element:
    seen: dict[str, list[str]] = {}
    for key, value in pairs:
        if key not in _ONCE and key not in _REPEATED:
            raise MalformedXfcc("an element has a key that is not known")
        seen.setdefault(key, []).append(value)
    if any(len(values) > 1 for key, values in seen.items() if key in _ONCE):
        raise MalformedXfcc("an element has a key twice that may stand in it once")
    [sha256] = seen.get("hash", [""])
    if sha256 and not _HASH.fullmatch(sha256):
        raise MalformedXfcc("a Hash is not the SHA-256 of a certificate")
    [subject] = seen.get("subject", [""])
    by, uris, dns = (
        tuple(value.replace('\\"', '"') for value in seen.get(key, ()) if value)
        for key in ("by", "uri", "dns")
    )
    return Element(by, sha256.lower(), subject, uris, dns)
