"""The gateway as `make bench` runs it: the kernel, a static key, one upstream; optionally more.

``gateway.py UPSTREAM KIND``: ``plain``; ``filter`` reads events; ``resilience`` lists the five that every operator does,
``resilience:PORT`` with a Redis on that port.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from lmg import Component, Exchange, StreamEvent, StreamFilter
from lmg.config import MeshConfig, validate
from lmg.discovery import discover
from lmg.pipeline import draft
from lmg.server.process import Process, listen, new_loop

MODELS = ["mock-b1024", "mock-d50-b1024", "mock-n10-i0", "mock-n100-i10", "mock-n150-i100"]


class Reads(StreamFilter):
    """Reads every text of every event and changes nothing."""

    def __init__(self) -> None:
        self.size = 0

    def feed(self, event: StreamEvent) -> tuple[StreamEvent]:
        for delta in event.deltas:
            self.size += len(delta.text)
        return (event,)


class Reader(Component):
    """Opens the filter."""

    def on_stream(self, exchange: Exchange) -> StreamFilter:
        return Reads()


RESILIENCE: list[Any] = [
    {
        "rate_limit": {
            "limits": [
                {"per": "tenant", "requests": "100M/min", "tokens": "100000M/min", "concurrency": 1000}
            ]
        }
    },
    "router",
    "fallback",
    "retry",
    "breaker",
]


def main() -> None:
    """Serves until SIGTERM; prints its port when it is ready."""
    upstream, (kind, _, redis) = sys.argv[1], sys.argv[2].partition(":")
    key = {"key": "sk-bench-0123456789abcdef0123456789abcdef", "subject": "bench"}
    more = {"plain": [], "filter": ["reader"], "resilience": RESILIENCE}[kind]
    pipeline: list[Any] = [{"auth_static": {"keys": [key]}}, *more]
    mesh: dict[str, Any] = {
        "server": {"port": 0},
        "providers": {"local": {"endpoint": f"http://127.0.0.1:{upstream}", "models": MODELS}},
        "pipeline": pipeline,
    }
    if redis:
        mesh["services"] = {"redis": {"url": f"redis://127.0.0.1:{redis}"}}
    config = validate(MeshConfig, mesh, (), None)
    process = Process(lambda: (draft(config, installed=discover(), classes={"reader": Reader}), ()))
    sockets = listen("127.0.0.1", 0)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(process.run(sockets, lambda: print(process.port, flush=True)))


if __name__ == "__main__":
    main()
