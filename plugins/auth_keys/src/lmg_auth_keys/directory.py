"""The live keys in memory: what verification looks into, so that no request waits for a database."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final, Literal

from lmg import Principal

from .records import grant_of, principal_of
from .store import LiveRow

__all__ = ["Directory", "Entry"]

MAX_GONE: Final = 10_000
NEVER: Final = float("inf")


class Entry:
    """One live key. What it grants stays the text that is stored until somebody comes with the key."""

    __slots__ = (
        "_principal",
        "allows",
        "digest",
        "expires_at",
        "id",
        "pepper",
        "subject",
        "tenant",
        "used_at",
    )

    def __init__(
        self,
        id: str,
        digest: bytes,
        pepper: str,
        subject: str,
        tenant: str,
        allows: str,
        expires_at: float | None,
    ) -> None:
        self.id, self.digest, self.pepper = id, digest, pepper
        self.subject, self.tenant, self.allows = subject, tenant, allows
        self.expires_at = NEVER if expires_at is None else expires_at
        self.used_at = -NEVER
        self._principal: Principal | None = None

    def __repr__(self) -> str:
        return f"Entry({self.id})"

    def principal(self, issuer: str) -> Principal:
        """Who calls with it; made at the first call."""
        found = self._principal
        if found is None:
            expires_at = None if self.expires_at == NEVER else self.expires_at
            grant = grant_of(self.subject, self.tenant, self.allows)
            found = self._principal = principal_of(grant, self.id, expires_at, issuer)
        return found


def entry_of(row: LiveRow, pepper: Callable[[str], str]) -> Entry:
    """A row as an entry; ``pepper`` gives equal names as one object."""
    digest = bytes.fromhex(row.digest)
    return Entry(row.id, digest, pepper(row.pepper), row.subject, row.tenant, row.allows, row.expires_at)


class Directory:
    """At most ``max_keys`` live keys by their ids, and of the last 10,000 that are gone the reason, for the operator."""

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.left_out = 0
        """Keys that had no room."""
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, Literal["expired", "revoked"]] = {}
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key_id: str) -> Entry | None:
        """The live key with this id (it may have expired since the last ``sweep``)."""
        return self._entries.get(key_id)

    def why_not(self, key_id: str) -> str:
        """What became of a key that is not here."""
        return self._gone.get(key_id, "unknown")

    def all(self) -> list[Entry]:
        """Every live key."""
        return list(self._entries.values())

    def replace(self, entries: Iterable[Entry]) -> None:
        """Takes these in the place of all that were here."""
        fresh: dict[str, Entry] = {}
        self.left_out = 0
        for entry in entries:
            if len(fresh) >= self.max_keys:
                self.left_out += 1
            else:
                fresh[entry.id] = entry
                self._names.setdefault(entry.pepper, entry.pepper)
        self._entries = fresh

    def read(self, rows: Iterable[LiveRow]) -> list[Entry]:
        """Rows as entries."""
        return [entry_of(row, lambda name: self._names.setdefault(name, name)) for row in rows]

    def apply(self, row: LiveRow) -> None:
        """Takes over one change."""
        if row.revoked_at is not None:
            self._entries.pop(row.id, None)
            self._note(row.id, "revoked")
            return
        if row.id not in self._entries and len(self._entries) >= self.max_keys:
            self.left_out += 1
            return
        (self._entries[row.id],) = self.read((row,))

    def has_room_again(self) -> bool:
        """Whether keys were left out that would find room now."""
        return self.left_out > 0 and len(self._entries) < self.max_keys

    def sweep(self, now: float) -> None:
        """Lets go of what has expired."""
        for entry in [entry for entry in self._entries.values() if entry.expires_at <= now]:
            del self._entries[entry.id]
            self._note(entry.id, "expired")

    def unverifiable(self, peppers: Container[str]) -> int:
        """How many were hashed with a pepper that is none of these."""
        unknown = {name for name in self._names if name not in peppers}
        return sum(entry.pepper in unknown for entry in self._entries.values()) if unknown else 0

    def _note(self, key_id: str, why: Literal["expired", "revoked"]) -> None:
        if len(self._gone) >= MAX_GONE:
            del self._gone[next(iter(self._gone))]
        self._gone[key_id] = why
