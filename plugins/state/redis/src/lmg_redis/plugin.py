"""`redis`: limits, leases and sums that all replicas share."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from hiredis import ReplyError

from lmg import ConfigError, Health, Host, Service, ServiceError
from lmg.services import Level, Limit, Settle, Take, Taken

from .config import RedisConfig
from .connection import Argument, pack
from .errors import StoreError, code_of, refusal_of
from .names import Names
from .scripts import REMOVE, TALLY, Script
from .session import TRIES, Session

__all__ = ["RedisCounters"]


class RedisCounters(Service):
    """The ``CounterStore`` of several gateways. Every awaited call raises ``ServiceError`` where the server is gone."""

    Config = RedisConfig
    summary = "limits, leases and sums that all replicas share, in Redis or Valkey"
    stability = "beta"
    protocol = "counters"
    shared = True
    config: RedisConfig

    def __init__(self, config: RedisConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._names = Names(config.prefix)
        self._session: Session
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connects; where the server is not there, the gateway starts degraded and goes on trying.

        Raises:
            ConfigError: a TLS file cannot be used.
            ServiceError: the server is not there, and ``required_at_start``.
        """
        context = await asyncio.to_thread(self._tls)
        self._session = Session(self.config, self.host, self.name)
        link = self._session.link
        if not await link.open(context) and self.config.required_at_start:
            raise ServiceError(f"services.{self.name}: {link.reason} ({self.config.address})")
        self._running = self.host.spawn(link.run(), name=f"{self.name}-link")

    def _tls(self) -> ssl.SSLContext | None:
        config = self.config
        if not config.address.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=config.ca_file)
            if config.cert_file is not None:
                context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ssl.SSLError) as error:
            what = error.strerror or type(error).__name__
            raise ConfigError(
                f"the TLS files cannot be used: {what}",
                path=f"services.{self.name}",
                hint="check paths, and that key and certificate belong together",
            ) from None
        return context

    async def stop(self) -> None:
        """Hands over what is due, gives back what is held, disconnects."""
        session = getattr(self, "_session", None)
        if session is None:
            return
        await session.goodbye()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        session.link.close()

    def health(self) -> Health | None:
        """Degraded while calls fail."""
        session = getattr(self, "_session", None)
        return session.link.health() if session is not None else None

    # -- limits ---------------------------------------------------------------------------------
    async def take(self, takes: Sequence[Take]) -> Taken:
        """See ``CounterStore.take``: one round trip. A caller that leaves meanwhile has taken nothing."""
        return await self._session.ask(takes) if takes else Taken(None, None, ())

    async def peek(self, takes: Sequence[Take]) -> Taken:
        """What ``take`` would say, taking nothing."""
        return await self._session.ask(takes, look=True) if takes else Taken(None, None, ())

    def settle(self, settles: Sequence[Settle]) -> None:
        """See ``CounterStore.settle``. While the server is gone, use is kept up to a full bucket for each limit."""
        self._session.settle(settles)

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        """See ``CounterStore.levels``."""
        return (await self.peek([Take(limit, 0) for limit in limits])).levels

    # -- sums and values ------------------------------------------------------------------------
    async def tally(self, key: str, amounts: Mapping[str, int], ttl_s: float) -> dict[str, int]:
        """See ``CounterStore.tally``. After a ``ServiceError`` it is unknown whether the sums were added to."""
        added = [part for pair in amounts.items() for part in pair]
        flat = await self._run(TALLY, [self._names.sums(key)], [_ms(ttl_s), *added])
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def put(self, key: str, value: bytes, ttl_s: float, *, only_new: bool = False) -> bool:
        """See ``CounterStore.put``."""
        command = ("SET", self._names.value(key), value, "PX", _ms(ttl_s))
        return await self._call((*command, "NX") if only_new else command) is not None

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See ``CounterStore.get``."""
        found: list[bytes | None] = await self._call(("MGET", *map(self._names.value, keys))) if keys else []
        return found

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        """See ``CounterStore.remove``."""
        name = self._names.value(key)
        if value is None:
            return bool(await self._call(("DEL", name)))
        return bool(await self._run(REMOVE, [name], [value]))

    # -- calls ----------------------------------------------------------------------------------
    async def _call(self, command: tuple[Argument, ...]) -> Any:
        link = self._session.link
        connection = link.connection or await link.ready()
        try:
            reply = await connection.call(pack(command))
        except StoreError as error:
            raise link.failed(error) from None
        if isinstance(reply, ReplyError):
            raise link.failed(refusal_of(reply))
        return reply

    async def _run(self, script: Script, keys: list[bytes], arguments: list[Argument]) -> Any:
        link = self._session.link
        for _ in range(TRIES):
            connection = link.connection or await link.ready()
            try:
                reply = await connection.call(script.packed(connection.known, keys, arguments))
            except StoreError as error:
                raise link.failed(error) from None
            if not isinstance(reply, ReplyError):
                connection.known.add(script.digest)
                return reply
            if code_of(reply) != "NOSCRIPT":
                raise link.failed(refusal_of(reply))
            connection.known.discard(script.digest)
        raise link.failed(StoreError("lost", "the server forgets at once what it is told"))


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
