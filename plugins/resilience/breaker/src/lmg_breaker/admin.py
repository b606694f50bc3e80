"""What operators can see and do: ``/admin/v1/breaker/…``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lmg import AdminCall, AdminRoute, Host, Refusal

from .circuit import CLOSED, OPEN, STATES, Circuit
from .registry import Registry

__all__ = ["Admin"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    target: str = Field(min_length=1, max_length=512)


class _Open(_Asked):
    for_s: float = Field(300.0, gt=0, le=30 * 86_400)


class Admin:
    """The routes over a registry."""

    def __init__(self, host: Host, registry: Registry) -> None:
        self._host = host
        self._registry = registry

    def routes(self) -> list[AdminRoute]:
        """``GET states``; ``POST open`` and ``POST reset`` with the ``target`` as ``provider:model``, or ``provider``."""
        return [
            AdminRoute("GET", "states", self.states),
            AdminRoute("POST", "open", self.open, _Open),
            AdminRoute("POST", "reset", self.reset, _Asked),
        ]

    async def states(self, call: AdminCall) -> Any:
        """Every circuit that is known, those that are open first."""
        now = self._host.clock.monotonic()
        found = sorted(self._registry.circuits(), key=lambda circuit: -circuit.state)
        return {"circuits": [self._shown(circuit, now) for circuit in found]}

    async def open(self, call: AdminCall) -> Any:
        """Opens a circuit by hand, for ``for_s`` seconds (300)."""
        asked: _Open = call.body
        now = self._host.clock.monotonic()
        circuit = self._circuit(asked.target)
        circuit.force(now, asked.for_s)
        return self._shown(circuit, now)

    async def reset(self, call: AdminCall) -> Any:
        """Closes a circuit and forgets why it was open."""
        now = self._host.clock.monotonic()
        circuit = self._circuit(call.body.target)
        circuit.close(now, "reset", forget=True)
        return self._shown(circuit, now)

    def _circuit(self, name: str) -> Circuit:
        found = self._registry.named(name)
        if found is None:
            raise Refusal(
                404, "unknown_target", "No call has been made to this target yet. Name it as provider:model, or a provider.",
                param="target",
            )  # fmt: skip
        return found

    @staticmethod
    def _shown(circuit: Circuit, now: float) -> dict[str, Any]:
        is_open = circuit.state == OPEN
        return {
            "target": circuit.name,
            "state": STATES[circuit.state],
            "reason": circuit.reason.name if circuit.reason is not None else None,
            "for_s": round(now - circuit.since, 3) if circuit.why else None,
            "open_for_s": round(max(0.0, circuit.open_until - now), 3) if is_open else 0.0,
            "opens": circuit.opens,
            "failures_in_a_row": circuit.evidence.row,
            "waiting": len(circuit.waiting),
            "probing": circuit.state != CLOSED and circuit.probe is not None,
        }
