"""The tables, and how they came to be: each release adds a step, and the first process to start runs what is missing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from lmg import ServiceError

__all__ = ["KEYS", "META", "migrate"]

_TABLES: Final = sa.MetaData()

META: Final = sa.Table(
    "lmg_auth_keys_meta",
    _TABLES,
    sa.Column("version", sa.Integer, nullable=False),
    # Another one tells a gateway that this is another database (a new one, a restored one is told by its revision).
    sa.Column("epoch", sa.String(32), nullable=False),
    # Rises with every change, under this row's lock: whoever has seen revision n has seen every change up to n.
    sa.Column("revision", sa.BigInteger, nullable=False),
)
KEYS: Final = sa.Table(
    "lmg_auth_keys",
    _TABLES,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("pepper", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(256), nullable=False),
    sa.Column("tenant", sa.String(256), nullable=False),
    sa.Column("allows", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.String(600), nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("last_used_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("revoked_by", sa.String(600)),
    sa.Column("rotated_from", sa.String(12)),
    sa.Column("rotated_to", sa.String(12)),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("lmg_auth_keys_revision", "revision"),
    sa.Index("lmg_auth_keys_created", "created_at", "id"),
    sa.Index("lmg_auth_keys_tenant", "tenant", "created_at", "id"),
)
_LOCK: Final = 0x6C6D676B  # "lmgk": the number under which our processes take turns at a PostgreSQL server


def _first(connection: sa.Connection) -> None:
    _TABLES.create_all(connection)
    connection.execute(sa.insert(META).values(version=0, epoch=uuid.uuid4().hex, revision=0))


STEPS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_first,)
"""Step n makes version n + 1 of version n. A released step is never edited."""


def migrate(connection: sa.Connection) -> None:
    """Brings the tables to this release's version, in one transaction, one process at a time.

    Raises:
        ServiceError: a newer release has been here.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = 0
    if sa.inspect(connection).has_table(META.name):
        found = connection.execute(sa.select(META.c.version)).scalar_one()
    if found > len(STEPS):
        raise ServiceError(
            f"the tables have version {found}, this release knows {len(STEPS)}: update lmg-auth-keys"
        )
    for step in STEPS[found:]:
        step(connection)
    if found < len(STEPS):
        connection.execute(sa.update(META).values(version=len(STEPS)))
