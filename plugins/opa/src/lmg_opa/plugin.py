"""The component `opa`: asks a policy in Rego about each exchange, and binds it to what the policy says."""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lmg import AdminCall, AdminRoute, Component, ConfigError, Deny, Health, Refusal
from lmg.admin import AdminRequest
from lmg.component import Facts
from lmg.readonly import NotExplained

from .config import OpaConfig
from .decision_log import Decided, DecisionLog
from .decisions import TOO_LARGE, Decision, decision_of, policy_denied, unavailable
from .engine import PolicyFault, RemotePolicy, Ruling, Undecided
from .engines.server import OpaServerPolicy
from .obligations import NONE, ObligationFault, bind
from .sources import SourceFault
from .versions import Version, Versions

if TYPE_CHECKING:
    from lmg import Exchange, Host

__all__ = ["Opa"]

LONG_KEY: Final = 512
"""Inputs that are longer are kept by their digest."""
BUCKETS: Final = (0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 1.0)


class Opa(Component):
    """Refuses what a policy in Rego does not allow, and binds what it allows: providers, regions, caps, redaction, tags.

    Fail-closed: whoever cannot be judged is refused. A new version of a bundle runs once it compiles; until then, and where
    it does not, the last good one goes on.
    """

    Config = OpaConfig
    summary = "Policies in Rego: in process, or on an OPA server"
    uses: ClassVar[Facts] = {"on_request": ("principal",)}

    def __init__(self, config: OpaConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.config: OpaConfig = config
        self.versions = Versions(host, name, config)
        self.log = DecisionLog(host, name, config.path, config.decision_log) if config.decision_log else None
        self._remote: RemotePolicy | None = None
        self._max_bytes = config.input.max_bytes
        if config.server is not None:
            # So that its own deadline ends a question, whatever `timeout_ms` says: past that one `on_error: allow` would let it pass.
            self.max_wait_s = config.deadline_ms / 1000
        metrics = host.metrics
        self._decisions = metrics.counter(
            "llm_policy_decisions_total", "Decisions of policies, by outcome.", ("component", "outcome")
        )
        self._hits = metrics.counter(
            "llm_policy_cache_hits_total", "Decisions that had been made before.", ("component",)
        )
        self._seconds = metrics.histogram(
            "llm_policy_decision_seconds", "What a decision took that was not cached.", ("component",), buckets=BUCKETS
        )  # fmt: skip
        self._dropped = metrics.counter(
            "llm_policy_log_dropped_total", "Decisions that the decision log had no room for.", ("component",)
        )  # fmt: skip

    @classmethod
    def required(cls, config: Any) -> Facts:
        """The body, unless the policy shall not see it."""
        return {"on_request": ("body",)} if config.input.body else {}

    @classmethod
    def used(cls, config: Any) -> Facts:
        """The principal, and what of the guards the policy is shown."""
        return {"on_request": ("principal", *config.facts)}

    async def start(self) -> None:
        """Gets and compiles the policy; one that does not compile stops the start.

        Raises:
            ConfigError: with the file and line; or the decision log cannot be written.
        """
        server = self.config.server
        if server is not None:
            token = server.token.get_secret_value() if server.token is not None else ""
            url = server.url or f"unix://{server.socket}"
            self._remote = OpaServerPolicy(url, package=self.config.package, token=token)
        try:
            await self.versions.start()
            if self.log is not None:
                await self.log.start()
        except (PolicyFault, SourceFault) as fault:
            raise ConfigError(f"'{self.name}': {fault}", path="pipeline") from fault
        except OSError as error:
            what = f"'{self.name}': decision_log: {error.strerror}: {error.filename}"
            raise ConfigError(what, path="pipeline") from error

    async def stop(self) -> None:
        """Stops looking for versions, writes what waits for the decision log, and gives the policy back."""
        await self.versions.stop()
        if self.log is not None:
            await self.log.stop()
        if self._remote is not None:
            await self._remote.close()

    # -- exchanges ----------------------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        """Refuses the exchange, or binds it. Plain in process; a server is awaited."""
        version = self.versions.current
        document = version.plan.encode(exchange)
        if len(document) > self._max_bytes:
            self._decisions.inc((self.name, "too_large"))
            return TOO_LARGE
        cache, key = version.cache, b""
        if cache is not None:
            key = document if len(document) <= LONG_KEY else hashlib.sha256(document).digest()
            decision = cache.get(key)
            if decision is not None:
                self._hits.inc((self.name,))
                return self._carried_out(exchange, version, document, decision, None)
        if version.policy is None:
            return self._asked(exchange, version, document, key)
        monotonic = self.host.clock.monotonic
        started = monotonic()
        try:
            decision = decision_of(version.policy.decide(document), show_reasons=self.config.show_reasons)
        except Undecided as undecided:
            if undecided.code != "undefined":
                return self._undecided(exchange, version, document, undecided, monotonic() - started)
            # In Rego a rule that is undefined has not been met. (Of a server's it may as well have no such policy.)
            decision = Decision(Ruling(False), deny=policy_denied(["undefined"]))
        took_s = monotonic() - started
        if cache is not None:
            cache.put(key, decision)
        return self._carried_out(exchange, version, document, decision, took_s)

    async def _asked(self, exchange: Exchange, version: Version, document: bytes, key: bytes) -> Deny | None:
        assert self._remote is not None
        if not self.host.connects:
            raise NotExplained("it would ask the OPA server")
        monotonic = self.host.clock.monotonic
        started = monotonic()
        try:
            ruling = await self._remote.decide(document, self.config.deadline_ms / 1000)
        except Undecided as undecided:
            return self._undecided(exchange, version, document, undecided, monotonic() - started)
        decision = decision_of(ruling, show_reasons=self.config.show_reasons)
        if version.cache is not None:
            version.cache.put(key, decision)
        return self._carried_out(exchange, version, document, decision, monotonic() - started)

    def _carried_out(
        self, exchange: Exchange, version: Version, document: bytes, decision: Decision, took_s: float | None
    ) -> Deny | None:
        deny, outcome = decision.deny, "deny"
        try:
            if deny is None:
                deny, outcome = self._bound(exchange, decision)
        except Refusal:
            # The kernel refuses in our name: nothing below carries this obligation out.
            self._record(exchange, version, document, decision.ruling, "", "unmet", took_s)
            raise
        self._record(exchange, version, document, decision.ruling, "", outcome, took_s)
        return deny

    def _bound(self, exchange: Exchange, decision: Decision) -> tuple[Deny | None, str]:
        if decision.obligations is NONE:
            return None, "allow"
        if isinstance(exchange.fact("admin"), AdminRequest):
            return policy_denied(["obligation_on_admin_call"]), "unmet"
        try:
            bind(exchange, self, decision.obligations)
        except ObligationFault as fault:
            return policy_denied([str(fault)]), "unmet"
        return None, "allow"

    def _undecided(
        self, exchange: Exchange, version: Version, document: bytes, undecided: Undecided, took_s: float
    ) -> Deny:
        self._record(exchange, version, document, None, undecided.code, "unavailable", took_s)
        return unavailable(undecided)

    def _record(
        self,
        exchange: Exchange,
        version: Version,
        document: bytes,
        ruling: Ruling | None,
        code: str,
        outcome: str,
        took_s: float | None,
    ) -> None:
        self._decisions.inc((self.name, outcome))
        if took_s is not None:
            self._seconds.observe(took_s, (self.name,))
        if self.log is not None:
            now, address = self.host.clock.now(), exchange.head.client
            decided = Decided(
                now, exchange.id, address, version.revision, document, ruling, code, outcome, took_s
            )
            if not self.log.add(decided):
                self._dropped.inc((self.name,))

    # -- for operators ------------------------------------------------------------------------------
    def health(self) -> Health | None:
        """Degraded where the newest version does not run, or decisions could not be logged."""
        if self.log is not None and self.log.failing:
            return Health("degraded", "the decision log cannot be written")
        return self.versions.health()

    def admin_routes(self) -> list[AdminRoute]:
        """``GET /admin/v1/<name>``: which version runs."""
        return [AdminRoute("GET", "", self._status)]

    async def _status(self, call: AdminCall) -> Any:
        version = self.versions.current
        return {
            "revision": version.revision,
            "since": version.since,
            "package": self.config.package,
            "reads": version.policy.reads if version.policy is not None else None,
            "cached": len(version.cache) if version.cache is not None else None,
            "log_dropped": self.log.dropped if self.log is not None else None,
        }
