"""`auth_jwt`: a caller is who an identity provider says, in a token that this gateway has verified itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lmg import AdminRoute, Component, Deny, Exchange, Health, Host
from lmg.credentials import credential_of

from .cache import Verified, VerifiedTokens, token_digests
from .claims import ClaimsReader, Roles
from .config import AuthJwtConfig
from .introspection import Introspection
from .issuers import Issuer, KeysUnavailable
from .operating import routes
from .refusals import invalid_token, unavailable
from .revocation import Denied, StoreLost
from .tokens import Compact, TokenFault, UnknownKey, looks_signed, read_claims, read_compact

if TYPE_CHECKING:
    from lmg.component import Facts

__all__ = ["AuthJwt"]


class AuthJwt(Component):
    """Authenticates callers by the tokens of identity providers.

    A JWT is this component's to judge: it is verified, or the exchange ends with 401. Any other credential is left to
    the authenticators around it, unless ``introspection`` is configured. Needs the head alone, so nothing of a body
    has been read when it refuses. While keys are at hand nothing is waited for, and nothing is fetched.
    """

    Config = AuthJwtConfig
    summary = "callers authenticate with JWT and opaque tokens of identity providers (OIDC)"
    stability = "beta"
    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    modes = frozenset({"enforce", "off"})
    config: AuthJwtConfig

    def __init__(self, config: AuthJwtConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        roles = Roles(config.roles, config.default_role)
        self._issuers = {entry.issuer: Issuer(entry, host, roles) for entry in config.issuers}
        self._denied = Denied(config.denied, host, name)
        self._tokens = VerifiedTokens(config.max_cached)
        self._seed = token_digests(
            part for entry in config.issuers for part in (entry.issuer, *sorted(entry.audiences))
        )
        self._introspection: Introspection | None = None
        waits = [2 * entry.fetch_timeout_s + 1.0 for entry in config.issuers if not entry.keys]
        if (asked := config.introspection) is not None:
            reader = ClaimsReader(
                asked.claims, roles, issuer=asked.issuer or name, tenant=asked.tenant, tenants=asked.tenants,
                admin_scope=asked.admin_scope,
            )  # fmt: skip
            self._introspection = Introspection(asked, host, reader)
            waits.append(asked.timeout_s)
        self.max_wait_s = max(waits, default=0.0)
        self._results = host.metrics.counter(
            "llm_auth_jwt_tokens_total", "JWT by what became of them.", ("issuer", "result")
        )

    async def start(self) -> None:
        """Fetches the keys of all issuers, and waits for them briefly: one that is away stops no start."""
        await self._denied.start()
        await asyncio.gather(*(issuer.start() for issuer in self._issuers.values()))

    async def stop(self) -> None:
        """Ends all background work."""
        await asyncio.gather(*(issuer.stop() for issuer in self._issuers.values()))
        await self._denied.stop()
        if self._introspection is not None:
            await self._introspection.stop()

    # -- the way of a request -----------------------------------------------------------------
    def on_request(self, exchange: Exchange) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        """Puts ``principal``; plain where the answer is at hand, a coroutine where somebody must be asked."""
        if exchange.principal is not None:
            return None
        credential = credential_of(exchange.head)
        if credential is None:
            return None
        hashed = self._seed.copy()
        hashed.update(credential.encode("ascii"))
        digest = hashed.digest()
        clock = self.host.clock
        entry = self._tokens.get(digest, clock.now(), clock.monotonic())
        if entry is not None:
            if self._denied.lists(entry.jti):
                self._tokens.forget(digest)
                return self._refused(entry.principal.issuer, "denied (jti)")
            if self._denied.due(entry.jti, entry.asked_at):
                return self._asked(exchange, entry, digest)
            self._results.inc((entry.principal.issuer, "cached"))
            exchange.set_fact("principal", entry.principal)
            return None
        if looks_signed(credential):
            return self._verify(exchange, credential, digest)
        if self._introspection is not None and self._introspection.takes(credential):
            return self._introspect(exchange, credential, digest)
        return None

    def _verify(
        self, exchange: Exchange, credential: str, digest: bytes
    ) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        name = ""
        try:
            compact = read_compact(credential, self.config.max_token_bytes)
            claims = read_claims(compact, self.config.max_depth)
            issuer = self._issuer_of(claims)
            name = issuer.name
            try:
                entry = issuer.verify(compact, claims)
            except (UnknownKey, KeysUnavailable):
                if issuer.source is None:
                    raise
                return self._sought(exchange, issuer, compact, claims, digest)
            return self._accept(exchange, entry, digest)
        except TokenFault as fault:
            return self._refused(name, fault.why)

    def _issuer_of(self, claims: Mapping[str, Any]) -> Issuer:
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenFault("iss is no configured issuer")
        return issuer

    def _accept(
        self, exchange: Exchange, entry: Verified, digest: bytes
    ) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        if self._denied.lists(entry.jti):
            raise TokenFault("denied (jti)")
        if self._denied.due(entry.jti, entry.asked_at):
            return self._asked(exchange, entry, digest)
        self._tokens.keep(digest, entry)
        self._results.inc((entry.principal.issuer, "verified"))
        exchange.set_fact("principal", entry.principal)
        return None

    async def _sought(
        self, exchange: Exchange, issuer: Issuer, compact: Compact, claims: Mapping[str, Any], digest: bytes
    ) -> Deny | None:
        """Looks for the key that is not held, and judges again."""
        assert issuer.source is not None
        await issuer.source.seek(compact.kid)
        try:
            verdict = self._accept(exchange, issuer.verify(compact, claims), digest)
            return await verdict if isinstance(verdict, Coroutine) else verdict
        except KeysUnavailable:
            self._results.inc((issuer.name, "unavailable"))
            return unavailable(f"no keys of {issuer.name}: {issuer.source.fault or 'too old'}")
        except TokenFault as fault:
            return self._refused(issuer.name, fault.why)

    async def _asked(self, exchange: Exchange, entry: Verified, digest: bytes) -> Deny | None:
        """Asks the shared store whether the token is denied."""
        assert entry.jti is not None
        issuer = entry.principal.issuer
        try:
            await self._denied.ask(entry.jti)
        except TokenFault as fault:
            self._tokens.forget(digest)
            return self._refused(issuer, fault.why)
        except StoreLost:
            self._results.inc((issuer, "unavailable"))
            return unavailable("the store of denied tokens is gone")
        entry.asked_at = self.host.clock.monotonic()
        self._tokens.keep(digest, entry)
        self._results.inc((issuer, "verified"))
        exchange.set_fact("principal", entry.principal)
        return None

    def _introspect(
        self, exchange: Exchange, credential: str, digest: bytes
    ) -> Deny | None | Coroutine[Any, Any, Deny | None]:
        assert self._introspection is not None
        known = self._introspection.known(digest)
        if known is None:
            return self._introspected(exchange, credential, digest)
        if isinstance(known, Deny):
            return known
        exchange.set_fact("principal", known)
        return None

    async def _introspected(self, exchange: Exchange, credential: str, digest: bytes) -> Deny | None:
        assert self._introspection is not None
        found = await self._introspection.ask(credential, digest)
        if isinstance(found, Deny):
            return found
        exchange.set_fact("principal", found)
        return None

    def _refused(self, issuer: str, why: str) -> Deny:
        self._results.inc((issuer, "refused"))
        return invalid_token(why + (f" (issuer {issuer})" if issuer else ""))

    # -- for operators ------------------------------------------------------------------------
    def health(self) -> Health | None:
        """Issuers whose keys are old or were never there, an introspection endpoint that does not answer."""
        faults = [fault for issuer in self._issuers.values() if (fault := issuer.fault()) is not None]
        failed = any(not issuer.ready() for issuer in self._issuers.values())
        if self._introspection is not None and self._introspection.fault is not None:
            faults.append(f"introspection: {self._introspection.fault}")
        if self._denied.fault is not None:
            faults.append(self._denied.fault)
        if not faults:
            return None
        return Health("failed" if failed else "degraded", "; ".join(faults))

    def admin_routes(self) -> list[AdminRoute]:
        """See ``operating.routes``."""
        return routes(self._state, self._denied)

    def _state(self) -> dict[str, Any]:
        return {"issuers": [issuer.state() for issuer in self._issuers.values()], "cached": len(self._tokens)}
