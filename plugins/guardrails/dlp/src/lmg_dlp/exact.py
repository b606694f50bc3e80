"""Exact data: values of the operator's own (customers, accounts), known to the gateway as keyed hashes alone.

The file is read through ``mmap``: a header, then two tables, of values and of their beginnings (so that nothing waits in a
stream that begins no value). A table holds 64-bit keyed hashes in order: the first bits are the place in an index, six bytes
are stored. A text that is no value is taken for one with a probability of about 8 / 2**48.
"""

from __future__ import annotations

import json
import mmap
import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from struct import unpack_from
from typing import Final, NamedTuple

from lmg.redaction import Found

__all__ = [
    "GAP",
    "MAGIC",
    "MAX_SPAN",
    "STORED",
    "BadDictionary",
    "Dictionary",
    "ExactData",
    "hash_key",
    "tokens",
]

MAGIC: Final = b"LMGEDM1\n"
STORED: Final = 6
MAX_SPAN: Final = 256
"""Characters of a text that one value may take up."""
MAX_UNKNOWN: Final = 20_000

_LETTER: Final = r"[^\W\d_]"
_TOKEN: Final = re.compile(rf"{_LETTER}{{1,64}}+(?!{_LETTER})|\d{{1,32}}+(?:[-./ ]\d{{1,32}}+){{0,8}}+(?!\d)")
_BEGIN: Final = re.compile(rf"(?<!{_LETTER}){_LETTER}+|(?<!\d)\d+")
GAP: Final = re.compile(r"[\W_]{0,3}")
_SIGNS: Final = re.compile("[-./ ]")


class BadDictionary(ValueError):
    """The file is no dictionary, or was made with another key."""


class _Table(NamedTuple):
    bits: int
    offsets: int
    rows: int


def tokens(text: str) -> list[str]:
    """``text`` as its words and numbers: small letters, numbers without the signs between their digits."""
    found, at = [], 0
    while (token := _TOKEN.search(text, at)) is not None:
        found.append(_normal(token.group()))
        at = token.end()
    return found


def hash_key(salt: bytes, secret: str) -> bytes:
    """The key of the hashes: of the file's salt and, where there is one, the operator's secret."""
    return blake2b(salt, key=blake2b(secret.encode()).digest(), digest_size=32).digest()


class Dictionary:
    """The tables of one file.

    Raises:
        BadDictionary: there is none, it is cut off, or its key is another one.
    """

    def __init__(self, path: Path, secret: str = "") -> None:
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadDictionary(f"{path.name} cannot be read ({type(error).__name__})") from None
        if self._data[: len(MAGIC)] != MAGIC:
            raise BadDictionary(f"{path.name} is no dictionary (make one with `python -m lmg_dlp.build`)")
        size = unpack_from("<I", self._data, len(MAGIC))[0]
        begin = len(MAGIC) + 4
        head = json.loads(self._data[begin : begin + size])
        self.key = hash_key(bytes.fromhex(head["salt"]), secret)
        if head["proof"] != blake2b(b"proof", key=self.key, digest_size=8).hexdigest():
            raise BadDictionary(f"{path.name} was made with another key")
        self.count: int = head["values"]
        self.max_tokens: int = head["max_tokens"]
        at = begin + size
        tables = []
        for bits, count in head["tables"]:
            rows = at + 4 * (2**bits + 1)
            tables.append(_Table(bits, at, rows))
            at = rows + STORED * count
        if at != len(self._data):
            raise BadDictionary(f"{path.name} is not complete")
        self._values, self._beginnings = tables

    @property
    def size(self) -> int:
        """Bytes of the file, all of which may come to be in memory."""
        return len(self._data)

    def look(self, joined: str) -> tuple[bool, bool]:
        """Whether this is a value, and whether it is the beginning of one."""
        digest = blake2b(joined.encode(), key=self.key, digest_size=8).digest()
        return self._holds(self._values, digest), self._holds(self._beginnings, digest)

    def _holds(self, table: _Table, digest: bytes) -> bool:
        place = int.from_bytes(digest) >> (64 - table.bits)
        first, last = unpack_from("<II", self._data, table.offsets + 4 * place)
        if first == last:
            return False
        rows = self._data[table.rows + STORED * first : table.rows + STORED * last]
        stored = digest[-STORED:]
        at = rows.find(stored)
        while at > 0 and at % STORED:
            at = rows.find(stored, at + 1)
        return at >= 0


class ExactData:
    """Finds the values of ``dictionary`` as ``name``, whatever their case and the signs between their words and digits."""

    max_length = MAX_SPAN

    def __init__(self, dictionary: Dictionary, name: str) -> None:
        self.name = name
        self._look = dictionary.look
        self._max_tokens = dictionary.max_tokens
        self._unknown: set[str] = set()
        """Words that begin no value: most of a text, and cheaper to know than to hash. Values never stand in it."""

    def last_run(self, text: str) -> int:
        """Where the earliest value begins that what follows may still complete."""
        end = len(text)
        for begin in _BEGIN.finditer(text, max(0, end - MAX_SPAN)):
            at = begin.start()
            if (at == 0 or not _same(text, at)) and self._walk(text, at)[1]:
                return at
        return end

    def run_end(self, text: str, start: int) -> int:
        return start  # values are bounded, so no run is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        for begin in _BEGIN.finditer(text, start):
            at = begin.start()
            if at >= end:
                return
            if begin.group().lower() in self._unknown:
                continue
            stop, _ = self._walk(text, at)
            if stop:
                yield Found(at, stop, self.name, text[at:stop])

    def _walk(self, text: str, start: int) -> tuple[int, bool]:
        """Where the longest value ends that begins at ``start`` (0 for none), and whether the text ends too soon to say."""
        joined, at, best, end = "", start, 0, len(text)
        for _ in range(self._max_tokens):
            token = _TOKEN.match(text, at)
            if token is None:
                # Too long for a token, or the end of the text.
                return best, at == end
            stop = token.end()
            if stop - start > MAX_SPAN:
                return best, False
            if stop == end or (stop == end - 1 and text[stop - 1].isdigit() and text[stop] in "-./ "):
                if end - start <= MAX_SPAN:
                    is_value, _ = self._look(joined + _normal(token.group()))
                    return (stop if is_value else best), True
                return best, False
            joined += _normal(token.group())
            is_value, begins = self._look(joined)
            if is_value:
                best = stop
            if not begins:
                if at == start and not is_value and joined.isascii() and joined.isalpha():
                    self._remember(joined)
                return best, False
            gap = GAP.match(text, stop)
            at = gap.end() if gap is not None else stop
        return best, False

    def _remember(self, word: str) -> None:
        if len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown.add(word)


def _same(text: str, at: int) -> bool:
    """Whether the character at ``at`` goes on with the word or number before it."""
    one, before = text[at], text[at - 1]
    return (one.isdigit() and before.isdigit()) or (one.isalpha() and before.isalpha())


def _normal(token: str) -> str:
    if token.isascii() and token.isalpha():
        return token.lower()
    if token[0].isdigit():
        token = _SIGNS.sub("", token)
    return unicodedata.normalize("NFKC", token).casefold()
