"""Finds personal data in a text, so that a stream finds the same: a detector of the kernel's redactor."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Final

from lmg.redaction import Found

from .numbers import LEAD, OPEN, REACH, Numbers
from .placeholders import Restorer

__all__ = ["BACK", "PLACEHOLDER", "Scanner", "folded"]

PLACEHOLDER: Final = "placeholder"
BACK: Final = 66
"""Characters before a place that may decide what begins there: the words of its context, and the borders of the first."""

FEW: Final = 16
"""Known texts of which each is looked for by itself before the pattern of all is tried: that is quicker."""
LOCAL: Final = 64
DOMAIN: Final = 255
_LOCAL_CHARS: Final = string.ascii_letters + string.digits + "._%+'-" + "".join(map(chr, range(0xC0, 0x250)))
_DOMAIN: Final = re.compile(
    r"[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\-\u00c0-\u024f]*(?:\.[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\-\u00c0-\u024f]*)+"
)
_DOMAIN_WAY: Final = re.compile(r"[A-Za-z0-9.\-\u00c0-\u024f]*")
_TOP: Final = re.compile(r"\.[A-Za-z\u00c0-\u024f]{2,}\Z|\.xn--[A-Za-z0-9-]{1,59}\Z")
# What may stand before an address and is no part of it: marks, an elision (d'ada@…), the quote of a program's string.
_OPENING: Final = re.compile(r"(?:[.\-%']|(?:[bcdfjlmnrstu]|qu)')+", re.IGNORECASE)
_DIGIT: Final = re.compile(r"[0-9:]")

# Characters that are other spellings of ASCII ones: full-width forms, digits of other scripts, spaces and hyphens of typography.
_SPELLED: Final[dict[int, str]] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **{base + n: str(n) for base in (0x0660, 0x06F0, 0x0966) for n in range(10)},
    **dict.fromkeys((0xA0, 0x2007, 0x2009, 0x202F, 0x3000), " "),
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2212), "-"),
}  # fmt: skip
_ODD: Final = re.compile("[" + "".join(map(chr, _SPELLED)).replace("-", "").replace("]", "") + "]")


def folded(text: str) -> str:
    """``text`` with the other spellings of ASCII characters as these; each character stays one."""
    if text.isascii() or _ODD.search(text) is None:
        return text
    return text.translate(_SPELLED)


class Scanner:
    """A detector of all ``ranks`` entities at once, and of placeholders where there are any.

    Values that overlap are one, under the name of the highest rank, so that a weaker action never wins.
    Every decision looks back at most ``BACK`` characters.
    """

    def __init__(
        self,
        ranks: Mapping[str, int],
        numbers: Numbers,
        *,
        restorer: Restorer | None = None,
        known: re.Pattern[str] | None = None,
        known_names: Mapping[str, str] | None = None,
    ) -> None:
        self._ranks = ranks
        self._numbers = numbers
        self._numeric = bool(set(ranks) - {"email"})
        self._email = "email" in ranks
        self._restorer = restorer
        self._known, self._names = known, known_names or {}

    # -- what waits -----------------------------------------------------------------------------
    def open(self, text: str, begin: int) -> int:
        """The first place from ``begin`` on at which what begins is not decided; ``len(text)`` where all is."""
        text = folded(text)
        end = at = len(text)
        if self._numeric:
            for one in OPEN.finditer(text, max(begin, end - REACH)):
                if not self._numbers.decided(text, one.start()):
                    at = one.start()
                    break
        if self._email:
            at = min(at, max(begin, self._open_email(text, end)))
        if self._restorer is not None:
            at = min(at, self._restorer.open(text, begin))
        return at

    def _open_email(self, text: str, end: int) -> int:
        sign = text.rfind("@", max(0, end - DOMAIN - 1))
        if sign >= 0:
            way = _DOMAIN_WAY.match(text, sign + 1)
            if way is not None and way.end() == end:
                return _local_start(text, sign)
        return _local_start(text, end)

    # -- what is found --------------------------------------------------------------------------
    def find(self, text: str, start: int, end: int) -> Sequence[Found]:
        """The values that begin in ``text[start:end]``, in order; none overlaps another."""
        original, text = text, folded(text)
        found: list[tuple[int, int, str]] = []
        at = start
        if self._restorer is not None:
            found += self._restorer.find(text, start, end, PLACEHOLDER)
            for first, last, _ in found[:]:
                self._between(text, at, first, found)
                at = last
        self._between(text, at, end, found)
        if self._known is not None and (
            len(self._names) > FEW or any(one in original for one in self._names)
        ):
            found += [
                (one.start(), one.end(), self._names[one.group()])
                for one in self._known.finditer(original, start)
            ]
        if not found:
            return ()
        return [Found(first, last, name, original[first:last]) for first, last, name in self._joined(found)]

    def _between(self, text: str, start: int, end: int, found: list[tuple[int, int, str]]) -> None:
        """What begins between two placeholders; what stands behind one is no part of it, and looked at for itself."""
        if self._email:
            self._emails(text, start, end, found)
        if self._numeric:
            self._numbers_in(text, start, end, found)

    def _emails(self, text: str, start: int, end: int, found: list[tuple[int, int, str]]) -> None:
        least, furthest = start, end + LOCAL + 1
        sign = text.find("@", start, furthest)
        while sign >= 0:
            begin = max(least, _local_start(text, sign))
            opening = _OPENING.match(text, begin, sign)
            if opening is not None:
                begin = opening.end()
            if begin >= end:
                return
            match = _DOMAIN.match(text, sign + 1, sign + 1 + DOMAIN) if begin < sign else None
            if match is not None:
                last = match.end()
                while text[last - 1] == "-":
                    last -= 1
                if _TOP.search(text, sign, last):
                    found.append((begin, last, "email"))
                    least = last
            sign = text.find("@", sign + 1, furthest)

    def _numbers_in(self, text: str, start: int, end: int, found: list[tuple[int, int, str]]) -> None:
        at = start
        numbers = self._numbers
        search = numbers.start.search
        while True:
            # Where no digit is near, nothing can begin: most of a text is passed by at the speed of the search.
            near = _DIGIT.search(text, at, end + LEAD)
            if near is None:
                return
            begin = search(text, max(at, near.start() - LEAD), end + REACH)
            if begin is None or begin.start() >= end:
                return
            match = numbers.at(text, begin.start())
            if match is None:
                at = begin.start() + 1
                continue
            if match.entity in self._ranks:
                found.append((begin.start(), match.end, match.entity))
            at = match.end

    def _joined(self, found: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        if len(found) == 1:
            return found
        found.sort()
        ranks = self._ranks
        out = [found[0]]
        for start, end, name in found[1:]:
            first, last, named = out[-1]
            if start >= last:
                out.append((start, end, name))
            elif named != PLACEHOLDER and (
                name == PLACEHOLDER or (end <= last and ranks[name] <= ranks[named])
            ):
                out[-1] = (first, max(last, end), named)
            elif named != PLACEHOLDER:
                out[-1] = (first, max(last, end), name if ranks[name] > ranks[named] else named)
        return out


def _local_start(text: str, end: int) -> int:
    """Where the local part of an address begins that goes up to ``end``: at most 64 characters before."""
    least = max(0, end - LOCAL)
    return least + len(text[least:end].rstrip(_LOCAL_CHARS))
