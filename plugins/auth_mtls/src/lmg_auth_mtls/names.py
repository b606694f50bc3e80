"""Distinguished names as attributes, from the two notations in which a certificate's subject comes here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["Attributes", "read_name"]

Attributes = tuple[tuple[str, str], ...]
"""Pairs of a short upper-case type (`CN`, `O`, `OU`) and a value, in the name's own order."""

MAX_NAME: Final = 4096
_SHORT: Final = {
    "COMMONNAME": "CN", "ORGANIZATIONNAME": "O", "ORGANIZATIONALUNITNAME": "OU", "COUNTRYNAME": "C", "LOCALITYNAME": "L",
    "STATEORPROVINCENAME": "ST", "DOMAINCOMPONENT": "DC", "USERID": "UID", "STREETADDRESS": "STREET", "SURNAME": "SN",
    "GIVENNAME": "GN",
}  # fmt: skip
"""Python's `ssl` writes OpenSSL's long names, Envoy those of RFC 4514 §3."""
_TYPE: Final = re.compile(r"[ ]*([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)=")
_PIECE: Final = re.compile(r'[^,+\\]+|\\([0-9A-Fa-f]{2})|\\([ #=,+"\\<>;])')


def read_name(text: str) -> Attributes | None:
    """The attributes of a subject such as ``CN=agent-7,O=Acme``, or None where it cannot be read with certainty.

    Escapes are those of RFC 4514 §2.4; values in hex (``#04…``) are kept as they stand.
    """
    if not text or len(text) > MAX_NAME:
        return None
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        kind = _TYPE.match(text, at)
        if kind is None:
            return None
        read = _value(text, kind.end())
        if read is None:
            return None
        value, at = read
        name = kind[1].upper()
        found.append((_SHORT.get(name, name), value))
        if at == len(text):
            return tuple(found)
        at += 1  # the `,` or `+`


def _value(text: str, at: int) -> tuple[str, int] | None:
    """The value that begins at ``at``, and where it ends: at a separator, or at the end of ``text``."""
    pieces: list[bytes] = []
    for piece in _pieces(text, at):
        if piece[2]:
            pieces.append(piece[2].encode())
        elif piece[1]:
            pieces.append(bytes.fromhex(piece[1]))
        else:
            pieces.append(piece[0].encode("utf-8", "surrogatepass"))
        at = piece.end()
    if at < len(text) and text[at] == "\\":
        return None
    try:
        return b"".join(pieces).decode(), at
    except UnicodeDecodeError:
        return None


def _pieces(text: str, at: int) -> Iterator[re.Match[str]]:
    while (piece := _PIECE.match(text, at)) is not None:
        yield piece
        at = piece.end()
