"""What is known of a caller's certificate, whoever has verified it: the gateway's own TLS, or a proxy in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from lmg.exchange import TlsPeer

from .names import Attributes, read_name
from .patterns import is_spiffe_id
from .xfcc import Element

__all__ = ["Certificate", "of_element", "of_peer"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The names of a verified client certificate.

    ``subject`` is empty where it cannot be read with certainty. ``serial`` is known from the
    gateway's own TLS alone.
    """

    subject: Attributes = ()
    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    sha256: str = ""
    serial: str = ""

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID; empty where the certificate is no SVID, which has exactly one URI (X509-SVID §2)."""
        return self.uris[0] if len(self.uris) == 1 and is_spiffe_id(self.uris[0]) else ""


def of_peer(peer: TlsPeer) -> Certificate:
    """The certificate of the gateway's own TLS connection."""
    sans: dict[str, list[str]] = {"URI": [], "DNS": [], "email": []}
    for san in peer.sans:
        kind, _, value = san.partition(":")
        if kind in sans:
            sans[kind].append(value)
    return Certificate(
        read_name(peer.subject) or (),
        tuple(sans["URI"]),
        tuple(sans["DNS"]),
        tuple(sans["email"]),
        sha256=peer.sha256,
        serial=peer.serial,
    )


def of_element(element: Element) -> Certificate:
    """The certificate that a proxy has told of."""
    return Certificate(read_name(element.subject) or (), element.uris, element.dns, sha256=element.sha256)
