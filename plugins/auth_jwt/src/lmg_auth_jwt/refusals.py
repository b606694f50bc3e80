"""What a caller is told: always the same, whatever was wrong. The reason is for the operator alone."""

from __future__ import annotations

from lmg import Deny

__all__ = ["invalid_token", "unavailable"]


def invalid_token(why: str) -> Deny:
    """401, as RFC 6750, section 3.1, has it."""
    return Deny(
        401,
        "invalid_token",
        "The credential is not valid.",
        why,
        headers=((b"www-authenticate", b'Bearer error="invalid_token"'),),
    )


def unavailable(why: str, retry_after_s: int = 1) -> Deny:
    """503: whether the credential is good cannot be told now."""
    return Deny(
        503,
        "identity_unavailable",
        "The credential cannot be checked now.",
        why,
        "server_error",
        headers=((b"retry-after", str(retry_after_s).encode()),),
    )
