"""Which peers are proxies whose word is believed: by the connection's own address, and by their own certificate."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeVar

from lmg.exchange import Head, TlsPeer

from .certificate import of_peer
from .rules import SanPattern

__all__ = ["TrustedProxies"]

_REMEMBERED: Final = 4096
K = TypeVar("K")


class TrustedProxies:
    """Answers for a request's head; the address is the socket's peer, never what a header says."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], sans: Sequence[str]) -> None:
        self._networks = tuple(networks)
        self._sans = tuple(SanPattern(text) for text in sans)
        # Both are bounded: they are emptied when they are full, which costs each peer one look more.
        self._addresses: dict[str, bool] = {}
        self._peers: dict[TlsPeer, bool] = {}

    def include(self, head: Head) -> bool:
        """Whether the peer of this connection is one of them."""
        if not self._networks:
            return False
        listed = self._addresses.get(head.client)
        if listed is None:
            listed = self._listed(head.client)
            _remember(self._addresses, head.client, listed)
        if not listed or not self._sans:
            return listed
        if head.tls is None:
            return False
        known = self._peers.get(head.tls)
        if known is None:
            certificate = of_peer(head.tls)
            known = any(san.fits(certificate) is not None for san in self._sans)
            _remember(self._peers, head.tls, known)
        return known

    def _listed(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False  # a Unix socket has no address: nobody is listed there
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self._networks)


def _remember(known: dict[K, bool], key: K, value: bool) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
