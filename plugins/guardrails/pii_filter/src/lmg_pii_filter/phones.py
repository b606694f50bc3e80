"""Which digits are a telephone number of some country: the rules of libphonenumber, compiled once.

``phonenumbers.parse`` takes tens of microseconds; its metadata, asked directly, takes two.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

__all__ = ["international", "load", "national"]

_Pattern = re.Pattern[str]
_PREFIXES: Final = {"BR": "0", "IT": "", "ES": "", "PT": "", "PL": "", "US": "1"}
"""What is dialled before a national number at home; ``0`` where nothing is said."""


@cache
def load() -> dict[str, tuple[_Pattern, ...]]:
    """The patterns of national numbers by country code, all countries."""
    table: dict[str, tuple[_Pattern, ...]] = {}
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        found = [_pattern(region) for region in regions if region != "001"]
        table[str(code)] = tuple(pattern for pattern in found if pattern is not None)
    return table


@cache
def _pattern(region: str) -> _Pattern | None:
    metadata = PhoneMetadata.metadata_for_region(region, None)
    pattern = metadata.general_desc.national_number_pattern if metadata and metadata.general_desc else None
    return re.compile(pattern) if pattern else None


def international(digits: str) -> bool:
    """Whether ``digits`` (after the ``+``) are a country's code and a number there; a trunk ``0`` between them is let be."""
    table = load()
    for length in (1, 2, 3):
        patterns = table.get(digits[:length])
        if patterns is not None:
            rest = digits[length:]
            return any(
                one.fullmatch(rest) or (rest[:1] == "0" and one.fullmatch(rest[1:])) for one in patterns
            )
    return False


def national(digits: str, regions: tuple[str, ...]) -> bool:
    """Whether ``digits`` are a number as it is dialled in one of ``regions``."""
    for region in regions:
        pattern, prefix = _pattern(region), _PREFIXES.get(region, "0")
        if pattern is None:
            continue
        if prefix and digits.startswith(prefix):
            if pattern.fullmatch(digits[len(prefix) :]):
                return True
        elif pattern.fullmatch(digits) and (not prefix or prefix == "1"):
            return True
    return False
