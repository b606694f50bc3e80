"""The configuration of `redis`: where the server is, who we are there, and how long it is waited for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from lmg import ComponentConfig

__all__ = ["Address", "RedisConfig"]

PORT: Final = 6379
_PREFIX: Final = r"^[A-Za-z0-9_.:-]{1,64}$"
_ENCODED: Final = "percent-encode special characters of a password, or give it as password"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str
    db: int
    tls: bool

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


class RedisConfig(ComponentConfig):
    """A Redis or Valkey server that all replicas count on."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        max_length=2048,
        description="`redis://host:port/db`, `rediss://…` (TLS) or `unix:///path?db=0`; a user and password in it are taken out and never shown.",
    )
    username: str | None = Field(
        None, min_length=1, max_length=256, description="The ACL user; without it the server's default user."
    )
    password: SecretStr | None = Field(
        None, min_length=1, description="The user's password, as a reference: `${REDIS_PASSWORD}`."
    )
    prefix: str = Field(
        "lmg",
        pattern=_PREFIX,
        description="What every key begins with, in braces: one slot of a cluster, and one gateway's alone.",
    )
    timeout_ms: int = Field(
        50,
        ge=1,
        le=10_000,
        description="How long an answer is waited for; past it the connection is given up.",
    )
    connect_timeout_ms: int = Field(
        1000, ge=10, le=60_000, description="How long connecting and logging in may take."
    )
    max_in_flight: int = Field(
        4096,
        ge=16,
        le=100_000,
        description="Calls of a worker that may wait for an answer; one more fails at once.",
    )
    ca_file: Path | None = Field(
        None, description="The authority of the server's certificate; without it the system's authorities."
    )
    cert_file: Path | None = Field(None, description="Our own certificate, where the server asks for one.")
    key_file: Path | None = Field(
        None, description="The key of `cert_file`, where it is in a file of its own."
    )
    holder_ttl_s: float = Field(
        5.0, ge=0.5, le=300, description="When what a killed worker held is free again."
    )
    heartbeat_ms: int = Field(
        1000,
        ge=50,
        le=60_000,
        description="How often a worker says that it lives, and finds out whether the server does.",
    )
    required_at_start: bool = Field(
        False,
        description="Whether a server that is not there stops the start; else the gateway starts degraded.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_out_credentials(cls, value: Any) -> Any:
        """What is kept as ``url`` holds no secret."""
        if not isinstance(value, dict) or not isinstance(value.get("url"), str):
            return value
        url, user, password = _without_credentials(value["url"])
        found = {"username": user, "password": password}
        given = {name: text for name, text in found.items() if text}
        if twice := [name for name in given if value.get(name) is not None]:
            raise ValueError(f"{twice[0]} stands in url and beside it: give it once")
        return {**value, "url": url, **given}

    @model_validator(mode="after")
    def _fits(self) -> RedisConfig:
        address = self.address
        if not address.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("ca_file, cert_file and key_file are for rediss:// urls")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file is the key of cert_file: give both")
        if self.username is not None and self.password is None:
            raise ValueError("a username needs a password")
        if self.holder_ttl_s * 1000 < 3 * self.heartbeat_ms:
            raise ValueError(
                "holder_ttl_s must be three heartbeats or more, or a late one gives back what is still held"
            )
        return self

    @property
    def address(self) -> Address:
        """What ``url`` says.

        Raises:
            ValueError: it says something else; the text shows nothing of it.
        """
        return _parsed(self.url)


def _without_credentials(url: str) -> tuple[str, str, str]:
    scheme, separator, rest = url.partition("://")
    # A password may hold an unencoded @, but no slash: what follows one is not the authority any more.
    authority, slash, path = rest.partition("/")
    userinfo, at, place = authority.rpartition("@")
    if not at:
        return url, "", ""
    user, _, password = userinfo.partition(":")
    return f"{scheme}{separator}{place}{slash}{path}", unquote(user), unquote(password)


def _parsed(url: str) -> Address:
    # What `urlsplit` says of a text that it cannot split may quote it, and with it a badly written password.
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise ValueError(f"url cannot be read ({_ENCODED})") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("url begins with redis://, rediss:// or unix://")
    if parts.fragment or "@" in parts.path or (parts.query and parts.scheme != "unix"):
        raise ValueError(f"url has a part that means nothing here ({_ENCODED})")
    if parts.scheme == "unix":
        if host or parts.path in ("", "/"):
            raise ValueError("a unix url has three slashes and a path: unix:///run/redis.sock")
        query = parse_qs(parts.query, keep_blank_values=True)
        if set(query) - {"db"}:
            raise ValueError("a unix url takes ?db=, nothing else")
        return Address("", 0, unquote(parts.path), _database(query.get("db", ["0"])[-1]), False)
    if not host:
        raise ValueError(f"url names no host ({_ENCODED})")
    return Address(
        host,
        PORT if port is None else port,
        "",
        _database(parts.path.strip("/") or "0"),
        parts.scheme == "rediss",
    )


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("the database in url is a number")
    return int(text)
