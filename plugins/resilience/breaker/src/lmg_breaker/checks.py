"""Active health checks: an open target is asked, at no cost, whether it is well again."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from lmg import Host, Provider, UpstreamError

from .circuit import CLOSED, Circuit
from .config import ActiveConfig
from .registry import Registry
from .telemetry import Telemetry

__all__ = ["Checks"]

log = logging.getLogger("lmg.breaker")

NO_NEWS: Final = frozenset({401, 402, 403, 429})
"""Answers that say nothing of whether a model would answer."""


class Checks:
    """Asks each provider once a round, for all of its targets that are open (or all of them)."""

    def __init__(self, config: ActiveConfig, host: Host, registry: Registry, telemetry: Telemetry) -> None:
        self._config = config
        self._host = host
        self._registry = registry
        self._telemetry = telemetry
        self._unsupported: dict[str, Provider] = {}

    async def run(self) -> None:
        """A round every ``every_ms``, until it is cancelled."""
        while True:
            await self._host.clock.sleep(self._config.every_ms / 1000)
            await self.round()

    async def round(self) -> None:
        """Asks every provider that there is a reason to ask."""
        by_provider: dict[str, list[Circuit]] = {}
        for watch in self._registry.watches.values():
            if self._config.all or watch.circuit.state != CLOSED:
                by_provider.setdefault(watch.key.name, []).append(watch.circuit)
        for name, key in self._registry.keys.items():
            if key.state != CLOSED:
                by_provider.setdefault(name, []).append(key)
        await asyncio.gather(*(self._check(name, circuits) for name, circuits in by_provider.items()))

    async def _check(self, name: str, circuits: list[Circuit]) -> None:
        provider = self._registry.providers.get(name)
        if provider is None or self._unsupported.get(name) is provider:
            return
        status = await self._ask(name, provider)
        if status is None:
            self._unsupported[name] = provider
            return
        well = 200 <= status < 500 and status not in NO_NEWS
        ill = not 200 <= status < 500
        self._telemetry.checks.inc((name, "well" if well else "ill" if ill else "no_news"))
        now = self._host.clock.monotonic()
        for circuit in circuits:
            if well:
                self._well(circuit, now)
            elif ill:
                self._ill(circuit, now)

    async def _ask(self, name: str, provider: Provider) -> int | None:
        """The status of the answer, 0 where there was none; None where the provider has nothing to ask for."""
        try:
            async with asyncio.timeout(self._config.timeout_ms / 1000):
                return await provider.probe()
        except (UpstreamError, TimeoutError):
            return 0
        except Exception as error:  # noqa: BLE001 - the plugin barrier: a provider of somebody else's must not end all checks
            log.error("check_failed provider=%s error=%s", name, type(error).__name__)
            return 0

    @staticmethod
    def _well(circuit: Circuit, now: float) -> None:
        if circuit.reason is not None and circuit.reason.checked:
            circuit.ease(now, "check")

    def _ill(self, circuit: Circuit, now: float) -> None:
        if circuit.state == CLOSED:
            circuit.failed(circuit.passing, now)
        elif circuit.reason is not None and circuit.reason.checked:
            # Kept until the next check has had its say; were there none, it is probed after all.
            circuit.keep(now + 1.5 * self._config.every_ms / 1000 + self._config.timeout_ms / 1000)
