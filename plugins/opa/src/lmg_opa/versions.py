"""Which version of the policy runs: the first one, newer ones once they compile, and what went wrong with the newest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmg import Health

from .cache import DecisionCache
from .decisions import Decision
from .document import InputPlan
from .engine import Bundle, Engine, Policy, PolicyFault, Undecided
from .engines import engine
from .sources import PathSource, Source, SourceFault, UrlSource

if TYPE_CHECKING:
    from lmg import Host

    from .config import OpaConfig

__all__ = ["Version", "Versions"]

log = logging.getLogger("lmg.opa")
_MAX_DETAIL: Final = 500


@dataclass(frozen=True, slots=True)
class Version:
    """All that belongs to one version of the policy; replaced as one, so that nothing of two versions meets.

    ``policy`` is None where a server decides; ``cache`` where nothing may be kept.
    """

    revision: str
    since: float
    plan: InputPlan
    policy: Policy | None
    cache: DecisionCache[Decision] | None


class Versions:
    """Keeps ``current`` as new as it can be. Without ``start`` there is no version, and nobody is let through."""

    current: Version

    def __init__(self, host: Host, name: str, config: OpaConfig) -> None:
        self._host = host
        self._name = name
        self._config = config
        self._engine: Engine | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._running: Policy | None = None
        self._unreachable = ""
        self._refused = ""
        self._activated = host.metrics.gauge(
            "llm_policy_version_timestamp_seconds", "When the running version of the policy began.", ("component",)
        )  # fmt: skip
        self._failures = host.metrics.counter(
            "llm_policy_update_failures_total", "Versions that were refused or could not be had.", ("component", "why")
        )  # fmt: skip

    async def start(self) -> None:
        """Gets the first version, and looks for newer ones from then on.

        Raises:
            PolicyFault, SourceFault, ConfigError: there is none that could run.
        """
        if self._config.server is not None:
            self.current = self._remote(self._config.server.url or f"unix://{self._config.server.socket}")
            return
        self._engine = engine(self._config.engine)
        source = self._source()
        await self._begin(source)
        self._watcher = self._host.spawn(self._watch(source), name=f"{self._name}:watch")

    async def stop(self) -> None:
        """Stops looking, and gives the policy back."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        if self._running is not None:
            self._running.close()

    def health(self) -> Health | None:
        """Degraded where the newest version is not the one that runs, or nobody looks for it."""
        if self._refused:
            return Health("degraded", f"the newest version of the policy is refused: {self._refused}")
        if self._unreachable:
            return Health("degraded", f"the policy cannot be looked for: {self._unreachable}")
        if self._watcher is not None and self._watcher.done():
            return Health("degraded", "the policy is not watched any more")
        return None

    def _remote(self, url: str) -> Version:
        # What a server says may change behind our back; whoever states a cache takes that for as long as `ttl_s`.
        stated = "cache" in self._config.model_fields_set
        plan = InputPlan(self._host, self._config.input, self._config.facts)
        return Version(url, self._host.clock.now(), plan, None, self._cache() if stated else None)

    def _source(self) -> Source:
        config = self._config
        if config.bundle_url is not None:
            return UrlSource(self._host, self._name, config.bundle_url)
        assert config.bundle is not None
        return PathSource(config.bundle, config.watch_s)

    def _cache(self) -> DecisionCache[Decision] | None:
        cache = self._config.cache
        return DecisionCache(cache.size, cache.ttl_s, self._host.clock.monotonic) if cache.size else None

    async def _begin(self, source: Source) -> None:
        """The newest version, or else what ran before this process."""
        try:
            bundle = await source.load()
            assert bundle is not None
            await self._activate(bundle)
            await self._keep(source)
        except (SourceFault, PolicyFault) as fault:
            kept = await source.kept()
            if kept is None:
                raise
            self._tell(fault)
            await self._activate(kept)

    async def _watch(self, source: Source) -> None:
        while True:
            await self._host.clock.sleep(source.wait_s)
            await self._refresh(source)

    async def _refresh(self, source: Source) -> None:
        """Looks for a newer version and activates it; what goes wrong is told, and the last good one stays."""
        try:
            bundle = await source.load()
            self._unreachable = ""
            if bundle is not None:
                await self._activate(bundle)
                self._refused = ""
                await self._keep(source)
        except (SourceFault, PolicyFault) as fault:
            self._tell(fault)

    async def _activate(self, bundle: Bundle) -> None:
        """Compiles ``bundle`` beside the running version, then puts it in its place.

        Raises:
            PolicyFault: it does not compile, or reads what it is not shown.
        """
        assert self._engine is not None
        policy = await asyncio.to_thread(_compiled, self._engine, bundle, self._config.package)
        if isinstance(policy, str):
            raise PolicyFault(policy)
        try:
            plan = InputPlan(self._host, self._config.input, self._config.facts, policy.reads)
        except PolicyFault:
            policy.close()
            raise
        _warm(policy)
        since = self._host.clock.now()
        self.current = Version(
            policy.revision, since, plan, policy, None if policy.volatile else self._cache()
        )
        before, self._running = self._running, policy
        if before is not None:
            before.close()
        self._activated.set(since, (self._name,))
        log.info("policy_activated component=%s revision=%s", self._name, policy.revision)

    async def _keep(self, source: Source) -> None:
        try:
            await source.keep()
        except OSError as error:
            log.warning("policy_not_kept component=%s error=%s", self._name, error.strerror)

    def _tell(self, fault: SourceFault | PolicyFault) -> None:
        detail = str(fault)[:_MAX_DETAIL]
        if isinstance(fault, PolicyFault):
            why, self._refused, self._unreachable = "refused", detail, ""
        else:
            why, self._unreachable = "unreachable", detail
        self._failures.inc((self._name, why))
        log.warning("policy_update_failed component=%s why=%s detail=%s", self._name, why, detail)


def _compiled(engine: Engine, bundle: Bundle, package: str) -> Policy | str:
    """The policy, or what is wrong with it: an error's traceback holds what only the thread that made it may free."""
    try:
        return engine.load(bundle, package)
    except PolicyFault as fault:
        return str(fault)


def _warm(policy: Policy) -> None:
    """Lets this thread's first question be nobody's: an engine may build something for each thread that asks."""
    with contextlib.suppress(Undecided):
        policy.decide(b"{}")
