"""Signature version 4 over exactly what is sent.

Source: AWS IAM user guide, "Create a signed AWS API request".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped]

__all__ = ["Keys", "sign"]

_SERVICE: Final = "bedrock"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What signs: never shown."""

    access_key: str
    secret_key: str
    token: str = ""


def sign(
    keys: Keys, region: str, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float
) -> list[tuple[bytes, bytes]]:
    """The headers that authenticate a POST of ``body`` to ``url`` at ``now`` (seconds since the epoch); they cover the
    host, the path, the body, and each of ``headers``.

    The signer's own convenience method takes the machine's clock and logs the session token with the request that it
    signs, so the steps are taken one by one.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = [("X-Amz-Date", stamp)]
    if keys.token:
        added.append(("X-Amz-Security-Token", keys.token))
    request: Any = AWSRequest("POST", url, data=body)
    for name, text in (*((key.decode("latin-1"), value.decode("latin-1")) for key, value in headers), *added):
        request.headers[name] = text
    request.context["timestamp"] = stamp
    credentials = ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token or None)
    signer: Any = SigV4Auth(credentials, _SERVICE, region)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"
    )
    return [
        (name.lower().encode(), text.encode()) for name, text in (*added, ("Authorization", authorization))
    ]
