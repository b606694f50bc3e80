"""An exchange leaves nothing to the garbage collector: its memory is free when it ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from lmg import Component, Exchange, Slot
from lmg.testing import Harness


class Probe:
    """Lives in a slot of the exchange, and no longer than it."""


SLOT: Slot[Probe] = Slot("probe")


class Probes(Component):
    left: list[Any] = []

    def on_end(self, exchange: Exchange) -> None:
        probe = exchange[SLOT] = Probe()
        self.left.append(weakref.ref(probe))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exchange_is_freed_without_the_collector(stream: bool) -> None:
    Probes.left = []
    async with Harness({"pipeline": ["probes"]}, classes={"probes": Probes}) as gateway:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await gateway.chat(stream=stream)
            await gateway.ended(3)
            gateway.exchanges.clear()
            await asyncio.sleep(0.05)
            assert [probe() for probe in Probes.left] == [None, None, None]
        finally:
            gc.enable()
