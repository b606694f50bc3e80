"""One connection to the server: commands go out in order, replies come back in order.

What is sent in one turn of the event loop leaves in one write. An answer that does not come in time ends the
connection, so that it is never taken for the answer to another question.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hiredis import HiredisError, Reader, pack_command

from .errors import StoreError

if TYPE_CHECKING:
    from .config import Address

__all__ = ["Argument", "Connection", "OnReply", "connected", "pack"]

Argument = str | bytes | int | float

OnReply = Callable[[Any], None]
"""Gets the reply (a ``ReplyError`` where the server refused), or a ``StoreError`` where none will come."""

pack: Final[Callable[[tuple[Argument, ...]], bytes]] = pack_command  # type: ignore[assignment]  # its stub says "of one"
"""A command as the server reads it."""

_NOT_YET: Final = object()


class _Write:
    """Commands that left together, and when."""

    __slots__ = ("at", "unanswered")

    def __init__(self, commands: int, at: float) -> None:
        self.unanswered, self.at = commands, at


class Connection(asyncio.Protocol):
    """RESP2 over a stream.

    Whoever made it learns by ``on_lost`` that it is over, once, after every call has failed; and by ``on_round_trip``
    when something was written (``time.monotonic()``) of which the last answer has come.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_in_flight: int,
        on_lost: Callable[[Connection, StoreError], None],
        on_round_trip: Callable[[float], None] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self.known: set[str] = set()
        """The digests of scripts that the server has answered to on this connection."""
        self.lost: StoreError | None = None
        self._max_in_flight = max_in_flight
        self._on_lost = on_lost
        self._on_round_trip = on_round_trip
        self._reader = Reader(notEnoughData=_NOT_YET)
        self._waiting: deque[OnReply] = deque()
        self._out: list[bytes] = []
        self._written: deque[_Write] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    # -- calls ----------------------------------------------------------------------------------
    @property
    def full(self) -> bool:
        """Whether one more call would be too many."""
        return len(self._waiting) >= self._max_in_flight

    def send(self, command: bytes, on_reply: OnReply) -> None:
        """Sends a packed command with this turn's others; ``on_reply`` is called exactly once, later.

        Raises:
            StoreError: the connection is over, or too many calls wait; nothing was sent.
        """
        if self.lost is not None:
            raise StoreError(self.lost.kind, self.lost.reason)
        if len(self._waiting) >= self._max_in_flight:
            raise StoreError("full", f"{self._max_in_flight} calls wait for an answer already")
        self._waiting.append(on_reply)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)

    def call(self, command: bytes) -> asyncio.Future[Any]:
        """Sends a packed command; the future is its reply (a ``ReplyError`` too), or raises ``StoreError``."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def on_reply(reply: Any) -> None:
            if future.done():
                return  # whoever asked has left
            if isinstance(reply, StoreError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(command, on_reply)
        return future

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.lost is not None or self._transport is None:
            return
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        # The time counts from here, not from the call: a loop that was busy in between is not the server's fault.
        # It is real time, whatever clock the host has: what is waited for is another machine.
        self._written.append(_Write(len(out), time.monotonic()))
        if self._timer is None:
            self._watch_for(self._timeout_s)

    # -- the deadline ---------------------------------------------------------------------------
    # All calls have the same time, so the oldest is the first that is late: one timer for all.
    def _watch_for(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def wait_at_most(self, seconds: float) -> None:
        """From now on, an answer may take ``seconds``."""
        self._timeout_s = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        self._timer = None
        if not self._written or self.lost is not None:
            return
        left = self._written[0].at + self._timeout_s - time.monotonic()
        if left > 0:
            self._watch_for(left)
        else:
            # A loop turns to what has arrived before it turns to timers: there was nothing.
            self.close(StoreError("timeout", f"no answer within {self._timeout_s * 1000:.0f} ms"))

    # -- the transport --------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's
        if self.lost is not None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        reader, waiting, written = self._reader, self._waiting, self._written
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOT_YET:
                if not written:
                    raise HiredisError("an answer that nobody asked for")
                write = written[0]
                write.unanswered -= 1
                if not write.unanswered:
                    written.popleft()
                    if self._on_round_trip is not None:
                        self._on_round_trip(write.at)
                waiting.popleft()(reply)
                if self.lost is not None:
                    return
        except HiredisError:
            self.close(StoreError("lost", "the server does not speak the protocol"))

    def connection_lost(self, error: Exception | None) -> None:
        self.close(StoreError("lost", "the connection was lost"))

    def close(self, why: StoreError) -> None:
        """Ends the connection now; every call that waits fails with the kind and reason of ``why``."""
        if self.lost is not None:
            return
        self.lost = why
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            self._waiting.popleft()(StoreError(why.kind, why.reason))
        self._on_lost(self, why)


async def connected(
    address: Address, context: ssl.SSLContext | None, make: Callable[[], Connection]
) -> Connection:
    """A connection to ``address`` that has said nothing yet.

    Raises:
        OSError: there is none to be had (``ssl.SSLError`` is one too).
    """
    loop = asyncio.get_running_loop()
    if address.path:
        _, connection = await loop.create_unix_connection(make, address.path)
    else:
        _, connection = await loop.create_connection(
            make, address.host, address.port, ssl=context, server_hostname=address.host if context else None
        )
    return connection
