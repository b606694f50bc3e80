"""Texts that are nearly the same have a name in common, which tells nothing of them without the key.

Minhash in one pass (Li, Owen and Zhang, *One Permutation Hashing*, NIPS 2012) over the word pairs of the normalised
text, in bands (Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, 3.4): two texts that share nine of ten
word pairs have a band in common 98 times in 100, two that share a third one time in ten.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import Final
from zlib import crc32

__all__ = ["MAX_TEXT", "names_of"]

MAX_TEXT: Final = 4000
"""Characters that are looked at."""
MIN_SHINGLES: Final = 6
"""Shorter texts are alike by chance."""
_BANDS: Final = 3
_ROWS: Final = 3
_BINS: Final = _BANDS * _ROWS
_WORD: Final = re.compile(r"\w+")
_SPACED: Final = {code: " " for code in range(128) if not chr(code).isalnum()}
_EMPTY: Final = 1 << 32


def names_of(text: str, key: bytes) -> tuple[str, ...]:
    """One keyed name for each band of ``text``; none where it is too short to be compared."""
    values = _shingles(text[:MAX_TEXT])
    if len(values) < MIN_SHINGLES:
        return ()
    least = [_EMPTY] * _BINS
    for value in sorted(values, reverse=True):  # the last one that is written is the least
        least[value % _BINS] = value
    _fill(least)
    return tuple(
        blake2b(
            b"%d:%r" % (band, least[band * _ROWS : (band + 1) * _ROWS]), key=key, digest_size=12
        ).hexdigest()
        for band in range(_BANDS)
    )


def _shingles(text: str) -> set[int]:
    """The pairs of words, or runs of four characters, as numbers of 32 bits."""
    if text.isascii():
        words = text.lower().translate(_SPACED).encode().split()
    else:
        plain = unicodedata.normalize("NFKC", text).casefold()
        words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(plain)]
    if len(words) > MIN_SHINGLES:
        return set(map(crc32, words[1:], map(crc32, words)))
    # No word boundaries (Chinese, Japanese, Thai), or one long token.
    joined = b"".join(words).decode("utf-8", "surrogatepass")
    return {crc32(joined[n : n + 4].encode("utf-8", "surrogatepass")) for n in range(len(joined) - 3)}


def _fill(least: list[int]) -> None:
    """An empty bin borrows from the next that is not (Shrivastava and Li, 2014), so that short texts compare, too."""
    for place, value in enumerate(least):
        if value == _EMPTY:
            for step in range(1, _BINS):
                there = least[(place + step) % _BINS]
                if there < _EMPTY:
                    least[place] = there + step * _EMPTY * 2
                    break
