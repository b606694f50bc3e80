"""A detector whose values begin with one of many known texts, found in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from re import _parser  # type: ignore[attr-defined]
from typing import Final

from lmg.redaction import Found

__all__ = ["Openers", "TokenRule", "trie", "widest"]

_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@dataclass(frozen=True, slots=True)
class TokenRule:
    """A kind of token. ``pattern`` matches at the token's beginning, in bounded length, and begins with one of
    ``literals``, whose first character no letter, digit or underscore may stand before.
    """

    kind: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", widest(self.pattern.pattern))


def widest(pattern: str) -> int:
    """The greatest length of a match of ``pattern``.

    Raises:
        ValueError: it has none.
    """
    widest = int(_parser.parse(pattern).getwidth()[1])
    if widest > 100_000:
        raise ValueError(f"unbounded: {pattern}")
    return widest


def trie(literals: Iterable[str]) -> str:
    """A pattern for any of ``literals`` in which no beginning is tried twice."""
    by_first: dict[str, list[str]] = {}
    for one in sorted(set(literals)):
        by_first.setdefault(one[:1], []).append(one[1:])
    if "" in by_first:  # the shortest decides
        return ""
    branches = [re.escape(first) + trie(rest) for first, rest in by_first.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


class Openers:
    """Token rules over one ASCII alphabet, the inside of a character class.

    Whether a token begins at a place depends on what follows it there, in bounded length, and on the one character
    before. So a place that has been passed over once is decided for good, and whoever cuts a stream between two such
    places changes nothing. What waits is the earliest place where a rule may still be completed.
    """

    name = "secret"

    def __init__(self, alphabet: str, rules: Sequence[TokenRule]) -> None:
        literals = {literal for rule in rules for literal in rule.literals}
        heads = {one for one in literals if not any(one[:n] in literals for n in range(1, len(one)))}
        self._rules: dict[str, list[TokenRule]] = {head: [] for head in heads}
        for rule in sorted(rules, key=lambda rule: -max(map(len, rule.literals))):
            for head in {h for h in heads for one in rule.literals if one.startswith(h)}:
                self._rules[head].append(rule)
        self._limits = {head: max(rule.limit for rule in there) for head, there in self._rules.items()}
        self._scan = re.compile(rf"\b{trie(heads)}", re.ASCII)
        self._beginnings = {head[:n] for head in heads for n in range(1, len(head))}
        self._longest = max(map(len, heads))
        self._chars = "".join(chr(n) for n in range(128) if re.match(f"[{alphabet}]", chr(n)))
        self.max_length = max(self._limits.values())

    def last_run(self, text: str) -> int:
        """Where the earliest token begins that what follows may still complete."""
        end = len(text)
        tail = max(len(text.rstrip(self._chars)), end - self.max_length)
        if tail == end:
            return end
        begins = end
        at = tail
        while (opener := self._scan.search(text, at)) is not None:
            if end - opener.start() <= self._limits[opener.group()]:
                begins = opener.start()
                break
            at = opener.start() + 1
        for at in range(max(tail, end - self._longest), begins):
            if text[at:] in self._beginnings and (at == 0 or text[at - 1] not in _WORD):
                return at
        return begins

    def run_end(self, text: str, start: int) -> int:
        return start  # no rule is unbounded, so no run is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        at = start
        while (opener := self._scan.search(text, at)) is not None and opener.start() < end:
            at = opener.start()
            for rule in self._rules[opener.group()]:
                match = rule.pattern.match(text, at)
                if match is not None and (rule.check is None or rule.check(match.group())):
                    yield Found(at, match.end(), rule.kind, match.group())
                    break
            at += 1
