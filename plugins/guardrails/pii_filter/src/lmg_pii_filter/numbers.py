"""Recognises what begins with a digit, ``+`` or ``(``, or with the few letters that some numbers begin with.

Each function looks at one place of a text and a bounded way ahead, and at the words before it (``context.nearest``). So
a decision is final once ``REACH`` characters are known, or earlier where the characters of numbers have ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from . import checks, issued, phone_forms
from .context import AHEAD, follows, nearest
from .issued import Span

__all__ = ["LEAD", "OPEN", "REACH", "Match", "Numbers"]

LEAD: Final = 16
"""What has a digit or a colon has its first one within so many characters."""
_FORMS: Final = issued.FORMS | phone_forms.FORMS
REACH: Final = 64
"""Nothing that begins at a place ends, or is decided by, what is further ahead."""

_BEHIND: Final = r"(?<![0-9A-Za-z_])(?<![0-9][.,\-])(?<![0-9A-Fa-f]-)"
"""Nothing begins inside of a word or a number, or of what hyphens join, such as a UUID."""
_MONTH: Final = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|ene|abr|ago|dic|fev|fév|mai|avr|juin|juil|ao[uû]t|déc|mär|okt|dez|set|out|gen|mag|giu|lug|ott)"
    r"[a-zà-ÿç]{0,7}\.?"
)
# Each way begins with one character or class: the engine then passes by what cannot begin so without trying it.
_SIX_DIGITS: Final = r"[0-9](?:[ .()/\-]{0,3}[0-9]){5}|[+(][+(]?[0-9](?:[ .()/\-]{0,3}[0-9]){5}"
_STARTS: Final = (
    ({"ip"}, r"[0-9][0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f][0-9A-Fa-f]{0,3}:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]"),
    ({"iban"}, r"[A-Za-z][A-Za-z][0-9][0-9][ -]?[0-9A-Za-z]{4}"),
    ({"nino"}, r"[A-Za-z][A-Za-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2}"),
    ({"dni"}, r"[XYZxyz][ -]?[0-9]{7}"),
    ({"codice_fiscale"}, r"[A-Za-z](?=[A-Za-z]{5,14}[0-9])[A-Za-z]{5}[0-9A-Za-z]{10}(?![0-9A-Za-z])"),
    ({"date_of_birth"},
     rf"[0-9][0-9]{{0,3}}(?:[./\-年][0-9]|(?:st|nd|rd|th|\.|º|er)?,? (?:de |of )?(?i:{_MONTH}))|[A-Z][a-zà-ÿ]{{2,8}}\.? [0-9]"),
)  # fmt: skip
OPEN: Final = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9][.,\-])(?<![0-9A-Fa-f]-)(?=[+(]{0,2}[0-9]|[+(]{1,2}\Z|[A-Za-z:])"
)
"""Where something may begin that is not decided yet."""

_SPAN: Final = re.compile(r"[+(]{0,2}[0-9]{1,20}(?:[ .()/\-]{1,3}[0-9]{1,20}){0,6}")
_LEADING: Final = re.compile(r"[0-9]{1,20}")
_GROUP: Final = re.compile(r"([^0-9]*)([0-9]+)")
_IBAN_WAY: Final = re.compile(r"[A-Za-z]{2}(?:[0-9]{1,2}(?:[ -]?[0-9A-Za-z]){0,42})?")
_LETTERED: Final = (
    ("codice_fiscale", re.compile(r"[A-Za-z]{6}[0-9A-Za-z]{10}(?![0-9A-Za-z])"), checks.codice_fiscale),
    ("dni", re.compile(r"[XYZxyz][ -]?[0-9]{7}[ -]?[A-Za-z](?![0-9A-Za-z])"), checks.nie),
    ("nino", re.compile(r"[A-Za-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d](?![0-9A-Za-z])"), checks.nino),
)  # fmt: skip
_DIGITS_LETTER: Final = (
    ("dni", re.compile(r"[0-9]{8}[ -]?[A-Za-z](?![0-9A-Za-z])|[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-Za-z](?![0-9A-Za-z])"), checks.dni, frozenset({2, 8})),
    ("cn_id", re.compile(r"[0-9]{17}[0-9Xx](?![0-9A-Za-z])"), checks.cn_id, frozenset({17, 18})),
    ("nir", re.compile(r"[0-9] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?![0-9A-Za-z])"), checks.nir, frozenset({1, 3, 5, 6, 7, 10, 13, 15})),
)  # fmt: skip
_BORN: Final = re.compile(
    r"(?:[0-9]{1,2}[./\-][0-9]{1,2}[./\-](?:[0-9]{4}|[0-9]{2})|[0-9]{4}[./\-][0-9]{1,2}[./\-][0-9]{1,2}|[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}[日号]?"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th|\.|º|er)?,? (?:de |of )?{_MONTH},? (?:de |del )?[0-9]{{4}}|{_MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}})(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_IPV4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_]|\.[0-9])")
_IPV6: Final = re.compile(
    r"(?=[0-9A-Fa-f:]{0,48}[0-9])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![0-9A-Za-z:])"
)
_MOST: Final = 48
"""Characters of groups of digits that are looked at: 19 digits with all that may stand between them are fewer."""


class Match(NamedTuple):
    """What begins at a place: where it ends, and which entity it is."""

    end: int
    entity: str


class Numbers:
    """The recognisers of the ``wanted`` entities. ``regions`` are those whose national telephone numbers count."""

    def __init__(self, wanted: frozenset[str], regions: tuple[str, ...]) -> None:
        self._wanted = wanted
        self._regions = regions
        self._lettered = [one for one in _LETTERED if one[0] in wanted]
        self._digits_letter = [one for one in _DIGITS_LETTER if one[0] in wanted]
        self.start = _start_of(wanted)
        """Where something may begin, at first sight."""
        self._spanned = bool(wanted - {"email", "iban", "codice_fiscale", "nino", "dni", "cn_id", "nir"})

    def decided(self, text: str, at: int) -> bool:
        """Whether no text behind ``text`` can change what is recognised at ``at``."""
        end = len(text)
        if end - at >= REACH:
            return True
        first = text[at]
        way = at
        if first.isalpha():
            while way < end and way - at < 20 and text[way].isalpha():
                way += 1
            if way == end:
                return False
            letters = way - at
            if letters == 1:
                way = max(way, _way(_NIE_WAY, text, at) + 1)
            if letters <= 2:
                way = max(way, _way(_IBAN_WAY, text, at) + 1, _way(_NINO_WAY, text, at) + 1)
            elif _MONTH_START.match(text, at) and nearest(text, at) == "born":
                way += 14
            if letters <= 6:
                way = max(way, _way(_ALNUM, text, at) + 1)
            if letters <= 4:
                way = max(way, _way(_HEX, text, at) + 1)
        elif first == ":":
            way = _way(_HEX, text, at) + 1
        else:
            # A word behind a number may say what it is; a month's name may stand in a date.
            way = max(_way(_SPAN_WAY, text, at) + AHEAD, _way(_HEX, text, at) + 1)
            if nearest(text, at) == "born":
                way = max(way, at + 40)
            elif _CORSICA.match(text, at):
                way = max(way, at + 24)
        return way < end

    def at(self, text: str, at: int) -> Match | None:
        """What begins at ``at``, the strictest first."""
        first = text[at]
        if first.isalpha() or first == ":":
            return self._letters(text, at)
        return self._digits(text, at)

    # -- letters --------------------------------------------------------------------------------
    def _letters(self, text: str, at: int) -> Match | None:
        if "iban" in self._wanted:
            found = _iban(text, at)
            if found is not None:
                return found
        for entity, pattern, check in self._lettered:
            end = _checked(text, at, pattern, check)
            if end:
                return Match(end, entity)
        return self._ipv6(text, at) or self._born(text, at)

    # -- digits ---------------------------------------------------------------------------------
    def _digits(self, text: str, at: int) -> Match | None:
        leading = _LEADING.match(text, at)
        if leading is not None:
            found = self._by_leading(text, at, leading.end() - at)
            if found is not None:
                return found
        whole = _SPAN.match(text, at, at + _MOST) if self._spanned else None
        return self._grouped(text, at, whole.end()) if whole is not None else None

    def _grouped(self, text: str, at: int, end: int) -> Match | None:
        """What the groups of digits up to ``end`` are together, or the first ones of them: the longest first."""
        parts = _GROUP.findall(text, at, end)
        before = tuple([one for one, _ in parts])
        shape = tuple([len(one) for _, one in parts])
        if shape.count(1) > 3:
            return None  # a list of digits
        digits = "".join([one for _, one in parts])
        if len(digits) < 6:
            return None
        context = nearest(text, at)
        plain = not before[0] and digits[0] != "0" and context in ("", "not")
        for count in range(len(parts), 0, -1):
            if count < len(parts):
                end -= len(before[count]) + shape[count]
                digits = digits[: -shape[count]]
                if before[count] in ("-", ".", "/"):
                    continue  # what is joined belongs together
            if len(digits) < 6:
                break
            if len(digits) > 19 or text[end : end + 1].isdigit():
                continue
            span = Span(at, end, digits, shape[:count], before[:count])
            whole = count == len(parts)
            if plain and _is_nothing(text, span, whole=whole):
                continue
            entity = self._identify(text, span, context, whole=whole)
            if entity == "phone":
                return Match(phone_forms.extended(text, end), entity)
            if entity and entity in self._wanted:
                return Match(end, entity)
        return None

    def _by_leading(self, text: str, at: int, run: int) -> Match | None:
        """What is told by how many digits stand together first."""
        behind = text[at + run : at + run + 1]
        for entity, pattern, check, runs in self._digits_letter:
            if run in runs:
                end = _checked(text, at, pattern, check)
                if end:
                    return Match(end, entity)
        if run <= 4 and behind:
            found = self._ipv4(text, at) if behind == "." else None
            if found is not None:
                return found
            if ":" in text[at : at + 5]:
                return self._ipv6(text, at)
            dated = behind in ".-/,年º" or behind.isalpha() or text[at + run + 1 : at + run + 2].isalpha()
            return self._born(text, at) if dated else None
        return None

    def _identify(self, text: str, span: Span, context: str, *, whole: bool) -> str:
        """The entity that these groups are, or empty."""
        before = span.before
        letter = text[span.end : span.end + 1]
        joined = letter.isascii() and (letter.isalpha() or letter == "_")
        if not before[0] and not joined:
            entity = issued.issued(span, context)
            if entity:
                return entity
        if (
            "phone" in self._wanted
            and (not joined or letter in "xXeE")
            and phone_forms.is_phone(text, span, context, self._regions, whole=whole)
        ):
            return "phone"
        return ""

    # -- others ---------------------------------------------------------------------------------
    def _ipv4(self, text: str, at: int) -> Match | None:
        if "ip" not in self._wanted:
            return None
        found = _IPV4.match(text, at)
        if found is None:
            return None
        octets = found.group().split(".")
        if max(map(int, octets)) > 255 or octets[0] in ("0", "127") or nearest(text, at) == "not":
            return None
        return Match(found.end(), "ip")

    def _ipv6(self, text: str, at: int) -> Match | None:
        if "ip" not in self._wanted:
            return None
        found = _IPV6.match(text, at)
        if found is None:
            return None
        address = found.group()
        groups = address.split(":")
        if address.count("::") > 1 or (len(groups) != 8 and "::" not in address):
            return None
        if "::" in address and (sum(map(bool, groups)) < 2 or len(groups) > 8):
            return None
        return None if address[-1] == ":" and address[-2:] != "::" else Match(found.end(), "ip")

    def _born(self, text: str, at: int) -> Match | None:
        if "date_of_birth" not in self._wanted:
            return None
        found = _BORN.match(text, at)
        if found is None or nearest(text, at) != "born":
            return None
        return Match(found.end(), "date_of_birth")


def _is_nothing(text: str, span: Span, *, whole: bool) -> bool:
    """Whether no number is grouped like that, where neither its beginning nor a word says what it is."""
    if len(span.shape) == 1 or span.shape in _FORMS:
        return False
    return not whole or not follows(text, phone_forms.extended(text, span.end))


def _start_of(wanted: frozenset[str]) -> re.Pattern[str]:
    ways = [way for entities, way in _STARTS if entities & wanted]
    if wanted - {"email", "iban", "codice_fiscale", "nino", "date_of_birth"}:
        ways.insert(0, _SIX_DIGITS)
    return re.compile(f"(?=[0-9A-Za-z+(:]){_BEHIND}(?={'|'.join(ways)})")


_CORSICA: Final = re.compile(r"[12] ?[0-9]{2} ?[0-9]{2} ?2[ABab]")
_NIE_WAY: Final = re.compile(r"[XYZxyz][ -]?[0-9]{0,7}[ -]?[A-Za-z]?")
_NINO_WAY: Final = re.compile(r"[A-Za-z]{2}(?: ?[0-9]{1,2}){0,3} ?[A-Da-d]?")
_ALNUM: Final = re.compile(r"[0-9A-Za-z]{0,20}")
_HEX: Final = re.compile(r"[0-9A-Fa-f:.]{0,48}")
_SPAN_WAY: Final = re.compile(
    r"[+(]{0,2}(?:[0-9][ .()/\-]{0,3}){1,40}(?: ?[xX](?:t\.?)? ?[0-9]{0,6}| ?ext?\.? ?[0-9]{0,6})?",
    re.IGNORECASE,
)
_MONTH_START: Final = re.compile(_MONTH, re.IGNORECASE)


def _way(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found is not None else at


def _checked(text: str, at: int, pattern: re.Pattern[str], check: Callable[[str], bool]) -> int:
    found = pattern.match(text, at)
    if found is None:
        return 0
    return found.end() if check(_SEPARATORS.sub("", found.group()).upper()) else 0


_SEPARATORS: Final = re.compile(r"[ .\-]")


def _iban(text: str, at: int) -> Match | None:
    """An IBAN, printed in groups of four or in one piece: its country says how long it is."""
    length = checks.IBAN_LENGTHS.get(text[at : at + 2].upper())
    if length is None:
        return None
    found = _IBAN_WAY.match(text, at)
    if found is None:
        return None
    taken: list[str] = []
    for n, character in enumerate(found.group()):
        if character in " -":
            if len(taken) % 4:
                return None
        else:
            taken.append(character)
            if len(taken) == length:
                end = at + n + 1
                behind = text[end : end + 1]
                if behind.isascii() and behind.isalnum():
                    return None
                return Match(end, "iban") if checks.iban("".join(taken).upper()) else None
    return None
