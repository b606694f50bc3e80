"""The check digits and structural rules of numbers that are issued to people: pure functions over digits.

Each function is given the characters without separators and says whether an issuer could have issued them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "IBAN_LENGTHS",
    "bsn", "cn_id", "cnpj", "codice_fiscale", "cpf", "date", "dni", "iban", "luhn", "nie", "nif", "nino", "nir", "pesel", "ssn",
    "steuer_id",
]  # fmt: skip

_LUHN: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_CN_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
    "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
    "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27,
    "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31,
    "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip
_CF_ODD: Final = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True)
)  # fmt: skip
_CF: Final = re.compile(r"[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]")
_NINO: Final = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")
_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = sum(map(int, digits[-1::-2])) + sum(_LUHN[int(one)] for one in digits[-2::-2])
    return total % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and mod 97. ``text`` is upper case."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(one, 36)) for one in text[4:] + text[:4])) % 97 == 1


def date(year: int, month: int, day: int) -> bool:
    """A day of the calendar since 1900; the 29th of February counts in every year."""
    return 1900 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= _DAYS[month]


def _mod11(digits: str, weights: range) -> int:
    rest = sum(int(one) * weight for one, weight in zip(digits, weights, strict=False)) % 11
    return 0 if rest < 2 else 11 - rest


def cpf(digits: str) -> bool:
    """Brazil, persons (Receita Federal): two digits mod 11; all digits alike is none."""
    if len(digits) != 11 or digits == digits[0] * 11:
        return False
    first = _mod11(digits[:9], range(10, 1, -1))
    return int(digits[9]) == first and int(digits[10]) == _mod11(digits[:10], range(11, 1, -1))


def cnpj(digits: str) -> bool:
    """Brazil, companies: two digits mod 11."""
    if len(digits) != 14 or digits == digits[0] * 14:
        return False
    for n in (12, 13):
        weights = [*range(n - 7, 1, -1), *range(9, 1, -1)]
        rest = sum(int(one) * weight for one, weight in zip(digits, weights, strict=False)) % 11
        if int(digits[n]) != (0 if rest < 2 else 11 - rest):
            return False
    return True


def ssn(digits: str) -> bool:
    """USA: numbers that are never assigned are none (SSA; randomised since 2011, so there is no check digit)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return (
        len(digits) == 9
        and area not in ("000", "666")
        and area < "900"
        and group != "00"
        and serial != "0000"
    )


def nir(text: str) -> bool:
    """France: sex, year, month, department, then a key mod 97; ``2A`` and ``2B`` are Corsica."""
    if len(text) != 15 or text[0] not in "1278":
        return False
    month = int(text[3:5]) if text[3:5].isdigit() else 0
    body = text[:13].replace("2A", "19", 1).replace("2B", "18", 1)
    if not (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) or not body.isdigit():
        return False
    return 97 - int(body) % 97 == int(text[13:])


def dni(text: str) -> bool:
    """Spain, citizens: the letter is the number mod 23."""
    return len(text) == 9 and text[:8].isdigit() and _DNI[int(text[:8]) % 23] == text[8]


def nie(text: str) -> bool:
    """Spain, foreigners: X, Y or Z for a first digit, then as the DNI."""
    return len(text) == 9 and text[0] in "XYZ" and dni(str("XYZ".index(text[0])) + text[1:])


def steuer_id(digits: str) -> bool:
    """Germany (BZSt): ten digits of which one stands two or three times and the others once, then ISO 7064 mod 11,10."""
    if len(digits) != 11 or digits[0] == "0":
        return False
    counts = sorted(digits[:10].count(one) for one in set(digits[:10]))
    if counts[-1] not in (2, 3) or any(one > 1 for one in counts[:-1]):
        return False
    product = 10
    for one in digits[:10]:
        product = ((int(one) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def cn_id(text: str) -> bool:
    """China, residents (GB 11643-1999): a date of birth, and ISO 7064 mod 11-2."""
    if len(text) != 18 or not text[:17].isdigit() or text[0] == "0":
        return False
    if not date(int(text[6:10]), int(text[10:12]), int(text[12:14])):
        return False
    total = sum(int(one) * weight for one, weight in zip(text[:17], _CN_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == text[17]


def nino(text: str) -> bool:
    """United Kingdom (HMRC NIM39110): prefixes that are allocated, six digits, a suffix A to D. There is no check digit."""
    return _NINO.fullmatch(text) is not None


def bsn(digits: str) -> bool:
    """Netherlands: the eleven test."""
    if len(digits) != 9 or digits == "000000000":
        return False
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return sum(int(one) * weight for one, weight in zip(digits, weights, strict=True)) % 11 == 0


def pesel(digits: str) -> bool:
    """Poland: a date of birth whose month tells the century, and a digit mod 10."""
    if len(digits) != 11:
        return False
    month = int(digits[2:4])
    if not 1 <= month % 20 <= 12 or not 1 <= int(digits[4:6]) <= _DAYS[month % 20]:
        return False
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return sum(int(one) * weight for one, weight in zip(digits, weights, strict=True)) % 10 == 0


def codice_fiscale(text: str) -> bool:
    """Italy (D.M. 12/03/1974): letters of the names, date and town of birth, and a check letter."""
    if _CF.fullmatch(text) is None:
        return False
    odd = sum(_CF_ODD[one] for one in text[0:15:2])
    even = sum(int(one) if one.isdigit() else ord(one) - 65 for one in text[1:15:2])
    return chr(65 + (odd + even) % 26) == text[15]


def nif(digits: str) -> bool:
    """Portugal: the kind of taxpayer in the first digits, and a digit mod 11."""
    if len(digits) != 9 or (
        digits[0] not in "1235689" and digits[:2] not in ("45", "70", "71", "72", "74", "75", "77", "79")
    ):
        return False
    return int(digits[8]) == _mod11(digits[:8], range(9, 1, -1))
