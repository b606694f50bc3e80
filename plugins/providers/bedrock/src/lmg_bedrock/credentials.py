"""Where the keys of an account come from: the configuration, or what the AWS SDKs find by themselves."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from lmg.errors import UpstreamError

from .signing import Keys

__all__ = ["Chain", "Given", "Source"]

BEARER: Final = "AWS_BEARER_TOKEN_BEDROCK"
"""Where the AWS SDKs look for a Bedrock API key first of all."""

_LEFT_S: Final = 60  # keys that expire within this time are renewed before they are used
_PAUSE_S: Final = 5.0  # between two attempts, where one failed

log = logging.getLogger("lmg.bedrock")


class Source(Protocol):
    """Gives what authenticates a request: keys that sign it, or a token that goes along."""

    async def get(self) -> Keys | str:
        """Raises ``UpstreamError`` (kind ``credential``): there is none."""

    def close(self) -> None:
        """Nobody asks any more."""


class Given:
    """Keys of the configuration."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get(self) -> Keys | str:
        return self._keys

    def close(self) -> None:
        """Holds nothing open."""


class Chain:
    """Keys of the AWS SDKs' chain: environment, profile, web identity, container, instance.

    They are looked for at first use and renewed before they expire, in a thread, once for all who wait; while the
    old ones are good nobody waits. After a failure nothing is tried for five seconds.
    """

    def __init__(self, profile: str | None, monotonic: Callable[[], float]) -> None:
        self._profile = profile
        self._monotonic = monotonic
        self._source: Any = None
        self._found: Keys | str | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed_at: float | None = None

    async def get(self) -> Keys | str:
        if self._found is None or self._expires_within(_LEFT_S):
            await self._renewed()
        elif self._expires_within(None):
            self._renew()
        assert self._found is not None
        return self._found

    def close(self) -> None:
        """Waits for no keys any more."""
        if self._task is not None:
            self._task.cancel()

    def _expires_within(self, seconds: int | None) -> bool:
        """Whether the keys expire within ``seconds``, or within what their own kind holds for late."""
        needed = getattr(self._source, "refresh_needed", None)
        return bool(needed(seconds)) if needed is not None else False

    async def _renewed(self) -> None:
        task = self._renew()
        if task is not None:
            await asyncio.wait([task])  # which goes on where one of those who wait for it is cut off
        if self._found is None or self._expires_within(0):
            raise UpstreamError("connect", "credential", "the AWS credential chain gives no keys")

    def _renew(self) -> asyncio.Task[None] | None:
        if self._task is not None and not self._task.done():
            return self._task
        if self._failed_at is not None and self._monotonic() - self._failed_at < _PAUSE_S:
            return None
        self._task = asyncio.create_task(self._look(), name="bedrock:credentials")
        return self._task

    async def _look(self) -> None:
        try:
            self._found = await asyncio.to_thread(self._resolve)
            self._failed_at = None
        except Exception as error:  # noqa: BLE001 - a chain of foreign code, each link with errors of its own
            self._failed_at = self._monotonic()
            log.warning("credentials_not_found", extra={"error": type(error).__name__})

    def _resolve(self) -> Keys | str:
        token = os.environ.get(BEARER)
        if token and self._profile is None:
            return _fits_a_header(token)
        if self._source is None:
            from botocore.session import Session  # type: ignore[import-untyped]

            # At this level it logs the answers of token services, keys and all.
            foreign = logging.getLogger("botocore")
            foreign.setLevel(max(foreign.getEffectiveLevel(), logging.INFO))
            self._source = Session(profile=self._profile).get_credentials()
        if self._source is None:
            raise LookupError("no keys in any place where they are looked for")
        frozen = self._source.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, _fits_a_header(frozen.token or ""))


def _fits_a_header(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token with characters that no header can carry (a line break at its end?)")
    return token
