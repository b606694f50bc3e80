"""The one promise of streams: what leaves is what the whole text would have become, however it was cut."""

# ruff: noqa: RUF001 - full-width forms and typographic hyphens are what is tested

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.redaction import Found
from lmg.testing.guards import put_together
from lmg_pii_filter.entities import ENTITIES
from lmg_pii_filter.numbers import Numbers
from lmg_pii_filter.placeholders import Restorer
from lmg_pii_filter.redactor import ContextRedactor
from lmg_pii_filter.scanner import PLACEHOLDER, Scanner

REGIONS = ("US", "GB", "FR", "DE", "ES", "PT", "BR", "CN", "IT", "NL", "PL")
RANKS = {entity: n % 3 + 1 for n, entity in enumerate(ENTITIES)}
RESTORER = Restorer({"EMAIL_QXKZBTRM": "ada@acme.example", "CARD_BBBBBBBB": "4111 1111 1111 1111"})
SCANNER = Scanner(RANKS, Numbers(frozenset(ENTITIES), REGIONS), restorer=RESTORER)


def replaced(one: Found) -> str:
    return f"<{one.name}:{one.text}>" if one.name != PLACEHOLDER else f"<={RESTORER.original(one.text)}>"


REDACTOR = ContextRedactor(SCANNER, replaced)

VALUES = [
    "ada@acme.example", "kim.o'neil@acme.example", "d'ada@acme.example", "ada.lovelace+news@mail.acme.co.uk", "jürgen@müller.example", "ada＠acme.example", "x" * 80 + "@acme.example",
    "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432",
    "FR14 2004 1010 0505 0001 3M02 606", "+49 (0) 30 901820", "(415) 555-2671", "415-555-2671x123", "001-212-555-0187 ext. 12", "06 12 34 56 78",
    "13812345678", "192.0.2.17", "2001:db8::1", "2001:db8:0:0:1:0:0:1", "::ffff:192.0.2.1", "123.456.789-09", "11.222.333/0001-81", "536-22-8765",
    "1 85 05 78 006 084 91", "2 55 08 2A 123 456 21", "255081416802538", "12345678Z", "X1234567L", "X-1234567-L", "11010519491231002X",
    "AB 12 34 56 C", "AB123456C", "RSSMRA85T10A562S", "12345679811", "44051401359", "ssn 536228765", "BSN 111222333",
    "born on March 5th, 1990", "DOB: 05/03/1990", "geboren am 5. März 1990", "nació el 5 de septiembre de 1990", "出生于1990年5月3日", "电话13812345678。",
    "EMAIL_QXKZBTRM", "email_qxkzbtrm", "EMAIL\\_QXKZBTRM", "**EMAIL_QXKZBTRM**", "Card-Bbbbbbbb", "CARD BBBBBBBB", "EMAIL_QXKZBTRX",
]  # fmt: skip
NOISE = [
    " ", ", ", ". ", "\n", "-", "(", ")", "+", ":", "@", "x", "0", "7", "42 ", "2024 ", "call ", "phone: ", "order ", "version ", "SSN ", "born ", "the model", "AB ",
    "DE", "e", "is", "我的", "é", "Mar ", "March ", "RSSMRA", " office", "-Fax", " fax", "::", "fe80:", "1.2.", "12/", "EMAIL", "_", "CAR", "\\", "“", "–", "'", "qu'",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(VALUES) | st.sampled_from(NOISE), max_size=9).map("".join)


def streamed(redactor: ContextRedactor, text: str, cuts: list[int], *, as_json: bool = False) -> str:
    stream: Any = redactor.json_stream() if as_json else redactor.stream()
    return put_together(stream, text, cuts)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "around", [("", ""), ("Write to ", ", please."), ("call ", " office"), ("我的", "。"), ("x: ", "\nborn")]
)
def test_every_kind_at_every_cut(value: str, around: tuple[str, str]) -> None:
    text = value.join(around)
    whole = REDACTOR.whole(text)
    assert streamed(REDACTOR, text, list(range(len(text)))) == whole
    for cut in range(len(text)):
        assert streamed(REDACTOR, text, [cut]) == whole


@settings(max_examples=1200, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 250), max_size=12))
def test_cut_anywhere_a_text_becomes_what_it_becomes_whole(text: str, cuts: list[int]) -> None:
    whole = REDACTOR.whole(text)
    assert streamed(REDACTOR, text, cuts) == whole
    assert streamed(REDACTOR, text, list(range(len(text)))) == whole


@settings(max_examples=400, deadline=None)
@given(
    start=st.sampled_from(["", "born ", "tel ", "SSN ", "order ", "出生", "DE", "X", "AB "]),
    text=st.text("00112345678999 .-/()+:@aAbBefXZDEJ'_\\é年１ ,stndox", max_size=70),
)
def test_any_characters_at_every_single_cut(start: str, text: str) -> None:
    text = start + text
    whole = REDACTOR.whole(text)
    assert streamed(REDACTOR, text, list(range(len(text)))) == whole
    for cut in range(len(text)):
        assert streamed(REDACTOR, text, [cut]) == whole


@settings(max_examples=300, deadline=None)
@given(
    value=st.recursive(
        TEXTS | st.sampled_from([4111111111111111, 13812345678, 42, None, True, 0.5]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["phone", "ssn", "order", "to"]) | TEXTS, inner, max_size=3)
        ),
        max_leaves=5,
    ),
    ascii_only=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_arguments_stay_json_and_become_the_same_at_every_cut(
    value: Any, ascii_only: bool, cuts: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    whole = REDACTOR.json(text)
    json.loads(whole)
    assert streamed(REDACTOR, text, cuts, as_json=True) == whole
    assert streamed(REDACTOR, text, list(range(len(text))), as_json=True) == whole


def test_the_name_of_a_member_says_what_its_value_is() -> None:
    redactor = ContextRedactor(SCANNER, lambda one: f"[{one.name}]")
    text = '{"phone": "5336076661", "order": "5336076661", "ssn": 536228765, "n": 536228765}'
    assert json.loads(redactor.json(text)) == {
        "phone": "[phone]",
        "order": "5336076661",
        "ssn": "[ssn]",
        "n": 536228765,
    }


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_what_waits_is_bounded(text: str) -> None:
    stream = REDACTOR.stream()
    for character in text * 3:
        stream.feed(character)
        assert stream.held <= 64 + 1 + 255 + 64
    stream.finish()
    assert stream.held == 0


def test_prose_hardly_waits() -> None:
    stream = REDACTOR.stream()
    text = (
        "The quick brown fox jumps over the lazy dog in 2024, 42 times, and asks Ada at Acme for more of that; "
        "it is a long story of twelve chapters. "
    ) * 20
    waits = []
    for n in range(0, len(text), 4):
        stream.feed(text[n : n + 4])
        waits.append(stream.held)
    waits.sort()
    assert waits[int(len(waits) * 0.95)] <= 24
    assert waits[int(len(waits) * 0.99)] <= 64
