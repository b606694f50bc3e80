"""The caller's credential, wherever its SDK puts it."""

from __future__ import annotations

from .errors import Refusal
from .exchange import Head

__all__ = ["credential_of"]

MAX_CREDENTIAL = 16 * 1024


def credential_of(head: Head) -> str | None:
    """The bearer token or API key of a request, or None.

    Read from ``Authorization: Bearer`` (OpenAI SDKs) and ``x-api-key`` (Anthropic SDKs).

    Raises:
        Refusal: 401 where two different ones are given, or where it cannot be one.
    """
    found: list[bytes] = []
    for name, value in head.headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(token.strip())
        elif name == b"x-api-key":
            found.append(value.strip())
    if not found:
        return None
    if any(token != found[0] for token in found):
        raise Refusal(
            401,
            "ambiguous_credential",
            "Two different credentials were given; send one.",
            headers=((b"www-authenticate", b"Bearer"),),
        )
    if not found[0] or len(found[0]) > MAX_CREDENTIAL or not found[0].isascii():
        raise Refusal(
            401,
            "invalid_api_key",
            "The credential is not valid.",
            headers=((b"www-authenticate", b"Bearer"),),
        )
    return found[0].decode("ascii")
