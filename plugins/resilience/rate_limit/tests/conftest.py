"""What the tests share: callers by name, a model in the process that answers when it is told, and requests without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lmg import (
    Attempt,
    Component,
    Deny,
    Exchange,
    Principal,
    Provider,
    Reply,
    Service,
    ServiceError,
    UpstreamError,
)
from lmg.component import Facts
from lmg.services import Level, Limit, Settle, Take, Taken
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import ChatAnswer, Harness, VirtualClock, chat_body
from lmg_rate_limit import RateLimit


class Caller(Component):
    """Whoever calls is whom the header ``x-caller`` names: ``tenant`` or ``tenant/subject``."""

    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    modes = frozenset({"enforce", "off"})

    def on_request(self, exchange: Exchange) -> None:
        tenant, _, subject = (exchange.head.get(b"x-caller") or b"acme").decode().partition("/")
        exchange.set_fact(
            "principal", Principal(subject or "someone", tenant, scopes=frozenset({"admin"}), issuer="test")
        )


class Guard(Component):
    """Refuses what asks to be refused: a guard that stands below the limits."""

    requires: ClassVar[Facts] = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> Deny | None:
        return Deny(403, "blocked") if "refuse me" in str(exchange.request.body.value) else None


class Slow(Component):
    """A guard that takes a second for each request."""

    async def on_request(self, exchange: Exchange) -> None:
        await self.host.clock.sleep(1.0)


@dataclass(eq=False)
class Call:
    """One call of the model that has not been answered yet."""

    body: dict[str, Any]
    answer: asyncio.Future[Reply] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def says(self, usage: tuple[int, int] = (5, 2)) -> None:
        """A whole answer that used as much."""
        if not self.answer.done():
            body = json.dumps(chat_body(usage=usage)).encode()
            self.answer.set_result(Reply(200, [(b"content-type", b"application/json")], body))

    def fails(self, status: int = 500) -> None:
        """An error status."""
        if not self.answer.done():
            body = b'{"error": {"message": "no", "type": "server_error"}}'
            self.answer.set_result(Reply(status, [(b"content-type", b"application/json")], body))

    def dies(self) -> None:
        """The connection breaks."""
        if not self.answer.done():
            self.answer.set_exception(UpstreamError("answer", "closed", "told to"))


class Model(Provider):
    """A provider in the process: ``calls`` are those that it has been sent; it answers when it is told."""

    operations = frozenset({"chat", "embeddings"})
    calls: list[Call]

    async def start(self) -> None:
        self.calls = []

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        body: Any = attempt.payload.value
        call = Call(body)
        self.calls.append(call)
        return await call.answer


class Distant(Service):
    """Counters behind a wire that may break: every call waits a turn of the loop."""

    protocol = "counters"
    shared = True

    async def start(self) -> None:
        self.there = MemoryCounters(self.host.clock.monotonic)
        self.gone = False
        self.asked = 0

    async def take(self, takes: Sequence[Take]) -> Taken:
        self.asked += 1
        await asyncio.sleep(0)
        if self.gone:
            raise ServiceError("the server is not there")
        return self.there.take_now(takes)

    async def peek(self, takes: Sequence[Take]) -> Taken:
        await asyncio.sleep(0)
        if self.gone:
            raise ServiceError("the server is not there")
        return await self.there.peek(takes)

    def settle(self, settles: Sequence[Settle]) -> None:
        self.there.settle(settles)

    async def levels(self, limits: Sequence[Limit]) -> tuple[Level, ...]:
        await asyncio.sleep(0)
        if self.gone:
            raise ServiceError("the server is not there")
        return await self.there.levels(limits)


CLASSES: dict[str, type[Any]] = {
    "caller": Caller,
    "guard": Guard,
    "rate_limit": RateLimit,
    "model": Model,
    "slow": Slow,
    "distant": Distant,
}


def mesh(settings: Mapping[str, Any], *below: str, **server: Any) -> dict[str, Any]:
    """mesh.yaml with callers and these limits."""
    return {
        "pipeline": ["caller", {"rate_limit": dict(settings)}, *below],
        **({"server": server} if server else {}),
    }


def limited(settings: Mapping[str, Any], *below: str, **more: Any) -> Harness:
    """A gateway with these limits and the kit's scripted upstream."""
    return Harness(mesh(settings, *below), classes=CLASSES, **more)


def by(caller: str) -> dict[str, str]:
    """The header that names a caller."""
    return {"x-caller": caller}


class Inside:
    """A gateway that is asked without sockets, with a ``Model``: thousands of exchanges in a second, on a clock that stands."""

    def __init__(self, gateway: Harness, clock: VirtualClock) -> None:
        self.gateway, self.clock = gateway, clock
        model = gateway.process.gateway.pipeline.providers["model"]
        assert isinstance(model, Model)
        self.model = model
        limits = next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, RateLimit))
        self.limits = limits

    @property
    def calls(self) -> list[Call]:
        """The calls that the model was sent."""
        return self.model.calls

    def buckets(self) -> dict[str, tuple[float, int]]:
        """Spent (when it was last written) and held, by limit and scope."""
        counters: Any = self.gateway.host.counters
        store = counters.there if isinstance(counters, Distant) else counters
        return {key.split(":", 2)[2]: (spent, held) for key, (spent, _, held) in store._buckets.items()}

    @property
    def held(self) -> int:
        """All that is held of any limit."""
        return sum(held for _, held in self.buckets().values())

    def ask(
        self, caller: str = "acme", text: str = "hello", path: str = "/v1/chat/completions", **fields: Any
    ) -> Asked:
        """Starts one request."""
        return Asked(self, caller, path, self.gateway.body(text, **fields))

    async def turn(self, turns: int = 12) -> None:
        """Lets everything run up to its next wait."""
        for _ in range(turns):
            await asyncio.sleep(0)


class Asked:
    """One request under way; ``answer`` is None until it has ended."""

    def __init__(self, inside: Inside, caller: str, path: str, body: Mapping[str, Any]) -> None:
        self._raw = json.dumps(body).encode()
        self._scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
            "headers": [(b"content-type", b"application/json"), (b"x-caller", caller.encode())],
            "client": ("127.0.0.1", 1), "query_string": b"",
        }  # fmt: skip
        self._head: tuple[int, dict[str, str]] = (0, {})
        self._body = b""
        self.left = False
        self.task = asyncio.ensure_future(
            inside.gateway.process.gateway(self._scope, self._receive, self._send)
        )

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self._raw, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._head = (message["status"], {k.decode(): v.decode() for k, v in message["headers"]})
        else:
            self._body += message["body"]

    @property
    def answer(self) -> ChatAnswer | None:
        """What came back."""
        return ChatAnswer(*self._head, self._body) if self.task.done() and not self.left else None

    @property
    def status(self) -> int:
        """The status, 0 until it has ended."""
        return self._head[0] if self.task.done() else 0

    def leave(self) -> None:
        """The client hangs up."""
        if not self.task.done() and "lmg.gone" in self._scope:
            self.left = True
            self._scope["lmg.gone"]()


@asynccontextmanager
async def inside(
    settings: Mapping[str, Any], *below: str, distant: bool = False, **server: Any
) -> AsyncIterator[Inside]:
    """A gateway with these limits that is asked from within, on a virtual clock; ``distant``: its counters are too."""
    clock = VirtualClock()
    whole = mesh(settings, *below, **server)
    if distant:
        whole["services"] = {"distant": {}}
    whole["providers"] = {"model": {"models": ["test-model", "other-model"]}}
    async with Harness(whole, classes=CLASSES, clock=clock) as gateway:
        there = Inside(gateway, clock)
        try:
            yield there
        finally:
            for call in there.calls:
                call.dies()
            await there.turn()
