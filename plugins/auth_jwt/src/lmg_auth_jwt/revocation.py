"""Tokens that are refused before they expire: by `jti`, from the configuration, a file, and the shared store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from lmg import ServiceError

from .tokens import TokenFault

if TYPE_CHECKING:
    from pathlib import Path

    from lmg import Host

    from .config import DeniedConfig

__all__ = ["Denied", "StoreLost"]

log = logging.getLogger("lmg.auth_jwt")

MAX_FILE_BYTES: Final = 4 * 2**20


class StoreLost(Exception):
    """Whether the token is denied cannot be told, and the configuration does not let it pass."""


class Denied:
    """The denied `jti`. Tokens without one cannot be denied."""

    def __init__(self, config: DeniedConfig, host: Host, name: str) -> None:
        self.shared = config.shared
        self.recheck_s = config.recheck_s
        self.fault: str | None = None
        self._config = config
        self._host = host
        self._prefix = f"auth_jwt:{name}:denied:"
        self._fixed = frozenset(config.jti)
        self._listed = self._fixed
        self._seen: tuple[float, int] | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the file, and again whenever it changes.

        Raises:
            OSError, ValueError: it cannot be read; a file that goes later leaves the list as it was.
        """
        if self._config.file is not None:
            await self._read(self._config.file)
            self._loop = self._host.spawn(self._watch(self._config.file), name="auth_jwt:denied")

    async def stop(self) -> None:
        """Ends the background work."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})

    def lists(self, jti: str | None) -> bool:
        """Whether configuration or file deny it: no I/O."""
        return jti is not None and jti in self._listed

    def due(self, jti: str | None, asked_at: float) -> bool:
        """Whether the store must be asked (again)."""
        return self.shared and jti is not None and asked_at + self.recheck_s <= self._host.clock.monotonic()

    async def ask(self, jti: str) -> None:
        """Asks the shared store.

        Raises:
            TokenFault: it is denied there.
            StoreLost: the store is gone, and ``on_store_loss`` is ``deny``.
        """
        try:
            (found,) = await self._host.counters.get([self._key(jti)])
        except ServiceError:
            if self._config.on_store_loss == "deny":
                raise StoreLost from None
            return
        if found is not None:
            raise TokenFault("denied (jti)")

    async def deny(self, jti: str, ttl_s: float) -> None:
        """Denies ``jti`` for all replicas, for ``ttl_s`` seconds: as long as the token would live."""
        await self._host.counters.put(self._key(jti), b"1", ttl_s)

    def _key(self, jti: str) -> str:
        return self._prefix + hashlib.sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()

    async def _watch(self, path: Path) -> None:
        while True:
            await self._host.clock.sleep(max(self.recheck_s, 0.1))
            try:
                await self._read(path)
                self.fault = None
            except (OSError, ValueError) as error:
                if self.fault is None:
                    log.warning("denied_file_not_read error=%s", type(error).__name__)
                self.fault = f"the file of denied tokens cannot be read ({type(error).__name__})"

    async def _read(self, path: Path) -> None:
        stat = await asyncio.to_thread(path.stat)
        seen = (stat.st_mtime, stat.st_size)
        if seen == self._seen:
            return
        if stat.st_size > MAX_FILE_BYTES:
            raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        text = await asyncio.to_thread(path.read_text, "utf-8")
        lines = (line.strip() for line in text.splitlines())
        self._listed = self._fixed | {line for line in lines if line and not line.startswith("#")}
        self._seen = seen
