"""Amounts and rates as operators write them: ``600/min``, ``200k/min``, ``1M/h``, ``50``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

__all__ = ["MAX_AMOUNT", "Rate", "amount_of", "rate_of"]

MAX_AMOUNT: Final = 10**12
"""Beyond it a counter's fractions would be lost in its size."""

_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kKMG]?)")
_WINDOW: Final = re.compile(r"(\d{0,6})\s*([a-z]+)")
_THOUSANDS: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "second"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "minute"),
    **dict.fromkeys(("h", "hour", "hours"), "hour"),
    **dict.fromkeys(("d", "day", "days"), "day"),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """``amount`` in every ``window_s`` seconds; ``per`` is the window in words."""

    amount: int
    window_s: float
    per: str


def amount_of(text: str | int) -> int:
    """The whole number that ``text`` says, as in ``50``, ``200k`` or ``1.5M``.

    Raises:
        ValueError: it says none, or one that is not in 1 to 10^12.
    """
    told = _AMOUNT.fullmatch(str(text).strip())
    if told is None:
        raise ValueError(f"'{text}' is no amount: write it as in 50, 200k or 1.5M")
    amount = Decimal(told[1]) * _THOUSANDS[told[2]]
    if amount != int(amount) or not 1 <= amount <= MAX_AMOUNT:
        raise ValueError(f"'{text}' is no amount: it must be a whole number from 1 to 10^12")
    return int(amount)


def rate_of(text: str) -> Rate:
    """The rate that ``text`` says: an amount, a slash, and a time (``s``, ``min``, ``h``, ``day``, ``10s``).

    Raises:
        ValueError: it says none.
    """
    amount, slash, window = text.partition("/")
    told = _WINDOW.fullmatch(window.strip())
    unit = _UNITS.get(told[2]) if told is not None else None
    count = int(told[1] or 1) if told is not None else 0
    if not slash or unit is None or not count:
        raise ValueError(f"'{text}' is no rate: write it as in 600/min, 10/s, 200k/min, 1M/h or 5M/day")
    per = f"per {unit}" if count == 1 else f"per {count} {unit}s"
    return Rate(amount_of(amount), float(count * _SECONDS[unit]), per)
