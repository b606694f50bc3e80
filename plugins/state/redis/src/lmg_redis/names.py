"""The keys. All carry one hash tag, so that a cluster keeps them in one slot and a script may touch several."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["Names"]

LONGEST: Final = 256
"""Bytes of a caller's text in a key; a longer one stands there as its digest."""


class Names:
    """``{prefix}:<kind>:<text>``: limits are ``l``, sums ``t``, values ``v``, records of processes ``p``."""

    def __init__(self, prefix: str) -> None:
        tag = f"{{{prefix}}}:".encode()
        self.holders = tag + b"holders"
        self._limit, self._sums, self._value, self._record = (
            tag + b"l:",
            tag + b"t:",
            tag + b"v:",
            tag + b"p:",
        )

    def bucket(self, key: str) -> bytes:
        """The state of a limit."""
        return self._limit + _short(key)

    def sums(self, key: str) -> bytes:
        """The named sums of ``tally``."""
        return self._sums + _short(key)

    def value(self, key: str) -> bytes:
        """What ``put`` keeps."""
        return self._value + _short(key)

    def record(self, process: str) -> bytes:
        """What the server remembers of a process: its latest connection and settlements."""
        return self._record + process.encode()


def _short(key: str) -> bytes:
    raw = key.encode("utf-8", "surrogatepass")
    return raw if len(raw) <= LONGEST else hashlib.sha256(raw).hexdigest().encode()
