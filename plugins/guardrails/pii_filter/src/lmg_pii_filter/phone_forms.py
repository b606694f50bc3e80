"""How telephone numbers are written: with a word that says so, or in a form that nothing else has."""

from __future__ import annotations

import re
from typing import Final

from .context import follows
from .issued import Span
from .phones import international, national

__all__ = ["FORMS", "extended", "is_phone"]

_EXTENSION: Final = re.compile(r" ?(?:x|ext\.? ?)[0-9]{1,6}(?![0-9A-Za-z])", re.IGNORECASE)
FORMS: Final = frozenset({(3, 3, 4), (1, 3, 3, 4), (3, 3, 3, 4), (3, 4, 4), (2, 5, 4), (2, 4, 4)})
"""Groups of digits that may be one where no word says so, and where it does not begin with ``+``, ``(`` or ``0``."""


def is_phone(text: str, span: Span, context: str, regions: tuple[str, ...], *, whole: bool) -> bool:
    """Whether the digits of ``span`` are a telephone number; ``whole`` where no more of them stand behind.

    ``context`` is what the words before say (see ``context.nearest``), ``regions`` whose national numbers count.
    """
    digits, shape, before = span.digits, span.shape, span.before
    if context == "not" or not 6 <= len(digits) <= 16 or not _balanced(before):
        return False
    told = context == "phone" or (whole and follows(text, extended(text, span.end)))
    if before[0].endswith("+"):
        return len(digits) >= 7 and (told or international(digits))
    if _looks_like_a_date(shape, before) or (before[-1] == "." and len(shape) == 4 and max(shape) <= 3):
        return False
    if digits.startswith("00") and len(shape) > 1 and international(digits[2:]):
        return True
    if told:
        return len(shape) > 1 or 7 <= len(digits) <= 13
    return context == "" and _has_form_of_phone(text, span, regions)


def _has_form_of_phone(text: str, span: Span, regions: tuple[str, ...]) -> bool:
    """Whether nothing but a telephone number is written like that, without a word that says so."""
    digits, shape, before = span.digits, span.shape, span.before
    if set(shape) == {3} and text[max(0, span.start - 2) : span.start - 1].isdigit():  # thousands
        return False
    if shape in ((11,), (3, 4, 4)) and "12" < digits[:2] < "20":  # a Chinese mobile number
        return "CN" in regions
    if _north_american(shape, before, digits):
        return True
    if len(shape) == 1:
        return False
    if "(" in before[0]:
        return len(digits) >= 9 and shape[0] <= 4
    if before == ("", " ", "-") and shape in ((2, 5, 4), (2, 4, 4)):
        return "BR" in regions and national(digits, ("BR",))
    alike = len(set(before[1:])) == 1 and before[1] in (" ", "-", "/", " / ", ".")
    if before[1] == "." and len(shape) == 2:  # a decimal fraction
        return False
    return digits[0] == "0" and 9 <= len(digits) <= 12 and alike and national(digits, regions)


def extended(text: str, end: int) -> int:
    """Where a telephone number ends whose digits end at ``end``: behind its extension, where it has one."""
    extension = _EXTENSION.match(text, end)
    return extension.end() if extension is not None else end


def _looks_like_a_date(shape: tuple[int, ...], before: tuple[str, ...]) -> bool:
    if len(shape) == 2:
        return shape == (4, 4) and before[1] == "-"  # from one year to another
    dated = shape[:3] in ((4, 2, 2), (2, 2, 4), (1, 2, 4), (2, 1, 4), (1, 1, 4))
    return dated and before[1] == before[2] and before[1] in ("-", "/", ".")


def _balanced(before: tuple[str, ...]) -> bool:
    """Whether brackets come in pairs, at most one pair but for ``(0)``, and nothing else stands between digits twice."""
    marks = "".join(before)
    if not marks:
        return True
    if marks.count("(") != marks.count(")") or marks.count("(") > 1 or marks.find("(") > marks.find(")"):
        return False
    return not any(".." in one or "--" in one or "//" in one for one in before)


def _north_american(shape: tuple[int, ...], before: tuple[str, ...], digits: str) -> bool:
    if shape == (1, 3, 3, 4) and digits[0] == "1":
        digits, shape, before = digits[1:], shape[1:], before[1:]
    elif shape == (3, 3, 3, 4) and digits[:3] == "001":
        return True
    if shape != (3, 3, 4) or digits[0] not in "23456789" or before[2] not in ("-", ".", " "):
        return False
    if before[1:] == (" ", " "):
        return digits[3] in "23456789"
    return before[1] in ("-", ".", ") ", ")", ")-")
