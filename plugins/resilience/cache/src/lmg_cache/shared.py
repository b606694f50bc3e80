"""Kept answers in the counter store, where all workers and replicas find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from lmg import Host, ServiceError
from lmg.host import Worker
from lmg.services import Limit, Take

from .entries import Entry, pack, unpack
from .purges import Purge, kept_after

__all__ = ["SharedEntries"]

QUEUE: Final = 64
"""Answers that wait to be stored; what does not fit is not kept."""


@dataclass(frozen=True, slots=True)
class _Put:
    name: str
    value: bytes
    ttl_s: float


class SharedEntries:
    """Answers under the component's name. Nothing here raises: a store that is away is a miss, counted in ``errors``.

    The store has room for more than answers, so what is written is bounded: ``max_bytes`` for each ``longest_s``
    seconds. (A bucket of half of it can be full, and be filled again while it drains.)
    """

    def __init__(self, host: Host, name: str, max_bytes: int, longest_s: float) -> None:
        self._host, self._name, self._longest_s = host, name, longest_s
        self._room = Limit(f"{name}:bytes", max_bytes // 2, longest_s)
        self._purges = f"{name}:purges"
        self._worker: Worker | None = None
        self._failures = host.metrics.counter(
            "llm_cache_store_errors_total", "Calls of the counter store that failed: each was a miss."
        )
        self.errors = 0
        self.refused = 0

    @property
    def dropped(self) -> int:
        """Answers that were not stored: the store was too slow, or their room was taken."""
        return self.refused + (self._worker.dropped if self._worker is not None else 0)

    def start(self) -> None:
        """Begins to store."""
        self._worker = self._host.worker(self._name, self._store, size=QUEUE)

    async def stop(self) -> None:
        """Stores what is waiting, and ends."""
        if self._worker is not None:
            await self._worker.stop()

    async def get(self, key: bytes, tenant: str, model: str) -> Entry | None:
        """The answer under ``key``, with its times on the monotonic clock."""
        try:
            value, purges = await self._host.counters.get([self._name_of(key), self._purges])
        except ServiceError:
            self._failed()
            return None
        found = unpack(value) if value is not None else None
        if found is None:
            return None
        head, body = found
        if any(one.at >= head["begun"] and one.fits(tenant, model) for one in _read(purges)):
            return None
        clock = self._host.clock
        then = clock.monotonic() - max(
            0.0, clock.now() - head["at"]
        )  # the clocks of replicas may differ a little
        return Entry.of(body, head["type"].encode("latin-1"), then, head["ttl"], tenant, model)

    def put(self, key: bytes, body: bytes, content_type: bytes, ttl_s: float, begun_at: float) -> None:
        """Hands over an answer whose request began at ``begun_at``, so that a purge since then holds for it."""
        if self._worker is not None:
            head = {
                "at": self._host.clock.now(),
                "begun": begun_at,
                "ttl": ttl_s,
                "type": content_type.decode("latin-1"),
            }
            self._worker.offer(_Put(self._name_of(key), pack(head, body), ttl_s))

    async def purge(self, purge: Purge) -> None:
        """Forgets what ``purge`` means, for everybody.

        Raises:
            ServiceError: the store is away, and nothing was forgotten.
        """
        counters = self._host.counters
        (there,) = await counters.get([self._purges])
        left = [[one.at, one.tenant, one.model] for one in kept_after(_read(there), purge, self._longest_s)]
        await counters.put(self._purges, orjson.dumps(left), self._longest_s)

    def _failed(self) -> None:
        self.errors += 1
        self._failures.inc()

    def _name_of(self, key: bytes) -> str:
        return f"{self._name}:{key.hex()}"

    async def _store(self, item: Any) -> None:
        assert isinstance(item, _Put)
        counters = self._host.counters
        try:
            if (await counters.take([Take(self._room, len(item.value))])).refused is None:
                await counters.put(item.name, item.value, item.ttl_s)
            else:
                self.refused += 1
        except ServiceError:
            self._failed()


def _read(purges: bytes | None) -> list[Purge]:
    return [Purge(*one) for one in orjson.loads(purges)] if purges is not None else []
