"""The text of a key: what it is made of, and which texts are refused without a look-up."""

from __future__ import annotations

import re
from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_auth_keys.key_text import LENGTH, PATTERN, id_of, mint

seeds = st.integers(min_value=0, max_value=2**64)


@given(seeds)
def test_a_minted_key_has_the_pattern_that_scanners_search_for_and_names_its_id(seed: int) -> None:
    key_id, text = mint(Random(seed))
    assert re.fullmatch(PATTERN, text)
    assert len(text) == LENGTH == 66
    assert id_of(text) == key_id
    assert text.startswith(f"lmg_{key_id}_")


@given(
    seeds, st.integers(min_value=0, max_value=LENGTH - 1), st.characters(min_codepoint=33, max_codepoint=126)
)
def test_one_wrong_character_is_always_noticed(seed: int, at: int, wrong: str) -> None:
    _, text = mint(Random(seed))
    changed = text[:at] + wrong + text[at + 1 :]
    assert (id_of(changed) is None) == (changed != text)


@given(seeds, st.integers(min_value=4, max_value=LENGTH - 2))
def test_two_characters_in_the_wrong_order_are_always_noticed(seed: int, at: int) -> None:
    _, text = mint(Random(seed))
    changed = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert (id_of(changed) is None) == (changed != text)


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=200))
def test_any_other_text_is_none(text: str) -> None:
    assert id_of(text) is None
    assert id_of("lmg_" + text) is None


@pytest.mark.parametrize("text", ["", "lmg_", "lmg_" + "A" * 62, "ghp_" + "A" * 36])
def test_a_text_without_the_checksum_is_none(text: str) -> None:
    assert id_of(text) is None


def test_the_checksum_is_a_crc_32_in_base62() -> None:
    _, text = mint(Random(1))
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for digit in text[-6:]:
        number = number * 62 + digits.index(digit)
    assert number == crc32(text[:-6].encode())


def test_the_secret_has_256_bits() -> None:
    assert 62**43 > 2**256
