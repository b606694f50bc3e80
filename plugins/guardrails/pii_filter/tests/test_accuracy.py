"""How much is found: on the development corpus, where it is, and on our own sentences in six languages, everywhere."""

# ruff: noqa: RUF001 - full-width forms and typographic hyphens are what is tested

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from lmg_pii_filter.config import DEFAULT_REGIONS
from lmg_pii_filter.entities import ENTITIES, NATIONAL_IDS
from lmg_pii_filter.numbers import Numbers
from lmg_pii_filter.scanner import Scanner

SCANNER = Scanner(dict.fromkeys(ENTITIES, 1), Numbers(frozenset(ENTITIES), tuple(DEFAULT_REGIONS)))
BESIDE = (parent / "shared" / "data" / "guardrails" for parent in Path(__file__).resolve().parents)
CORPUS = next((folder for folder in BESIDE if folder.is_dir()), Path("shared")) / "pii.jsonl"
"""The corpora stand beside the checkout, where they are at all."""
CORE = {
    "EMAIL": "email", "PHONE": "phone", "CREDIT_CARD": "card", "IBAN": "iban", "IP_ADDRESS": "ip", "NATIONAL_ID": "national_id",
    "US_SSN": "national_id", "ORG_ID": "national_id",
}  # fmt: skip
Span = tuple[int, int, str]


class Score:
    """Exact spans of the right kind."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()

    def add(self, group: str, found: set[Span], expected: set[Span]) -> None:
        for kind, counter in (
            (found & expected, self.right),
            (found - expected, self.wrong),
            (expected - found, self.missed),
        ):
            for _, _, name in kind:
                counter[group] += 1
                counter[name] += 1
                counter["all"] += 1

    def precision(self, name: str = "all") -> float:
        return self.right[name] / max(1, self.right[name] + self.wrong[name])

    def f1(self, name: str = "all") -> float:
        return 2 * self.right[name] / max(1, 2 * self.right[name] + self.wrong[name] + self.missed[name])


def found_in(text: str) -> set[Span]:
    """The core entities of ``text``."""
    spans = SCANNER.find(text, 0, len(text))
    kinds = [(one.start, one.end, "national_id" if one.name in NATIONAL_IDS else one.name) for one in spans]
    return {one for one in kinds if one[2] in CORE.values()}


@pytest.mark.skipif(not CORPUS.exists(), reason="the development corpus is not here")
def test_the_development_corpus() -> None:
    score = Score()
    for line in CORPUS.read_text().splitlines():
        row = json.loads(line)
        expected = {
            (one["start"], one["end"], CORE[one["type"]]) for one in row["spans"] if one["type"] in CORE
        }
        score.add(row["lang"], found_in(row["text"]), expected)
    assert score.f1() >= 0.97
    assert score.f1("zh") >= 0.92
    assert score.precision("phone") >= 0.90
    for name in set(CORE.values()):
        assert score.f1(name) >= 0.95, name


# Our own: {…} is a value, with its entity before the bar. Numbers are specimens, or reserved for documentation.
SENTENCES = {
    "en": [
        "Reach me at {email|lee.ray@example.org} or {phone|(212) 555-0187}.", "You can call {phone|212-555-0142 ext. 12} after nine.",
        "Charge {card|4111 1111 1111 1111}, then {card|378282246310005}.", "My SSN: {national_id|536-22-8765}. NINO {national_id|AB 12 34 56 C}.",
        "Wire it to {iban|GB82 WEST 1234 5698 7654 32}, please.", "Requests came from {ip|198.51.100.23} and {ip|2001:db8::8a2e:370:7334}.",
        "Ask {ip|8.8.8.8} or {ip|10.0.0.5}, not 127.0.0.1 nor 0.0.0.0.", "From the UK it is {phone|+44 20 7946 0958}, in London {phone|020 7946 0958}.", "Ask {email|kim.o'neil@example.com}, or '{email|kim@example.com}'.", "contact:{email|A.B+c@sub.example.co.uk};{phone|+1 (415) 555-2671}",
    ],
    "de": [
        "Ruf mich unter {phone|030 901820} an oder schreib an {email|uwe.m@example.de}.", "Steuer-ID {national_id|36574261809}, IBAN {iban|DE89370400440532013000}.",
        "Bezahlt mit Karte {card|5555555555554444}.", "Mobil: {phone|+49 151 23456789}", "Zugriff von {ip|203.0.113.9} gesperrt.",
    ],
    "fr": [
        "Mon numéro est le {phone|06 12 34 56 78}, mon adresse {email|zoe@example.fr}.", "NIR {national_id|2 55 08 14 168 025 38}, carte {card|4111-1111-1111-1111}.",
        "Virement sur {iban|FR14 2004 1010 0505 0001 3M02 606}.", "C'est l'adresse d'{email|ada@example.fr}.", "Appelez le {phone|+33 1 99 00 12 34}.",
    ],
    "es": [
        "Mi DNI es {national_id|12345678Z} y mi NIE {national_id|X1234567L}.", "Llámame al {phone|+34 612 345 678} o escribe a {email|pepe@example.es}.",
        "Transferencia a {iban|ES9121000418450200051332}.", "Tarjeta {card|4111111111111111}, teléfono {phone|912 345 678}.",
    ],
    "pt": [
        "CPF {national_id|529.982.247-25}, CNPJ {national_id|11.222.333/0001-81}.", "Ligue para {phone|(11) 91234-5678} ou {phone|+55 21 3265-4321}.",
        "O NIF é {national_id|123456789}.", "E-mail: {email|rui@example.pt}; IBAN {iban|PT50000201231234567890154}",
    ],
    "zh": [
        "我的手机是{phone|13800138000},邮箱{email|li@example.cn}。", "身份证号{national_id|11010519491231002X},银行卡{card|4111111111111111}。",
        "请拨打{phone|010-62345678}联系。", "来自{ip|198.51.100.7}的请求。", "电话：{phone|１３８００１３８０００}。",
    ],
    "it nl pl": [
        "Codice fiscale {national_id|RSSMRA85T10A562S}, tel. {phone|+39 06 69812345}.", "BSN {national_id|111222333}, bel {phone|+31 20 624 1111}.",
        "PESEL {national_id|44051401359}.",
    ],
}  # fmt: skip
CLEAN = [
    "Version 10.0.0.1 is out; build 2024.12.3 follows.", "Order 536-22-8765 shipped in 123-45-6789 parts.", "In 2024, 1,234,567 of 8 000 000 000 people.",
    "See section 1.2.3.4 and 300.1.2.3 or 1.2.3.4.5", "UUID 550e8400-e29b-41d4-a716-446655440000 and sha 9f86d081884c7d659a2feaa0c55ad015.", "ISBN 978-3-16-148410-0, SKU 4539-0000-0000-0001.",
    "It costs 1 234 567,89 € from 2023-01-02 to 2024-05-06 10:30:45.", "x = 0.123456789; y = 3.14159265358979; t = 1700000000123", "Mentions of @ada and ada@localhost.",
    "std::vector<int> a::b; 12:30:45", "订单号20240101123456,产品编号4539-0000-0000-0001。", "Die Bestellung 4711-0815 kostet 12.345,67 EUR.", "RFC 9110 section 10.1.1; 5/6 of 7/8.",
    "a 1 2 3 4 5 6 7 8 9 10 11 12", "Coordinates 52.520008, 13.404954", "ticket 5336076661 and invoice 13800138000",
]  # fmt: skip


def marked(sentence: str) -> tuple[str, set[Span]]:
    """The sentence without its marks, and the spans that they stand for."""
    text, spans = "", set()
    for n, part in enumerate(sentence.replace("}", "{").split("{")):
        if n % 2:
            entity, _, value = part.partition("|")
            spans.add((len(text), len(text) + len(value), entity))
            text += value
        else:
            text += part
    return text, spans


def _sentences() -> Iterable[tuple[str, str]]:
    return [(language, one) for language, many in SENTENCES.items() for one in many]


@pytest.mark.parametrize(("language", "sentence"), list(_sentences()))
def test_our_own_sentences(language: str, sentence: str) -> None:
    text, expected = marked(sentence)
    assert {(text[a:b], name) for a, b, name in found_in(text)} == {
        (text[a:b], name) for a, b, name in expected
    }


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_like_it_is_let_be(text: str) -> None:
    assert [text[a:b] for a, b, _ in found_in(text)] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("She was born on March 5th, 1990 in Leeds", "March 5th, 1990"), ("DOB: 05/03/1990", "05/03/1990"), ("geboren am 5. März 1990", "5. März 1990"),
        ("nació el 5 de septiembre de 1990", "5 de septiembre de 1990"), ("née le 12 août 1987", "12 août 1987"), ("出生于1990年5月3日", "1990年5月3日"),
        ("the meeting of 05/03/1990", ""), ("released March 5, 1990", ""),
    ],
)  # fmt: skip
def test_a_date_is_personal_where_somebody_was_born(text: str, value: str) -> None:
    found = [one.text for one in SCANNER.find(text, 0, len(text)) if one.name == "date_of_birth"]
    assert found == ([value] if value else [])
