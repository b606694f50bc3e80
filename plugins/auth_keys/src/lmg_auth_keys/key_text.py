"""What a key looks like: ``lmg_<id>_<secret><checksum>``, 66 characters that a scanner of repositories can search for.

The id (12 base62 digits) is public: it names the key in lists, receipts and the operator's logs. The secret holds 256
random bits (43 base62 digits). The checksum is the CRC-32 of all before it (6 base62 digits), so that a slip of the
pen, a cut copy or somebody else's token is refused without any look-up. GitHub's tokens do the same
(https://github.blog/engineering/behind-githubs-new-authentication-token-formats/).
"""

from __future__ import annotations

from random import Random
from typing import Final
from zlib import crc32

__all__ = ["ID_DIGITS", "LENGTH", "PATTERN", "PREFIX", "id_of", "mint"]

PREFIX: Final = "lmg_"
ID_DIGITS: Final = 12
SECRET_DIGITS: Final = 43  # 62**43 > 2**256
CHECK_DIGITS: Final = 6  # 62**6 > 2**32
PATTERN: Final = rf"{PREFIX}[0-9A-Za-z]{{{ID_DIGITS}}}_[0-9A-Za-z]{{{SECRET_DIGITS + CHECK_DIGITS}}}"
"""What secret scanners search for."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(
    high + low for high in _DIGITS for low in _DIGITS
)  # of a request's 6 µs, this saves two
_ID_ENDS: Final = len(PREFIX) + ID_DIGITS
LENGTH: Final = _ID_ENDS + 1 + SECRET_DIGITS + CHECK_DIGITS


def mint(random: Random) -> tuple[str, str]:
    """A new key: its id, and its text. ``random`` must be ``random.SystemRandom`` where keys are for use."""
    key_id = _base62(random.randrange(62**ID_DIGITS), ID_DIGITS)
    body = f"{PREFIX}{key_id}_{_base62(random.randrange(62**SECRET_DIGITS), SECRET_DIGITS)}"
    return key_id, body + _checksum(body)


def id_of(text: str) -> str | None:
    """The id in the text of a key; None where it cannot be one: another length, or a checksum that is wrong.

    Whoever computes checksums can still write anything in the place of the id: it is good for a look-up, no more.
    """
    if (
        len(text) != LENGTH
        or text[_ID_ENDS] != "_"
        or text[-CHECK_DIGITS:] != _checksum(text[:-CHECK_DIGITS])
    ):
        return None
    return text[len(PREFIX) : _ID_ENDS]


def _checksum(body: str) -> str:
    high, low = divmod(crc32(body.encode()), 3844)
    high, middle = divmod(high, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _base62(number: int, digits: int) -> str:
    out = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        out = _DIGITS[digit] + out
    return out
