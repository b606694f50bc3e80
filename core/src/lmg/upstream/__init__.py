"""The transport seam: one method between the gateway and whatever speaks HTTP to an upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

__all__ = [
    "Tapped",
    "Transport",
    "TransportOptions",
    "UpstreamRequest",
    "UpstreamResponse",
    "Url",
    "open_transport",
]

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Url:
    """An upstream's address, parsed once from the configuration; nothing of a request ever enters it."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Reads ``scheme://host[:port][/path]``; raises ValueError with what is wrong."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https"):
            raise ValueError("the endpoint must start with http:// or https://")
        if not parts.hostname:
            raise ValueError("the endpoint names no host")
        if parts.username or parts.password:
            raise ValueError("the endpoint must hold no credentials")
        if parts.query or parts.fragment:
            raise ValueError("the endpoint must hold no query and no fragment")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    def with_path(self, path: str) -> Url:
        """The same address with another base path."""
        return Url(self.scheme, self.host, self.port, path)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How a provider's calls travel. ``max_body`` bounds a whole answer in bytes."""

    connect_timeout_s: float = 5.0
    max_body: int = 64 * 2**20
    ca_file: str | None = None
    proxy: str | None = None
    http2: bool = False
    max_connections: int = 4096
    idle_s: float = 55.0


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request; ``path`` is absolute, header names are lower case, the length is added by the transport."""

    method: str
    path: str
    headers: RawHeaders
    body: bytes


class UpstreamResponse(Protocol):
    """An answer whose head has come. Iterating gives its body's bytes as they arrive, without delay."""

    status: int
    headers: RawHeaders
    is_event_stream: bool

    async def read(self) -> bytes:
        """The whole body. Raises ``UpstreamError``: it broke, or is over ``max_body``."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """Ends the call; an answer that is not complete closes its connection."""


@runtime_checkable
class Tapped(Protocol):
    """A response that offers each chunk to ``tap`` while its reader waits; what it takes is not read."""

    tap: Callable[[bytes], bool] | None


class Transport(Protocol):
    """Sends requests to one upstream address. Cancelling ``send`` or an iteration closes the connection."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Raises ``UpstreamError`` with stage ``connect``, ``send`` or ``answer``. Never retries."""

    async def aclose(self) -> None:
        """Closes every connection."""


def open_transport(url: Url, options: TransportOptions) -> Transport:
    """The fastest transport that can do what ``options`` ask for; connects to nothing yet."""
    if options.proxy or options.http2:
        from .through_httpx import HttpxTransport

        return HttpxTransport(url, options)
    from .h1 import H1Transport

    return H1Transport(url, options)
