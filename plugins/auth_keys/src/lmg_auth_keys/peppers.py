"""The secrets of the gateway that make a stolen database worthless: what is stored of a key is its HMAC under one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

__all__ = ["Peppers"]

_SIGNING: Final = b"lmg auth_keys snapshot 1"


class Peppers:
    """The pepper that new keys are hashed with, and those that still verify."""

    def __init__(self, current: str, secrets: Mapping[str, str]) -> None:
        self.current = current
        self._secrets = {name: secret.encode() for name, secret in secrets.items()}
        # Of its own, so that nothing that is signed can be taken for what is stored of a key.
        self._signing = {
            name: hmac.digest(secret, _SIGNING, "sha256") for name, secret in self._secrets.items()
        }

    def __repr__(self) -> str:
        return f"Peppers({self.current!r} of {len(self._secrets)})"

    def __contains__(self, name: object) -> bool:
        return name in self._secrets

    def digest(self, key: str, pepper: str) -> bytes:
        """What is stored of the text of a key: HMAC-SHA-256, 32 bytes."""
        return hmac.digest(self._secrets[pepper], key.encode(), "sha256")

    def signer(self, pepper: str) -> hmac.HMAC:
        """What signs a file of ours: give it all, then take ``hexdigest``."""
        return hmac.new(self._signing[pepper], digestmod="sha256")
