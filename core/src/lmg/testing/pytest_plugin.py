"""pytest fixtures of the kit, and a guard: a test that connects anywhere but loopback fails."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

__all__ = ["gateway", "lmg_loopback_only", "scripted_upstream", "virtual_clock"]


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def lmg_loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test at the moment in which it connects, or resolves a name, beyond loopback."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    left: list[str] = []

    def guard(address: Any) -> None:
        if not _local(address):
            left.append(str(address))
            raise RuntimeError(f"this test may connect to loopback only, not to {address}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        guard(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        guard(address)
        return connect_ex(self, address)

    def guarded_resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (None, b""):
            guard((host.decode() if isinstance(host, bytes) else host, 0))
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)
    yield
    if left:
        pytest.fail(f"connected beyond loopback: {', '.join(left)}")


@pytest.fixture
async def gateway() -> AsyncIterator[Callable[..., Any]]:
    """``await gateway(mesh, classes=…)`` gives a running ``Harness`` that ends with the test."""
    from .gateway import Harness

    running: list[Harness] = []

    async def start(*args: Any, **kwargs: Any) -> Harness:
        harness = await Harness(*args, **kwargs).__aenter__()
        running.append(harness)
        return harness

    yield start
    for harness in reversed(running):
        await harness.__aexit__()


@pytest.fixture
async def scripted_upstream() -> AsyncIterator[Any]:
    """A running ``ScriptedUpstream``."""
    from .upstream import ScriptedUpstream

    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def virtual_clock() -> Any:
    """A ``VirtualClock``."""
    from .clock import VirtualClock

    return VirtualClock()
