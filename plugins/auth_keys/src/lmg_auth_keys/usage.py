"""When keys were last used: noted on the way of a request, written later, at most once a minute for each key."""

from __future__ import annotations

from typing import Final

from lmg import ServiceError

from .directory import Entry
from .store import KeyStore

__all__ = ["Usage"]

EVERY_S: Final = 60.0


class Usage:
    """What has to be written; as many as there are live keys at most."""

    def __init__(self, store: KeyStore, max_keys: int) -> None:
        self._store = store
        self._max = max_keys
        self._used: dict[str, float] = {}

    def note(self, entry: Entry, now: float) -> None:
        """A key was used; cheap where it has been noted within the last minute."""
        if now - entry.used_at >= EVERY_S and len(self._used) < self._max:
            entry.used_at = now
            self._used[entry.id] = now

    async def flush(self) -> None:
        """Writes what was noted; what cannot be written waits for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.touch(used)
        except ServiceError:
            self._used = {**used, **self._used}
