"""Patterns over what a certificate names: literal text, `*`, and `{name}`, which also keeps what it stands for.

A pattern is cut into segments at the separators of its kind (`/` in a URI, `.` in a host name); a placeholder stands for
one or more characters within one segment and never crosses a separator, and a segment has at most one. So
`spiffe://acme.example/ns/{tenant}/sa/{subject}` cannot be fitted by a longer path, and matching takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from .names import read_name

__all__ = ["Kind", "Pattern", "SubjectPattern", "is_spiffe_id", "kind_of"]

Kind = Literal["URI", "DNS", "email", "value"]

MAX_LENGTH: Final = 2048  # of a SPIFFE ID (SPIFFE-ID §2.3), and more than any other name has
_PLACE: Final = re.compile(r"\*|\{([a-z][a-z0-9_]{0,62})\}")
_SEPARATORS: Final[dict[Kind, str]] = {"URI": "/", "DNS": ".", "email": "@", "value": ""}
# What a placeholder may stand for: nothing that means something to whoever reads a tenant's or a subject's name next.
_RUN: Final[dict[Kind, str]] = {
    "URI": r"[A-Za-z0-9._~-]+",
    "DNS": r"[a-z0-9_-]+",
    "email": r"[A-Za-z0-9._+-]+",
    "value": r"[\w .@+'()&-]+",
}
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")


def is_spiffe_id(text: str) -> bool:
    """Whether ``text`` is a SPIFFE ID (SPIFFE-ID §2): no empty and no relative segment, no percent-encoding."""
    return len(text) <= MAX_LENGTH and _SPIFFE.fullmatch(text) is not None


def kind_of(san: str) -> tuple[Kind, str]:
    """The kind and the text of a subject alternative name such as ``DNS:agent.acme.example``.

    Raises:
        ValueError: it does not begin with ``URI:``, ``DNS:`` or ``email:``.
    """
    prefix, colon, text = san.partition(":")
    for kind in ("URI", "DNS", "email"):
        if colon and prefix.lower() == kind.lower():
            return kind, text
    raise ValueError("a san begins with its kind: URI:, DNS: or email:")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of one kind of name, compiled."""

    kind: Kind
    regex: re.Pattern[str]
    names: frozenset[str]

    @classmethod
    def read(cls, text: str, kind: Kind) -> Pattern:
        """Compiles ``text``.

        Raises:
            ValueError: two placeholders in one segment, a brace that is none, a name twice, nothing literal.
        """
        if not text or len(text) > MAX_LENGTH:
            raise ValueError(f"a pattern has 1 to {MAX_LENGTH} characters")
        if kind == "DNS":
            text = _lower(text)
        separator = _SEPARATORS[kind]
        names: list[str] = []
        segments = [_segment(part, kind, names) for part in (text.split(separator) if separator else [text])]
        if len(names) != len(set(names)):
            raise ValueError("a pattern has each placeholder once")
        if not re.sub(r"[\W_]", "", _PLACE.sub("", text)):
            raise ValueError("a pattern has something literal: it may not stand for every name")
        return cls(kind, re.compile(re.escape(separator).join(segments)), frozenset(names))

    def fits(self, text: str) -> dict[str, str] | None:
        """What the placeholders stand for, where ``text`` fits the whole pattern; else None."""
        if len(text) > MAX_LENGTH:
            return None
        # Host names are the same in any case (RFC 4343); a tenant that is taken from one must be, too.
        found = self.regex.fullmatch(text.lower() if self.kind == "DNS" else text)
        return found.groupdict() if found is not None else None

    def fits_one(self, texts: Iterable[str]) -> tuple[str, dict[str, str]] | None:
        """The first of ``texts`` that fits, and its captures; None where none does, or where two say different things."""
        found: tuple[str, dict[str, str]] | None = None
        for text in texts:
            captures = self.fits(text)
            if captures is None:
                continue
            if found is not None and captures != found[1]:
                return None
            found = found or (text, captures)
        return found


def _lower(pattern: str) -> str:
    return "".join(part.lower() for part in re.split(r"(\{[^}]*\})", pattern))


def _segment(text: str, kind: Kind, names: list[str]) -> str:
    places = list(_PLACE.finditer(text))
    if len(places) > 1:
        raise ValueError("a segment has at most one placeholder: '*' or '{name}'")
    if not places:
        _literal(text)
        return re.escape(text)
    [place] = places
    before, after = text[: place.start()], text[place.end() :]
    _literal(before)
    _literal(after)
    if place[1]:
        names.append(place[1])
    run = f"(?P<{place[1]}>{_RUN[kind]})" if place[1] else _RUN[kind]
    return f"{re.escape(before)}{run}{re.escape(after)}"


def _literal(text: str) -> None:
    if "{" in text or "}" in text:
        raise ValueError("a placeholder is '{name}', with a name of a-z, 0-9 and _")


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """Patterns for attributes of a distinguished name, in any order; attributes that it does not name may be there.

    Each attribute that it names must be there exactly once: a second `O` or `CN` is nobody's business to choose from.
    """

    attributes: tuple[tuple[str, Pattern], ...]
    names: frozenset[str]

    @classmethod
    def read(cls, text: str) -> SubjectPattern:
        """Compiles a pattern such as ``CN={subject},O=Acme``.

        Raises:
            ValueError: it is no distinguished name, or names an attribute or a placeholder twice.
        """
        parts = read_name(text)
        if parts is None:
            raise ValueError("a subject is a distinguished name, as in 'CN={subject},O=Acme'")
        compiled: list[tuple[str, Pattern]] = []
        names: list[str] = []
        literal = False
        for attribute, value in parts:
            placed: list[str] = []
            segment = _segment(value, "value", placed)
            literal = literal or bool(_PLACE.sub("", value))
            names += placed
            compiled.append((attribute, Pattern("value", re.compile(segment), frozenset(placed))))
        if len({attribute for attribute, _ in compiled}) != len(compiled) or len(names) != len(set(names)):
            raise ValueError("a subject's pattern has each attribute and each placeholder once")
        if not literal:
            raise ValueError("a pattern has something literal: it may not stand for every name")
        return cls(tuple(compiled), frozenset(names))

    def fits(self, subject: Iterable[tuple[str, str]]) -> dict[str, str] | None:
        """What the placeholders stand for, where ``subject`` fits; else None."""
        there: dict[str, list[str]] = {}
        for attribute, value in subject:
            there.setdefault(attribute, []).append(value)
        captures: dict[str, str] = {}
        for attribute, pattern in self.attributes:
            values = there.get(attribute, ())
            found = pattern.fits(values[0]) if len(values) == 1 else None
            if found is None:
                return None
            captures |= found
        return captures
