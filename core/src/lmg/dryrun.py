"""Walks a request down the pipeline to its targets, with the code that serves, and touches nothing.

No model is called or started, no counter is taken, nothing is recorded. What a component would have to
connect for is left open and said so, unless ``connect`` lets it ask its own control plane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .compiler import Step
from .component import _Configured
from .dialects import Dialect
from .errors import ConfigError, Refusal
from .exchange import Exchange, Head, Principal, Request, Target
from .fork import ForkResult
from .jsontext import JsonText
from .lifecycle import RawHeaders, Walk
from .pipeline import Blueprint, Pipeline
from .readonly import NotExplained, ReadOnlyCounters, ReadOnlyHost
from .services.embedded import TargetTable
from .verdicts import Answer, Deny, Finding, Later

__all__ = ["Dropped", "DryRun", "Observed"]

_DOWN: Final = ("on_request", "on_route")


class _DryPipeline(Pipeline):
    async def fork(self, exchange: Exchange, target: Target, purpose: str) -> ForkResult:
        raise NotExplained(f"it would call {target.name} ({purpose})")


class _Given:
    """A client whose request is at hand and who gets no answer."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read_body(self) -> bytes:
        return self._body

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        return None

    async def start(self, status: int, headers: RawHeaders) -> None:
        return None

    async def write(self, data: bytes) -> None:
        return None

    async def end(self) -> None:
        return None


# -- what is seen ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Observed:
    """One step of the walk. In shadow, ``verdict``, ``facts`` and ``changes`` are what would have been."""

    component: str
    hook: str
    shadow: bool
    verdict: str = "not reached"
    facts: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    detail: str = ""


@dataclass(slots=True)
class Dropped:
    """A target that is not tried, and why."""

    target: str
    component: str
    reason: str
    status: int | None = None
    shadow: bool = False


class DryRun:
    """``async with DryRun(blueprint) as dry: await dry.walk(dialect, head, body)``; then read what was observed."""

    def __init__(self, blueprint: Blueprint, *, connect: bool = False) -> None:
        server = blueprint.config.server
        self._connect = connect
        self.host = ReadOnlyHost(server.state_dir, server.secrets_dir, connect=connect)
        try:
            self.pipeline = _DryPipeline(blueprint, self.host)
        except Exception as error:
            raise _unbuilt("a component cannot be built", error) from error
        self.steps: list[Observed] = []
        self.dropped: list[Dropped] = []
        self.targets: tuple[Target, ...] = ()
        self.answer: Answer | None = None
        self.refusal: Refusal | None = None
        self.exchange: Exchange | None = None
        self.notes: list[str] = []
        self._started: list[_Configured] = []
        self._rows: dict[tuple[str, str], Observed] = {}

    async def __aenter__(self) -> DryRun:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for component in reversed(self._started):
            await component.stop()
        await self.host.aclose()

    async def _start(self) -> None:
        """Starts services and the list; never a provider, which may run a model or connect to one."""
        pipeline = self.pipeline
        pipeline.loop = asyncio.get_running_loop()
        for service in pipeline.services:
            if service.protocol == "ledger":
                continue
            if service.protocol == "counters" and not self._connect:
                self.notes.append(f"{service.name} was not asked: its counters are taken to be empty")
                continue
            await self._start_one(service)
            if service.protocol == "counters":
                self.host.counters = ReadOnlyCounters(service)  # type: ignore[arg-type]
            elif service.protocol != "catalogue":
                setattr(self.host, service.protocol, service)
        pipeline.catalogue = TargetTable(
            [t for p in pipeline.providers.values() for t in _targets(p)], pipeline.model_data()
        )
        for _, component in pipeline.listed:
            await self._start_one(component)
        pipeline.started = True

    async def _start_one(self, component: _Configured) -> None:
        self._started.append(component)
        try:
            await component.start()
        except NotExplained as error:
            self.notes.append(f"{component.name} did not start completely: {error}")
        except Exception as error:
            raise _unbuilt(f"'{component.name}' did not start", error) from error

    # -- the walk -------------------------------------------------------------------------------
    async def walk(self, dialect: Dialect, head: Head, body: bytes) -> None:
        """Walks the request down; ``targets``, ``answer`` or ``refusal`` is what came of it."""
        pipeline = self.pipeline
        for hook in _DOWN:
            for step in pipeline.plan.hooks[hook]:
                row = self._rows[step.name, hook] = Observed(step.name, hook, step.shadow)
                self.steps.append(row)
                step.fn = _Watched(step, row, self.dropped)
        exchange = self.exchange = Exchange(self.host, pipeline, head, dialect.operation, dialect, "explain")
        exchange.timeline = []
        walk = Walk(pipeline, exchange, _Given(body))
        try:
            result = await walk.explain()
            if isinstance(result, Answer):
                self.answer = result
            else:
                self.targets = result
        except Refusal as refusal:
            self.refusal = refusal
        finally:
            for _, later in walk.laters:
                later.cancel()
            await asyncio.gather(*(later for _, later in walk.laters), return_exceptions=True)
        self._fill_in(exchange)

    def _fill_in(self, exchange: Exchange) -> None:
        """What only shows at the end: steps that did not run, and targets that bounds took away."""
        failed = {(name, hook) for name, hook, _, _, verdict in exchange.timeline or () if verdict == "error"}
        for hook in _DOWN:
            for step in self.pipeline.plan.hooks[hook]:
                row = self._rows[step.name, hook]
                if row.verdict != "not reached":
                    continue
                if exchange.when.get(step.index) is False:
                    row.verdict = "when does not match"
                elif (step.name, hook) in failed:
                    row.verdict, row.detail = "failed", "a required fact is missing"
        if _body(exchange) is None:
            return
        for target in self.pipeline.catalogue.targets(exchange.request.model, exchange.operation):
            if not exchange.bounds.admit(target) and not any(d.target == target.name for d in self.dropped):
                self.dropped.append(Dropped(target.name, "bounds", "outside the bounds", 403))


class _Watched:
    """A step's function that leaves in ``row`` what it said and wrote, and gives what it gave."""

    def __init__(self, step: Step, row: Observed, dropped: list[Dropped]) -> None:
        self._call = step.fn
        self._row, self._dropped = row, dropped

    def __call__(self, exchange: Exchange, *args: Any) -> Any:
        before = (len(exchange._journal), len(exchange.drops), _body(exchange))
        try:
            result = self._call(exchange, *args)
        except NotExplained as error:
            return self._open(error)
        except Exception as error:
            self._failed(error)
            raise
        if asyncio.iscoroutine(result):
            return self._awaited(result, exchange, args, before)
        return self._done(result, exchange, args, before)

    async def _awaited(
        self, work: Awaitable[Any], exchange: Exchange, args: Any, before: tuple[int, int, Any]
    ) -> Any:
        try:
            result = await work
        except NotExplained as error:
            return self._open(error)
        except Exception as error:
            self._failed(error)
            raise
        return self._done(result, exchange, args, before)

    async def _later(self, check: Awaitable[Deny | Finding | None]) -> Deny | Finding | None:
        try:
            found = await check
        except NotExplained as error:
            self._open(error)
            return None
        except Exception as error:
            self._failed(error)
            raise
        if isinstance(found, Deny):
            self._say(found)
        elif isinstance(found, Finding):
            self._row.facts += [_shown(name, value) for name, value in found.facts.items()]
            self._row.changes += ["signals"] if found.signals else []
        return found

    def _open(self, error: NotExplained) -> None:
        # Neither refused nor let pass: what the component would have said is not known.
        self._row.verdict, self._row.detail = "not explained", str(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Refusal):
            self._row.verdict, self._row.detail = f"Deny({error.status} {error.code})", error.reason
        else:
            self._row.verdict, self._row.detail = "failed", type(error).__name__

    def _done(self, result: Any, exchange: Exchange, args: Any, before: tuple[int, int, Any]) -> Any:
        journal, drops, body = before
        row = self._row
        row.verdict = "continue"
        for kind, key, _ in exchange._journal[journal:]:
            if kind == "fact":
                row.facts.append(_shown(key, exchange._facts.get(key)))
            elif kind == "reply":
                row.changes.append(f"reply header {key.decode('latin-1')}")
            elif kind != "slot":
                row.changes.append("reply headers" if kind == "replies" else kind)
        after = _body(exchange)
        if body is not None and after is not None and after.value != body.value:
            row.changes.append("body")
        row.facts, row.changes = list(dict.fromkeys(row.facts)), list(dict.fromkeys(row.changes))
        if row.hook == "on_route" and not isinstance(result, Deny):
            self._routed(
                args[0], result, {name: (why, status) for name, why, status in exchange.drops[drops:]}
            )
        else:
            self._say(result)
        return Later(self._later(result.check)) if isinstance(result, Later) else result

    def _say(self, result: Any) -> None:
        row = self._row
        if isinstance(result, Deny):
            row.verdict, row.detail = f"Deny({result.status} {result.code})", result.reason or result.message
        elif isinstance(result, Answer):
            row.verdict = f"Answer({result.status})"
        elif isinstance(result, Later):
            row.verdict = "Later"
        elif result is not None:
            row.verdict, row.detail = "failed", f"{type(result).__name__} is no verdict"

    def _routed(
        self, given: Sequence[Target], result: Sequence[Target] | None, said: dict[str, tuple[str, int]]
    ) -> None:
        row = self._row
        kept = list(given if result is None else result)
        for target in given:
            if target not in kept:
                reason, status = said.get(target.name, ("no reason given", None))
                self._dropped.append(Dropped(target.name, row.component, reason, status, row.shadow))
        stay, added = [target for target in given if target in kept], len(set(kept) - set(given))
        said_so = [f"keeps {len(stay)} of {len(given)}"] if len(stay) != len(given) else []
        said_so += [f"adds {added}"] if added else []
        row.verdict = ", ".join(said_so) or row.verdict
        if [t for t in given if t in kept] != [t for t in kept if t in given]:
            row.changes.append("order")


def _body(exchange: Exchange) -> JsonText | None:
    """The request's body as the walk has left it; None before it has been read."""
    request: Request | None = exchange.request
    return None if request is None else request.body


def _unbuilt(what: str, error: Exception) -> ConfigError:
    return (
        error if isinstance(error, ConfigError) else ConfigError(f"{what}: {type(error).__name__}: {error}")
    )


def _shown(name: str, value: object) -> str:
    """A fact without anything that may be secret: its name, and who the principal is, or a number."""
    if isinstance(value, Principal):
        return f"{name}: {value.subject} of {value.tenant}"
    return f"{name}: {value}" if isinstance(value, bool | int | float) else name


def _targets(provider: Any) -> list[Target]:
    """A provider's targets by its configuration; those of an embedded model have their names only once it has started."""
    default = getattr(provider, "default_models", None)
    found: list[Target] = []
    for target in provider.targets():
        if target.model:
            found.append(replace(target, upstream_model=target.upstream_model or target.model))
        elif default is not None:
            found += [replace(target, model=name, upstream_model=name) for name in default()]
    return found
