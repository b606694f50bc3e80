"""What the breaker's tests share: circuits that note their transitions, and gateways with several upstreams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from lmg import Component, Exchange, Failure, Next
from lmg.testing import Harness, VirtualClock
from lmg_breaker import Breaker
from lmg_breaker.circuit import STATES, Circuit
from lmg_breaker.config import BreakerConfig
from lmg_breaker.evidence import KeyEvidence, TargetEvidence

DOWN = {"error": {"message": "no", "type": "server_error"}}
EXACT = {"jitter": 0, "probes_to_close": 1}
"""Open times without a spread, and one probe: what most claims are easiest to read with."""


@dataclass(eq=False)
class InFlight:
    """A call, as the circuit looks at one."""

    started: float = 0.0
    first_byte_at: float | None = None
    stream: bool = True


class Noted:
    """A circuit with what was told of its transitions: ``("open", "consecutive")``."""

    def __init__(self, *, key: bool = False, **settings: Any) -> None:
        rules = BreakerConfig.model_validate({**EXACT, **settings}).rules()
        evidence = KeyEvidence(rules) if key else TargetEvidence(rules)
        self.told: list[tuple[str, str]] = []
        self.circuit = Circuit("a:m", rules, evidence, Random(7), self._tell)

    def _tell(self, circuit: Circuit, before: int, why: str) -> None:
        self.told.append((STATES[circuit.state], why))

    def fail(self, times: int, now: float = 0.0) -> None:
        for _ in range(times):
            permit = self.circuit.permit(now)
            assert permit is not None
            self.circuit.failed(permit, now)

    def succeed(self, times: int, now: float = 0.0, latency_s: float | None = None) -> None:
        for _ in range(times):
            permit = self.circuit.permit(now)
            assert permit is not None
            self.circuit.succeeded(permit, now, latency_s)

    def opened(self, now: float = 0.0) -> Circuit:
        """The circuit, open because of five failures in a row."""
        self.fail(5, now)
        assert self.state == "open"
        return self.circuit

    @property
    def state(self) -> str:
        return STATES[self.circuit.state]


class MoveOn(Component):
    """The smallest fallback there is: whatever failed, the next one."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        return Next() if failure.targets_left else None


Opened = Callable[..., Awaitable[Harness]]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """``await opened("a", "b", consecutive=3)`` gives a gateway with these upstreams, on a clock that stands still."""
    async with AsyncExitStack() as stack:

        async def start(
            *names: str,
            below: tuple[Any, ...] = (),
            classes: Any = None,
            models: Any = ("test-model",),
            **settings: Any,
        ) -> Harness:
            harness = Harness(
                {"pipeline": [{"breaker": {**EXACT, **settings}}, *below]},
                classes={"breaker": Breaker, "move_on": MoveOn, **(classes or {})},
                models=models,
                upstreams={name: {} for name in names},
                clock=VirtualClock(),
            )
            gateway = await stack.enter_async_context(harness)
            gateway.host.metrics.enabled = True
            return gateway

        yield start


def breaker_of(gateway: Harness) -> Breaker:
    """The breaker of a running gateway."""
    found = [one for _, one in gateway.process.gateway.pipeline.listed if isinstance(one, Breaker)]
    return found[0]


def calls(gateway: Harness) -> dict[str, int]:
    """How many calls each upstream has had."""
    return {name: len(upstream.received) for name, upstream in gateway.upstreams.items()}


def state_of(gateway: Harness, name: str) -> str:
    """The state of a target ``a`` (``scripted/a:test-model``)."""
    circuit = breaker_of(gateway).registry.named(f"scripted/{name}:test-model")
    return STATES[circuit.state] if circuit is not None else "unknown"


def clock_of(gateway: Harness) -> VirtualClock:
    clock = gateway.host.clock
    assert isinstance(clock, VirtualClock)
    return clock


async def fail_until_open(gateway: Harness, name: str, times: int = 5, status: int = 500) -> None:
    gateway.upstreams[name].reply(DOWN, status=status)
    for _ in range(times):
        await gateway.chat()
    assert state_of(gateway, name) == "open"
