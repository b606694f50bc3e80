"""Canaries: strings that stand in one tenant's prompts alone, looked for in every disguise that keeps them readable."""

from __future__ import annotations

import base64
import codecs
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from random import Random, SystemRandom
from typing import Final

from lmg.redaction import Found

from .openers import trie

__all__ = ["PREFIX", "Canaries", "make_canary", "spellings"]

PREFIX: Final = "canary/"
"""Found as this and the canary's place in the list."""

MIN_LENGTH: Final = 12
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_MAX_GAP: Final = 8
_KEEP: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_DROP: Final = re.compile("[^a-z0-9]+")
_ASCII_LOWER: Final = {n: n + 32 for n in range(65, 91)}
_HEAD: Final = 8


def make_canary(random: Random | None = None) -> str:
    """A new canary: ``lmgc`` and 24 characters, 118 bits at random. It reads as an identifier, so that models repeat it."""
    return "lmgc" + "".join((random or SystemRandom()).choices(_LETTERS, k=24))


def folded(text: str) -> str:
    """The letters and digits (ASCII) of ``text``, small, without anything between them."""
    return _DROP.sub("", _lower(text))


def spellings(value: str) -> set[str]:
    """``value`` as it reads when folded: itself, reversed, in rot13, hexadecimal, base64 (wherever in it), both reversed, too."""
    plain = folded(value)
    raw = value.encode()
    found = {
        plain,
        codecs.encode(plain, "rot13"),
        raw.hex(),
        value.lower().encode().hex(),
        value.upper().encode().hex(),
    }
    for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # The characters at both ends hold bits of what stands beside it.
        first, last = (0, 2, 3)[shift], int((shift + len(raw)) % 3 != 0)
        found.add(folded(packed[first : len(packed) - last]))
    return {one for one in found | {one[::-1] for one in found} if len(one) >= MIN_LENGTH}


class Canaries:
    """Finds any of ``values``: up to eight characters of anything else may stand between two of its own."""

    name = "canary"

    def __init__(self, values: Sequence[str]) -> None:
        self._names = {one: f"{PREFIX}{n}" for n, value in enumerate(values) for one in spellings(value)}
        self._sorted = sorted(self._names)
        self._by_head: dict[str, list[str]] = {}
        for one in self._sorted:
            self._by_head.setdefault(one[:_HEAD], []).append(one)
        self._scan = re.compile(trie(self._by_head))
        self._longest = max(map(len, self._sorted))
        self.max_length = self._longest * (_MAX_GAP + 1)

    def last_run(self, text: str) -> int:
        """Where the earliest spelling begins that what follows may still complete."""
        end = len(text)
        begin = max(0, end - self.max_length)
        places = _places(_lower(text[begin:]), begin)
        if not places or end - 1 - places[-1] > _MAX_GAP:
            return end
        first = len(places) - 1
        while (
            first
            and len(places) - first < self._longest
            and places[first] - places[first - 1] <= _MAX_GAP + 1
        ):
            first -= 1
        low = "".join([text[at] for at in places[first:]]).lower()
        for n in range(len(low)):
            at = bisect_left(self._sorted, low[n:])
            if (
                at < len(self._sorted)
                and self._sorted[at].startswith(low[n:])
                and len(self._sorted[at]) > len(low) - n
            ):
                return places[first + n]
        return end

    def run_end(self, text: str, start: int) -> int:
        return start  # a spelling is bounded, so no run is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        low = _lower(text)
        plain = _DROP.sub("", low[start:])
        head = self._scan.search(plain)
        if head is None:
            return
        places = _places(low[start:], start)
        while head is not None:
            n = head.start()
            if places[n] >= end:
                return
            for one in self._by_head[head.group()]:
                last = n + len(one) - 1
                if plain.startswith(one, n) and all(
                    places[k + 1] - places[k] <= _MAX_GAP + 1 for k in range(n, last)
                ):
                    yield Found(
                        places[n], places[last] + 1, self._names[one], text[places[n] : places[last] + 1]
                    )
            head = self._scan.search(plain, n + 1)


def _places(low: str, begin: int) -> list[int]:
    return [begin + n for n, one in enumerate(low) if one in _KEEP]


def _lower(text: str) -> str:
    low = text.lower()
    return low if len(low) == len(text) else text.translate(_ASCII_LOWER)
