"""The way to the server: one connection that is made anew whenever it is lost.

While there is none, calls fail at once: only the background asks whether the server is back. One that was merely
closed (a restart, a fail-over, an idle limit between us) gets as long as an answer would before calls begin to fail.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final, Protocol

from hiredis import ReplyError

from lmg import Health

from .connection import Connection, connected, pack
from .errors import StoreError, refusal_of

if TYPE_CHECKING:
    from lmg import Host

    from .config import RedisConfig

__all__ = ["Link", "Resident", "backoff_s"]

log = logging.getLogger("lmg.redis")

FIRST_BACKOFF_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 1.0
LASTING_S: Final = 1.0
"""Connections that are lost sooner are made anew ever more slowly, or a server that refuses would be called in a loop."""
ROUND_TRIPS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Resident(Protocol):
    """Who lives behind a link: it says at every connection what it holds, and that it lives."""

    def greeting(self) -> bytes:
        """The command that makes us known on a new connection; it replies 1."""

    def arrived(self, connection: Connection) -> None:
        """The greeting was accepted: calls go here from now on."""

    def left(self) -> None:
        """There is no connection any more, or a greeting was not accepted."""

    async def beat(self) -> None:
        """Called every ``heartbeat_ms`` on a connection that stands."""


class Link:
    """Keeps ``connection`` up; None is down. ``run`` is its background task."""

    def __init__(
        self, config: RedisConfig, host: Host, name: str, client_name: str, resident: Resident
    ) -> None:
        self.connection: Connection | None = None
        self.random = random.Random()
        self._config = config
        self._clock = host.clock
        self._name = name
        self._client_name = client_name
        self._resident = resident
        self._timeout_s = config.timeout_ms / 1000
        self.reason = "not connected yet"
        """Why there is no connection, where there is none."""
        self._reported = ""
        self._context: ssl.SSLContext | None = None
        self._over: asyncio.Future[StoreError] | None = None
        self._returning: asyncio.Future[None] | None = None
        self._patient = 0
        metrics = self._metrics = host.metrics
        self._up = metrics.gauge("lmg_store_up", "Whether the shared store answers.")
        self._errors = metrics.counter(
            "lmg_store_errors_total",
            "Calls of the shared store that failed, and what was dropped.",
            ("kind",),
        )
        self._round_trips = metrics.histogram(
            "lmg_store_round_trip_seconds",
            "From writing what one turn of the loop had to send to the last answer to it.",
            buckets=ROUND_TRIPS,
        )

    # -- for calls ------------------------------------------------------------------------------
    async def ready(self) -> Connection:
        """The connection; where it has just been lost, the next one, if it is there in time.

        Raises:
            StoreError: there is none.
        """
        returning = self._returning
        if self.connection is None and returning is not None:
            if self._patient >= self._config.max_in_flight:
                raise self.failed(StoreError("full", "too many calls wait for the connection"))
            self._patient += 1
            try:
                await asyncio.wait({returning})  # not the future itself: who leaves takes nobody along
            finally:
                self._patient -= 1
        if self.connection is None:
            raise self.failed(StoreError("down", f"the server is not there: {self.reason}"))
        return self.connection

    def failed(self, error: StoreError) -> StoreError:
        """``error``, counted."""
        self._errors.inc((error.kind,))
        return error

    def dropped(self, limits: int) -> None:
        """Counts limits whose use was not kept while the server was gone."""
        self._errors.inc(("dropped",), limits)

    def drop(self, why: StoreError) -> None:
        """Gives up the connection: what comes over the next one is sure again."""
        if self.connection is not None:
            self.connection.close(why)

    def close(self) -> None:
        """Ends for good: the gateway stops, which is no failure of the server."""
        self.reason = self._reported = "the gateway stops"
        self.drop(StoreError("down", self.reason))

    def health(self) -> Health | None:
        """What is wrong; None while calls are answered."""
        if self.connection is not None or self._returning is not None:
            return None
        return Health(
            "degraded", f"{self._config.address}: {self.reason}; calls fail at once until it is back"
        )

    # -- the background -------------------------------------------------------------------------
    async def open(self, context: ssl.SSLContext | None) -> bool:
        """The first attempt to connect: whether it was one. ``run`` goes on from there."""
        self._context = context
        return await self._attempt()

    async def run(self) -> None:
        """Connects, beats, and connects again, until it is cancelled."""
        failures = 0 if self.connection is not None else 1
        short_lived = 0
        while True:
            if self.connection is None:
                if failures:
                    await self._clock.sleep(backoff_s(failures, self.random))
                if not await self._attempt():
                    failures += 1
                    continue
            since = time.monotonic()
            await self._stand()
            short_lived = 0 if time.monotonic() - since >= LASTING_S else short_lived + 1
            failures = max(0, short_lived - 1)

    async def _stand(self) -> None:
        """Returns when the connection is lost."""
        assert self._over is not None
        beats = asyncio.get_running_loop().create_task(self._beats(), name="redis-beats")
        try:
            await self._over
        finally:
            beats.cancel()

    async def _beats(self) -> None:
        while self.connection is not None:
            self._up.set(1)  # said again and again: an exporter may have come after the connection
            await self._clock.sleep(self._config.heartbeat_ms / 1000)
            try:
                await self._resident.beat()
            except StoreError as error:
                self.failed(error)  # where the connection is over, so is this loop

    async def _attempt(self) -> bool:
        self._over = asyncio.get_running_loop().create_future()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._config.connect_timeout_ms / 1000):
                connection = await connected(self._config.address, self._context, self._made)
                await self._greet(connection)
        except (OSError, StoreError) as error:  # TimeoutError is an OSError
            why = _why(error, self._config.connect_timeout_ms)
            if connection is not None:
                connection.close(why)
            self._resident.left()
            self._down(self.failed(why))
            return False
        except BaseException:
            if connection is not None:
                connection.close(StoreError("lost", "the gateway stops"))
            raise
        self._arrived(connection)
        return True

    def _made(self) -> Connection:
        return Connection(
            timeout_s=self._config.connect_timeout_ms / 1000,
            max_in_flight=self._config.max_in_flight,
            on_lost=self._lost,
            on_round_trip=self._timed,
        )

    async def _greet(self, connection: Connection) -> None:
        """Logs in and says what we hold, in one round trip.

        Raises:
            StoreError: the server refused, or the connection was lost.
        """
        config = self._config
        commands: list[bytes] = []
        if config.password is not None:
            user = (config.username,) if config.username is not None else ()
            commands.append(pack(("AUTH", *user, config.password.get_secret_value())))
        if config.address.db:
            commands.append(pack(("SELECT", config.address.db)))
        commands.append(self._resident.greeting())
        # A name is a convenience: who may not give one goes without.
        name = pack(("CLIENT", "SETNAME", self._client_name))
        answers = await asyncio.gather(
            *[connection.call(command) for command in (*commands, name)], return_exceptions=True
        )
        for answer in answers[:-1]:
            if isinstance(answer, ReplyError):
                raise refusal_of(answer)
            if isinstance(answer, BaseException):
                raise answer
        if answers[-2] != 1:
            raise StoreError("lost", "the server knows a later connection of this process")
        if connection.lost is not None:
            raise connection.lost

    def _arrived(self, connection: Connection) -> None:
        connection.wait_at_most(self._timeout_s)
        self.connection = connection
        self._returned()
        self._up.set(1)
        if self._reported:
            self._reported = ""
            log.info("store_up component=%s at=%s", self._name, self._config.address)
        self._resident.arrived(connection)

    def _lost(self, connection: Connection, why: StoreError) -> None:
        if connection is not self.connection:
            return  # one that never stood
        self.connection = None
        self._resident.left()
        if why.kind in ("lost", "forgotten"):
            self._returning = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(self._timeout_s, self._returned, self._returning)
            self.reason = why.reason
        else:
            self._down(why)
        assert self._over is not None
        if not self._over.done():
            self._over.set_result(why)

    def _returned(self, which: asyncio.Future[None] | None = None) -> None:
        """Whoever waits for the connection goes on: it is there, or the time is over."""
        returning = self._returning
        if returning is not None and which in (None, returning):
            self._returning = None
            returning.set_result(None)

    def _down(self, why: StoreError) -> None:
        self.reason = why.reason
        self._up.set(0)
        self._returned()
        if why.reason != self._reported:
            self._reported = why.reason
            log.warning(
                "store_down component=%s at=%s reason=%s", self._name, self._config.address, why.reason
            )

    def _timed(self, written: float) -> None:
        if self._metrics.enabled:
            self._round_trips.observe(time.monotonic() - written)


def backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait before the next attempt: doubled each time up to a second, the upper half of it by chance."""
    longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + rng.random() / 2)


def _why(error: Exception, timeout_ms: int) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError("connect", f"its certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return StoreError("connect", f"TLS failed ({error.reason or 'no reason given'})")
    if isinstance(error, TimeoutError):
        return StoreError("connect", f"no connection within {timeout_ms} ms")
    if isinstance(error, socket.gaierror):
        return StoreError("connect", "its name cannot be resolved")
    # asyncio puts the address, of several addresses a list, where the reason should be.
    number = error.errno if isinstance(error, OSError) else None
    return StoreError("connect", os.strerror(number).lower() if number else "none of its addresses answers")
