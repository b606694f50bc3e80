"""A load generator for `make bench`: closed loop, constant rate, or a burst of streams. Loopback only, bounded.

Prints MARK begin and MARK end around the measured part, then one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import httptools
import uvloop

KEY = "sk-bench-0123456789abcdef0123456789abcdef"


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, data: bytes) -> asyncio.Future[tuple[int, bool]]:
        """Sends a request; gives the status, and whether a stream came to its end."""
        self.parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        self.first = 0.0
        self.tail = b""
        self.transport.write(data)
        return self.done

    def data_received(self, data: bytes) -> None:
        self.first = self.first or time.perf_counter()
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.tail = (self.tail + body)[-64:]

    def on_message_complete(self) -> None:
        if not self.done.done():
            self.done.set_result((self.parser.get_status_code(), b"[DONE]" in self.tail))

    def connection_lost(self, exc: Exception | None) -> None:
        if getattr(self, "done", None) is not None and not self.done.done():
            self.done.set_result((0, False))


class Load:
    """The requests of one scenario."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        body = Path(options.body).read_bytes()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.streamed = b'"stream": true' in body
        self.idle: list[Connection] = []
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.errors = 0

    async def one(self, due: float) -> None:
        """One request, counted from when it was due."""
        if self.idle:
            connection = self.idle.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, "127.0.0.1", self.options.port
            )
        status, ended = await connection.ask(self.request)
        if status == 200 and (ended or not self.streamed):
            self.latencies.append(time.perf_counter() - due)
            self.firsts.append(connection.first - due)
            self.idle.append(connection)
        else:
            self.errors += 1

    async def closed(self, until: float) -> None:
        """One client that asks again as soon as it is answered."""
        while time.perf_counter() < until:
            await self.one(time.perf_counter())

    async def run(self) -> None:
        """The warm-up, then the measured part."""
        options = self.options
        if options.burst:
            self.mark("begin")
            await asyncio.gather(*(self.late(n * 3.0 / options.burst) for n in range(options.burst)))
        else:
            await self.phase(1.0)
            self.latencies, self.firsts, self.errors = [], [], 0
            self.mark("begin")
            await self.phase(options.seconds)
        self.mark("end")
        sys.stdout.write(
            json.dumps(
                {
                    "ok": len(self.latencies),
                    "errors": self.errors,
                    "p50_ms": at(self.latencies, 0.5),
                    "p99_ms": at(self.latencies, 0.99),
                    "first_p99_ms": at(self.firsts, 0.99),
                }
            )
            + "\n"
        )

    async def late(self, after: float) -> None:
        """One request of a burst that is spread over three seconds."""
        await asyncio.sleep(after)
        await self.one(time.perf_counter())

    async def phase(self, seconds: float) -> None:
        """Closed loop, or constant arrivals."""
        start = time.perf_counter()
        if not self.options.rate:
            await asyncio.gather(*(self.closed(start + seconds) for _ in range(self.options.clients)))
            return
        tasks = []
        for n in range(int(seconds * self.options.rate)):
            due = start + n / self.options.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.ensure_future(self.one(due)))
        await asyncio.gather(*tasks)

    def mark(self, name: str) -> None:
        """Tells the measuring process where it is."""
        sys.stdout.write(f"MARK {name}\n")
        sys.stdout.flush()


def at(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 2) if values else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--burst", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4)
    uvloop.run(Load(parser.parse_args()).run())
