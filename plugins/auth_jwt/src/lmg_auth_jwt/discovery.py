"""Keys from an identity provider: fetched in one flight, refreshed in the background, kept while it is away."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lmg.addresses import is_loopback

from .fetching import FetchError, fetch_json, url_fault
from .keys import KeyFault, KeyRing, keys_of_set

if TYPE_CHECKING:
    from lmg import Host

    from .config import IssuerConfig

__all__ = ["KeySource"]

log = logging.getLogger("lmg.auth_jwt")

COOLDOWN_S: Final = 1.0
"""Fetches begin at least this far apart, whoever asks for them."""
REDISCOVER_S: Final = 3600.0
MAX_BACKOFF_S: Final = 60.0


class KeySource:
    """Fills ``ring`` with the keys of one issuer.

    Whatever goes wrong leaves the ring as it was: its keys serve for ``max_stale_s`` after the last fetch that
    succeeded. ``random`` spreads the refreshes of replicas.
    """

    def __init__(self, config: IssuerConfig, host: Host, ring: KeyRing) -> None:
        self.ring = ring
        self.fault: str | None = None
        self.fetched_at: float | None = None
        self.unusable = 0
        self.random = random.Random()
        self._config = config
        self._host = host
        self._jwks_url = config.jwks_url
        self._discovered_at: float | None = None
        self._began_at: float | None = None
        self._flight: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._fetches = host.metrics.counter(
            "llm_auth_jwt_key_fetches_total", "Fetches of an issuer's keys.", ("issuer", "result")
        )

    async def start(self) -> None:
        """Fetches for the first time and goes on in the background; an issuer that is away stops no start."""
        await self._joined(self._fetching())
        self._loop = self._host.spawn(self._keep_fresh(), name=f"auth_jwt:{self._config.issuer}")

    async def stop(self) -> None:
        """Ends the background work."""
        tasks = [task for task in (self._loop, self._next, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def ready(self) -> bool:
        """Whether there are keys that may still be used."""
        return self._host.clock.monotonic() < self.ring.stale_at

    async def seek(self, kid: str | None) -> None:
        """Returns when the ring holds ``kid``, or when a fetch that began after this call has ended.

        Fetches begin a second apart at most, so a flood of unknown names costs the issuer one a second, and a
        caller whose key was published a moment ago is not turned away. While the issuer is away nobody waits for
        the second to pass. As many wait at a time as there are connections.
        """
        flying = self._flight is not None and not self._flight.done()
        if self.fault is not None and not flying and self._cooldown_s() > 0:
            return
        if flying:
            await self._joined(self._fetching())
            if self._has(kid) or self.fault is not None:
                return
        await self._joined(self._next_flight())

    def _has(self, kid: str | None) -> bool:
        return self.ready() and (kid is None or self.ring.knows(kid))

    def _cooldown_s(self) -> float:
        if self._began_at is None:
            return 0.0
        return self._began_at + COOLDOWN_S - self._host.clock.monotonic()

    def _next_flight(self) -> asyncio.Task[None]:
        """The next fetch, which all who wait share: now, or when the cool-down is over."""
        if self._next is None or self._next.done():
            self._next = self._host.spawn(self._fetch_when_due(), name="auth_jwt:next")
        return self._next

    async def _fetch_when_due(self) -> None:
        if (wait_s := self._cooldown_s()) > 0:
            await self._host.clock.sleep(wait_s)
        # Whoever asks from here on may need a later answer than this one.
        self._next = None
        await self._joined(self._fetching())

    async def _joined(self, task: asyncio.Task[None]) -> None:
        """Waits for ``task``; who leaves does not end it for the others."""
        await asyncio.wait({task})

    def _fetching(self) -> asyncio.Task[None]:
        if self._flight is None or self._flight.done():
            self._began_at = self._host.clock.monotonic()
            self._flight = self._host.spawn(self._fetch(), name="auth_jwt:fetch")
        return self._flight

    async def _keep_fresh(self) -> None:
        failures = 0
        while True:
            failures = failures + 1 if self.fault is not None else 0
            pause_s = self._config.refresh_s
            if failures:
                pause_s = min(pause_s, MAX_BACKOFF_S, COOLDOWN_S * 2.0 ** min(failures, 10))
            await self._host.clock.sleep(pause_s * self.random.uniform(0.9, 1.0))
            await self._joined(self._next_flight())

    async def _fetch(self) -> None:
        issuer = self._config.issuer
        try:
            keys, self.unusable = keys_of_set(await self._document(), self._config.algorithms)
        except (FetchError, KeyFault) as fault:
            if self.fault is None:
                log.warning("keys_not_fetched issuer=%s why=%s", issuer, fault)
            self.fault = str(fault)
            self._discovered_at = None
            self._fetches.inc((issuer, "failed"))
            return
        if self.fault is not None:
            log.info("keys_fetched_again issuer=%s", issuer)
        self.fault = None
        now = self.fetched_at = self._host.clock.monotonic()
        self.ring.replace(keys, now + self._config.max_stale_s)
        self._fetches.inc((issuer, "ok"))

    async def _document(self) -> object:
        try:
            # Discovery and keys share the time: a caller waits for both.
            async with asyncio.timeout(self._config.fetch_timeout_s):
                if self._config.jwks_url is None:
                    await self._discover()
                assert self._jwks_url is not None
                return await self._get(self._jwks_url)
        except TimeoutError:
            raise FetchError(f"no answer within {self._config.fetch_timeout_s:g} s") from None

    async def _discover(self) -> None:
        """Learns where the keys are (OpenID Connect Discovery, section 4.3), now and then again."""
        now = self._host.clock.monotonic()
        if self._discovered_at is not None and now - self._discovered_at < REDISCOVER_S:
            return
        config = self._config
        document = await self._get(config.metadata_url)
        if not isinstance(document, dict) or document.get("issuer") != config.issuer:
            raise FetchError("the discovery document is of another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise FetchError("the discovery document names no keys")
        # A remote issuer does not send this gateway to its own machine.
        local = is_loopback(urlsplit(config.metadata_url).hostname or "")
        if url_fault(url, allow_http=config.allow_http, loopback=local) is not None:
            raise FetchError("the discovery document names keys at a URL that is not fetched")
        self._jwks_url, self._discovered_at = url, now

    async def _get(self, url: str) -> object:
        config = self._config
        return await fetch_json(
            self._host, url, timeout_s=config.fetch_timeout_s, max_bytes=config.max_fetch_bytes
        )
