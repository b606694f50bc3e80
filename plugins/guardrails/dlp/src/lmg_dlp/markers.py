"""The operator's own words and patterns: project names, classification labels, numbers of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

from lmg.redaction import Found

__all__ = ["BadPattern", "Marker", "pattern_marker", "word_marker"]

MAX_WIDTH: Final = 256
MAX_WAYS: Final = 1000
MAX_ALTERNATIVES: Final = 64
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S", "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip


class BadPattern(ValueError):
    """A pattern that is not in the language that can be searched for in bounded time and in streams."""


class _Atom(NamedTuple):
    """Characters of one class, ``low`` to ``high`` of them."""

    chars: str
    low: int
    high: int


class Marker:
    """A detector for sequences of character classes with bounded repeats.

    From each place there are at most ``MAX_WAYS`` ways to match and ``MAX_WIDTH`` characters, so a search is linear in the
    text. What waits in a stream is the earliest place from which the rest of the text is the beginning of a match.
    """

    def __init__(
        self, name: str, alternatives: Sequence[Sequence[_Atom]], flags: int, before: str, behind: str
    ) -> None:
        self.name = name
        self.max_length = max(sum(atom.high for atom in one) for one in alternatives) + 1
        whole = "|".join("".join(map(_repeat, one)) for one in alternatives)
        self._whole = re.compile(f"{before}(?:{whole}){behind}", flags)
        self._open = re.compile(f"{before}(?:{'|'.join(map(_beginning, alternatives))})", flags)

    def last_run(self, text: str) -> int:
        begins = self._open.search(text, max(0, len(text) - self.max_length))
        return begins.start() if begins is not None else len(text)

    def run_end(self, text: str, start: int) -> int:
        return start  # a match is bounded, so no run is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        at = start
        while (match := self._whole.search(text, at)) is not None and match.start() < end:
            yield Found(match.start(), match.end(), self.name, match.group())
            at = match.start() + 1  # every place is asked, so that no cut of a stream makes a difference


def word_marker(name: str, words: Sequence[str]) -> Marker:
    """A detector for whole words and phrases, in any case, with any white space between their words."""
    alternatives = []
    for word in words:
        pieces = word.split()
        atoms: list[_Atom] = []
        for n, piece in enumerate(pieces):
            if n:
                atoms.append(_Atom(r"[\s_-]", 1, 4))
            atoms += [_Atom(re.escape(one), 1, 1) for one in piece]
        alternatives.append(atoms)
    if not all(alternatives):
        raise BadPattern("a word is empty")
    return Marker(name, alternatives, re.IGNORECASE, r"(?<!\w)", r"(?!\w)")


def pattern_marker(name: str, pattern: str, *, ignore_case: bool = False) -> Marker:
    r"""A detector for a pattern such as ``\bPRJ-[0-9]{4,6}\b``: characters, classes, bounded repeats, alternatives.

    Raises:
        BadPattern: with what it may not hold, or how it is too wide.
    """
    before = r"(?<!\w)" if pattern.startswith(r"\b") else ""
    behind = r"(?!\w)" if pattern.endswith(r"\b") else ""
    try:
        tree = _parser.parse(pattern.removeprefix(r"\b").removesuffix(r"\b"))
    except re.error as error:
        raise BadPattern(f"no regular expression: {error}") from None
    alternatives = _alternatives(list(tree))
    for atoms in alternatives:
        if not sum(atom.low for atom in atoms):
            raise BadPattern("it matches nothing at all")
        if sum(atom.high for atom in atoms) > MAX_WIDTH:
            raise BadPattern(
                f"it may match more than {MAX_WIDTH} characters; bound its repeats, as in {{1,16}}"
            )
        if prod(atom.high - atom.low + 1 for atom in atoms) > MAX_WAYS:
            raise BadPattern(
                f"there are more than {MAX_WAYS} ways to match it; narrow its repeats, as in {{4,6}}"
            )
    return Marker(name, alternatives, re.IGNORECASE if ignore_case else 0, before, behind)


def _alternatives(tree: Sequence[Any]) -> list[list[_Atom]]:
    """Every way to choose among branches, each as atoms in a row."""
    parts: list[list[list[_Atom]]] = []
    for op, value in tree:
        if op is sre.BRANCH:
            parts.append([way for branch in value[1] for way in _alternatives(list(branch))])
        elif op is sre.SUBPATTERN:
            parts.append(_alternatives(list(value[3])))
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            low, high, inner = value
            inside = list(inner)
            if high is sre.MAXREPEAT or int(high) > MAX_WIDTH:
                raise BadPattern("'*', '+' and '{n,}' have no bound; write {1,16}")
            if len(inside) != 1 or inside[0][0] in (
                sre.SUBPATTERN,
                sre.BRANCH,
                sre.MAX_REPEAT,
                sre.MIN_REPEAT,
            ):
                if (low, high) != (0, 1):
                    raise BadPattern("only single characters and classes repeat; groups may be optional")
                parts.append([[], *_alternatives(inside)])
            else:
                parts.append([[_Atom(_chars(*inside[0]), int(low), int(high))]])
        else:
            parts.append([[_Atom(_chars(op, value), 1, 1)]])
        if prod(map(len, parts)) > MAX_ALTERNATIVES:
            raise BadPattern(f"it has more than {MAX_ALTERNATIVES} alternatives")
    return [[atom for piece in way for atom in piece] for way in product(*parts)]


def _chars(op: Any, value: Any) -> str:
    if op is sre.LITERAL:
        return re.escape(chr(value))
    if op is sre.NOT_LITERAL:
        return f"[^{re.escape(chr(value))}]"
    if op is sre.ANY:
        return r"[^\n]"
    if op is sre.IN:
        return f"[{''.join(_item(*one) for one in value)}]"
    raise BadPattern("it may hold characters, classes, bounded repeats and alternatives; \\b at its two ends")


def _item(op: Any, value: Any) -> str:
    if op is sre.NEGATE:
        return "^"
    if op is sre.LITERAL:
        return re.escape(chr(value))
    if op is sre.RANGE:
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    return _CATEGORIES[str(value)]


def _repeat(atom: _Atom) -> str:
    return atom.chars if atom.low == atom.high == 1 else f"{atom.chars}{{{atom.low},{atom.high}}}"


def _beginning(atoms: Sequence[_Atom]) -> str:
    """A pattern for every beginning of the atoms, at the end of a text."""
    pattern = r"\Z"
    for n, atom in enumerate(reversed(atoms)):
        first = n == len(atoms) - 1
        # An empty beginning says nothing: at least one character of the first atom has to be there.
        some = f"{atom.chars}{{{int(first)},{atom.high}}}\\Z"
        pattern = (
            f"(?:{some}|{_repeat(atom)}{pattern})" if pattern != r"\Z" or atom.high > 1 else f"(?:{some})"
        )
    return pattern
