"""Addresses that operators write: which stay on this machine, and which are no URL to connect to."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

__all__ = ["WITH_USER", "is_loopback", "url_fault"]

WITH_USER: Final = "a URL with a user or a password in it ends up in logs"


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without brackets) stays on this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def url_fault(url: str) -> str | None:
    """Why ``url`` is none of a server to be asked over HTTP, or None. It quotes nothing of it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in ("http", "https") or not host:
        return "this is not a URL of http or https"
    if parts.username is not None or parts.password is not None:
        return WITH_USER
    if parts.fragment or any(char <= " " or char == "\x7f" for char in url):
        return "the URL has a fragment, or characters that no URL has"
    return None
