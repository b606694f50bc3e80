"""A key as the database has it and as operators see it: whose it is, what it grants, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from lmg import Principal

__all__ = ["Grant", "Key", "Status", "principal_of"]

Status = Literal["live", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Grant:
    """Who calls with a key, and what it allows. None of ``models`` and ``operations`` allows all."""

    subject: str
    tenant: str = "default"
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    budget_class: str = ""
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)

    def allows(self) -> str:
        """All but whose it is, as the JSON that is stored."""
        return orjson.dumps(
            {
                "roles": self.roles, "scopes": self.scopes, "models": self.models, "operations": self.operations,
                "budget_class": self.budget_class, "attributes": self.attributes,
            }
        ).decode()  # fmt: skip


def grant_of(subject: str, tenant: str, allows: str) -> Grant:
    """The reverse of ``Grant.allows``."""
    read = orjson.loads(allows)
    models, operations = read["models"], read["operations"]
    return Grant(
        subject,
        tenant,
        tuple(read["roles"]),
        tuple(read["scopes"]),
        None if models is None else tuple(models),
        None if operations is None else tuple(operations),
        read["budget_class"],
        {name: one if isinstance(one, str) else tuple(one) for name, one in read["attributes"].items()},
    )


def principal_of(grant: Grant, key_id: str, expires_at: float | None, issuer: str) -> Principal:
    """Who calls with a key."""
    return Principal(
        grant.subject,
        grant.tenant,
        frozenset(grant.roles),
        scopes=frozenset(grant.scopes),
        models=None if grant.models is None else frozenset(grant.models),
        issuer=issuer,
        key_id=key_id,
        expires_at=expires_at,
        operations=None if grant.operations is None else frozenset(grant.operations),
        budget_class=grant.budget_class,
        attributes=grant.attributes,
    )


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Times are seconds since the epoch; ``digest`` is its HMAC under ``pepper``, never shown."""

    id: str
    digest: bytes = field(repr=False)
    pepper: str
    grant: Grant
    created_at: float
    created_by: str
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None
    rotated_from: str | None = None
    rotated_to: str | None = None

    def status(self, now: float) -> Status:
        """What it is worth at ``now``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"

    def shown(self, now: float) -> dict[str, Any]:
        """What operators see: all but the digest."""
        grant = self.grant
        return {
            "id": self.id, "status": self.status(now), "subject": grant.subject, "tenant": grant.tenant,
            "roles": list(grant.roles), "scopes": list(grant.scopes),
            "models": None if grant.models is None else list(grant.models),
            "operations": None if grant.operations is None else list(grant.operations),
            "budget_class": grant.budget_class, "attributes": dict(grant.attributes),
            "created_at": self.created_at, "created_by": self.created_by, "expires_at": self.expires_at,
            "last_used_at": self.last_used_at, "revoked_at": self.revoked_at, "revoked_by": self.revoked_by,
            "rotated_from": self.rotated_from, "rotated_to": self.rotated_to,
        }  # fmt: skip
