"""What canary's tests share: a gateway with an old and a new model, users with names, and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from lmg import Component, Exchange, Prices, Principal, Service, Target
from lmg.testing import Harness, VirtualClock
from lmg_canary import Canary

OLD, NEW = "old", "new"
DOLLAR = 10**9
EXPERIMENT: dict[str, Any] = {"name": "trial", "model": OLD, "canary": NEW, "plan": [50, 100]}


class Users(Component):
    """Lets in whoever says who it is: ``x-user: tenant/subject``, with the scope ``admin`` where it is ``root``."""

    provides: ClassVar[Any] = {"on_request": ("principal",)}
    modes = frozenset({"enforce"})

    def on_request(self, exchange: Exchange) -> None:
        tenant, _, subject = (exchange.head.get(b"x-user") or b"acme/root").decode().partition("/")
        scopes = frozenset({"admin"}) if subject == "root" else frozenset[str]()
        roles = frozenset({"tester"}) if subject.startswith("tester") else frozenset[str]()
        exchange.set_fact("principal", Principal(subject, tenant, roles=roles, scopes=scopes))


class PriceList(Service):
    """The old model costs a dollar a million tokens, the new one two; others have no price."""

    protocol = "catalogue"
    prices: ClassVar[dict[str, Prices]] = {OLD: Prices(DOLLAR, DOLLAR), NEW: Prices(2 * DOLLAR, 2 * DOLLAR)}

    def enrich(self, target: Target) -> Target:
        return replace(target, prices=self.prices.get(target.model))


def user(name: object) -> dict[str, str]:
    """The header of a user."""
    return {"x-user": f"acme/{name}"}


def harness(
    experiment: Mapping[str, Any] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    clock: VirtualClock | None = None,
    above: Mapping[str, type[Component]] | None = None,
    below: Mapping[str, type[Component]] | None = None,
    priced: bool = False,
    upstreams: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Harness:
    """A gateway with ``old`` at one upstream and ``new`` at the other, users, and one experiment."""
    experiments = [{**EXPERIMENT, **(experiment or {})}]
    canary = {"canary": {"experiments": experiments, **(settings or {})}}
    mesh: dict[str, Any] = {"pipeline": ["users", *(above or {}), canary, *(below or {})]}
    if priced:
        mesh["services"] = {"prices": {}}
    return Harness(
        mesh,
        classes={"users": Users, "canary": Canary, "prices": PriceList, **(above or {}), **(below or {})},
        models=[OLD, NEW],
        upstreams=upstreams or {OLD: {"models": [OLD]}, NEW: {"models": [NEW]}},
        clock=clock or VirtualClock(),
        **more,
    )


def component(gateway: Harness) -> Canary:
    """The running component."""
    return next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, Canary))


def calls(gateway: Harness) -> tuple[int, int]:
    """How often the old model was called, and the new one."""
    return len(gateway.upstreams[OLD].received), len(gateway.upstreams[NEW].received)


def member(gateway: Harness, *, of_canary: bool, prefix: str = "user") -> dict[str, str]:
    """The header of a user who is in the canary's share, or is not."""
    from lmg_canary.assignment import Places

    trial = component(gateway).trials[0]
    for number in range(10_000):
        name = f"{prefix}{number}"
        place = Places(trial.name, "user").place(f"uacme\0{name}".encode())
        if (place < trial.threshold) is of_canary:
            return user(name)
    raise AssertionError("nobody is in this arm")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
