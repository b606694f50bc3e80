"""`auth_static`: a caller is who the digest of its key says."""

from __future__ import annotations

import hashlib
import hmac
from typing import ClassVar

from lmg import Component, Exchange, Host, Principal
from lmg.component import Facts
from lmg.credentials import credential_of

from .static_config import AuthStaticConfig, StaticKey

__all__ = ["AuthStatic"]


class AuthStatic(Component):
    """Authenticates callers by keys from the configuration."""

    Config = AuthStaticConfig
    summary = "callers authenticate with keys from mesh.yaml, kept as digests"
    stability = "beta"
    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    modes = frozenset({"enforce", "off"})

    def __init__(self, config: AuthStaticConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._principals = {
            key.sha256.encode(): (key.sha256.encode(), _principal(key, name)) for key in config.keys
        }

    def on_request(self, exchange: Exchange) -> None:
        """Puts ``principal`` where the key is known; the kernel refuses whom no authenticator has claimed."""
        credential = credential_of(exchange.head)
        if credential is None or exchange.principal is not None:
            return
        digest = hashlib.sha256(credential.encode()).hexdigest().encode()
        found = self._principals.get(digest)
        # The look-up is by digest, which tells an attacker's clock nothing about a key; the comparison with the
        # stored digest takes constant time.
        if found is not None and hmac.compare_digest(found[0], digest):
            exchange.set_fact("principal", found[1])


def _principal(key: StaticKey, issuer: str) -> Principal:
    return Principal(
        key.subject,
        key.tenant,
        frozenset(key.roles),
        scopes=frozenset(key.scopes),
        models=frozenset(key.models) if key.models is not None else None,
        issuer=issuer,
        key_id=key.sha256[:8],
    )
