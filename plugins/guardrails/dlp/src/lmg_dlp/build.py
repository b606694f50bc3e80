"""Makes the dictionary of exact data: ``python -m lmg_dlp.build values.txt out.edm``, one value a line."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from struct import pack
from typing import Final

from .exact import MAGIC, STORED, hash_key, tokens

__all__ = ["Built", "build", "main"]

MIN_CHARS: Final = 5
MAX_CHARS: Final = 128
MAX_TOKENS: Final = 12


class Built:
    """How many values were taken, how many left out (too short, or too long to be found), and the file's bytes."""

    def __init__(self, values: int, left_out: int, size: int) -> None:
        self.values, self.left_out, self.size = values, left_out, size


def build(
    values: Iterable[str],
    out: Path,
    *,
    secret: str = "",
    salt: bytes | None = None,
    min_chars: int = MIN_CHARS,
) -> Built:
    """Writes the dictionary of ``values`` to ``out``, whole or not at all.

    A value that has fewer than ``min_chars`` letters and digits would be found everywhere, and is left out. With
    ``secret`` the file alone does not let anybody try values out.
    """
    salt = salt if salt is not None else secrets.token_bytes(16)
    key = hash_key(salt, secret)
    whole, beginnings = array("Q"), array("Q")
    left_out = most = 0
    for value in values:
        words = tokens(value)
        joined = "".join(words)
        if (
            not min_chars <= len(joined) <= MAX_CHARS
            or len(words) > MAX_TOKENS
            or len(value.strip()) > 2 * MAX_CHARS
        ):
            left_out += bool(value.strip())
            continue
        most = max(most, len(words))
        begun = ""
        for word in words[:-1]:
            begun += word
            beginnings.append(_hash(begun, key))
        whole.append(_hash(joined, key))
    tables = [sorted(set(whole)), sorted(set(beginnings))]
    shapes = [(max(1, (len(table) // 8).bit_length()), len(table)) for table in tables]
    head = json.dumps({
        "salt": salt.hex(), "proof": blake2b(b"proof", key=key, digest_size=8).hexdigest(), "values": len(tables[0]),
        "max_tokens": most, "tables": shapes,
    }).encode()  # fmt: skip
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        file.write(MAGIC + pack("<I", len(head)) + head)
        for table, (bits, _) in zip(tables, shapes, strict=True):
            file.write(_index(table, bits))
            file.write(b"".join([one.to_bytes(8)[-STORED:] for one in table]))
        size = file.tell()
    os.replace(part, out)
    return Built(len(tables[0]), left_out, size)


def _hash(text: str, key: bytes) -> int:
    return int.from_bytes(blake2b(text.encode(), key=key, digest_size=8).digest())


def _index(table: list[int], bits: int) -> bytes:
    """For each beginning of ``bits`` bits, how many hashes stand before it; at last, how many there are."""
    counts = array("I", bytes(4 * (2**bits + 1)))
    for one in table:
        counts[(one >> (64 - bits)) + 1] += 1
    for n in range(1, len(counts)):
        counts[n] += counts[n - 1]
    if sys.byteorder == "big":
        counts.byteswap()
    return counts.tobytes()


def main(arguments: list[str] | None = None) -> int:
    """The command; the secret key, if any, is read from the environment variable that ``--key-env`` names."""
    parser = argparse.ArgumentParser(prog="python -m lmg_dlp.build", description=__doc__)
    parser.add_argument("values", type=Path, help="one value a line, UTF-8")
    parser.add_argument("out", type=Path, help="the dictionary")
    parser.add_argument("--key-env", help="the environment variable that holds the secret key")
    parser.add_argument(
        "--min-chars", type=int, default=MIN_CHARS, help="letters and digits that a value must have"
    )
    given = parser.parse_args(arguments)
    secret = os.environ.get(given.key_env, "") if given.key_env else ""
    if given.key_env and not secret:
        parser.error(f"{given.key_env} is not set")
    with given.values.open(encoding="utf-8") as lines:
        built = build(lines, given.out, secret=secret, min_chars=given.min_chars)
    sys.stdout.write(f"{built.values} values, {built.left_out} left out, {built.size} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
