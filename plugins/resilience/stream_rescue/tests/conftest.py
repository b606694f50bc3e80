"""Seven ways in which an upstream can break a stream off, and a gateway in front of several such upstreams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from lmg.testing import Cut, Harness, ScriptedUpstream, Wait, sse
from lmg_stream_rescue import StreamRescue

CLASSES = {"stream_rescue": StreamRescue}
STALL_MS = 60
_HEAD = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Breaks = Callable[[ScriptedUpstream, Sequence[bytes]], None]


def cut(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.stream(*events, Cut("fin"))


def reset(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    # The events must have been read before the reset comes, which discards what has not been.
    upstream.stream(*events, Wait(0.02), Cut("rst"))


def stall(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.stream(*events, Wait(event=asyncio.Event()))


def malformed_chunk(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.raw(_HEAD, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events), b"no size\r\n")


def torn_event(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.stream(*events, b'data: {"choices": [{"index": 0, "del\n\n')


def missing_end(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.stream(*events)


def error_event(upstream: ScriptedUpstream, events: Sequence[bytes]) -> None:
    upstream.stream(*events, *sse({"error": {"message": "overloaded", "type": "server_error", "code": 503}}))


WAYS = {
    "cut": cut, "reset": reset, "stall": stall, "malformed chunk": malformed_chunk, "torn event": torn_event, "missing end": missing_end,
    "error event": error_event,
}  # fmt: skip


@pytest.fixture(params=list(WAYS))
def breaks(request: pytest.FixtureRequest) -> Breaks:
    """Has an upstream send events and then break off, in each of the ways."""
    return WAYS[request.param]


@pytest.fixture
def gateway_of() -> Callable[..., Harness]:
    """``gateway_of(settings, targets="ab")``: a gateway with ``stream_rescue`` and a scripted upstream a letter."""

    def make(
        settings: Mapping[str, Any],
        targets: str = "ab",
        *,
        above: Sequence[Any] = (),
        below: Sequence[Any] = (),
        classes: Mapping[str, type[Any]] | None = None,
        providers: Mapping[str, Mapping[str, Any]] | None = None,
        server: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Harness:
        upstreams = {
            name: {"priority": n, "stall_timeout_ms": STALL_MS, **(providers or {}).get(name, {})}
            for n, name in enumerate(targets)
        }
        return Harness(
            {"pipeline": [*above, {"stream_rescue": dict(settings)}, *below], "server": dict(server or {})},
            classes={**CLASSES, **(classes or {})},
            upstreams=upstreams,
            **more,
        )

    return make


@pytest.fixture
def rescues() -> Callable[[Harness], dict[tuple[str, str], float]]:
    """What ``llm_stream_rescues_total`` has counted."""

    def read(gateway: Harness) -> dict[tuple[str, str], float]:
        family: Any = next(f for f in gateway.host.metrics.families() if f.name == "llm_stream_rescues_total")
        return dict(family.series)

    return read
