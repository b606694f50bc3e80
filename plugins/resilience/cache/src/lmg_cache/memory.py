"""Kept answers in the memory of one process, the least recently used leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .entries import Entry

__all__ = ["MemoryEntries"]


class MemoryEntries:
    """At most ``max_entries`` and ``max_bytes``. A tenant with more than its share makes room by its own entries, so a
    flood of one leaves those of others where they are.
    """

    def __init__(self, max_entries: int, max_bytes: int, now: Callable[[], float]) -> None:
        self._max_entries, self._max_bytes, self._now = max_entries, max_bytes, now
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._tenants: dict[str, OrderedDict[bytes, None]] = {}
        self._spent: dict[str, int] = {}
        self.bytes = 0
        self.evicted = 0
        self.held = 0
        """Bytes of streams that are not complete yet: they take room too."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def tenants(self) -> int:
        """How many tenants have entries."""
        return len(self._tenants)

    def get(self, key: bytes) -> Entry | None:
        """What is kept under ``key`` and still fresh."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.fresh_until <= self._now():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        self._tenants[entry.tenant].move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keeps ``entry``, in the place of what was there."""
        if key in self._entries:
            self._drop(key)
        self._entries[key] = entry
        self._tenants.setdefault(entry.tenant, OrderedDict())[key] = None
        self._spent[entry.tenant] = self._spent.get(entry.tenant, 0) + entry.size
        self.bytes += entry.size
        self._make_room(entry.tenant)

    def hold(self, tenant: str, size: int) -> bool:
        """Takes room for ``size`` bytes of a stream; False where streams alone take all there is."""
        if self.held + size > self._max_bytes:
            return False
        self.held += size
        if self.bytes + self.held > self._max_bytes:
            self._make_room(tenant)
        return True

    def let_go(self, size: int) -> None:
        """Gives back what ``hold`` took."""
        self.held -= size

    def purge(self, fits: Callable[[Entry], bool]) -> int:
        """Forgets every entry that ``fits``; how many."""
        gone = [key for key, entry in self._entries.items() if fits(entry)]
        for key in gone:
            self._drop(key)
        return len(gone)

    def _make_room(self, tenant: str) -> None:
        entries = self._entries
        while entries and (len(entries) > self._max_entries or self.bytes + self.held > self._max_bytes):
            mine = self._tenants.get(tenant, ())
            # One entry alone is no flood, and it may be the one that room is made for.
            greedy = len(mine) > 1 and self._spent[tenant] * len(self._tenants) > self.bytes
            self._drop(next(iter(mine if greedy else entries)))
            self.evicted += 1

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.bytes -= entry.size
        mine = self._tenants[entry.tenant]
        del mine[key]
        if mine:
            self._spent[entry.tenant] -= entry.size
        else:
            del self._tenants[entry.tenant], self._spent[entry.tenant]
