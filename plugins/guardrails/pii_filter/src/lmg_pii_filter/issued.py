"""Numbers that were issued: cards and national numbers. What has check digits, or a form of its own."""

from __future__ import annotations

from typing import Final, NamedTuple

from . import checks

__all__ = ["FORMS", "Span", "issued"]

_KNOWN_FAKES: Final = frozenset({"123456789", "078051120", "219099999"})
_CARDS: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1), (4, 4, 4, 2), (4, 4, 4, 3), (6, 13)}
)
FORMS: Final = _CARDS | {(3, 2, 4), (3, 3, 3, 2), (9, 2), (2, 3, 3, 3), (2, 3, 3, 4, 2)}
"""How many digits stand together in what is issued, where no word says what it is; or all of them."""


class Span(NamedTuple):
    """Groups of digits from a place on: all of them, as numbers of people are written."""

    start: int
    end: int
    digits: str
    shape: tuple[int, ...]
    before: tuple[str, ...]
    """What stands before each group."""


def issued(span: Span, context: str) -> str:
    """Cards and national numbers: what has check digits or a form of its own."""
    digits, shape, count = span.digits, span.shape, len(span.digits)
    separators = set(span.before[1:])
    if 12 <= count <= 19 and context != "not" and _is_card(digits, shape, separators, context):
        return "card"
    if count == 9:
        return _nine(span, context, separators)
    if count == 11:
        return _eleven(span, context, separators)
    if count == 14 and (shape == (2, 3, 3, 4, 2) or (shape == (14,) and context == "cnpj")):
        return "cnpj" if checks.cnpj(digits) else ""
    return ""


def _nine(span: Span, context: str, separators: set[str]) -> str:
    digits, shape = span.digits, span.shape
    if shape == (3, 2, 4) and len(separators) == 1 and checks.ssn(digits):
        hyphens = separators == {"-"} and context not in ("not", "phone") and digits not in _KNOWN_FAKES
        if hyphens or (context == "ssn" and separators <= {"-", " ", "."}):
            return "ssn"
    if len(shape) > 3:
        return ""
    if context == "ssn" and shape == (9,) and checks.ssn(digits):
        return "ssn"
    if context == "bsn" and checks.bsn(digits):
        return "bsn"
    if context == "nif" and checks.nif(digits):
        return "nif"
    return ""


def _eleven(span: Span, context: str, separators: set[str]) -> str:
    digits, shape = span.digits, span.shape
    printed = shape == (3, 3, 3, 2) and span.before[1:3] == (".", ".")
    if (printed or (shape in ((11,), (9, 2)) and context in ("cpf", ""))) and checks.cpf(digits):
        return "cpf"
    if (context == "pesel" or (context == "" and shape == (11,))) and checks.pesel(digits):
        return "pesel"
    if context == "steuer_id" or (context == "" and shape in ((11,), (2, 3, 3, 3))):
        return "steuer_id" if separators <= {" "} and checks.steuer_id(digits) else ""
    return ""


def _is_card(digits: str, shape: tuple[int, ...], separators: set[str], context: str) -> bool:
    if digits[0] not in "23456" or not digits.strip(digits[0]) or (len(digits) < 14 and context != "card"):
        return False
    return _card_form(shape, separators) and checks.luhn(digits)


def _card_form(shape: tuple[int, ...], separators: set[str]) -> bool:
    if len(shape) == 1:
        return True
    if len(separators) != 1 or not separators <= {" ", "-", "."}:
        return False
    return shape in _CARDS
