"""Check digits: numbers that issuers publish as examples pass, and a change of one digit does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg_pii_filter import checks

# Published by the issuers or by the standards as specimens, or made from their rules: nobody's.
VALID: list[tuple[Callable[[str], bool], str]] = [
    (checks.luhn, "4111111111111111"), (checks.luhn, "378282246310005"), (checks.luhn, "6011111111111117"),
    (checks.iban, "GB82WEST12345698765432"), (checks.iban, "DE89370400440532013000"), (checks.iban, "FR1420041010050500013M02606"),
    (checks.iban, "NL91ABNA0417164300"), (checks.iban, "NO9386011117947"), (checks.iban, "MT84MALT011000012345MTLCAST001S"),
    (checks.cpf, "12345678909"), (checks.cpf, "52998224725"), (checks.cnpj, "11222333000181"),
    (checks.nir, "255081416802538"), (checks.nir, "185057800608491"),
    (checks.dni, "12345678Z"), (checks.nie, "X1234567L"), (checks.nie, "Y1234567X"),
    (checks.steuer_id, "36574261809"), (checks.steuer_id, "26954371827"),
    (checks.cn_id, "11010519491231002X"),
    (checks.nino, "AB123456C"), (checks.bsn, "111222333"), (checks.bsn, "123456782"),
    (checks.pesel, "44051401359"), (checks.pesel, "02070803628"), (checks.codice_fiscale, "RSSMRA85T10A562S"),
    (checks.nif, "123456789"), (checks.nif, "501964843"), (checks.ssn, "536228765"),
]  # fmt: skip
WITHOUT_CHECK_DIGIT = (checks.ssn, checks.nino)


@pytest.mark.parametrize(("check", "text"), VALID, ids=[f"{check.__name__}-{text}" for check, text in VALID])
def test_a_specimen_passes_and_each_single_change_of_a_digit_is_noticed(
    check: Callable[[str], bool], text: str
) -> None:
    assert check(text)
    if check in WITHOUT_CHECK_DIGIT:
        return
    missed = 0
    changes = 0
    for n, digit in enumerate(text):
        for other in "0123456789" if digit.isdigit() else "":
            if other != digit:
                changes += 1
                missed += check(text[:n] + other + text[n + 1 :])
    assert missed <= changes * 0.1


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (checks.cpf, "11111111111"), (checks.cnpj, "00000000000000"), (checks.bsn, "000000000"), (checks.ssn, "000121234"), (checks.ssn, "666121234"),
        (checks.ssn, "900121234"), (checks.ssn, "123001234"), (checks.ssn, "123120000"), (checks.nino, "BG123456C"), (checks.nino, "AB123456E"),
        (checks.cn_id, "110105194913310023"), (checks.iban, "DE8937040044053201300"), (checks.iban, "XX89370400440532013000"), (checks.nir, "955081416802538"),
    ],
)  # fmt: skip
def test_what_no_issuer_gives_out_is_none(check: Callable[[str], bool], text: str) -> None:
    assert not check(text)


@given(text=st.text("0123456789ABX", max_size=24))
def test_every_check_takes_any_text(text: str) -> None:
    for check in {check for check, _ in VALID}:
        if check is checks.luhn and not text.isdigit():
            continue
        try:
            assert check(text) in (True, False)
        except ValueError:
            assert not text.isdigit() and check in NEED_DIGITS


NEED_DIGITS = {
    checks.cpf, checks.cnpj, checks.bsn, checks.pesel, checks.nif, checks.steuer_id, checks.nir, checks.iban,
}  # fmt: skip
"""What the scanner gives digits alone (or, to the IBAN, letters and digits) to."""
