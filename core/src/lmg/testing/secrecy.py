"""How a secret may look where it must not be seen."""

from __future__ import annotations

import base64
from urllib.parse import quote

__all__ = ["forms_of"]


def forms_of(secret: str) -> list[str]:
    """``secret`` as it is, in base64 (of either alphabet, without padding, so that both are found), in hex and in a URL."""
    raw = secret.encode()
    return [
        secret,
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        base64.b64encode(f"Bearer {secret}".encode()).decode(),
        raw.hex(),
        raw.hex().upper(),
        quote(secret, safe=""),
        quote(secret),
    ]
