"""Waits for what another exchange does, for a bounded time by the host's clock."""

from __future__ import annotations

import asyncio
from typing import Any

from lmg.host import Clock

__all__ = ["settled"]


async def settled(future: asyncio.Future[Any], clock: Clock, seconds: float) -> bool:
    """Whether ``future`` is done within ``seconds``. Whoever is cancelled here leaves it as it is."""
    if future.done() or seconds <= 0:
        return future.done()
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return future.done()
