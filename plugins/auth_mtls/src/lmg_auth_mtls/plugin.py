"""`auth_mtls`: a caller is who its client certificate says."""

from __future__ import annotations

from typing import ClassVar, Final, TypeVar

from lmg import Component, Exchange, Host, Principal
from lmg.component import Facts
from lmg.errors import Refusal
from lmg.exchange import Head, TlsPeer

from .certificate import Certificate, of_element, of_peer
from .config import AuthMtlsConfig
from .proxies import TrustedProxies
from .rules import CompiledRule
from .xfcc import MalformedXfcc, read_xfcc

__all__ = ["AuthMtls"]

K = TypeVar("K")
HEADER: Final = b"x-forwarded-client-cert"
CACHED: Final = 1024
CACHED_BYTES: Final = 4096
"""Longer headers are read anew: so the cache holds 4 MiB of them at most."""


class AuthMtls(Component):
    """Authenticates callers by the client certificate of mutual TLS.

    The certificate is that of the connection, where the gateway terminates TLS itself; of a connection from a trusted
    proxy it is the one that the proxy tells of, and never the proxy's own.
    """

    Config = AuthMtlsConfig
    summary = "callers authenticate with client certificates: mutual TLS here, or at an Envoy in front"
    stability = "beta"
    provides: ClassVar[Facts] = {"on_request": ("principal",)}
    requires: ClassVar[Facts] = {"on_request": ("head",)}
    modes = frozenset({"enforce", "off"})

    def __init__(self, config: AuthMtlsConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._rules = tuple(CompiledRule(rule, name) for rule in config.rules)
        self._proxies = TrustedProxies(config.trusted_proxies, config.proxy_sans)
        self._of_peer: dict[TlsPeer, Principal | None] = {}
        self._of_header: dict[bytes, Principal | None] = {}
        self._outcomes = host.metrics.counter(
            "lmg_auth_mtls_outcomes_total",
            "Requests by what became of their certificate; ignored_header is x-forwarded-client-cert of no trusted proxy.",
            ("component", "outcome"),
        )

    def on_request(self, exchange: Exchange) -> None:
        """Puts ``principal`` where a rule fits the caller's certificate; abstains where there is none.

        Raises:
            Refusal: 401 where a trusted proxy's header is malformed, too long or there twice; or where no rule fits
                under ``unmatched: deny``.
        """
        if exchange.principal is not None:
            return
        head = exchange.head
        headers = [value for name, value in head.headers if name == HEADER]
        if self._proxies.include(head):
            if not headers:
                return  # its caller has shown no certificate; the proxy's own says nothing about who that is
            principal, source = self._forwarded(headers), "xfcc"
        else:
            if headers:
                self._count("ignored_header")
            if head.tls is None:
                return
            principal, source = self._direct(head), "tls"
        if principal is not None:
            self._count(source)
            exchange.set_fact("principal", principal)
            return
        self._count("unmatched")
        if self.config.unmatched == "deny":
            raise Refusal(401, "unknown_certificate", "The client certificate belongs to no known caller.")

    def _direct(self, head: Head) -> Principal | None:
        peer = head.tls
        assert peer is not None
        if peer in self._of_peer:
            return self._of_peer[peer]
        principal = self._match(of_peer(peer))
        _keep(self._of_peer, peer, principal)
        return principal

    def _forwarded(self, headers: list[bytes]) -> Principal | None:
        # Several lines are not joined: Envoy writes one, so a second was put beside it by somebody else.
        if len(headers) > 1:
            raise self._malformed("the header is there more than once")
        [raw] = headers
        if raw in self._of_header:
            return self._of_header[raw]
        if len(raw) > self.config.max_xfcc_bytes:
            raise self._malformed("the value is longer than max_xfcc_bytes")
        try:
            elements = read_xfcc(raw)
        except MalformedXfcc as error:
            raise self._malformed(str(error)) from None
        # The last element is what the proxy at our socket has verified and appended itself. Those before it came in
        # with its request: they are the word of peers that we have not seen.
        principal = self._match(of_element(elements[-1]))
        if len(raw) <= CACHED_BYTES:
            _keep(self._of_header, raw, principal)
        return principal

    def _match(self, certificate: Certificate) -> Principal | None:
        for rule in self._rules:
            principal = rule.principal_of(certificate)
            if principal is not None:
                return principal
        return None

    def _malformed(self, reason: str) -> Refusal:
        self._count("refused_header")
        return Refusal(
            401,
            "invalid_client_certificate",
            "The forwarded client certificate cannot be read.",
            reason=f"x-forwarded-client-cert: {reason}",
        )

    def _count(self, outcome: str) -> None:
        self._outcomes.inc((self.name, outcome))


def _keep(cache: dict[K, Principal | None], key: K, principal: Principal | None) -> None:
    """Adds to a cache that forgets its oldest entry first; rules do not change, so an entry never grows stale."""
    if len(cache) >= CACHED:
        del cache[next(iter(cache))]
    cache[key] = principal
