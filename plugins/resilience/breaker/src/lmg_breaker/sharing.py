"""What replicas tell each other of open circuits, through the host's counters. No call ever waits for it.

Under ``breaker:<component>`` there is a list of the circuits that are open somewhere; under
``breaker:<component>:<circuit>`` what became of one last. A circuit whose open time is over is probed by the one
replica that gets ``breaker-probe:<component>:<circuit>``, a lease (see ``leases``). Where nobody shares the store, it
keeps what is open over a reload with another configuration.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from lmg import Host, ServiceError

from .circuit import HALF_OPEN, OPEN, Circuit
from .leases import Leases
from .reasons import BY_NAME, FORCED
from .registry import Registry
from .rules import Rules
from .telemetry import Telemetry

__all__ = ["Sharing"]

CLOSED_FOR_S: Final = 60.0
"""How long others can read that a circuit has closed."""
MAX_LEVEL: Final = 30
Reference = tuple[str, str | None, bool]
"""Of a circuit: the provider, the model (None for the provider's key), and whether the configuration names it."""


class Sharing:
    """One component's view of the store. ``failing`` says that it could not be reached last."""

    def __init__(
        self, host: Host, name: str, registry: Registry, rules: Rules, telemetry: Telemetry, sync_s: float
    ) -> None:
        self._host = host
        self._registry = registry
        self._rules = rules
        self._telemetry = telemetry
        self._prefix = f"breaker:{name}"
        self._leases = Leases(host, name, registry, rules, sync_s)
        self._seen: dict[str, bytes] = {}
        self._listed: set[Reference] = set()
        self.failing = False

    # -- a round ------------------------------------------------------------------------------
    async def restore(self) -> None:
        """Takes over what is known to be open, as after a reload. A store that fails is no reason not to start."""
        await self._guarded(self._read)

    async def round(self) -> None:
        """Tells what has changed here, learns what has changed elsewhere, and takes or returns leases."""
        await self._guarded(self._round)

    async def leave(self) -> None:
        """Returns the leases, so that others may probe at once."""
        await self._guarded(self._leases.return_all)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            self.failing = False
        except ServiceError:
            self.failing = True
            self._telemetry.store_errors.inc()
            self._leases.suspend()

    async def _round(self) -> None:
        await self._publish()
        if self._host.counters.shared:
            await self._read()
            await self._leases.round()
            await self._list_more()
        else:
            self._leases.suspend()
            await self._list_mine()

    # -- telling ------------------------------------------------------------------------------
    async def _publish(self) -> None:
        changed = self._registry.changed
        while changed:
            name, circuit = changed.popitem()
            if circuit.state == HALF_OPEN:  # the lease tells who probes
                continue
            try:
                await self._tell(name, circuit)
            except ServiceError:
                changed.setdefault(name, circuit)
                raise

    async def _tell(self, name: str, circuit: Circuit) -> None:
        clock, store = self._host.clock, self._host.counters
        left = max(0.0, circuit.open_until - clock.monotonic()) if circuit.state == OPEN else 0.0
        told = {
            "open_until": clock.now() + left if left else 0,
            "why": circuit.why,
            "opens": circuit.opens,
            "at": clock.now(),
        }
        record = orjson.dumps(told)
        # Remembered longer than it is open: how often it was open lately is worth knowing, too.
        await store.put(f"{self._prefix}:{name}", record, left + self._rules.heal_s if left else CLOSED_FOR_S)
        if store.shared:  # or it would be taken for news when it is read
            self._seen[name] = record

    async def _list_mine(self) -> None:
        """The list of a store that is ours alone: what is open now."""
        mine = self._mine()
        if mine != self._listed:
            await self._write_list(mine)

    async def _list_more(self) -> None:
        """Adds what is not in the shared list yet; what nobody has a record of any more leaves it then."""
        mine = self._mine()
        if not mine <= self._listed:
            await self._write_list(mine | {one for one in self._listed if _name(one) in self._seen})

    def _mine(self) -> set[Reference]:
        return {self._registry.reference(circuit) for circuit in self._registry.unsettled.values()}

    async def _write_list(self, listed: set[Reference]) -> None:
        rules = self._rules
        raw = orjson.dumps(sorted(listed, key=_name))
        await self._host.counters.put(self._prefix, raw, _longest_s(rules) + rules.heal_s)
        self._listed = listed

    # -- learning -----------------------------------------------------------------------------
    async def _read(self) -> None:
        registry, store = self._registry, self._host.counters
        (raw,) = await store.get([self._prefix])
        self._listed = _references(raw)
        for provider, model, listed in self._listed:
            if model is None:
                registry.key(provider)
            else:
                registry.add(provider, model, listed=listed)
        names = [circuit.name for circuit in registry.circuits()]
        records = await store.get([f"{self._prefix}:{name}" for name in names])
        before, self._seen = self._seen, {}
        for name, record in zip(names, records, strict=True):
            circuit = registry.named(name)
            if record is None or circuit is None:
                continue
            self._seen[name] = record
            if before.get(name) != record:
                mine = name in registry.changed
                self._adopt(circuit, record)
                if not mine:  # it came from there: telling it again would go round in circles
                    registry.changed.pop(name, None)

    def _adopt(self, circuit: Circuit, record: bytes) -> None:
        clock = self._host.clock
        now = clock.monotonic()
        try:
            told = orjson.loads(record)
            left = float(told["open_until"]) - clock.now()
            why, opens = str(told["why"]), min(max(int(told["opens"]), 0), MAX_LEVEL)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError):
            self._telemetry.store_errors.inc()
            return
        reason = BY_NAME.get(why)
        if reason is None:
            if why == "reset" or now >= circuit.open_until:
                circuit.close(now, "shared", forget=why == "reset")
        elif left > 0:
            # However wrong a replica's clock is. What an operator forces lasts as long as they say.
            left = left if reason is FORCED else min(left, _longest_s(self._rules))
            circuit.adopt(now, now + left, reason, opens)


def _longest_s(rules: Rules) -> float:
    return max(rules.max_open_s, rules.max_rate_limit_open_s, rules.max_credential_open_s)


def _name(reference: Reference) -> str:
    provider, model, _ = reference
    return provider if model is None else f"{provider}:{model}"


def _references(raw: bytes | None) -> set[Reference]:
    """The circuits that a list names; what is malformed is left out."""
    try:
        rows = orjson.loads(raw) if raw is not None else []
    except orjson.JSONDecodeError:
        return set()
    if not isinstance(rows, list):
        return set()
    return {
        (row[0], row[1], row[2] is True)
        for row in rows
        if isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and isinstance(row[1], str | None)
    }
