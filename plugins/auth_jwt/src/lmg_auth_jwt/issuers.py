"""One issuer: its rules, its keys, and who its claims say is calling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .cache import Verified
from .claims import ClaimsReader
from .discovery import KeySource
from .keys import KeyRing
from .tokens import Compact, Rules, TokenFault, UnknownKey, check_claims, verified_by

if TYPE_CHECKING:
    from lmg import Host

    from .claims import Roles
    from .config import IssuerConfig

__all__ = ["Issuer", "KeysUnavailable"]


class KeysUnavailable(TokenFault):
    """There are no keys that may be used: none were ever fetched, or they are too old."""

    def __init__(self) -> None:
        super().__init__("there are no keys")


class Issuer:
    """Judges the tokens of one issuer. ``source`` is None where its keys are in the configuration."""

    def __init__(self, config: IssuerConfig, host: Host, roles: Roles) -> None:
        self.name = config.issuer
        self._host = host
        self._leeway_s = config.leeway_s
        self._rules = Rules(
            config.issuer, config.audiences, frozenset(name.lower() for name in config.types), config.leeway_s
        )
        self._claims = ClaimsReader(
            config.claims, roles, issuer=config.issuer, tenant=config.tenant, tenants=config.tenants,
            admin_scope=config.admin_scope,
        )  # fmt: skip
        self._ring = KeyRing((entry.key() for entry in config.keys), math.inf if config.keys else -math.inf)
        self.source = None if config.keys else KeySource(config, host, self._ring)

    async def start(self) -> None:
        """Fetches its keys, where they are to be fetched."""
        if self.source is not None:
            await self.source.start()

    async def stop(self) -> None:
        """Ends the background work."""
        if self.source is not None:
            await self.source.stop()

    def verify(self, compact: Compact, claims: Mapping[str, Any]) -> Verified:
        """What is known of a good token. The claims come first: a token that is none of ours asks for no key.

        Raises:
            UnknownKey: its key is not held.
            KeysUnavailable: no keys are.
            TokenFault: it is refused.
        """
        expires = check_claims(compact, claims, self._rules, self._host.clock.now())
        jti = claims.get("jti")
        if jti is not None and not isinstance(jti, str):
            raise TokenFault("jti is no text")
        if not self.ready():
            raise KeysUnavailable
        ring = self._ring
        if compact.kid is not None and not ring.knows(compact.kid):
            raise UnknownKey(compact.kid)
        key = verified_by(compact, ring.find(compact.kid, compact.algorithm))
        principal = self._claims.principal(claims, expires, key.kid or "")
        return Verified(principal, expires + self._leeway_s, key, ring, jti, -math.inf)

    def ready(self) -> bool:
        """Whether it has keys that may be used."""
        return self._ring.stale_at > self._host.clock.monotonic()

    def fault(self) -> str | None:
        """What is wrong with its keys, or None."""
        if self.source is None or (self.source.fault is None and self.ready()):
            return None
        what = "keys of the last fetch serve on" if self.ready() else "no keys"
        return f"{self.name}: {what} ({self.source.fault or 'not fetched yet'})"

    def state(self) -> dict[str, Any]:
        """What the admin API shows."""
        shown: dict[str, Any] = {
            "issuer": self.name,
            "ready": self.ready(),
            "keys": [{"kid": key.kid, "algorithms": key.algorithms} for key in self._ring.keys],
        }
        if self.source is not None:
            fetched_at = self.source.fetched_at
            age = None if fetched_at is None else round(self._host.clock.monotonic() - fetched_at, 3)
            shown |= {"age_s": age, "fault": self.source.fault, "unusable_keys": self.source.unusable}
        return shown
