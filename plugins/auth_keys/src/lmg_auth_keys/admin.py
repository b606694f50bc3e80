"""What operators do with keys over HTTP: the routes under ``/admin/v1/auth_keys/``.

The scope ``admin`` reaches all keys; with ``admin:auth_keys`` one sees and touches the keys of one's own tenant, and
grants nothing that one does not hold oneself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lmg import AdminCall, AdminRoute, Principal, Refusal, ServiceError
from lmg.admin import ADMIN, check_grant
from lmg.exchange import Operation
from lmg.host import Clock

from .issuing import Issuing, no_such_key
from .key_text import ID_DIGITS
from .records import Grant, Key
from .store import KeyStore

__all__ = ["Admin", "Create", "Rotate"]

MAX_PAGE: Final = 1_000
LONGEST_S: Final = 100 * 365 * 86_400.0
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Names = Annotated[list[Name], Field(max_length=256)]
Handler = Callable[[AdminCall], Awaitable[dict[str, Any]]]


class Create(BaseModel):
    """All that may be written of a new key."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    subject: Name
    tenant: Name | None = None
    roles: Names = Field(default_factory=list)
    scopes: Names = Field(default_factory=list)
    models: Names | None = None
    operations: Annotated[list[Operation], Field(max_length=16)] | None = None
    budget_class: Annotated[str, StringConstraints(max_length=256)] | None = None
    attributes: Annotated[dict[Name, Name | Names], Field(max_length=64)] = Field(default_factory=dict)
    expires_in_s: float | None = Field(None, gt=0, le=LONGEST_S)

    def grant(self, tenant: str, budget_class: str) -> Grant:
        """What is granted, where the tenant and the class are not named: these."""
        return Grant(
            self.subject,
            self.tenant or tenant,
            tuple(self.roles),
            tuple(self.scopes),
            None if self.models is None else tuple(self.models),
            None if self.operations is None else tuple(self.operations),
            budget_class if self.budget_class is None else self.budget_class,
            {name: one if isinstance(one, str) else tuple(one) for name, one in self.attributes.items()},
        )


class Rotate(BaseModel):
    """How the old key ends, and the new one."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    grace_s: float | None = Field(None, ge=0, le=LONGEST_S)
    expires_in_s: float | None = Field(None, gt=0, le=LONGEST_S)


class Admin:
    """The handlers. After a change this process polls at once; others do within ``poll_s``."""

    def __init__(
        self,
        store: KeyStore,
        issuing: Issuing,
        poll: Callable[[], Awaitable[None]],
        clock: Clock,
        grace_s: float,
    ) -> None:
        self._store, self._issuing, self._poll = store, issuing, poll
        self._clock, self._grace_s = clock, grace_s

    def routes(self) -> list[AdminRoute]:
        """The routes of the component."""
        return [
            AdminRoute("GET", "keys", _answered(self.find)),
            AdminRoute("POST", "keys", _answered(self.create), Create),
            AdminRoute("GET", "keys/{id}", _answered(self.show)),
            AdminRoute("POST", "keys/{id}/rotate", _answered(self.rotate), Rotate),
            AdminRoute("DELETE", "keys/{id}", _answered(self.revoke)),
        ]

    async def find(self, call: AdminCall) -> dict[str, Any]:
        """``?tenant= &subject= &limit= &before=`` (the ``next`` of the page before): the newest first, never a digest."""
        query, own = call.query, _own_tenant(call.principal)
        tenant = query.get("tenant") or own
        if own is not None and tenant != own:
            return {"keys": [], "next": None}
        limit = _limit(query.get("limit", "100"))
        found = await self._store.find(
            tenant=tenant, subject=query.get("subject"), before=_place(query.get("before")), limit=limit
        )
        now = self._clock.now()
        following = f"{found[-1].created_at!r}_{found[-1].id}" if len(found) == limit else None
        return {"keys": [key.shown(now) for key in found], "next": following}

    async def show(self, call: AdminCall) -> dict[str, Any]:
        """One key."""
        return (await self._within_reach(call)).shown(self._clock.now())

    async def create(self, call: AdminCall) -> dict[str, Any]:
        """A new key: the only answer, with that of ``rotate``, that holds its text."""
        asked: Create = call.body
        grant = asked.grant(call.principal.tenant, call.principal.budget_class)
        _check(call.principal, grant)
        text, key = await self._issuing.create(grant, _actor(call.principal), asked.expires_in_s)
        return await self._changed(key, text)

    async def rotate(self, call: AdminCall) -> dict[str, Any]:
        """Another key in the place of one; the caller gets what it grants, so must hold it."""
        old, asked = await self._within_reach(call), call.body
        _check(call.principal, old.grant)
        grace_s = self._grace_s if asked.grace_s is None else asked.grace_s
        text, key = await self._issuing.rotate(old.id, _actor(call.principal), grace_s, asked.expires_in_s)
        return await self._changed(key, text)

    async def revoke(self, call: AdminCall) -> dict[str, Any]:
        """Ends a key for good."""
        key = await self._within_reach(call)
        return await self._changed(await self._issuing.revoke(key.id, _actor(call.principal)))

    async def _changed(self, key: Key, text: str | None = None) -> dict[str, Any]:
        with suppress(ServiceError):  # it is done; if the database leaves now, the next poll will see it
            await self._poll()
        shown = key.shown(self._clock.now())
        return shown if text is None else {"key": text, **shown}

    async def _within_reach(self, call: AdminCall) -> Key:
        """The key that the path names; that of another tenant does not exist."""
        key_id = call.params["id"]
        if len(key_id) != ID_DIGITS or not key_id.isascii() or not key_id.isalnum():
            raise no_such_key()
        key = await self._issuing.get(key_id)
        own = _own_tenant(call.principal)
        if own is not None and key.grant.tenant != own:
            raise no_such_key()
        return key


def _answered(handler: Handler) -> Handler:
    """``handler``, with a 503 where the database is away."""

    async def answer(call: AdminCall) -> dict[str, Any]:
        try:
            return await handler(call)
        except ServiceError as error:
            raise Refusal(
                503, "store_unreachable", "The database of keys cannot be asked; what became of a change is not known.",
                type="server_error", reason=str(error),
            ) from error  # fmt: skip

    return answer


def _own_tenant(principal: Principal) -> str | None:
    """The only tenant whose keys the caller may see; None for all."""
    return None if ADMIN in principal.scopes else principal.tenant


def _actor(principal: Principal) -> str:
    return f"{principal.tenant}/{principal.subject}"


def _check(holder: Principal, grant: Grant) -> None:
    check_grant(
        holder, tenant=grant.tenant, scopes=grant.scopes, roles=grant.roles, models=grant.models,
        operations=grant.operations, attributes=grant.attributes, budget_class=grant.budget_class,
    )  # fmt: skip


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= MAX_PAGE:
        raise Refusal(400, "invalid_request", f"limit is a number from 1 to {MAX_PAGE}.", param="limit")
    return int(text)


def _place(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    at, _, key_id = text.partition("_")
    try:
        return float(at), key_id[:ID_DIGITS]
    except ValueError:
        raise Refusal(400, "invalid_request", "before is the next of another page.", param="before") from None
