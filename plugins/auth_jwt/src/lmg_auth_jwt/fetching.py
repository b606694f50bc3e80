"""One answer of an identity provider: bounded in time and size, without redirects, as strict JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from lmg import addresses
from lmg.jsontext import Json, JsonTextError, strict_loads

if TYPE_CHECKING:
    from lmg import Host

__all__ = ["FetchError", "fetch_json", "url_fault"]

MAX_DEPTH: Final = 16


class FetchError(Exception):
    """Nothing usable came; ``str()`` is for the operator and quotes nothing of the answer."""


def url_fault(url: str, *, allow_http: bool, loopback: bool = True) -> str | None:
    """Why ``url`` must not be fetched, or None. ``loopback`` excuses this machine from TLS."""
    fault = addresses.url_fault(url)
    if fault is not None:
        return fault
    parts = urlsplit(url)
    local = loopback and addresses.is_loopback(parts.hostname or "")
    if parts.scheme == "http" and not allow_http and not local:
        return "keys are fetched over https alone (allow_http: true takes them from whoever is between)"
    return None


async def fetch_json(
    host: Host, url: str, *, timeout_s: float, max_bytes: int, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Json:  # fmt: skip
    """The JSON at ``url``: by GET, or by POST where there is a ``form``.

    Raises:
        FetchError: it took longer than ``timeout_s`` in whole, was a redirect or no 200, was larger than
            ``max_bytes``, was compressed (nothing was asked to be), or was no strict JSON.
    """
    own = {"accept": "application/json", "accept-encoding": "identity", **(headers or {})}
    if form is None:
        # Fetches are rare: a connection that was kept is likely to be one that the other side is about to close.
        request = host.http.build_request("GET", url, headers={**own, "connection": "close"})
    else:
        request = host.http.build_request("POST", url, data=dict(form), headers=own)
    try:
        async with asyncio.timeout(timeout_s):
            response = await host.http.send(request, stream=True, follow_redirects=False, auth=None)
            try:
                raw = await _read(response, max_bytes)
            finally:
                await response.aclose()
    except TimeoutError:
        raise FetchError(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchError(f"no answer ({type(error).__name__})") from None
    try:
        return strict_loads(raw, max_depth=MAX_DEPTH)
    except JsonTextError as error:
        raise FetchError(f"the answer is not usable ({error.code})") from None


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if response.is_redirect or 300 <= response.status_code < 400:
        raise FetchError(f"a redirect ({response.status_code}), which is not followed")
    if response.status_code != 200:
        raise FetchError(f"status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("the answer is compressed, which was not asked for")
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > max_bytes:
            raise FetchError(f"the answer is larger than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)
