"""What has been verified: by the digest of the whole token, until it expires, its key goes, or it is denied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from lmg import Principal

from .keys import KeyRing, VerificationKey

__all__ = ["Verified", "VerifiedTokens", "token_digests"]


@dataclass(slots=True)
class Verified:
    """A token that was good, and on what that rests. ``until`` is wall-clock time, ``asked_at`` monotonic."""

    principal: Principal
    until: float
    key: VerificationKey
    ring: KeyRing
    jti: str | None
    asked_at: float


def token_digests(parts: Iterable[str]) -> hashlib._Hash:
    """The beginning of every token's digest: which issuers and audiences it was judged for.

    A digest is of the whole token, never of its beginning: two tokens of one caller differ only in the middle.
    """
    seed = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        seed.update(len(raw).to_bytes(4, "big") + raw)
    return seed


class VerifiedTokens:
    """At most ``size`` verified tokens; the oldest go first."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int) -> None:
        self._entries: dict[bytes, Verified] = {}
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now: float, monotonic: float) -> Verified | None:
        """What is known of the token: everything that may have changed since is looked at on every hit."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry.until <= now or not entry.key.live or entry.ring.stale_at <= monotonic:
            del self._entries[digest]
            return None
        return entry

    def keep(self, digest: bytes, entry: Verified) -> None:
        """Keeps it, in the place of the oldest where there is no room."""
        entries = self._entries
        if self._size == 0:
            return
        if len(entries) >= self._size and digest not in entries:
            del entries[next(iter(entries))]
        entries[digest] = entry

    def forget(self, digest: bytes) -> None:
        """Drops it."""
        self._entries.pop(digest, None)
