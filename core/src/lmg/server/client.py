"""The client's side of an exchange, on ASGI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..config import Limits
    from .turn import Turn

__all__ = ["AsgiClient"]

RawHeaders = list[tuple[bytes, bytes]]


class AsgiClient:
    """See ``lmg.lifecycle.Client``."""

    __slots__ = ("_limits", "_receive", "_scope", "_send", "_turn", "extra")

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._scope, self._receive, self._send, self._limits = scope, receive, send, limits
        self._turn: Turn | None = scope.get("lmg.turn")
        self.extra: RawHeaders = []

    async def read_body(self) -> bytes:
        for name, value in self._scope["headers"]:
            if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise Refusal(
                    415, "unsupported_content_encoding", "The body must be sent without a content encoding."
                )
        there = self._turn.take_body() if self._turn is not None else None
        if there is not None:
            return there
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
                    raise Refusal(
                        413, "body_too_large", f"The body is larger than {self._limits.max_body_bytes} bytes."
                    )
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        return body

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        turn = self._turn
        if turn is not None and not turn.flow.write_paused:
            turn.respond(status, headers + self.extra, body)
            return
        send = self._send
        await send({"type": "http.response.start", "status": status, "headers": headers + self.extra})
        await send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: RawHeaders) -> None:
        if self._turn is not None:
            self._turn.begin(status, headers + self.extra)
        else:
            await self._send(
                {"type": "http.response.start", "status": status, "headers": headers + self.extra}
            )

    async def write(self, data: bytes) -> None:
        turn = self._turn
        if turn is None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            return
        if turn.flow.write_paused:
            await self._wait_for_reader(turn)
        turn.push(data)

    def ready(self) -> bool:
        return self._turn is not None and not self._turn.flow.write_paused

    def push(self, data: bytes) -> None:
        if self._turn is not None:
            self._turn.push(data)

    async def _wait_for_reader(self, turn: Turn) -> None:
        try:
            async with asyncio.timeout(self._limits.write_timeout_s):
                await turn.flow.drain()
        except TimeoutError:
            # A reader that takes nothing for so long is gone for all that matters.
            turn.transport.abort()
            gone = self._scope.get("lmg.gone")
            if gone is not None:
                gone()
            raise asyncio.CancelledError from None

    async def end(self) -> None:
        if self._turn is not None:
            self._turn.finish()
        else:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
