"""What the catalogue's tests share: a started catalogue, and the cost of a request by its prices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from lmg import Host, Prices, Target
from lmg.testing import VirtualClock
from lmg_catalogue import ModelCatalogue

BOTH = frozenset({"chat", "embeddings"})
Opened = Callable[..., Awaitable[ModelCatalogue]]


def clock_at(day: date) -> VirtualClock:
    return VirtualClock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """``await opened(day=…, models=…)`` gives a started catalogue with these settings."""
    begun: list[ModelCatalogue] = []

    async def start(day: date = date(2026, 11, 20), **settings: Any) -> ModelCatalogue:
        config = ModelCatalogue.Config.model_validate(settings)
        catalogue = ModelCatalogue(config, Host(clock=clock_at(day)), "catalogue")
        await catalogue.start()
        begun.append(catalogue)
        return catalogue

    yield start
    for catalogue in begun:
        await catalogue.stop()


def target(provider: str, model: str, upstream: str = "", **more: Any) -> Target:
    return Target(provider, model, upstream or model, operations=BOTH, **more)


def usd(amount: float) -> int:
    """Nano-dollars per million tokens."""
    return round(amount * 10**9)


def cost(prices: Prices, input: int, output: int, cached: int = 0, written: int = 0) -> int:
    """Millionths of a nano-dollar: exact, as prices are per million tokens."""
    held = prices
    for start, tier in prices.above:
        if input > start:
            held = tier
    read = held.cache_read if held.cache_read is not None else held.input
    write = held.cache_write if held.cache_write is not None else held.input
    return (input - cached - written) * held.input + cached * read + written * write + output * held.output
