"""Turns the listed components into a frozen pipeline: one tuple of bound steps per hook.

Mode, ``on_error``, ``timeout_ms`` and ``when`` are applied here, so that no component has to know of them.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import pluggy

from .bounded import within
from .component import Component
from .config import Envelope, When
from .errors import ConfigError, MeshError, Refusal
from .exchange import Exchange
from .hookspecs import LIFE_HOOKS, PARAMETERS, REVERSED, SETUP_HOOKS, Hooks
from .ordering import KERNEL_FACTS, Listed
from .verdicts import Deny, Later

if TYPE_CHECKING:
    from .host import Host

__all__ = ["ComponentFailed", "Plan", "Step", "applies", "check_component", "compile_steps"]

log = logging.getLogger("lmg")


class ComponentFailed(MeshError):
    """A component's hook raised, timed out, or lacked a fact; its writes have been taken back."""

    def __init__(self, step: Step, why: str, cause: BaseException | None = None) -> None:
        super().__init__(f"{step.name}.{step.hook}: {why}")
        self.step, self.why, self.cause = step, why, cause


class Step:
    """One hook of one listed component, ready to be called."""

    __slots__ = (
        "allow", "component", "fn", "hook", "index", "is_async", "join_answer", "name", "needs", "needs_body", "provides",
        "shadow", "timeout_s", "uses", "when",
    )  # fmt: skip

    def __init__(self, component: Component, hook: str, index: int, listed: Listed) -> None:
        envelope = listed.envelope
        self.component = component
        self.name = listed.name
        self.hook = hook
        self.index = index
        self.fn: Callable[..., Any] = getattr(component, hook)
        self.is_async = inspect.iscoroutinefunction(self.fn) or inspect.isasyncgenfunction(self.fn)
        self.shadow = envelope.mode == "shadow"
        self.allow = (envelope.on_error or component.on_error) == "allow"
        self.timeout_s = envelope.timeout_ms / 1000 + component.max_wait_s
        self.when = envelope.when
        self.join_answer = envelope.join == "answer"
        required = listed.requires(hook)
        self.needs = tuple(fact for fact in required if fact not in KERNEL_FACTS[hook])
        self.needs_body = "body" in required
        self.provides = listed.provides(hook)
        self.uses = frozenset((*required, *listed.uses(hook)))

    def __repr__(self) -> str:
        return f"Step({self.name}.{self.hook})"

    def applies(self, exchange: Exchange) -> bool:
        """What ``when`` says, decided once per exchange on the request as the client sent it."""
        return applies(self.when, self.index, exchange)

    def in_mode(self, mode: str) -> Step:
        """The same step, for exchanges that a policy has put into another mode."""
        step = copy.copy(self)
        step.shadow = mode == "shadow"
        return step

    async def call(self, exchange: Exchange, *args: Any) -> Any:
        """The hook's result; None where it does not apply or runs in shadow.

        Raises:
            ComponentFailed: it raised, took too long, or a fact that it requires is missing.
        """
        if self.when is not None and not self.applies(exchange):
            return None
        mark = exchange.mark()
        exchange._reader_shadow = self.shadow
        started = time.perf_counter() if exchange.timeline is not None else 0.0
        result = None
        try:
            for fact in self.needs:
                if exchange.fact(fact) is None:
                    raise LookupError(f"the required fact '{fact}' is missing")
            result = self.fn(exchange, *args)
            if self.is_async or result.__class__ is CoroutineType:
                result = await within(self.timeout_s, result)
        except Refusal as refusal:
            # A kernel helper that the hook called has refused for it.
            exchange.roll_back(mark)
            result = denial_of(refusal)
        except Exception as error:
            exchange.roll_back(mark)
            exchange._reader_shadow = False
            self.record_failure(exchange, error)
            if exchange.timeline is not None:
                self.stamp(exchange, started, "error")
            if self.shadow:
                exchange.shadowed.append((self.name, self.hook, f"error: {type(error).__name__}"))
                return None
            raise ComponentFailed(self, describe(error), error) from error
        except asyncio.CancelledError:
            exchange.roll_back(mark)
            exchange._reader_shadow = False
            raise
        exchange._reader_shadow = False
        if exchange.timeline is not None:
            self.stamp(exchange, started, type(result).__name__ if result is not None else "")
        if self.shadow:
            undone = exchange.roll_back(mark)
            exchange.keep_as_shadow(undone)
            if result is not None or undone:
                changed = ", ".join(sorted({kind for kind, _, _ in undone}))
                exchange.shadowed.append(
                    (self.name, self.hook, f"{_would(result)}{'; ' if changed else ''}{changed}")
                )
            if isinstance(result, Later) and asyncio.iscoroutine(result.check):
                result.check.close()
            # A shadow filter is fed a copy of the events: the chain knows not to use what it returns.
            return result if self.hook == "on_stream" and not isinstance(result, Deny) else None
        return result

    def stamp(self, exchange: Exchange, started: float, verdict: str) -> None:
        """Leaves a time stamp on the exchange's timeline."""
        assert exchange.timeline is not None
        exchange.timeline.append((self.name, self.hook, started, time.perf_counter() - started, verdict))

    def record_failure(self, exchange: Exchange, error: BaseException) -> None:
        """Counts and logs a failure, without any text of the caller's."""
        exchange.host.component_errors.inc((self.name, self.hook))
        log.warning(
            "component_failed component=%s hook=%s error=%s exchange=%s",
            self.name,
            self.hook,
            describe(error),
            exchange.id,
        )


def applies(when: When | None, index: int, exchange: Exchange) -> bool:
    """What ``when`` says of the component at ``index``: decided once per exchange."""
    if when is None:
        return True
    known = exchange.when.get(index)
    if known is None:
        known = exchange.when[index] = _matches(when, exchange)
    return known


def denial_of(refusal: Refusal) -> Deny:
    """What a kernel helper that refused has said in the component's name."""
    return Deny(
        refusal.status,
        refusal.code,
        refusal.message,
        refusal.reason,
        refusal.type,
        refusal.param,
        refusal.headers,
    )


def describe(error: BaseException) -> str:
    """A failure's kind and place: never its message, which may quote a caller's text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


def _would(result: Any) -> str:
    if result is None:
        return ""
    code = getattr(result, "code", "")
    return f"{type(result).__name__}({code})" if code else type(result).__name__


def _matches(when: When, exchange: Exchange) -> bool:
    def fits(patterns: Sequence[str], value: str) -> bool:
        return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)

    principal = exchange.principal
    model = ""
    if when.model and exchange.request is not None:
        asked = exchange.request.sent.get("model")
        model = asked if isinstance(asked, str) else ""
    return (
        fits(when.operation, exchange.operation)
        and fits(when.dialect, exchange.dialect.name)
        and fits(when.tenant, principal.tenant if principal is not None else "")
        and fits(when.model, model)
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """The compiled steps, per hook in the order of that hook's walk.

    ``modes`` holds the components, by their place in the list, that a policy has put into another mode.
    """

    on_request_head: tuple[Step, ...] = ()
    on_request: tuple[Step, ...] = ()
    on_route: tuple[Step, ...] = ()
    on_attempt: tuple[Step, ...] = ()
    on_failure: tuple[Step, ...] = ()
    on_stream: tuple[Step, ...] = ()
    on_response: tuple[Step, ...] = ()
    on_settle: tuple[Step, ...] = ()
    on_end: tuple[Step, ...] = ()
    up_whole: tuple[Step, ...] = ()
    up_stream: tuple[Step, ...] = ()
    hooks: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    modes: Mapping[int, str] = field(default_factory=dict)
    enforcing: frozenset[int] = frozenset()
    """The places in the list of the components that do something, and not in shadow."""

    def with_modes(self, modes: Mapping[int, str]) -> Plan:
        """This plan for exchanges on which some components run in another mode."""
        hooks = {
            hook: tuple(
                step.in_mode(modes[step.index]) if step.index in modes else step
                for step in steps
                if modes.get(step.index) != "off"
            )
            for hook, steps in self.hooks.items()
        }
        return _plan(hooks, modes)


class _Register(pluggy.PluginManager):
    """pluggy as the register: it validates names and signatures, blocks and introspects."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return {} if name in PARAMETERS and callable(getattr(plugin, name, None)) else None


def register() -> pluggy.PluginManager:
    """A register that knows the hooks."""
    manager = _Register("lmg")
    manager.add_hookspecs(Hooks)
    return manager


def check_component(
    component: type[Component], envelope: Envelope, name: str, *, where: str = "", path: str = ""
) -> None:
    """Refuses a component whose methods are no hooks, or whose mode it does not support.

    Raises:
        ConfigError: with the nearest name, the right parameters, or the modes there are.
    """
    for attribute in dir(component):
        if (
            attribute.startswith("on_")
            and attribute not in LIFE_HOOKS
            and callable(getattr(component, attribute))
        ):
            near = get_close_matches(attribute, LIFE_HOOKS, 1)
            raise ConfigError(
                f"'{name}' has a method {attribute}, which is no hook", where=where, path=path,
                hint=f"did you mean {near[0]}?" if near else f"hooks: {', '.join(LIFE_HOOKS)}",
            )  # fmt: skip
    hooks = [hook for hook in (*LIFE_HOOKS, *SETUP_HOOKS) if hasattr(component, hook)]
    for hook in hooks:
        parameters = tuple(inspect.signature(getattr(component, hook)).parameters)[1:]
        if parameters != PARAMETERS[hook]:
            raise ConfigError(
                f"'{name}': {hook} takes ({', '.join(parameters)})",
                where=where,
                path=path,
                hint=f"it must take ({', '.join(PARAMETERS[hook])})",
            )
        fn = getattr(component, hook)
        if hook == "on_attempt" and not (inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)):
            raise ConfigError(
                f"'{name}': on_attempt is no generator",
                where=where,
                path=path,
                hint="it must yield exactly once",
            )
        if hook == "on_end" and inspect.iscoroutinefunction(fn):
            raise ConfigError(
                f"'{name}': on_end must be synchronous",
                where=where,
                path=path,
                hint="hand work to a bounded queue (host.worker)",
            )
    declared = {*component.provides, *component.requires, *component.uses}
    for hook in declared - set(hooks):
        raise ConfigError(
            f"'{name}' declares facts for {hook}, which it does not implement", where=where, path=path
        )
    if envelope.mode not in component.modes:
        raise ConfigError(
            f"'{name}' does not support mode '{envelope.mode}'",
            where=where,
            path=path,
            hint=f"modes: {', '.join(sorted(component.modes))}",
        )


def compile_steps(components: Sequence[tuple[Listed, Component]], host: Host) -> Plan:
    """The plan of ``components`` in their listed order; a hook that nobody implements is an empty tuple."""
    steps: dict[str, list[Step]] = {hook: [] for hook in LIFE_HOOKS}
    for index, (listed, component) in enumerate(components):
        if listed.envelope.mode == "off":
            continue
        for hook in LIFE_HOOKS:
            if hasattr(component, hook):
                steps[hook].append(Step(component, hook, index, listed))
    return _plan(
        {hook: tuple(reversed(found) if hook in REVERSED else found) for hook, found in steps.items()}, {}
    )


def _plan(ordered: dict[str, tuple[Step, ...]], modes: Mapping[int, str]) -> Plan:
    request = ordered["on_request"]
    first_body = next((n for n, step in enumerate(request) if step.needs_body), len(request))
    return Plan(
        on_request_head=request[:first_body],
        on_request=request[first_body:],
        **{hook: ordered[hook] for hook in LIFE_HOOKS if hook != "on_request"},
        up_whole=_up(ordered["on_response"], ordered["on_stream"]),
        up_stream=_up(ordered["on_stream"], ordered["on_response"]),
        hooks=ordered,
        modes=modes,
        enforcing=frozenset(step.index for steps in ordered.values() for step in steps if not step.shadow),
    )


def _up(first: Sequence[Step], instead: Sequence[Step]) -> tuple[Step, ...]:
    """The walk back up: a component's step of its preferred hook, else that of the other, in reverse list order.

    A component needs only one of ``on_stream`` and ``on_response``; no answer passes it because of how it travelled.
    """
    there = {step.index for step in first}
    return tuple(
        sorted((*first, *(s for s in instead if s.index not in there)), key=lambda step: -step.index)
    )
