"""The one promise: what leaves a stream is what the whole text would have become, however it was cut."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmg.redaction import Found, KnownValues, Patterns, Redactor, Rule
from lmg.testing.guards import put_together

EMAIL = r"A-Za-z0-9._%+@-"
WORD = "A-Za-z0-9_-"


def luhn(text: str) -> bool:
    digits = [int(one) for one in re.sub(r"\D", "", text)]
    return (
        len(digits) >= 13
        and sum(d if n % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for n, d in enumerate(reversed(digits)))
        % 10
        == 0
    )


DETECTORS = [
    Patterns(
        EMAIL, [Rule("email", rf"(?<![{EMAIL}])[A-Za-z0-9._%+-]{{1,20}}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", hint="@")],
        max_length=60, anchor="@", within=20,
    ),
    Patterns("0-9 -", [Rule("card", r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])", check=luhn)], max_length=40),
    Patterns(WORD, [Rule("key", rf"(?<![{WORD}])(?:sk|ghp)-[A-Za-z0-9_-]{{8,}}")], max_length=30, prefixes=("sk-", "ghp-")),
    KnownValues({"PLACEHOLDER_1": "placeholder", "PLACEHOLDER_12": "placeholder", "<=": "short", "=>!": "short"}),
]  # fmt: skip
REDACTOR = Redactor(DETECTORS, lambda one: f"<{one.name}:{one.text}>")

PIECES = st.sampled_from(
    [
        "ada@acme.example", "a@b", "@", ".", " ", "sk-abcdefgh12345", "sk-", "ghp-x", "ghp-" + "y" * 40, "4111 1111 1111 1111", "4111-1111",
        "1" * 50, "PLACEHOLDER_1", "PLACEHOLDER_12", "PLACE", "<=", "=>!", "<=>!", "<", "hello", "\n", "é", "e\u0301", "x" * 70, "x" * 25 + "@acme.example",
        "-", "0", "42", "@" + "z" * 70 + ".example", "s",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def streamed(text: str, cuts: list[int]) -> str:
    return put_together(REDACTOR.stream(), text, cuts)


@settings(max_examples=1500, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 300), max_size=12))
@example(text="ghp-" + "y" * 40 + "@acme.example", cuts=[35, 44, 45])
def test_cut_anywhere_a_text_becomes_what_it_becomes_whole(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == REDACTOR.whole(text)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_one_character_at_a_time_and_at_every_single_cut(text: str) -> None:
    whole = REDACTOR.whole(text)
    assert streamed(text, list(range(len(text)))) == whole
    for cut in range(len(text)):
        assert streamed(text, [cut]) == whole


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_what_is_held_is_bounded(text: str) -> None:
    stream = REDACTOR.stream()
    most = sum(max(detector.max_length for detector in DETECTORS) for _ in DETECTORS)
    for character in text:
        stream.feed(character)
        assert stream.held <= most
    stream.finish()
    assert stream.held == 0


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("write to ada@acme.example.", "write to <email:ada@acme.example>."),
        (
            "card 4111 1111 1111 1111, 4111 1111 1111 1112",
            "card <card:4111 1111 1111 1111>, 4111 1111 1111 1112",
        ),
        ("sk-abcdefgh and xsk-abcdefgh", "<key:sk-abcdefgh> and xsk-abcdefgh"),
        ("PLACEHOLDER_12 PLACEHOLDER_1", "<placeholder:PLACEHOLDER_12> <placeholder:PLACEHOLDER_1>"),
        ("sk-abcdefgh@acme.example", "<email:sk-abcdefgh@acme.example>"),
        ("sk-" + "z" * 40, "<key:>"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_what_is_found(text: str, becomes: str) -> None:
    assert REDACTOR.whole(text) == becomes
    assert streamed(text, [3, 7, 11]) == becomes


def test_prose_is_hardly_held() -> None:
    stream = REDACTOR.stream()
    text = (
        "The quick brown fox jumps over the lazy dog, 42 times, and asks ada at acme for more of that. " * 20
    )
    waits = []
    for n in range(0, len(text), 4):
        stream.feed(text[n : n + 4])
        waits.append(stream.held)
    waits.sort()
    assert waits[int(len(waits) * 0.95)] <= 24
    assert waits[int(len(waits) * 0.99)] <= 64


def test_a_value_is_replaced_once_and_what_replaces_it_is_not_searched() -> None:
    seen: list[Found] = []

    def replace(one: Found) -> str:
        seen.append(one)
        return "eve@acme.example"

    redactor = Redactor(DETECTORS, replace)
    assert redactor.whole("a ada@acme.example b") == "a eve@acme.example b"
    assert [one.text for one in seen] == ["ada@acme.example"]


# JSON


def mapped(value: Any) -> Any:
    if isinstance(value, str):
        return REDACTOR.whole(value)
    if isinstance(value, list):
        return [mapped(one) for one in value]
    if isinstance(value, dict):
        return {REDACTOR.whole(key): mapped(one) for key, one in value.items()}
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and abs(value) > 999
        and REDACTOR.find(str(value))
    ):
        return REDACTOR.whole(str(value))
    return value


def json_streamed(text: str, cuts: list[int]) -> str:
    return put_together(REDACTOR.json_stream(), text, cuts)


NUMBERS = st.sampled_from([0, -1, 42, 4111111111111111, 1e9, 0.5, True, None])
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(
    value=VALUES,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_json_stays_json_and_its_strings_become_what_they_mean(
    value: Any, ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    whole = REDACTOR.json(text)
    assert json.loads(whole) == mapped(value)
    assert json_streamed(text, cuts) == whole
    assert json_streamed(text, list(range(len(text)))) == whole
    if mapped(value) == value:
        assert whole == text


def test_an_escaped_value_is_found_and_what_is_not_replaced_keeps_its_escapes() -> None:
    text = r'{"to": "\u0061da\u0040acme.example", "cc": "caf\u00e9 \ud83d\ude00 \/"}'
    becomes = r'{"to": "<email:ada@acme.example>", "cc": "caf\u00e9 \ud83d\ude00 \/"}'
    assert REDACTOR.json(text) == becomes
    assert json_streamed(text, list(range(len(text)))) == becomes


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("ada@acme.example", "<email:ada@acme.example>"),
        ("to: ada@acme.example", "to: <email:ada@acme.example>"),
        ("{to: ada@acme.example}", "{to: <email:ada@acme.example>}"),
        ("4111 1111 1111 1111", "<card:4111 1111 1111 1111>"),
        ("4111 1111 1111 1111 is it", "<card:4111 1111 1111 1111> is it"),
        ('1 "ada@acme.example', '1 "<email:ada@acme.example>'),
        ('"open ada@acme.example', '"open <email:ada@acme.example>'),
        ('{"card": 4111111111111111 }', '{"card": "<card:4111111111111111>" }'),
    ],
)
def test_what_is_no_json_is_looked_at_all_the_same(text: str, becomes: str) -> None:
    for cuts in ([], list(range(len(text)))):
        assert json_streamed(text, cuts) == becomes


def test_the_example_of_the_package_runs() -> None:
    import doctest

    import lmg.redaction

    assert doctest.testmod(lmg.redaction) == (0, 5)
