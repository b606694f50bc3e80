"""The database of keys: SQLite or PostgreSQL. Every call has a deadline; every value is a bound parameter."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from lmg import ConfigError, ServiceError

from .records import Key, grant_of
from .schema import KEYS, META, migrate

__all__ = ["KeyStore", "LiveRow", "State", "StoreUnreachable", "url_of_file"]

POOL: Final = 4
BATCH: Final = 1_000
PREPARE_S: Final = 30.0
_LIVE: Final = (
    KEYS.c.id, KEYS.c.digest, KEYS.c.pepper, KEYS.c.subject, KEYS.c.tenant, KEYS.c.allows,
    KEYS.c.expires_at, KEYS.c.revoked_at, KEYS.c.revision,
)  # fmt: skip


class StoreUnreachable(ServiceError):
    """The database did not do what was asked; ``str(error)`` names the kind of the fault, and no value."""


@dataclass(frozen=True, slots=True)
class State:
    """Which database it is, and how many changes it has seen."""

    epoch: str
    revision: int


class LiveRow(NamedTuple):
    """What verification needs of a key."""

    id: str
    digest: str
    pepper: str
    subject: str
    tenant: str
    allows: str
    expires_at: float | None
    revoked_at: float | None
    revision: int

    def __repr__(self) -> str:
        return f"LiveRow({self.id})"


class KeyStore:
    """All that is asked of the database. Each method raises ``StoreUnreachable`` where it does not answer in time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._url, connect = _driver(url, timeout_s)
        place = (self._url.host, self._url.port, self._url.database)
        self.place = hashlib.sha256(repr(place).encode()).hexdigest()[:32]
        """Which database this is, without who asks."""
        self._engine: AsyncEngine = create_async_engine(
            self._url, pool_size=POOL, max_overflow=0, pool_timeout=timeout_s, pool_recycle=600,
            hide_parameters=True, connect_args=connect,
        )  # fmt: skip
        self._faults = _faults(self._url)

    def __repr__(self) -> str:
        return f"KeyStore({self._url.get_backend_name()})"

    async def prepare(self) -> None:
        """Creates the tables, or brings them to this release's version; processes that start together take turns."""
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            _private(self._url.database)
        async with self._call(PREPARE_S) as connection:
            await connection.run_sync(migrate)

    async def close(self) -> None:
        """Closes its connections, in bounded time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._engine.dispose()
        except self._faults:
            return

    @asynccontextmanager
    async def _call(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that is committed at the end."""
        try:
            async with asyncio.timeout(seconds or self._timeout_s), self._engine.begin() as connection:
                yield connection
        except self._faults as error:
            raise StoreUnreachable(
                f"the database of keys cannot be asked ({type(error).__name__})"
            ) from error

    # -- for verification -------------------------------------------------------------------------
    async def state(self) -> State:
        """Which database it is, and its revision: one small query."""
        async with self._call() as connection:
            row = (await connection.execute(sa.select(META.c.epoch, META.c.revision))).one()
        return State(row.epoch, row.revision)

    async def live(self, after: str, now: float, limit: int) -> list[LiveRow]:
        """The next keys that are good at ``now``, in the order of their ids."""
        query = (
            sa.select(*_LIVE)
            .where(KEYS.c.id > after, KEYS.c.revoked_at.is_(None), _unexpired(now))
            .order_by(KEYS.c.id)
            .limit(limit)
        )
        async with self._call() as connection:
            return [LiveRow._make(row) for row in await connection.execute(query)]

    async def changes(self, after: int, limit: int) -> list[LiveRow]:
        """The next keys that changed after revision ``after``, in the order of their changes."""
        query = sa.select(*_LIVE).where(KEYS.c.revision > after).order_by(KEYS.c.revision).limit(limit)
        async with self._call() as connection:
            return [LiveRow._make(row) for row in await connection.execute(query)]

    async def touch(self, used: Mapping[str, float]) -> None:
        """Writes when keys were last used; nobody is told of it as a change."""
        # In one order everywhere, or two replicas could wait for each other's rows.
        rows = [{"used": key_id, "at": used[key_id]} for key_id in sorted(used)]
        later = sa.or_(KEYS.c.last_used_at.is_(None), KEYS.c.last_used_at < sa.bindparam("at"))
        change = (
            sa.update(KEYS)
            .where(KEYS.c.id == sa.bindparam("used"), later)
            .values(last_used_at=sa.bindparam("at"))
        )
        for start in range(0, len(rows), BATCH):
            async with self._call() as connection:
                await connection.execute(change, rows[start : start + BATCH])

    # -- for operators ----------------------------------------------------------------------------
    async def get(self, key_id: str) -> Key | None:
        """One key, whatever became of it."""
        async with self._call() as connection:
            row = (await connection.execute(sa.select(KEYS).where(KEYS.c.id == key_id))).one_or_none()
        return None if row is None else _key(row)

    async def find(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        before: tuple[float, str] | None = None,
        limit: int,
    ) -> list[Key]:
        """The newest keys first; ``before`` (``created_at``, ``id``) goes on where a page ended."""
        query = sa.select(KEYS).order_by(KEYS.c.created_at.desc(), KEYS.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(KEYS.c.tenant == tenant)
        if subject is not None:
            query = query.where(KEYS.c.subject == subject)
        if before is not None:
            at, key_id = before
            same = sa.and_(KEYS.c.created_at == at, KEYS.c.id < key_id)
            query = query.where(sa.or_(KEYS.c.created_at < at, same))
        async with self._call() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def create(self, key: Key, max_keys: int) -> bool:
        """Adds a key; False where there are ``max_keys`` live ones already."""
        live = sa.select(sa.func.count()).where(KEYS.c.revoked_at.is_(None), _unexpired(key.created_at))
        async with self._call() as connection:
            revision = await _next_revision(connection)
            if (await connection.execute(live.select_from(KEYS))).scalar_one() >= max_keys:
                await connection.rollback()
                return False
            await connection.execute(sa.insert(KEYS).values(_row(key, revision)))
        return True

    async def rotate(self, old: str, key: Key, ends_at: float) -> bool:
        """Adds ``key`` in the place of ``old``, which is good until ``ends_at``; False where ``old`` is not live any more,
        or has been rotated by somebody else.
        """
        now = key.created_at
        async with self._call() as connection:
            revision = await _next_revision(connection)
            soonest = sa.case((KEYS.c.expires_at < ends_at, KEYS.c.expires_at), else_=ends_at)
            ending = (
                {"expires_at": soonest}
                if ends_at > now
                else {"revoked_at": now, "revoked_by": key.created_by}
            )
            changed = await connection.execute(
                sa.update(KEYS)
                .where(
                    KEYS.c.id == old,
                    KEYS.c.revoked_at.is_(None),
                    KEYS.c.rotated_to.is_(None),
                    _unexpired(now),
                )
                .values(rotated_to=key.id, revision=revision, **ending)
            )
            if changed.rowcount != 1:
                await connection.rollback()
                return False
            await connection.execute(sa.insert(KEYS).values(_row(key, await _next_revision(connection))))
        return True

    async def revoke(self, key_id: str, at: float, by: str) -> bool:
        """Ends a key for good; False where it was revoked before (or never was)."""
        async with self._call() as connection:
            revision = await _next_revision(connection)
            changed = await connection.execute(
                sa.update(KEYS)
                .where(KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None))
                .values(revoked_at=at, revoked_by=by, revision=revision)
            )
        return changed.rowcount == 1


async def _next_revision(connection: AsyncConnection) -> int:
    """Takes the lock that all changes take, so that they become visible in the order of their revisions."""
    change = sa.update(META).values(revision=META.c.revision + 1).returning(META.c.revision)
    return int((await connection.execute(change)).scalar_one())


def _unexpired(now: float) -> sa.ColumnElement[bool]:
    return sa.or_(KEYS.c.expires_at.is_(None), KEYS.c.expires_at > now)


def _row(key: Key, revision: int) -> dict[str, Any]:
    return {
        "id": key.id, "digest": key.digest.hex(), "pepper": key.pepper, "subject": key.grant.subject,
        "tenant": key.grant.tenant, "allows": key.grant.allows(), "created_at": key.created_at,
        "created_by": key.created_by, "expires_at": key.expires_at, "rotated_from": key.rotated_from,
        "revision": revision,
    }  # fmt: skip


def _key(row: sa.Row[Any]) -> Key:
    return Key(
        row.id, bytes.fromhex(row.digest), row.pepper, grant_of(row.subject, row.tenant, row.allows),
        row.created_at, row.created_by, row.expires_at, row.last_used_at, row.revoked_at, row.revoked_by,
        row.rotated_from, row.rotated_to,
    )  # fmt: skip


def url_of_file(path: Path) -> str:
    """The URL of an SQLite database in a file."""
    return sa.URL.create("sqlite", database=str(path.absolute())).render_as_string()


# -- drivers ----------------------------------------------------------------------------------------


def _driver(url: str, timeout_s: float) -> tuple[sa.URL, dict[str, Any]]:
    """The URL for SQLAlchemy's asynchronous drivers, and what each is told about waiting."""
    try:
        made = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError(
            "the URL of the database of keys cannot be read", path="auth_keys.database"
        ) from None
    if made.get_backend_name() == "sqlite":
        return made.set(drivername="sqlite+aiosqlite"), {"timeout": timeout_s}
    query = dict(made.query)
    if "sslmode" in query:  # as libpq calls it
        query["ssl"] = query.pop("sslmode")
    if find_spec("asyncpg") is None:
        raise ConfigError(
            "PostgreSQL needs the driver asyncpg",
            path="auth_keys.database",
            hint="pip install 'lmg-auth-keys[postgres]'",
        )
    named = {"application_name": "lmg-auth-keys"}
    connect = {"timeout": timeout_s, "command_timeout": timeout_s, "server_settings": named}
    return made.set(drivername="postgresql+asyncpg", query=query), connect


def _faults(url: sa.URL) -> tuple[type[Exception], ...]:
    """All that a database that is away, hangs or is not ours may raise."""
    common: tuple[type[Exception], ...] = (sa.exc.SQLAlchemyError, OSError, TimeoutError)
    if url.get_backend_name() == "sqlite":
        return common
    import asyncpg  # type: ignore[import-untyped]  # an extra, which SQLite does not need

    return (*common, asyncpg.PostgresError, asyncpg.InterfaceError)


def _private(path: str) -> None:
    """Creates the file so that nobody but us can read it; SQLite's own would follow the umask."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnreachable(f"the database of keys cannot be opened ({error.strerror})") from error
