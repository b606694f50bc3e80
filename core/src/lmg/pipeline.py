"""The running gateway's components: built from the configuration, started, frozen, and swapped whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .admin import AdminRoute
from .compiler import Plan, check_component, compile_steps, register
from .component import Component, Health, Service, _Configured
from .config import Envelope, MeshConfig, validate
from .discovery import Installed, discover, kind_of, load_component
from .errors import ConfigError
from .exchange import Exchange, Operation, Target
from .fork import ForkResult, Forks
from .hookspecs import LIFE_HOOKS
from .host import Host
from .obligations import check_carried, plan_with
from .ordering import Listed, check_order
from .provider import Provider
from .services.embedded import TargetTable
from .yamltext import Document

if TYPE_CHECKING:
    from .services import Catalogue

__all__ = ["Blueprint", "Part", "Pipeline", "draft"]

log = logging.getLogger("lmg")
MAX_PLANS: Final = 256
Loader = Callable[[str, str, str, Sequence[str]], type[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a blueprint: its class, its validated settings, and what makes it the same one later."""

    name: str
    component: type[Any]
    settings: Any
    envelope: Envelope
    version: str

    def same_as(self, other: Part) -> bool:
        """Whether a reload may carry the object over: same class, settings and distribution."""
        return (self.component, self.settings, self.version) == (
            other.component,
            other.settings,
            other.version,
        )


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A checked configuration: everything is known to fit, nothing is built."""

    config: MeshConfig
    listed: tuple[Part, ...]
    providers: tuple[Part, ...]
    services: tuple[Part, ...]
    admin: tuple[Part, ...] = ()

    def build(self, host: Host, before: Pipeline | None = None) -> Pipeline:
        """A pipeline that is not started yet; parts that did not change are carried over from ``before``."""
        return Pipeline(self, host, before)


def draft(
    config: MeshConfig,
    document: Document | None = None,
    *,
    installed: dict[str, Installed] | None = None,
    classes: Mapping[str, type[Any]] | None = None,
) -> Blueprint:
    """Loads and checks everything that ``config`` names. ``classes`` stand in for entry points (tests, scaffolds).

    Raises:
        ConfigError: the first fault, with its place and a hint.
    """
    found = installed if installed is not None else discover()
    classes = classes or {}

    def part(
        type_: str,
        name: str,
        settings: Mapping[str, Any],
        envelope: Envelope,
        path: tuple[str | int, ...],
        kind: str,
    ) -> Part:
        where = document.where(path) if document is not None else ""
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
        component = classes.get(type_)
        if component is None:
            component = load_component(type_, found, where=where, path=dotted, kind=(kind,))
        if kind == "listed":
            check_component(component, envelope, name, where=where, path=dotted)
        version = found[type_].version if type_ in found else ""
        return Part(name, component, validate(component.Config, settings, path, document), envelope, version)

    listed = tuple(
        part(e.type, e.name, e.settings, e.envelope, e.path, "listed") for e in config.entries(document)
    )
    admin = tuple(
        part(e.type, e.name, e.settings, e.envelope, e.path, "listed") for e in config.admin_entries(document)
    )
    plain = Envelope()
    providers = tuple(
        part(name.partition("/")[0], name, settings or {}, plain, ("providers", name), "provider")
        for name, settings in config.providers.items()
    )
    services = tuple(
        part(name.partition("/")[0], name, settings or {}, plain, ("services", name), "service")
        for name, settings in config.services.items()
    )
    for parts, at in ((listed, ("pipeline",)), (admin, ("admin", "pipeline"))):
        check_order(
            [Listed(p.name, p.component, p.envelope, p.settings) for p in parts],
            document.where(at) if document is not None else "",
        )
    _check_auth(config, listed)
    _check_admin(config, listed, admin)
    taken: dict[str, str] = {}
    for p in services:
        if (other := taken.setdefault(p.component.protocol, p.name)) != p.name:
            raise ConfigError(
                f"'{other}' and '{p.name}' are both the service '{p.component.protocol}'", path="services"
            )
    return Blueprint(config, listed, providers, services, admin)


def authenticates(part: Part) -> bool:
    """Whether a listed component is an authenticator: it provides ``principal``."""
    return "principal" in part.component.provides.get("on_request", ())


def _check_auth(config: MeshConfig, listed: Sequence[Part]) -> None:
    enforced = any(
        authenticates(p) and p.envelope.mode == "enforce" and p.envelope.when is None for p in listed
    )
    if enforced or not config.serves_beyond_loopback() or config.insecure_no_auth:
        return
    raise ConfigError(
        f"the pipeline has no authenticator, and server.host {config.server.host} can be reached from other machines", path="pipeline",
        hint="list auth_static, listen on 127.0.0.1, or write insecure_no_auth: true",
    )  # fmt: skip


def _check_admin(config: MeshConfig, listed: Sequence[Part], admin: Sequence[Part]) -> None:
    if config.admin is None:
        return
    for part in admin:
        if any(part.name == other.name for other in listed):
            raise ConfigError(
                f"'{part.name}' is listed in the pipeline, too", path="admin.pipeline", hint=f"name it '{part.name}/admin'",
            )  # fmt: skip
    if admin and not any(authenticates(p) and p.envelope.mode == "enforce" for p in admin):
        raise ConfigError(
            "the admin API's own pipeline has no authenticator", path="admin.pipeline", hint="list auth_static or auth_jwt"
        )  # fmt: skip


class Pipeline:
    """Frozen once started. Exchanges in flight keep the one they began with."""

    def __init__(self, blueprint: Blueprint, host: Host, before: Pipeline | None = None) -> None:
        config = blueprint.config
        self.blueprint = blueprint
        self.config = config
        self.host = host
        self.deadline_s = config.server.deadline_s
        self.settle_s = config.server.settle_s
        self.max_attempts = config.server.max_attempts
        self.max_held_bytes = config.server.max_held_bytes
        self.max_json_depth = config.server.limits.max_json_depth
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.in_flight = 0
        self._forks = Forks(self, config.server.max_forks)
        carried = before.parts if before is not None else {}
        self.parts: dict[tuple[str, str], tuple[Part, _Configured]] = {}
        self._new: list[_Configured] = []
        self.started = False

        def made(part: Part) -> Any:
            key = (kind_of(part.component), part.name)
            there = carried.get(key)
            if there is not None and there[0].same_as(part):
                component = there[1]
            else:
                component = part.component(part.settings, host, part.name)
                self._new.append(component)
            self.parts[key] = (part, component)
            return component

        self.services: list[Service] = [made(p) for p in blueprint.services]
        self.providers: dict[str, Provider] = {p.name: made(p) for p in blueprint.providers}
        pairs: list[tuple[Listed, Component]] = [
            (Listed(p.name, p.component, p.envelope, p.settings), made(p))
            for p in blueprint.listed
            if p.envelope.mode != "off"
        ]
        self.listed = pairs
        self.register = register()
        for listed, component in pairs:
            self.register.register(component, name=listed.name)
        self.plan: Plan = compile_steps(pairs, host)
        self._plans: dict[frozenset[tuple[int, str]], Plan] = {}
        self._places = {id(component): n for n, (_, component) in enumerate(pairs)}
        self.carriers: dict[str, list[int]] = {}
        for n, (listed, component) in enumerate(pairs):
            for name in component.carried(listed.settings):
                self.carriers.setdefault(name, []).append(n)
        self.wants_timeline = any(component.needs_timeline for _, component in pairs)
        self.keeps_text = any(component.needs_written for _, component in pairs)
        self.authenticators = tuple(s for s in self.plan.hooks["on_request"] if "principal" in s.provides)
        # Unknown means deny, in the kernel: past this step there is a principal, or there is no exchange.
        self.auth_gate = next((s for s in reversed(self.authenticators) if not s.shadow), None)
        self.admin_listed: list[tuple[Listed, Component]] = [
            (Listed(p.name, p.component, p.envelope, p.settings), made(p))
            for p in blueprint.admin
            if p.envelope.mode != "off"
        ]
        self.admin_steps = (
            compile_steps(self.admin_listed, host).hooks["on_request"]
            if self.admin_listed
            else self.authenticators
        )
        self.catalogue = TargetTable(())
        self._candidates: dict[tuple[str, str, str], tuple[Target, ...]] = {}
        self._admin_routes: dict[str, list[AdminRoute]] | None = None
        self._offered: dict[tuple[str, str], tuple[Target, ...]] = {}

    async def start(self) -> None:
        """Starts what is new: services, providers, then the list. A failure stops what had started."""
        self.loop = asyncio.get_running_loop()
        begun: list[_Configured] = []
        try:
            for component in self._new:
                begun.append(component)
                await component.start()
        except BaseException:
            await _stop(begun)
            raise
        self.catalogue = TargetTable(
            [target for provider in self.providers.values() for target in provider.targets()],
            self.model_data(),
        )
        self.started = True

    def place_of(self, component: Component) -> int:
        """Where ``component`` stands in the list, from 0; behind its end where it stands in the admin API's own."""
        return self._places.get(id(component), len(self.listed))

    def plan_for(self, modes: Mapping[int, str]) -> Plan:
        """The plan of exchanges on which the components at these places run in these modes.

        Raises:
            OrderError: one whose facts are required would run in shadow, or not at all.
        """
        key = frozenset(modes.items())
        found = self._plans.get(key)
        if found is None:
            check_order([_in_mode(listed, modes.get(n)) for n, (listed, _) in enumerate(self.listed)])
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            found = self._plans[key] = self.plan.with_modes(modes)
        return found

    check_carried = staticmethod(check_carried)
    plan_with = staticmethod(plan_with)

    def candidates(self, model: str, operation: Operation, dialect: str) -> tuple[Target, ...]:
        """The targets of ``model`` whose providers can serve ``dialect``: one operation can have several."""
        found = self._candidates.get((model, operation, dialect))
        if found is None:
            found = tuple(
                target
                for target in self.catalogue.targets(model, operation)
                if operation == "count_tokens" or self._speaks(target, operation, dialect)
            )
            if self.catalogue.lists(model):  # as many as the configuration names, whatever clients ask for
                self._candidates[model, operation, dialect] = found
        return found

    def offered(self, operation: Operation, dialect: str) -> tuple[Target, ...]:
        """Every target that the configuration names and that can serve ``dialect``, best priority first."""
        found = self._offered.get((operation, dialect))
        if found is None:
            found = self._offered[operation, dialect] = tuple(
                target
                for target in self.catalogue.all(operation)
                if operation == "count_tokens" or self._speaks(target, operation, dialect)
            )
        return found

    def _speaks(self, target: Target, operation: Operation, dialect: str) -> bool:
        provider = self.providers.get(target.provider)
        return provider is None or provider.wire(operation, dialect, target.upstream_model) is not None

    def model_data(self) -> Catalogue | None:
        """The service that knows models and prices, where one is configured."""
        return next((s for s in self.services if s.protocol == "catalogue"), None)  # type: ignore[return-value]

    def activate(self) -> None:
        """Puts this pipeline's services in the host's places: called when it becomes the running one."""
        for service in self.services:
            if service.protocol != "catalogue":
                setattr(self.host, service.protocol, service)
        if any(component.exports_metrics for _, component in self.listed):
            self.host.metrics.enabled = True

    async def stop(self, live: Sequence[Pipeline] = ()) -> None:
        """Stops every component that none of the ``live`` pipelines has carried over."""
        kept = {id(component) for pipeline in live for _, component in pipeline.parts.values()}
        await _stop([component for _, component in self.parts.values() if id(component) not in kept])

    async def fork(self, exchange: Exchange, target: Target, purpose: str) -> ForkResult:
        """See ``Exchange.fork``."""
        return await self._forks.run(exchange, target, purpose)

    def health(self) -> dict[str, Health]:
        """The components that are not well, by name."""
        states: dict[str, Health] = {}
        for name, component in [
            *((service.name, service) for service in self.services),
            *self.providers.items(),
            *((listed.name, c) for listed, c in (*self.listed, *self.admin_listed)),
        ]:
            ask = getattr(component, "health", None)
            state = ask() if ask is not None else None
            if state is not None:
                states[name] = state
        return states

    def admin_routes(self) -> dict[str, list[AdminRoute]]:
        """The admin routes of the listed components, by component; asked for once, when they have started."""
        if self._admin_routes is None:
            self._admin_routes = {
                listed.name: component.admin_routes()
                for listed, component in (*self.listed, *self.admin_listed)
                if hasattr(component, "admin_routes")
            }
        return self._admin_routes

    def describe(self) -> list[dict[str, Any]]:
        """The list as ``lmg check`` and the admin API show it."""
        return [
            {
                "name": listed.name,
                "mode": listed.envelope.mode,
                "on_error": listed.envelope.on_error or component.on_error,
                "stability": component.stability,
                "hooks": [hook for hook in LIFE_HOOKS if hasattr(component, hook)],
            }
            for listed, component in self.listed
        ]


def _in_mode(listed: Listed, mode: str | None) -> Listed:
    if mode is None:
        return listed
    return replace(listed, envelope=listed.envelope.model_copy(update={"mode": mode}))


async def _stop(components: Sequence[_Configured]) -> None:
    for component in reversed(components):
        try:
            await component.stop()
        except Exception as error:  # noqa: BLE001 - the plugin barrier: one that cannot stop keeps no other from stopping
            log.error("stop_failed component=%s error=%s", component.name, type(error).__name__)
