"""A mock upstream for `make bench`: answers by model name, as fast as asyncio goes.

`mock-b1024` is a JSON body of 1,024 bytes; `mock-n100-i10` a stream of 100 chunks, 10 ms apart.
"""

from __future__ import annotations

import asyncio
import re
import sys

import httptools
import uvloop

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"token "},"finish_reason":null}]}\n\n'
END = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        name = re.search(rb'"model"\s*:\s*"([^"]*)"', body)
        parts = {part[:1]: int(part[1:]) for part in (name.group(1).split(b"-")[1:] if name else [])}
        if b'"stream":true' in body.replace(b" ", b""):
            asyncio.get_running_loop().create_task(
                self.stream(parts.get(b"n", 10), parts.get(b"i", 0) / 1000)
            )
            return
        head = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"'
        tail = b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}'
        answer = head + b"x" * max(0, parts.get(b"b", 1024) - len(head) - len(tail)) + tail
        reply = HEAD % (b"application/json", b"content-length: %d" % len(answer)) + answer
        if b"d" in parts:
            asyncio.get_running_loop().call_later(parts[b"d"] / 1000, self.transport.write, reply)
        else:
            self.transport.write(reply)

    async def stream(self, count: int, pause: float) -> None:
        """The events of one answer, each in a write of its own."""
        self.transport.write(HEAD % (b"text/event-stream", b"transfer-encoding: chunked"))
        for data in (*[CHUNK] * count, END, b"data: [DONE]\n\n"):
            await asyncio.sleep(pause)
            if self.transport.is_closing():
                return
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.transport.write(b"0\r\n\r\n")


async def main() -> None:
    """Serves until it is ended."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
