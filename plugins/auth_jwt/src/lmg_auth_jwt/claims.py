"""Who a token's claims say is calling, and what the table of roles lets them do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lmg import Principal

from .tokens import TokenFault

if TYPE_CHECKING:
    from .config import ClaimsConfig, RoleConfig

__all__ = ["ClaimsReader", "Roles", "claim_at"]

MAX_TEXT: Final = 256
MAX_NAMES: Final = 500
ADMIN: Final = "admin"


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at ``path``, or None. A claim that is called so in whole wins over the way along the dots, so names
    like ``https://acme.example/tenant`` work as they are.
    """
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


class Roles:
    """The table of roles: what callers may do together with all of theirs."""

    def __init__(self, table: Mapping[str, RoleConfig], default: str | None) -> None:
        self._table = dict(table)
        self._default = default

    def held(self, roles: Iterable[str]) -> list[RoleConfig] | None:
        """The entries of the table that apply, in its order; None where there is no table."""
        if not self._table:
            return None
        names = set(roles)
        found = [entry for name, entry in self._table.items() if name in names]
        if not found and self._default is not None:
            found = [self._table[self._default]]
        return found


class ClaimsReader:
    """Makes the principal of one issuer's claims."""

    def __init__(
        self,
        config: ClaimsConfig,
        roles: Roles,
        *,
        issuer: str,
        tenant: str,
        tenants: Iterable[str] | None,
        admin_scope: str | None,
    ) -> None:
        self._paths = config
        self._roles = roles
        self._issuer = issuer
        self._tenant = tenant
        self._tenants = frozenset(tenants) if tenants is not None else None
        self._admin_scope = admin_scope

    def principal(self, claims: Mapping[str, Any], expires_at: float | None, key_id: str = "") -> Principal:
        """Who calls.

        Raises:
            TokenFault: a claim is missing or of the wrong kind, or the issuer does not speak for that tenant.
        """
        paths = self._paths
        tenant = self._tenant if paths.tenant is None else _text(claims, paths.tenant, "tenant")
        if self._tenants is not None and tenant not in self._tenants:
            raise TokenFault("the issuer does not speak for this tenant")
        roles = _names(claims, paths.roles, "roles")
        scopes = _names(claims, paths.scopes, "scopes")
        # Whoever can get a scope of that name elsewhere shall not thereby be an operator here.
        operator = self._admin_scope is not None and self._admin_scope in scopes
        scopes -= {ADMIN}
        models = _names(claims, paths.models, "models") if paths.models is not None else None
        operations: frozenset[str] | None = None
        budget_class = ""
        held = self._roles.held(roles)
        if held is not None:
            models = _narrower(models, _union(entry.models for entry in held))
            operations = _union(entry.operations for entry in held)
            scopes = scopes.union(*(entry.scopes for entry in held))
            budget_class = next((entry.budget_class for entry in held if entry.budget_class), "")
        return Principal(
            subject=_text(claims, paths.subject, "subject"),
            tenant=tenant,
            roles=roles,
            groups=_names(claims, paths.groups, "groups"),
            scopes=scopes | {ADMIN} if operator else scopes,
            models=models,
            issuer=self._issuer,
            key_id=key_id,
            expires_at=expires_at,
            operations=operations,
            budget_class=budget_class,
            attributes=self._attributes(claims),
        )

    def _attributes(self, claims: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
        found: dict[str, str | tuple[str, ...]] = {}
        for name, path in self._paths.attributes.items():
            value = claim_at(claims, path)
            if isinstance(value, bool):
                found[name] = "true" if value else "false"
            elif isinstance(value, int):
                found[name] = str(value)
            elif isinstance(value, list):
                found[name] = tuple(sorted(_listed(value, "an attribute")))
            elif isinstance(value, str):
                found[name] = _checked(value, "an attribute")
        return found


def _checked(value: object, what: str) -> str:
    # What is not printable would not stand safely in a log line or in an audit record.
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not value.isprintable():
        raise TokenFault(f"claims: {what} is no text, or too long")
    return value


def _text(claims: Mapping[str, Any], path: str, what: str) -> str:
    return _checked(claim_at(claims, path), what)


def _listed(value: list[Any], what: str) -> frozenset[str]:
    if len(value) > MAX_NAMES:
        raise TokenFault(f"claims: {what} has too many entries")
    return frozenset(_checked(one, what) for one in value)


def _names(claims: Mapping[str, Any], path: str | None, what: str) -> frozenset[str]:
    """The names at ``path``: of a list, or of a text with spaces between them (RFC 8693, section 4.2)."""
    value = claim_at(claims, path) if path is not None else None
    if value is None:
        return frozenset()
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list):
        raise TokenFault(f"claims: {what} is no list and no text")
    return _listed(value, what)


def _union(lists: Iterable[Iterable[str] | None]) -> frozenset[str] | None:
    """All that any of the lists allows; None, where one of them has no bound."""
    found: set[str] = set()
    for names in lists:
        if names is None:
            return None
        found.update(names)
    return frozenset(found)


def _narrower(ours: frozenset[str] | None, theirs: frozenset[str] | None) -> frozenset[str] | None:
    """The models that both lists allow. Of two patterns that overlap only in part neither remains."""
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    by_us, by_them = Principal("", models=ours), Principal("", models=theirs)
    return frozenset(
        [name for name in ours if by_them.may_use(name)] + [name for name in theirs if by_us.may_use(name)]
    )
