"""What operators see of approvals, and how they decide: the routes under ``/admin/v1/<component>/approvals``."""

from __future__ import annotations

from typing import Any, Final

from lmg import AdminCall, AdminRoute, Principal, Refusal
from lmg.admin import ADMIN
from lmg.telemetry import Counter

from .approvals import Approval, Approvals, NotDecided

__all__ = ["Admin"]

_STATUS: Final = {"unknown": 404, "own": 403, "decided": 409, "expired": 409}
_CODE: Final = {
    "unknown": "no_such_approval", "own": "own_request", "decided": "already_decided", "expired": "approval_expired",
}  # fmt: skip


class Admin:
    """``GET approvals`` (``?standing=pending``), ``GET approvals/{id}``, ``POST approvals/{id}/grant`` and ``deny``.

    Without the scope ``admin`` itself an operator sees and decides about their own tenant alone. A store that is away
    is the kernel's 503.
    """

    def __init__(self, approvals: Approvals, outcomes: Counter, name: str) -> None:
        self._approvals = approvals
        self._outcomes = outcomes
        self._name = name

    def routes(self) -> list[AdminRoute]:
        """The routes of the component."""
        return [
            AdminRoute("GET", "approvals", self._list),
            AdminRoute("GET", "approvals/{id}", self._show),
            AdminRoute("POST", "approvals/{id}/grant", self._grant),
            AdminRoute("POST", "approvals/{id}/deny", self._deny),
        ]

    async def _list(self, call: AdminCall) -> dict[str, Any]:
        wanted = call.query.get("standing")
        found = [
            _shown(one, text=False)
            for one in await self._approvals.all()
            if _may_see(call.principal, one) and (wanted is None or one.standing == wanted)
        ]
        return {"approvals": found}

    async def _show(self, call: AdminCall) -> dict[str, Any]:
        return {"approvals": [_shown(await self._found(call), text=True)]}

    async def _grant(self, call: AdminCall) -> dict[str, Any]:
        return await self._decide(call, grant=True)

    async def _deny(self, call: AdminCall) -> dict[str, Any]:
        return await self._decide(call, grant=False)

    async def _decide(self, call: AdminCall, *, grant: bool) -> dict[str, Any]:
        found = await self._found(call)
        try:
            decided = await self._approvals.decide(found.id, call.principal, grant=grant)
        except NotDecided as error:
            raise Refusal(_STATUS[error.code], _CODE[error.code], f"Not decided: {error}.") from error
        self._outcomes.inc((self._name, "granted" if grant else "denied"))
        return {"approvals": [_shown(decided, text=False)]}

    async def _found(self, call: AdminCall) -> Approval:
        found = await self._approvals.find(call.params["id"][:64])
        if found is None or not _may_see(call.principal, found):
            raise Refusal(404, "no_such_approval", "There is no such approval.")
        return found


def _may_see(who: Principal, approval: Approval) -> bool:
    scopes = who.scopes
    return ADMIN in scopes or who.tenant == approval.request.tenant


def _shown(one: Approval, *, text: bool) -> dict[str, Any]:
    request = one.request
    shown = {key: value for key, value in one.shown.items() if text or key != "text"}
    return {
        "id": one.id,
        "standing": one.standing,
        "at": one.at,
        "expires_at": one.expires_at,
        "tenant": request.tenant,
        "subject": request.subject,
        "issuer": request.issuer,
        "model": request.model,
        "operation": request.operation,
        "decided_by": one.decided_by,
        "decided_at": one.decided_at,
        **shown,
    }
