"""`load_shedding`: a worker that cannot keep up refuses some requests at once, and serves the rest in time."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, ClassVar, Final

from lmg import Component, ConfigError, Deny, Exchange, Health, Host
from lmg.component import Facts
from lmg.telemetry import Counter, Gauge

from .config import LoadSheddingConfig
from .memory import resident_mb
from .overload import LoopDelay, Span
from .priorities import Priorities

__all__ = ["LoadShedding"]

log = logging.getLogger("lmg.load_shedding")
_STILL_S: Final = 5.0
"""A refusal this recent is shown as a state: one by the number in flight has no other."""
_TELL_S: Final = 10.0
"""How often the log says so."""


class LoadShedding(Component):
    """Measures the event loop, the exchanges in flight and memory; refuses on the head alone, lowest priority first."""

    Config = LoadSheddingConfig
    summary = "refuses some requests early, lowest priority first, when a worker cannot keep up"
    stability = "beta"
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    on_error = "allow"
    config: LoadSheddingConfig

    def __init__(self, config: LoadSheddingConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.random = Random()
        self.resident_mb: Callable[[], float] = resident_mb
        self._priorities = Priorities(config)
        self._delay = _delay(config)
        self._rss = _span(config.max_rss_mb, config.hard_rss_mb)
        self._in_flight = _span(config.max_in_flight, config.hard_in_flight)
        # The exchange that asks is one of those in flight.
        self._calm = config.max_in_flight + 1 if config.max_in_flight is not None else sys.maxsize
        self._level = self._rss_level = 0.0
        self._told_at = -math.inf
        self._refused_at = -math.inf
        self._task: asyncio.Task[Any] | None = None
        self._shed: Counter
        self._gauge: Gauge

    @classmethod
    def required(cls, config: Any) -> Facts:
        """``principal`` where tenants have priorities; without them it stands above the authenticator, and saves its work."""
        return {"on_request": ("head", "principal")} if config.priorities else cls.requires

    async def start(self) -> None:
        """Begins to measure."""
        metrics = self.host.metrics
        self._shed = metrics.counter(
            "llm_requests_shed_total", "Requests refused because the worker could not keep up.", ("priority",)
        )
        self._gauge = metrics.gauge(
            "lmg_event_loop_delay_seconds", "How late the event loop is, smoothed over `for_ms`."
        )
        if self._rss is not None:
            try:
                self.resident_mb()
            except OSError as error:
                raise ConfigError(
                    "this system does not say how much memory a process takes up",
                    path=f"pipeline.{self.name}.max_rss_mb",
                    hint="leave it out",
                ) from error
        self._task = self.host.spawn(self._measure(), name=f"{self.name}:measure")

    async def stop(self) -> None:
        """Ends measuring."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- measuring ------------------------------------------------------------------------------
    async def _measure(self) -> None:
        clock, sample_s = self.host.clock, self.config.sample_ms / 1000
        while True:
            due = clock.monotonic() + sample_s
            await clock.sleep(sample_s)
            now = clock.monotonic()
            self._observe(now, max(0.0, now - due))

    def _observe(self, now: float, late_s: float) -> None:
        level = self._delay.observe(now, late_s)
        self._gauge.set(self._delay.delay_s)
        if self._rss is not None:
            # Where no file descriptor is left, say, what was so a moment ago still is.
            with suppress(OSError):
                self._rss_level = self._rss.level(self.resident_mb())
            level = max(level, self._rss_level)
        if level and now - self._told_at >= _TELL_S:
            self._told_at = now
            log.warning(
                "overloaded component=%s level=%.2f delay_ms=%d", self.name, level, self._delay.delay_s * 1000
            )
        self._level = level

    # -- refusing -------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None:
        """Nothing while the worker keeps up; else a 503 for the share of this priority that is too much."""
        in_flight: int = exchange.pipeline.in_flight
        if not self._level and in_flight <= self._calm:
            return None
        level = self._level
        if self._in_flight is not None:
            level = max(level, self._in_flight.level(in_flight - 1))
        priority = self._priorities.of(exchange)
        if self.random.random() >= self._priorities.share(priority, level):
            return None
        self._refused_at = self.host.clock.monotonic()
        self._shed.inc((str(priority),))
        config = self.config
        wait_s = self.random.uniform(config.retry_after_min_s, config.retry_after_max_s)
        return Deny(
            503,
            "overloaded",
            "The gateway is overloaded at the moment. Please retry later.",
            f"level {level:.2f}: delay {self._delay.delay_s * 1000:.0f} ms, {in_flight} in flight, priority {priority}",
            "server_error",
            headers=(
                (b"retry-after", b"%d" % math.ceil(wait_s)),
                (b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)),
                (b"x-should-retry", b"true"),
            ),
        )

    def health(self) -> Health | None:
        """Degraded while requests are refused."""
        if not self._level and self.host.clock.monotonic() - self._refused_at > _STILL_S:
            return None
        return Health(
            "degraded", f"refusing requests; the event loop is {self._delay.delay_s * 1000:.0f} ms late"
        )


def _span(soft: float | None, hard: float | None, unit: float = 1.0) -> Span | None:
    return Span(soft * unit, hard * unit) if soft is not None and hard is not None else None


def _delay(config: LoadSheddingConfig) -> LoopDelay:
    span = _span(config.max_delay_ms, config.hard_delay_ms, 0.001)
    # Measured in any case; where nothing is to follow from it, no delay is long enough.
    return LoopDelay(span or Span(math.inf, math.inf), config.for_ms / 1000)
