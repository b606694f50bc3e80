"""`auth_keys`: a caller is who the key says that this gateway has issued."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, Final

from lmg import AdminRoute, Component, ConfigError, Deny, Exchange, Health, Host, ServiceError
from lmg.component import Facts
from lmg.credentials import credential_of
from lmg.readonly import NotExplained

from .admin import Admin
from .config import AuthKeysConfig
from .directory import Directory, Entry
from .follower import Follower
from .issuing import Issuing
from .key_text import PREFIX
from .snapshot import Snapshot, SnapshotRefused
from .store import KeyStore, StoreUnreachable, url_of_file
from .tending import Tending
from .usage import Usage
from .verification import UNKNOWN, Refused, Verifier

__all__ = ["AuthKeys", "database_of"]

log = logging.getLogger("lmg.auth_keys")

_CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)


@dataclass(frozen=True, slots=True)
class _Running:
    """What there is between ``start`` and ``stop``."""

    store: KeyStore
    follower: Follower
    usage: Usage
    snapshot: Snapshot | None
    tending: Tending
    tasks: list[asyncio.Task[None]]


class AuthKeys(Component):
    """Authenticates callers by keys from its database, which it follows: a known key waits for nothing.

    A credential that starts with ``lmg_`` is this component's to judge: it is a live key, or the exchange ends with
    401. Any other is left to the authenticators around it. Where the database has been away for longer than
    ``max_stale_s``, nobody can know which keys are still good: 503.
    """

    Config = AuthKeysConfig
    summary = "callers authenticate with keys that the gateway issues, rotates and revokes"
    stability = "beta"
    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    modes = frozenset({"enforce", "off"})
    config: AuthKeysConfig

    def __init__(self, config: AuthKeysConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self.random = SystemRandom()
        self._peppers = config.peppers
        self._directory = Directory(config.max_keys)
        self._verifier = Verifier(self._directory, self._peppers)
        self._running: _Running | None = None
        metrics = host.metrics
        self._requests = metrics.counter(
            "llm_auth_keys_requests_total",
            "Requests with a key of the gateway, by what was found.",
            ("result",),
        )
        self._store_errors = metrics.counter(
            "llm_auth_keys_store_errors_total", "Polls of the database of keys that failed."
        )

    # -- life -------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Reads all keys: from the database, or, where it is away, from the signed snapshot of an earlier run."""
        folder = self.host.state_dir if self.host.keeps_state else None
        url = database_of(self.config, folder, self.name)
        store = KeyStore(url, self.config.timeout_s)
        follower = Follower(store, self._directory, self.host.clock, self._store_errors.inc)
        snapshot = self._snapshot(store)
        usage = Usage(store, self.config.max_keys)
        tending = Tending(self.host, self._directory, self._peppers, follower, usage, snapshot)
        self._running = running = _Running(store, follower, usage, snapshot, tending, [])
        if self.host.reads_only:
            self._read_only(running)
            return
        try:
            await follower.poll()
        except StoreUnreachable as error:
            await self._without_database(running, error)
        if self._directory.left_out:
            raise ConfigError(
                f"there are more than {self.config.max_keys} live keys",
                path=f"{self.name}.max_keys",
                hint="raise it",
            )
        await tending.sweep()
        for work, name in ((follower.follow(self.config.poll_s), "follow"), (tending.run(), "tend")):
            running.tasks.append(self.host.spawn(work, name=f"{self.name}:{name}"))

    async def stop(self) -> None:
        """Writes what waits, and closes the database."""
        running = self._running
        if running is None:
            return
        for task in running.tasks:
            task.cancel()
        await asyncio.gather(*running.tasks, running.follower.stop(), return_exceptions=True)
        if running.tasks:
            await running.tending.finish()
        await running.store.close()

    def _snapshot(self, store: KeyStore) -> Snapshot | None:
        folder = self.host.state_dir
        if folder is None:
            log.warning("auth_keys_without_snapshot hint=set server.state_dir")
            return None
        return Snapshot(folder / f"{_file_name(self.name)}.snapshot", store.place, self._peppers)

    async def _without_database(self, running: _Running, error: StoreUnreachable) -> None:
        if running.snapshot is None:
            raise ServiceError(f"{error}, and there is no snapshot to start from") from error
        try:
            taken = await asyncio.to_thread(running.snapshot.load)
            running.follower.begin_with(taken)
        except ServiceError as refused:
            raise ServiceError(f"{error}; {refused}") from refused
        log.warning("auth_keys_from_snapshot keys=%d age_s=%d", len(taken.entries), running.follower.age_s())

    def _read_only(self, running: _Running) -> None:
        """For `explain`: the last snapshot, and no database."""
        try:
            if running.snapshot is None:
                raise SnapshotRefused("there is no server.state_dir")
            running.follower.begin_with(running.snapshot.load())
        except ServiceError as error:
            raise NotExplained(f"its keys are in a database, and {error}") from error

    # -- the way of a request -----------------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        """Puts ``principal`` where the credential is a live key; refuses it where it only looks like one."""
        credential = credential_of(exchange.head)
        if credential is None or exchange.principal is not None or not credential.startswith(PREFIX):
            return None
        running = self._running
        if running is None or running.follower.age_s() > self.config.max_stale_s:
            return self._unavailable()
        found = self._verifier.verify(credential, self.host.clock.now())
        if found is UNKNOWN and running.follower.may_know_more():
            return self._asked(exchange, credential, running)
        return self._judged(exchange, found, running)

    async def _asked(self, exchange: Exchange, credential: str, running: _Running) -> Deny | None:
        """Whoever has just been given a key may come to a replica that has not heard of it."""
        await running.follower.ask()
        return self._judged(exchange, self._verifier.verify(credential, self.host.clock.now()), running)

    def _judged(self, exchange: Exchange, found: Entry | Refused, running: _Running) -> Deny | None:
        if isinstance(found, Refused):
            return self._refused(found)
        running.usage.note(found, self.host.clock.now())
        self._requests.inc(("accepted",))
        exchange.set_fact("principal", found.principal(self.name))
        return None

    def _refused(self, why: Refused) -> Deny:
        self._requests.inc((why.result,))
        # One text for all: nobody learns from it which keys there are, or were.
        return Deny(401, "invalid_api_key", "The credential is not valid.", str(why), headers=_CHALLENGE)

    def _unavailable(self) -> Deny:
        self._requests.inc(("unavailable",))
        return Deny(
            503, "auth_unavailable", "Callers cannot be authenticated at the moment.",
            "the database has been away for longer than max_stale_s", "server_error",
            headers=((b"retry-after", str(math.ceil(self.config.poll_s)).encode()),),
        )  # fmt: skip

    # -- for operators ------------------------------------------------------------------------------
    def health(self) -> Health | None:
        """Whether the database answers, and the keys in memory can be relied on."""
        running = self._running
        if running is None:
            return Health("failed", "not started")
        age = running.follower.age_s()
        if age > self.config.max_stale_s:
            return Health("failed", f"the database has been away for {age:.0f} s: keys are refused")
        if running.follower.away:
            return Health("degraded", f"the database is away; the keys in memory are {age:.0f} s old")
        if self._directory.left_out:
            return Health("degraded", f"{self._directory.left_out} keys had no room (max_keys)")
        if running.tending.unverifiable:
            return Health(
                "degraded",
                f"{running.tending.unverifiable} keys were hashed with a pepper that is not configured",
            )
        return None

    def admin_routes(self) -> list[AdminRoute]:
        """Routes under ``/admin/v1/auth_keys/``."""
        running = self._running
        if running is None:
            return []
        issuing = Issuing(
            running.store, self._peppers, self.host.clock, self.random, max_keys=self.config.max_keys
        )
        return Admin(
            running.store, issuing, running.follower.poll, self.host.clock, self.config.grace_s
        ).routes()


def database_of(config: AuthKeysConfig, state_dir: Path | None, name: str) -> str:
    """The URL of the database.

    Raises:
        ConfigError: neither a database nor a folder for one is configured.
    """
    if config.database is not None:
        return config.database.get_secret_value()
    if state_dir is None:
        raise ConfigError(
            "keys need a place to be kept in", path=name, hint="set database, or server.state_dir"
        )
    return url_of_file(state_dir / f"{_file_name(name)}.sqlite")


def _file_name(name: str) -> str:
    return name.replace("/", "-")
