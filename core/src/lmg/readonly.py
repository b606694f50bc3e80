"""A host that answers questions and takes nothing: what `explain` gives to components."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from .errors import MeshError
from .exchange import Receipt
from .host import Host, Worker
from .services import Take
from .services.buckets import judge

if TYPE_CHECKING:
    from .services import CounterStore, Level, Limit, Settle, Taken

__all__ = ["NotExplained", "ReadOnlyCounters", "ReadOnlyHost"]


class NotExplained(MeshError):
    """A component wanted to leave the process; ``str(error)`` says for what."""


class _InFolder:
    """What the serving processes of this machine have counted; nothing where there is no such folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def _load(self, key: str) -> tuple[float, float, int]:
        if self._folder is None:
            return 0.0, 0.0, 0
        from .services.file_counters import read_bucket

        return read_bucket(self._folder, key)

    async def peek(self, takes: Sequence[Take]) -> Taken:
        return judge(takes, self._load, time.monotonic())[0]

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None] * len(keys)


class ReadOnlyCounters:
    """Judges what would be taken by what has been counted, and takes nothing."""

    shared = False

    def __init__(self, counted: CounterStore | Path | None = None) -> None:
        self._counted = _InFolder(counted) if counted is None or isinstance(counted, Path) else counted

    async def take(self, takes: Sequence[Take]) -> Taken:
        return await self._counted.peek(takes)

    async def peek(self, takes: Sequence[Take]) -> Taken:
        return await self._counted.peek(takes)

    def settle(self, settles: Sequence[Settle]) -> None:
        return None

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        return (await self.peek([Take(limit, 0) for limit in limits])).levels

    async def tally(self, key: str, amounts: Mapping[str, int], ttl_s: float) -> dict[str, int]:
        return dict(amounts)

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        return True

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._counted.get(keys)

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        return False


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

    reads_only = True

    def __init__(self, state_dir: Path | None, secrets_dir: Path | None, *, connect: bool) -> None:
        super().__init__(secrets_dir=secrets_dir)
        self.state_dir = state_dir
        self.keeps_state = True
        self.counters = ReadOnlyCounters(state_dir / "counters" if state_dir is not None else None)
        self.ledger = _NoLedger()
        self.connects = connect
        if not connect:
            self._http = httpx.AsyncClient(transport=_NoTransport(), trust_env=False)

    def worker(self, name: str, handle: Callable[[Any], Awaitable[None]], *, size: int) -> Worker:
        return _NoWorker(name, _nothing, size=1)
