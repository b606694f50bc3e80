"""US dollars per million tokens, exactly: from what people write to the integers that the gateway counts in."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

__all__ = ["nano", "parse_usd"]

_NANO_DIGITS: Final = 9
_MAX_USD: Final = 1_000_000
# A float gives back the decimal that it was written as only up to this many digits (IEEE 754 binary64).
_FLOAT_DIGITS: Final = 15
_WRITTEN: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")


def parse_usd(value: object) -> Decimal:
    """``value`` as it was written: a number, or a string such as ``"0.075"``.

    Raises:
        ValueError: no amount, negative, over a million, finer than a nano-dollar, or a number with more
            digits than YAML's numbers keep.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError('a price is a number of US dollars, as in 2.50 or "2.50"')
    text = _written(value)
    if not _WRITTEN.fullmatch(text):
        raise ValueError(
            "a price is US dollars per million tokens: not negative, at most nine decimals, no exponent"
        )
    if isinstance(value, float) and len(text.replace(".", "").strip("0")) > _FLOAT_DIGITS:
        raise ValueError("a price with this many digits must be quoted, to be read exactly")
    amount = Decimal(text)
    if amount > _MAX_USD:
        raise ValueError(f"a price is at most {_MAX_USD} US dollars per million tokens")
    return amount


def nano(usd: Decimal) -> int:
    """Dollars as nano-dollars.

    Raises:
        ValueError: the amount is finer than a nano-dollar.
    """
    scaled = usd.scaleb(_NANO_DIGITS)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{usd} US dollars are no whole number of nano-dollars")
    return int(scaled)


def _written(value: str | int | float | Decimal) -> str:
    """The digits, without an exponent."""
    if isinstance(value, str):
        return value.strip()
    return format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
