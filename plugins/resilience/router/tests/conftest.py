"""What the router's tests share: a board of targets that is asked how it would route, by the kernel's own fold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from pydantic import Field

from lmg import (
    Attempt,
    Capabilities,
    Component,
    ComponentConfig,
    Exchange,
    Head,
    Host,
    Outcome,
    Prices,
    Principal,
    Provider,
    ProviderConfig,
    Reply,
    Service,
    Target,
)
from lmg.config import MeshConfig, validate
from lmg.dialects.registry import DIALECTS
from lmg.lifecycle import Walk
from lmg.pipeline import Pipeline, draft
from lmg.testing import VirtualClock
from lmg_router import Router

Facts = Mapping[str, Any]


class Offering(Provider):
    """A provider that is never called."""

    Config = ProviderConfig
    operations = frozenset({"chat", "embeddings"})
    config: ProviderConfig

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        raise AssertionError("routing calls nobody")


class KnownFactsConfig(ComponentConfig):
    facts: dict[str, dict[str, Any]] = Field(default_factory=dict)


class KnownFacts(Service):
    """A catalogue with just these facts, by model or ``provider:model``."""

    Config = KnownFactsConfig
    protocol = "catalogue"
    config: KnownFactsConfig

    def enrich(self, target: Target) -> Target:
        from dataclasses import replace

        facts = self.config.facts
        found = {**facts.get(target.model, {}), **facts.get(target.name, {})}
        prices = found.pop("prices", None)
        return replace(target, capabilities=Capabilities(**found), prices=Prices(*prices) if prices else None)


class Caller(Component):
    """Believes the header ``x-tenant``."""

    provides = {"on_request": ("principal",)}
    requires = {"on_request": ("head",)}

    def on_request(self, exchange: Exchange) -> None:
        tenant = (exchange.head.get(b"x-tenant") or b"default").decode()
        subject = (exchange.head.get(b"x-subject") or b"somebody").decode()
        exchange.set_fact("principal", Principal(subject, tenant))


class _Given:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read_body(self) -> bytes:
        return self._body


class Board:
    """A started pipeline with a router in it."""

    def __init__(self, pipeline: Pipeline, clock: VirtualClock) -> None:
        self.pipeline, self.clock = pipeline, clock
        self.router: Router = next(c for _, c in pipeline.listed if isinstance(c, Router))
        self.router.ranking.random = Random(7)
        self.exchange: Exchange

    async def route(
        self,
        model: str = "m",
        *,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> list[str]:
        """The names of the targets that would be tried, in order. Raises Refusal."""
        body: dict[str, Any] = {"model": model}
        if path == "/v1/chat/completions":
            body["messages"] = [{"role": "user", "content": "hello"}]
        raw = json.dumps(body | fields).encode()
        head = Head("POST", path, [(k.encode(), v.encode()) for k, v in (headers or {}).items()], "127.0.0.1")
        dialect = DIALECTS[path.encode()]
        self.exchange = Exchange(self.pipeline.host, self.pipeline, head, dialect.operation, dialect, "test")
        found = await Walk(self.pipeline, self.exchange, _Given(raw)).explain()  # type: ignore[arg-type]
        assert isinstance(found, tuple)
        return [target.name for target in found]

    def dropped(self) -> dict[str, tuple[str, int]]:
        """Why targets were left out of the last route."""
        return {name: (reason, status) for name, reason, status in self.exchange.drops}

    def target(self, name: str) -> Target:
        return next(t for t in self.pipeline.catalogue.all("chat") if t.name == name)

    def begin(self, name: str, *, stream: bool = False) -> Callable[[Outcome], None]:
        """Begins an attempt at a target; what is returned ends it."""
        attempt = Attempt(self.target(name), 1, self.exchange.request.body, 0.0, 60.0)
        attempt.stream = stream
        around = self.router.on_attempt(self.exchange, attempt)
        next(around)

        def end(outcome: Outcome) -> None:
            with suppress(StopIteration):
                around.send(outcome)

        return end


Deal = Callable[..., Awaitable[Board]]


@pytest.fixture
async def board() -> AsyncIterator[Deal]:
    """``await board({"a": {...}}, facts={...}, strategy="cost")``: providers ``offering/a`` …, and the router's settings.

    A provider's models are ``["m"]`` where it says nothing.
    """
    begun: list[Pipeline] = []

    async def deal(
        providers: Mapping[str, Facts],
        *,
        facts: Facts | None = None,
        above: tuple[type[Component], ...] = (),
        bounds: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Board:
        class Bounded(Component):
            requires = {"on_request": ("body",)}

            def on_request(self, exchange: Exchange) -> None:
                exchange.narrow(**(bounds or {}))

        listed: list[Any] = [Caller, *([Bounded] if bounds is not None else []), *above]
        classes: dict[str, type[Any]] = {one.__name__.lower(): one for one in listed}
        mesh = {
            "pipeline": [*classes, {"router": settings}],
            "providers": {f"offering/{name}": {"models": ["m"], **said} for name, said in providers.items()},
            "services": {"known_facts": {"facts": facts or {}}},
            "server": {"watch": False},
        }
        classes |= {"offering": Offering, "known_facts": KnownFacts, "router": Router}
        clock = VirtualClock()
        host = Host(clock=clock)
        pipeline = draft(validate(MeshConfig, mesh, (), None), classes=classes).build(host)
        await pipeline.start()
        begun.append(pipeline)
        return Board(pipeline, clock)

    yield deal
    for pipeline in begun:
        await pipeline.stop()
        await pipeline.host.aclose()
