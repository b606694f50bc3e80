"""Mixed requests for `make bench`: whole answers, streams, refusals, clients that hang up. Loopback only, bounded.

Prints one JSON line: how many requests were made, and how many of them went as they should.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Iterator

import uvloop
from load import KEY, Connection

ASK = b'{"model":"%b","messages":[{"role":"user","content":"Say hello."}],"max_tokens":256%b}'
WHOLE = ASK % (b"mock-b1024", b"")
SLOW_WHOLE = ASK % (b"mock-d50-b1024", b"")
STREAM = ASK % (b"mock-n10-i0", b',"stream":true')
SLOW = ASK % (b"mock-n100-i10", b',"stream":true')
# What is sent, with which key, and the status that must come; 0: the client hangs up at the first bytes of the stream.
MIX: tuple[tuple[bytes, str, int], ...] = (
    (WHOLE, KEY, 200),
    (STREAM, KEY, 200),
    (WHOLE, KEY[::-1], 401),
    (WHOLE, KEY, 200),
    (SLOW, KEY, 0),
    (WHOLE, KEY, 200),
    (ASK % (b"no-such-model", b""), KEY, 404),
    (STREAM, KEY, 200),
    (WHOLE, KEY, 200),
    (WHOLE[:-1], KEY, 400),
)


class Caller(Connection):
    """A connection that can wait for the first bytes of an answer alone."""

    def begin(self, data: bytes) -> asyncio.Future[None]:
        """Sends a request; done when something of its answer has come, or the connection has ended."""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ask(data)
        return self.begun

    @property
    def status(self) -> int:
        """The status of the answer that has begun."""
        return int(self.parser.get_status_code())

    def reset(self) -> None:
        """Has the connection end with a reset when it is closed, not in order."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.arrived()

    def arrived(self) -> None:
        """Ends the wait for the first bytes."""
        if hasattr(self, "begun") and not self.begun.done():
            self.begun.set_result(None)


class Mixed:
    """A number of requests, by a number of clients that share the list."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.made = 0
        self.right = 0

    async def run(self, requests: int, clients: int, seconds: float) -> None:
        """At most ``requests``; none begins after ``seconds``."""
        ends = asyncio.get_running_loop().time() + seconds
        numbers = iter(range(requests))
        await asyncio.gather(*(self.client(numbers, ends) for _ in range(clients)))
        # As many idle connections to the upstream remain after every run: file descriptors can be compared.
        await asyncio.gather(*(self.last() for _ in range(clients)))

    async def last(self) -> None:
        """One answer that takes a while, so that all clients are in flight at once."""
        _, connection = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", self.port)
        await connection.ask(request(SLOW_WHOLE, KEY))
        connection.transport.close()

    async def client(self, numbers: Iterator[int], ends: float) -> None:
        """One client: takes the next request of the list, on the connection that it has."""
        loop = asyncio.get_running_loop()
        connection: Caller | None = None
        for number in numbers:
            if loop.time() > ends:
                break
            if connection is None or connection.transport.is_closing():
                _, connection = await loop.create_connection(Caller, "127.0.0.1", self.port)
            body, key, status = MIX[number % len(MIX)]
            self.made += 1
            data = request(body, key)
            if status:
                seen, ended = await connection.ask(data)
                self.right += seen == status and (ended or body is not STREAM)
                if not connection.parser.should_keep_alive():
                    connection.transport.close()
            else:
                await connection.begin(data)
                self.right += connection.status == 200 and not connection.transport.is_closing()
                if number // len(MIX) % 2:
                    connection.reset()
                connection.transport.close()
        if connection is not None:
            connection.transport.close()


def request(body: bytes, key: str) -> bytes:
    """A request's bytes."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main(options: argparse.Namespace) -> None:
    """All requests, then the line."""
    mixed = Mixed(options.port)
    with contextlib.suppress(TimeoutError):  # what got no answer is missing among those that went right
        async with asyncio.timeout(options.seconds + 5):
            await mixed.run(options.requests, options.clients, options.seconds)
    sys.stdout.write(json.dumps({"made": mixed.made, "right": mixed.right}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    uvloop.run(main(parser.parse_args()))
