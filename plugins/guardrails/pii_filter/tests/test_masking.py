"""Masking and back again, and texts that are made to be slow."""

# ruff: noqa: RUF001 - full-width forms and typographic hyphens are what is tested

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmg.redaction import Found
from lmg_pii_filter.answers import AnswerReview
from lmg_pii_filter.config import PiiFilterConfig
from lmg_pii_filter.entities import ENTITIES
from lmg_pii_filter.masking import replacement_of
from lmg_pii_filter.placeholders import MAX_VALUES, Keys, Mint, Restorer
from lmg_pii_filter.policy import Policies
from lmg_pii_filter.redactor import ContextRedactor

POLICIES = Policies(PiiFilterConfig(output="redact"))
POLICY = POLICIES.of(frozenset())
KEYS = Keys(b"a-secret-of-the-tests")
VALUES = [
    "ada@acme.example", "ADA@acme.example", "a@b.example", "ada@acme.example.org", "4111 1111 1111 1111", "4111111111111111", "+44 20 7946 0958", "2001:db8::1",
    "DE89 3704 0044 0532 0130 00", "192.0.2.17", "536-22-8765", '"quoted"@x', "ünï@acme.example",
]  # fmt: skip
WRITTEN = [
    str, str.lower, str.title, str.upper, lambda one: f"**{one}**", lambda one: f"`{one}`", lambda one: f"<{one}>", lambda one: one.replace("_", "\\_"),
    lambda one: one.replace("_", "\\\\_"), lambda one: one.replace("_", "-"), lambda one: one.replace("_", " "), lambda one: f"{one}'s", lambda one: f"（{one}）",
]  # fmt: skip
BARE = {4: "**{}**", 5: "`{}`", 6: "<{}>", 11: "{}'s", 12: "（{}）"}


def mint(tenant: str = "acme", conversation: str = "c", typed: Any = lambda code: False) -> Mint:
    return Mint(KEYS, tenant, conversation, typed)


def review(values: dict[str, str]) -> AnswerReview:
    answer = replacement_of(POLICY, KEYS, "acme", mint(), answer=True)
    return AnswerReview(POLICIES, POLICY, values, answer, signed="deny", tell=lambda entity: None)


@settings(max_examples=400, deadline=None)
@given(
    said=st.lists(
        st.tuples(st.sampled_from(VALUES), st.integers(0, len(WRITTEN) - 1)), min_size=1, max_size=8
    ),
    cuts=st.lists(st.integers(0, 400), max_size=10),
    ascii_only=st.booleans(),
)
def test_every_value_comes_back_exactly(
    said: list[tuple[str, int]], cuts: list[int], ascii_only: bool
) -> None:
    made = mint()
    text, expected = "", ""
    for value, n in said:
        entity = "email" if "@" in value else "card"
        text += WRITTEN[n](made.placeholder(entity, value)) + ", "
        expected += BARE.get(n, "{}").format(value) + ", "
    redactor = review(made.values).redactor
    assert redactor.whole(text) == expected
    stream = redactor.stream()
    at, out = 0, []
    for cut in [*sorted(min(cut, len(text)) for cut in cuts), len(text)]:
        out.append(stream.feed(text[at:cut]))
        at = max(at, cut)
    assert "".join([*out, stream.finish()]) == expected
    arguments = json.dumps({"to": text, "n": 1}, ensure_ascii=ascii_only)
    assert json.loads(redactor.json(arguments)) == {"to": expected, "n": 1}


def test_placeholders_are_the_same_for_the_same_and_others_for_all_else() -> None:
    made = [
        mint(tenant, conversation).placeholder(entity, value)
        for tenant in ("acme", "other") for conversation in ("c", "d") for entity in ("email", "phone") for value in ("a", "b", "a\0")
    ]  # fmt: skip
    assert len(set(made)) == len(made)
    assert mint().placeholder("email", "a") == mint().placeholder("email", "a")
    hashes = [
        KEYS.hashed(tenant, entity, "a") for tenant in ("acme", "other") for entity in ("email", "phone")
    ]
    assert len(set(hashes)) == 4


def test_no_placeholder_or_hash_looks_like_personal_data_itself() -> None:
    made = mint()
    redactor = ContextRedactor(POLICY.scanner, lambda one: f"[{one.name}]")
    for entity in ENTITIES:
        for n in range(20):
            for text in (made.placeholder(entity, str(n)), KEYS.hashed("acme", entity, str(n))):
                assert redactor.whole(f"phone {text} born") == f"phone {text} born"


def test_what_was_typed_is_never_minted_nor_adopted() -> None:
    first = mint().placeholder("email", "a")
    typed = first[-8:]
    again = mint(typed=lambda code: code == typed)
    assert again.placeholder("email", "a") != first
    again.adopt({first: "a", "CARD_BBBBBBBB": "b"})
    assert first not in again.values and again.values["CARD_BBBBBBBB"] == "b"


def test_the_values_that_are_remembered_are_bounded() -> None:
    made = mint()
    for n in range(MAX_VALUES + 10):
        made.placeholder("email", str(n))
    assert len(made.values) == MAX_VALUES
    assert made.placeholder("email", str(MAX_VALUES + 5)) == mint().placeholder("email", str(MAX_VALUES + 5))


@given(text=st.text(max_size=60))
def test_no_text_restores_what_is_not_in_the_map(text: str) -> None:
    restorer = Restorer({"EMAIL_QXKZBTRM": "ada@acme.example"})
    for start, end, _ in restorer.find(text, 0, len(text), "x"):
        assert text[start:end].upper().endswith("QXKZBTRM")


HOSTILE = [
    "1", "1 ", "12 ", "4444 ", "123-", ".", "@", "a@", "a@b.", "a", "A", "af", ":", "a:", "1:", "+", "(", "+1(", " ", "-", "DE44 ", "ab12 ", "X1234567 ", "March 5 ",
    "born 1.1.19 ", "tel 1234567 ", "\\", "EMAIL", "EMAIL_", "EMAIL_QXKZBTR", "EMAIL_… ", "１", "电话", "_", "1.2.3.4 ", "a.", "é", "\u00a0", "\ud7ff", "+44 20 7946 0958 ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_is_slower_than_its_length(piece: str) -> None:
    made = mint()
    piece = piece.replace("EMAIL_…", made.placeholder("email", "a"))
    redactor = review(made.values).redactor

    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        best = 1e9
        for _ in range(2):
            started = time.process_time()
            redactor.scanner.find(text, 0, len(text))
            stream = redactor.stream()
            stream.feed(text)
            stream.finish()
            best = min(best, time.process_time() - started)
        return best

    short, long = seconds(4_000), seconds(64_000)
    assert long <= 0.05 + short * 16 * 3


def test_one_delta_of_any_text_costs_little() -> None:
    redactor = ContextRedactor(POLICY.scanner, lambda one: f"[{one.name}]")
    text = "The customer of 2024 wrote to ada@acme.example, and called +44 20 7946 0958 twice. " * 20
    stream = redactor.stream()
    started = time.process_time()
    for n in range(0, len(text), 4):
        stream.feed(text[n : n + 4])
    spent = (time.process_time() - started) / (len(text) / 4)
    assert spent < 200e-6  # about 15 µs; the bound is for slow machines


def test_found_text_is_as_it_was_written() -> None:
    seen: list[Found] = []
    ContextRedactor(POLICY.scanner, lambda one: seen.append(one) or "").whole("mail ａｄａ＠acme.example now")  # type: ignore[func-returns-value]
    assert [one.text for one in seen] == ["ａｄａ＠acme.example"]
