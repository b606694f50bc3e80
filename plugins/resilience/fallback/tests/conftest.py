"""What fallback's tests share: a gateway with several scripted upstreams, and ways for one of them to fail."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator, Mapping
from typing import Any

from lmg import Attempt, Component, Exchange, Outcome, Skip, UpstreamError
from lmg.dialects.wire import Unsupported
from lmg.testing import Cut, Harness, ScriptedUpstream, Wait, sse
from lmg.testing.gateway import Scripted
from lmg_fallback import Fallback

ERROR = {"error": {"message": "It failed.", "type": "some_type", "code": "some_code"}}
TOO_LONG = {"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}}
FILTERED = {"error": {"message": "refused", "code": "content_filter"}}
OPENING = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


class Skips(Component):
    """Listed below: leaves out the targets of the providers in ``skipped``."""

    skipped = frozenset({"scripted/a"})

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        if attempt.target.provider in self.skipped:
            raise Skip("open")
        yield


class Faulty(Scripted):
    """The scripted provider, whose instance ``a`` fails before it calls anybody."""

    fault: UpstreamError

    async def call(self, exchange: Exchange, attempt: Attempt) -> Any:
        if self.name == "scripted/a":
            raise self.fault
        return await super().call(exchange, attempt)


def faulty(fault: UpstreamError) -> type[Faulty]:
    return type("Faulty", (Faulty,), {"fault": fault})


EXHAUSTED = UpstreamError("connect", "pool_exhausted", "100 connections are open")
WORDLESS = Unsupported("some.api", "extra", "parallel_tool_calls")


def gateway_of(
    names: str = "ab",
    settings: Mapping[str, Any] | None = None,
    *,
    upstreams: Mapping[str, Mapping[str, Any]] | None = None,
    below: tuple[type[Component], ...] = (),
    above: tuple[type[Component], ...] = (),
    classes: Mapping[str, type[Any]] | None = None,
    mesh: Mapping[str, Any] | None = None,
    **more: Any,
) -> Harness:
    """A gateway whose pipeline is fallback (and ``above`` and ``below`` it), with one upstream a letter of ``names``."""
    others = {one.__name__.lower(): one for one in (*above, *below)}
    pipeline: list[Any] = [*(one.__name__.lower() for one in above), {"fallback": dict(settings or {})}]
    pipeline += [one.__name__.lower() for one in below]
    given = upstreams or {}
    return Harness(
        {"pipeline": pipeline, **(mesh or {})},
        classes={"fallback": Fallback, **others, **(classes or {})},
        upstreams={name: {"priority": n, **given.get(name, {})} for n, name in enumerate(names)},
        **more,
    )


def calls(gateway: Harness) -> list[int]:
    """How often each upstream was called, in the order of their names."""
    return [len(upstream.received) for upstream in gateway.upstreams.values()]


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def tried(gateway: Harness, number: int = 1) -> list[tuple[str, str]]:
    """Target and outcome of each attempt, as the receipt of an exchange that has ended names them."""
    exchange = await gateway.ended(number)
    assert exchange.receipt is not None
    return [(one.target.removeprefix("scripted/"), one.outcome) for one in exchange.receipt.tried]


def status(code: int, body: object = ERROR, **headers: str) -> Callable[[ScriptedUpstream], None]:
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda upstream: upstream.reply(body, status=code, headers=given)


def malformed(upstream: ScriptedUpstream) -> None:
    upstream.reply(b'{"choices": [', headers=[("content-type", "application/json")])


def cut_json(upstream: ScriptedUpstream) -> None:
    upstream.raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{", Cut("fin")
    )


def reset(upstream: ScriptedUpstream) -> None:
    upstream.raw(Cut("rst"))


def hang_up(upstream: ScriptedUpstream) -> None:
    upstream.raw(Cut("fin"))


def silent(upstream: ScriptedUpstream) -> None:
    upstream.raw(Wait(event=asyncio.Event()))


def no_first_event(upstream: ScriptedUpstream) -> None:
    upstream.stream(Wait(event=asyncio.Event()))


def cut_before_the_first_event(upstream: ScriptedUpstream) -> None:
    upstream.stream(Cut("rst"))


def ends_after_the_opening(upstream: ScriptedUpstream) -> None:
    upstream.stream(*sse(OPENING))


def no_event_at_all(upstream: ScriptedUpstream) -> None:
    upstream.stream(b"")


def error_event(upstream: ScriptedUpstream) -> None:
    upstream.stream(*sse(OPENING, {"error": {"message": "overloaded", "code": 529}}))


def garbage_event(upstream: ScriptedUpstream) -> None:
    upstream.stream(b"data: {not json\n\n")
