"""Whether a credential is a key of ours: from memory alone, the same answer to all that are not."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from .directory import Directory, Entry
from .key_text import id_of
from .peppers import Peppers

__all__ = ["UNKNOWN", "Refused", "Verifier"]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not, for the operator: ``result`` for the metric, ``key_id`` where the key was one of ours."""

    result: str
    key_id: str = ""

    def __str__(self) -> str:
        return f"{self.result} key {self.key_id}".rstrip()


MALFORMED: Final = Refused("malformed")
UNKNOWN: Final = Refused("unknown")
"""The key has the right form; the database may know more than this process."""


class Verifier:
    """Compares with what is stored, in constant time."""

    def __init__(self, directory: Directory, peppers: Peppers) -> None:
        self._directory = directory
        self._peppers = peppers

    def verify(self, credential: str, now: float) -> Entry | Refused:
        """The live key that ``credential`` is, at ``now`` seconds since the epoch."""
        key_id = id_of(credential)
        if key_id is None:
            return MALFORMED
        entry = self._directory.get(key_id)
        if entry is None:
            why = self._directory.why_not(key_id)
            return UNKNOWN if why == "unknown" else Refused(why, key_id)
        if entry.pepper not in self._peppers:
            return Refused("unverifiable", entry.id)
        if not hmac.compare_digest(self._peppers.digest(credential, entry.pepper), entry.digest):
            return Refused("wrong", entry.id)
        return Refused("expired", entry.id) if entry.expires_at <= now else entry
