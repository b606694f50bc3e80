"""The admin API's words: what a component offers under ``/admin/v1/``, what its handlers are given, and what is audited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from .errors import Refusal
from .records import Principal

__all__ = ["ADMIN", "AdminCall", "AdminRequest", "AdminRoute", "AuditEvent", "check_grant", "holds"]

ADMIN: Final = "admin"
"""The scope of operators who may do everything."""

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class AdminCall:
    """One call of an admin route. ``body`` is an instance of the route's model, or None where it has none; ``params``
    are the parts of the path that the route names.
    """

    principal: Principal
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """``METHOD /admin/v1/<component>/<path>``, where ``{name}`` in ``path`` stands for one part of it.

    ``body`` is the model of what a caller may write: its fields are all there are, unknown ones are refused. A route
    without one takes no body. What the handler returns is sent as JSON; a ``Refusal`` that it raises is an error.
    """

    method: Method
    path: str
    handler: Callable[[AdminCall], Awaitable[Any]]
    body: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """The fact ``admin`` on the exchange of an admin call, for policies: what is asked, and who has approved it.

    ``change`` names this very change by its actor, method, path and body; empty where nothing would change.
    """

    method: str
    component: str
    route: str
    params: Mapping[str, str]
    change: str = ""
    approvers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that an operator did, or tried: emitted for every call that would change something.

    ``at`` is seconds since the epoch, ``action`` the method and the route (``POST keys``), ``resource`` the path.
    ``outcome`` tells whether it happened; ``code`` why not. No field holds a secret.
    """

    at: float
    actor: str
    tenant: str
    action: str
    resource: str
    outcome: Literal["success", "denied", "failed"]
    code: str = ""
    request_id: str = ""
    source: str = ""
    approvers: tuple[str, ...] = ()


def holds(principal: Principal, component: str, method: str) -> bool:
    """Whether a caller may call ``component``'s admin routes at all: with the scope ``admin``, ``admin:<component>``, or,
    to read, ``admin:read``.
    """
    scopes = principal.scopes
    return ADMIN in scopes or f"admin:{component}" in scopes or (method == "GET" and "admin:read" in scopes)


def check_grant(
    holder: Principal,
    *,
    tenant: str | None = None,
    scopes: Collection[str] = (),
    roles: Collection[str] = (),
    models: Collection[str] | None = None,
    operations: Collection[str] | None = None,
    attributes: Mapping[str, str | tuple[str, ...]] | None = None,
    budget_class: str | None = None,
) -> None:
    """Nobody grants what they do not hold. The scope ``admin`` holds everything.

    ``models`` and ``operations`` None means that the grant is for all of them, ``tenant`` and ``budget_class`` None that it
    says nothing of them.

    Raises:
        Refusal: 403 that names the member of the grant, never more of what the holder lacks.
    """
    if ADMIN in holder.scopes:
        return
    wide = [
        name
        for name, beyond in (
            ("tenant", tenant is not None and tenant != holder.tenant),
            ("scopes", not holder.scopes.issuperset(scopes)),
            ("roles", not holder.roles.issuperset(roles)),
            ("models", holder.models is not None and not _within(models, holder)),
            (
                "operations",
                holder.operations is not None
                and (operations is None or not holder.operations.issuperset(operations)),
            ),
            ("attributes", not _values(attributes or {}) <= _values(holder.attributes)),
            ("budget_class", budget_class is not None and budget_class != holder.budget_class),
        )
        if beyond
    ]
    if wide:
        raise Refusal(
            403, "grant_exceeds_own", f"You cannot grant what you do not hold: {', '.join(wide)}.", param=wide[0]
        )  # fmt: skip


def _values(attributes: Mapping[str, str | tuple[str, ...]]) -> set[tuple[str, str]]:
    return {
        (name, value)
        for name, values in attributes.items()
        for value in ((values,) if isinstance(values, str) else values)
    }


def _within(models: Collection[str] | None, holder: Principal) -> bool:
    """A pattern is only granted by whoever holds that very pattern, or the one for all."""
    held = holder.models or frozenset()
    if models is None:
        return "*" in held
    return "*" in held or all(m in held or ("*" not in m and holder.may_use(m)) for m in models)
