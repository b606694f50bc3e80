"""Every circuit that this process knows: bounded, the longest unused closed target is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from random import Random

from lmg import Exchange, Provider, Target

from .circuit import CLOSED, Circuit
from .evidence import KeyEvidence, TargetEvidence
from .rules import Rules
from .telemetry import Telemetry
from .watch import Watch

__all__ = ["Registry"]

WILD = "*"
"""The model's name where clients choose it freely, which is why it must not become a label."""


class Registry:
    """Circuits by target and by provider.

    ``unsettled`` are those that are not closed: while it is empty, routing has nothing to look at. ``changed`` are
    those whose state nobody has been told of yet. A provider has one more circuit, of its key, under the provider's
    name; there are as many as the configuration names. ``providers`` are the components last seen
    behind them, kept where they are asked for their health.
    """

    def __init__(self, rules: Rules, random: Random, telemetry: Telemetry, max_targets: int) -> None:
        self._rules = rules
        self._random = random
        self._telemetry = telemetry
        self._max = max_targets
        self._hold_s = 0.0
        self.watches: OrderedDict[str, Watch] = OrderedDict()
        self.keys: dict[str, Circuit] = {}
        self.providers: dict[str, Provider] = {}
        self.unsettled: dict[str, Circuit] = {}
        self.changed: dict[str, Circuit] = {}
        self._idle = self._target_circuit("", "")

    def of(self, target: Target, exchange: Exchange) -> Watch:
        """The watch of ``target``, made at first sight; it is the one used last then."""
        name = target.name
        found = self.watches.get(name)
        if found is not None:
            self.watches.move_to_end(name)
            return found
        provider = exchange.provider(target)
        listed = any(one.model == target.model for one in provider.targets())
        return self.add(target.provider, target.model, listed=listed)

    def find(self, target: Target) -> Watch | None:
        """The watch of ``target`` for who only looks; None where neither it nor its provider's key was ever seen."""
        found = self.watches.get(target.name)
        if found is not None:
            return found
        key = self.keys.get(target.provider)
        return Watch(self._idle, key) if key is not None else None

    def add(self, provider: str, model: str, *, listed: bool = True) -> Watch:
        """The watch of a target by its names; ``listed`` says that the configuration names the model."""
        name = f"{provider}:{model}"
        found = self.watches.get(name)
        if found is None:
            label = name if listed else f"{provider}:{WILD}"
            found = self.watches[name] = Watch(self._target_circuit(name, label), self.key(provider))
            self._telemetry.seen(found.circuit)
            if len(self.watches) > self._max:
                self._forget_one()
        return found

    def key(self, provider: str) -> Circuit:
        """The circuit of a provider's key."""
        found = self.keys.get(provider)
        if found is None:
            found = Circuit(provider, self._rules, KeyEvidence(self._rules), self._random, self._changed)
            found.hold_s = self._hold_s
            self.keys[provider] = found
            self._telemetry.seen(found)
        return found

    def circuits(self) -> Iterable[Circuit]:
        """All of them: targets, then keys."""
        for watch in self.watches.values():
            yield watch.circuit
        yield from self.keys.values()

    def named(self, name: str) -> Circuit | None:
        """The circuit of a target (``provider:model``) or of a key (``provider``)."""
        watch = self.watches.get(name)
        return watch.circuit if watch is not None else self.keys.get(name)

    def reference(self, circuit: Circuit) -> tuple[str, str | None, bool]:
        """A circuit in the words of ``add``: provider, model (None for the provider's key), listed."""
        watch = self.watches.get(circuit.name)
        if watch is None or watch.circuit is not circuit:
            return circuit.name, None, True
        provider = watch.key.name
        return provider, circuit.name[len(provider) + 1 :], circuit.label == circuit.name

    def hold(self, seconds: float) -> bool:
        """How long circuits wait for a lease before they probe on their own account (0: not at all); whether that is
        new.
        """
        if seconds == self._hold_s:
            return False
        self._hold_s = seconds
        for circuit in self.circuits():
            circuit.hold_s = seconds
        return True

    def _target_circuit(self, name: str, label: str) -> Circuit:
        circuit = Circuit(name, self._rules, TargetEvidence(self._rules), self._random, self._changed, label)
        circuit.hold_s = self._hold_s
        return circuit

    def _changed(self, circuit: Circuit, before: int, why: str) -> None:
        if circuit.state == CLOSED:
            self.unsettled.pop(circuit.name, None)
        else:
            self.unsettled[circuit.name] = circuit
        self.changed[circuit.name] = circuit
        self._telemetry.changed(circuit, before, why)

    def _forget_one(self) -> None:
        """Makes room for the newest: of the closed ones the longest unused goes, else of the open ones."""
        watches = self.watches
        newest = next(reversed(watches))
        for _ in range(len(watches) - 1):
            name, watch = next(iter(watches.items()))
            if watch.circuit.state == CLOSED:
                break
            watches.move_to_end(name)  # kept; the next time others are looked at first
        else:
            watches.move_to_end(newest)
            name = next(iter(watches))
        self.unsettled.pop(name, None)
        self.changed.pop(name, None)
        self._telemetry.forgotten(watches.pop(name).circuit)
