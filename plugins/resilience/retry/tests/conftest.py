"""What retry's tests share: a gateway with scripted upstreams, pauses that take no time, and a choosable chance."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Generator, Mapping
from typing import Any

from lmg import Attempt, Component, Exchange, Failure, Host, Next, Outcome, Skip, UpstreamError
from lmg.host import Clock
from lmg.testing import Cut, Harness, ScriptedUpstream, Wait, chat_body, chat_events, sse
from lmg.testing.gateway import Scripted
from lmg_retry import RetryBudget
from lmg_retry.config import RetryConfig

ERROR = {"error": {"message": "It failed.", "type": "some_type", "code": "some_code"}}
TOO_LONG = {"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}}
FILTERED = {"error": {"message": "refused", "code": "content_filter"}}
OPENING = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


class Patient(Clock):
    """A clock on which every pause is over at once; it remembers them."""

    def __init__(self) -> None:
        self.elapsed = 1_000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return 1_800_000_000.0 + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.elapsed += seconds
        await asyncio.sleep(0)


class Shortest(random.Random):
    """Chance that always gives the least."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Longest(random.Random):
    """Chance that always gives the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


class AtOnce(RetryBudget):
    """`retry` whose random pauses are none."""

    def __init__(self, config: RetryConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.random = Shortest()


class AtLength(RetryBudget):
    """`retry` whose random pauses are as long as they may be."""

    def __init__(self, config: RetryConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.random = Longest()


class Moves(Component):
    """Stands above: goes on to the next target as long as there is one."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
        return Next() if failure.targets_left else None


class Skips(Component):
    """Stands below: leaves out the targets of the providers in ``skipped``, from their second attempt on in ``later``."""

    skipped: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> Generator[None, Outcome, None]:
        provider = attempt.target.provider
        before = sum(one.target.provider == provider for one in exchange.attempts[:-1])
        if provider in self.skipped or (before and provider in self.later):
            raise Skip("open")
        yield


def skips(skipped: str = "", later: str = "") -> type[Skips]:
    given = {"skipped": skipped, "later": later}
    return type(
        "Skips",
        (Skips,),
        {name: frozenset(f"scripted/{x}" for x in letters) for name, letters in given.items()},
    )


def faulty(fault: UpstreamError) -> type[Scripted]:
    """The scripted provider, whose instance ``a`` fails before it calls anybody."""

    class Faulty(Scripted):
        async def call(self, exchange: Exchange, attempt: Attempt) -> Any:
            if self.name == "scripted/a":
                raise fault
            return await super().call(exchange, attempt)

    return Faulty


def gateway_of(
    names: str = "ab",
    settings: Mapping[str, Any] | None = None,
    *,
    retry: type[RetryBudget] = AtOnce,
    above: tuple[type[Component], ...] = (),
    below: tuple[type[Component], ...] = (),
    upstreams: Mapping[str, Mapping[str, Any]] | None = None,
    classes: Mapping[str, type[Any]] | None = None,
    mesh: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> Harness:
    """A gateway whose pipeline is retry (and ``above`` and ``below`` it), with one upstream a letter of ``names``."""
    others = {one.__name__.lower(): one for one in (*above, *below)}
    pipeline: list[Any] = [*(one.__name__.lower() for one in above), {"retry": dict(settings or {})}]
    pipeline += [one.__name__.lower() for one in below]
    given = upstreams or {}
    return Harness(
        {"pipeline": pipeline, **(mesh or {})},
        classes={"retry": retry, **others, **(classes or {})},
        upstreams={name: {"priority": n, **given.get(name, {})} for n, name in enumerate(names)},
        clock=clock or Patient(),
    )


def retry_of(gateway: Harness) -> RetryBudget:
    """The component in the running pipeline."""
    return next(one for _, one in gateway.process.gateway.pipeline.listed if isinstance(one, RetryBudget))


def pauses(gateway: Harness) -> list[float]:
    clock = gateway.host.clock
    assert isinstance(clock, Patient)
    return [round(pause, 3) for pause in clock.pauses]


def counted(gateway: Harness, name: str) -> dict[tuple[str, ...], float]:
    family = next(f for f in gateway.host.metrics.families() if f.name == name)
    return dict(family.series)  # type: ignore[attr-defined]


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
    return [
        (one.target.removeprefix("scripted/").removesuffix(":test-model"), one.outcome)
        for one in exchange.receipt.tried
    ]


Script = Callable[[ScriptedUpstream], None]


def status(code: int, body: object = ERROR, **headers: str) -> Script:
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda upstream: upstream.reply(body, status=code, headers=given)


def fine(upstream: ScriptedUpstream, *, stream: bool = False) -> None:
    """Answers as it should, from here on."""
    if stream:
        upstream.stream(*chat_events("Hello", "!"))
    else:
        upstream.reply(chat_body("Hello!"))


def malformed(upstream: ScriptedUpstream) -> None:
    upstream.reply(b'{"choices": [', headers=[("content-type", "application/json")])


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


def error_event(upstream: ScriptedUpstream) -> None:
    upstream.stream(*sse(OPENING, {"error": {"message": "overloaded", "code": 529}}))
