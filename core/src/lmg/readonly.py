"""A host that answers questions and takes nothing: what `explain` gives to components."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from .errors import MeshError, ServiceError
from .exchange import Receipt
from .host import Host, Worker

if TYPE_CHECKING:
    from .services import Claim

__all__ = ["NotExplained", "ReadOnlyCounters", "ReadOnlyHost"]


class NotExplained(MeshError):
    """A component wanted to leave the process; ``str(error)`` says for what."""


class ReadOnlyCounters:
    """Judges claims against what ``read`` says and takes none."""

    def __init__(self, read: Callable[[str], Awaitable[int]]) -> None:
        self._read = read

    async def read(self, key: str) -> int:
        return await self._read(key)

    async def claim(self, claims: Sequence[Claim]) -> Claim | None:
        sums: dict[str, int] = {}
        for claim in claims:
            if claim.key not in sums:
                sums[claim.key] = await self.read(claim.key)
            sums[claim.key] += claim.amount
            if sums[claim.key] > claim.limit:
                return claim
        return None

    async def give_back(self, claims: Sequence[Claim]) -> None:
        return None


class _NoLedger:
    """Records nothing."""

    def record(self, receipt: Receipt) -> None:
        return None

    async def recent(self, limit: int = 100) -> list[Receipt]:
        return []

    async def flush(self) -> None:
        return None


class _NoTransport(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise NotExplained(f"it would connect to {request.url.host}")


class _NoWorker(Worker):
    def offer(self, item: object) -> bool:
        """Takes ``item`` and forgets it, until it is stopped."""
        return super().offer(item) if self.stopped else True


async def _nothing(item: Any) -> None:
    return None


class ReadOnlyHost(Host):
    """Knows where the state is and never writes there."""

    def __init__(self, state_dir: Path | None, secrets_dir: Path | None, *, connect: bool) -> None:
        super().__init__(secrets_dir=secrets_dir)
        self.state_dir = state_dir
        self.counters = ReadOnlyCounters(
            _from_file(state_dir / "counters.sqlite" if state_dir is not None else None)
        )
        self.ledger = _NoLedger()
        if not connect:
            self._http = httpx.AsyncClient(transport=_NoTransport(), trust_env=False)

    def worker(self, name: str, handle: Callable[[Any], Awaitable[None]], *, size: int) -> Worker:
        return _NoWorker(name, _nothing, size=1)


def _from_file(path: Path | None) -> Callable[[str], Awaitable[int]]:
    """Reads a counter from the file that serving processes share; 0 where there is no such file."""
    there = path is not None and path.exists()

    async def read(key: str) -> int:
        if not there:
            return 0
        try:
            db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
            try:
                row = db.execute(
                    "SELECT value FROM counter WHERE key = ? AND ends > ?", (key, time.time())
                ).fetchone()
            finally:
                db.close()
        except sqlite3.Error as error:
            raise ServiceError(f"{path} cannot be read: {error}") from error
        return int(row[0]) if row is not None else 0

    return read
