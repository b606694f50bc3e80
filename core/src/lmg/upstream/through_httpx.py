"""The transport for proxies and HTTP/2: slower than ``h1``, and everything that httpx can do."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx

from ..errors import UpstreamError
from . import TransportOptions, UpstreamRequest, Url

__all__ = ["HttpxTransport"]


class HttpxResponse:
    """See ``UpstreamResponse``."""

    def __init__(self, response: httpx.Response, max_body: int) -> None:
        self.status = response.status_code
        self.headers = [
            (key.lower(), value)
            for key, value in response.headers.raw
            if key.lower() not in (b"content-length", b"transfer-encoding", b"connection", b"keep-alive")
        ]
        self.is_event_stream = (
            response.headers.get("content-type", "").lower().startswith("text/event-stream")
        )
        self._response = response
        self._max_body = max_body
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()

    def __aiter__(self) -> HttpxResponse:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._chunks.__anext__()
        except httpx.TimeoutException as error:
            raise UpstreamError("stream", "timeout", type(error).__name__) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise UpstreamError("answer", "closed", type(error).__name__) from None

    async def read(self) -> bytes:
        parts = []
        size = 0
        try:
            async for chunk in self:
                parts.append(chunk)
                size += len(chunk)
                if size > self._max_body:
                    raise UpstreamError("answer", "answer_too_large", f"over {self._max_body} bytes")
        finally:
            await self.aclose()
        return b"".join(parts)

    async def aclose(self) -> None:
        await self._response.aclose()


class HttpxTransport:
    """See ``Transport``. The environment's proxy settings are ignored: the configuration alone decides."""

    def __init__(self, url: Url, options: TransportOptions) -> None:
        self._base = httpx.URL(f"{url.scheme}://{url.authority}")
        self._max_body = options.max_body
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=options.connect_timeout_s),
            limits=httpx.Limits(max_connections=options.max_connections, keepalive_expiry=options.idle_s),
            verify=ssl.create_default_context(cafile=options.ca_file),
            proxy=options.proxy,
            http2=options.http2,
            trust_env=False,
            follow_redirects=False,
        )

    async def send(self, request: UpstreamRequest) -> HttpxResponse:
        url = self._base.copy_with(raw_path=request.path.encode())
        headers = [*request.headers, (b"accept-encoding", b"identity")]
        try:
            response = await self._client.send(
                self._client.build_request(request.method, url, headers=headers, content=request.body),
                stream=True,
            )
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise UpstreamError("connect", "connect_error", type(error).__name__) from None
        except httpx.ConnectTimeout:
            raise UpstreamError("connect", "timeout") from None
        except httpx.HTTPError as error:
            raise UpstreamError("answer", "closed", type(error).__name__) from None
        self._client.cookies.clear()
        if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            await response.aclose()
            raise UpstreamError("answer", "protocol", "a content encoding that was not asked for")
        return HttpxResponse(response, self._max_body)

    async def aclose(self) -> None:
        await self._client.aclose()
