"""The client's side of an exchange, on ASGI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..config import Limits

__all__ = ["AsgiClient"]

RawHeaders = list[tuple[bytes, bytes]]


class AsgiClient:
    """See ``lmg.lifecycle.Client``."""

    __slots__ = ("_limits", "_receive", "_scope", "_send", "extra")

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._scope, self._receive, self._send, self._limits = scope, receive, send, limits
        self.extra: RawHeaders = []

    async def read_body(self) -> bytes:
        for name, value in self._scope["headers"]:
            if name == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
                if kind != b"application/json" and not kind.endswith(b"+json"):
                    raise Refusal(415, "unsupported_media_type", "The body must be sent as application/json.")
            elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise Refusal(415, "unsupported_content_encoding", "The body must be sent without a content encoding.")
        message: Any = await self._receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts = [body]
            size = len(body)
            while message.get("more_body"):
                message = await self._receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._limits.max_body_bytes:
                    raise Refusal(413, "body_too_large", f"The body is larger than {self._limits.max_body_bytes} bytes.")
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        return body

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        send = self._send
        await send({"type": "http.response.start", "status": status, "headers": headers + self.extra})
        await send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: RawHeaders) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers + self.extra})

    async def write(self, data: bytes) -> None:
        from ..bounded import within

        try:
            await within(self._limits.write_timeout_s, self._send({"type": "http.response.body", "body": data, "more_body": True}))
        except TimeoutError:
            # A reader that takes nothing for so long is gone for all that matters.
            gone = self._scope.get("lmg.gone")
            if gone is not None:
                gone()
            raise asyncio.CancelledError from None

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
