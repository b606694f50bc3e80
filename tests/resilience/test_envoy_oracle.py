"""The breaker beside the real Envoy: the same replies of the same upstreams, and who is called how often.

They agree where they mean the same (five failures in a row are five), and differ where ours is documented to:
a 429 counts, two targets are enough, and after the pause one probe goes out, not everybody's full share.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from lmg.testing import Harness, ScriptedUpstream, VirtualClock, chat_body
from lmg.testing.servers import EnvoyServer
from lmg.testing.upstream import Received, Script

ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
OUTLIER = {"interval": "0.3s", "base_ejection_time": "1s", "max_ejection_percent": 100}
Statuses = Callable[[], Iterator[int]]


def upstream(statuses: Iterator[int]) -> ScriptedUpstream:
    """Answers each request with the next status."""

    def answer(received: Received) -> Script:
        status = next(statuses)
        body = json.dumps(chat_body() if status == 200 else {"error": {"message": "no"}}).encode()
        return Script(status, [("content-type", "application/json")], [body])

    return ScriptedUpstream(answer=answer)


def always(status: int) -> Iterator[int]:
    return (status for _ in count())


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def configuration(port: int, hosts: list[int], outlier: dict[str, Any]) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "all"}}
    manager = {
        "@type": MANAGER, "stat_prefix": "in", "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }  # fmt: skip
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(host)}} for host in hosts]}]
    cluster = {
        "name": "all", "type": "STATIC", "connect_timeout": "1s", "outlier_detection": outlier,
        "load_assignment": {"cluster_name": "all", "endpoints": endpoints},
    }  # fmt: skip
    listener = {"name": "in", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@asynccontextmanager
async def envoy(
    folder: Path, scripts: list[Iterator[int]], outlier: dict[str, Any]
) -> AsyncIterator[tuple[httpx.AsyncClient, list[ScriptedUpstream]]]:
    """Envoy with round robin over one upstream a script."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(upstream(script)) for script in scripts]
        ports = [host.port for host in hosts]
        server = EnvoyServer(folder, lambda port: configuration(port, ports, outlier))
        stack.callback(server.kill)
        await asyncio.to_thread(server.start)
        url = f"http://127.0.0.1:{server.port}"
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=url)), hosts


@asynccontextmanager
async def ours(
    scripts: list[Iterator[int]], clock: VirtualClock
) -> AsyncIterator[tuple[Harness, list[ScriptedUpstream]]]:
    """The gateway, whose breaker opens after five failures in a row for a second; the first target is preferred."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(upstream(script)) for script in scripts]
        mesh = {
            "providers": {
                f"scripted/t{n}": {"endpoint": host.url, "models": ["test-model"], "priority": n}
                for n, host in enumerate(hosts)
            },
            "pipeline": ["router", "fallback", {"breaker": {"consecutive": 5, "open_s": 1.0}}],
        }
        gateway = await stack.enter_async_context(Harness(mesh, clock=clock))
        yield gateway, hosts


async def ask_envoy(client: httpx.AsyncClient, times: int) -> list[int]:
    body = {"model": "test-model", "messages": []}
    return [(await client.post("/v1/chat/completions", json=body)).status_code for _ in range(times)]


async def ask_ours(gateway: Harness, times: int) -> list[int]:
    return [(await gateway.chat()).status for _ in range(times)]


async def test_both_stop_calling_after_exactly_five_failures_in_a_row(tmp_path: Path) -> None:
    def scripts() -> list[Iterator[int]]:
        return [always(503), always(200), always(200)]

    outlier = {**OUTLIER, "base_ejection_time": "600s"}
    async with envoy(tmp_path, scripts(), outlier) as (client, hosts):
        answers = await ask_envoy(client, 60)
        assert len(hosts[0].received) == 5 and answers.count(503) == 5
    async with ours(scripts(), VirtualClock()) as (gateway, hosts):
        # And here the five callers were answered, by the next target.
        assert set(await ask_ours(gateway, 60)) == {200}
        assert len(hosts[0].received) == 5


async def test_a_429_clears_envoys_count_and_opens_ours(tmp_path: Path) -> None:
    def scripts() -> list[Iterator[int]]:
        return [(429 if n % 5 == 4 else 503 for n in count()), always(200), always(200)]

    async with envoy(tmp_path, scripts(), OUTLIER) as (client, hosts):
        await ask_envoy(client, 60)
        assert len(hosts[0].received) == 20
    async with ours(scripts(), VirtualClock()) as (gateway, hosts):
        assert set(await ask_ours(gateway, 60)) == {200}
        assert len(hosts[0].received) == 5


async def test_with_two_targets_envoys_default_share_admits_no_ejection_and_ours_needs_none(
    tmp_path: Path,
) -> None:
    def scripts() -> list[Iterator[int]]:
        return [always(503), always(200)]

    async with envoy(tmp_path, scripts(), {"interval": "0.3s"}) as (client, hosts):
        await ask_envoy(client, 40)
        assert len(hosts[0].received) == 20
    async with ours(scripts(), VirtualClock()) as (gateway, hosts):
        assert set(await ask_ours(gateway, 40)) == {200}
        assert len(hosts[0].received) == 5


async def test_after_the_pause_envoy_sends_its_full_share_and_ours_one_probe(tmp_path: Path) -> None:
    def scripts() -> list[Iterator[int]]:
        return [always(503), always(200), always(200)]

    async with envoy(tmp_path, scripts(), OUTLIER) as (client, hosts):
        await ask_envoy(client, 30)
        assert len(hosts[0].received) == 5
        async with asyncio.timeout(30):
            while len(hosts[0].received) == 5:  # until the sweep has taken it back
                await asyncio.sleep(0.1)
                await ask_envoy(client, 3)
        answers = await ask_envoy(client, 15)
        assert len(hosts[0].received) >= 10 and answers.count(503) >= 4
    clock = VirtualClock()
    async with ours(scripts(), clock) as (gateway, hosts):
        await ask_ours(gateway, 30)
        await clock.advance(2.0)
        assert set(await ask_ours(gateway, 30)) == {200}
        assert len(hosts[0].received) == 6
