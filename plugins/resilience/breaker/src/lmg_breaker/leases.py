"""Which replica may probe: the one that holds the circuit's lease."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Final

from lmg import Host

from .circuit import CLOSED, HALF_OPEN, Circuit
from .registry import Registry
from .rules import Rules

__all__ = ["Leases"]

OFFERED_FOR: Final = 4
"""Rounds for which a lease is kept without a call that could be the probe; then another replica may have it."""
SITS_OUT: Final = 2
"""Rounds for which a replica does not ask for a lease that it had no call for."""
MAX_ASKED: Final = 64
"""Leases that are asked for in one round."""


class Leases:
    """The leases of this process. A circuit waits for its lease only so long: a store that hangs keeps nobody from
    probing (``Circuit.hold_s``).
    """

    def __init__(self, host: Host, name: str, registry: Registry, rules: Rules, sync_s: float) -> None:
        self._host = host
        self._registry = registry
        self._prefix = f"breaker-probe:{name}:"
        self._me = secrets.token_hex(8).encode()
        self._patience_s = max(3 * sync_s, 2.0)
        self._ahead_s = sync_s
        # Longer than any probe: the lease ends with the probe, or with the replica.
        self._ttl_s = rules.probe_timeout_s + self._patience_s
        self._held: dict[str, int] = {}
        self._sitting_out: dict[str, int] = {}

    def suspend(self) -> None:
        """Nobody is asked: each replica probes on its own account."""
        if self._registry.hold(0.0):
            for circuit in self._registry.unsettled.values():
                circuit.release()

    async def round(self) -> None:
        """Asks for the leases that are needed now, and returns those that are not any more."""
        registry, now = self._registry, self._host.clock.monotonic()
        registry.hold(self._patience_s)
        wanted = {c.name: c for c in registry.unsettled.values() if self._is_due(c, now)}
        self._sitting_out = {name: left for name, left in self._sitting_out.items() if name in wanted}
        unused = [name for name in self._held if name not in wanted or self._is_idle(wanted[name], now)]
        asked = [circuit for name, circuit in wanted.items() if name not in self._held][:MAX_ASKED]
        await self._return(unused)
        await asyncio.gather(*(self._ask(circuit, now) for circuit in asked))

    async def return_all(self) -> None:
        """Returns every lease."""
        await self._return(list(self._held))

    def _is_due(self, circuit: Circuit, now: float) -> bool:
        if circuit.state == CLOSED:
            return False
        return circuit.state == HALF_OPEN or circuit.open_until - now < self._ahead_s

    def _is_idle(self, circuit: Circuit, now: float) -> bool:
        """Whether this replica has no call to probe with: another one may."""
        name = circuit.name
        self._held[name] = 0 if circuit.probe is not None else self._held[name] + 1
        if self._held[name] <= OFFERED_FOR:
            return False
        self._sitting_out[name] = SITS_OUT
        circuit.keep(now + self._patience_s)
        return True

    async def _ask(self, circuit: Circuit, now: float) -> None:
        name = circuit.name
        if self._sitting_out.get(name, 0) > 0:
            self._sitting_out[name] -= 1
        elif await self._host.counters.put(self._prefix + name, self._me, self._ttl_s, only_new=True):
            self._held[name] = 0
            circuit.release()
            return
        circuit.keep(now + self._patience_s)

    async def _return(self, names: Iterable[str]) -> None:
        for name in names:
            self._held.pop(name, None)
            await self._host.counters.remove(self._prefix + name, self._me)
