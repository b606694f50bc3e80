"""The service in a running gateway."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from lmg import Component, Deny, Exchange, ServiceError, Slot
from lmg.services import Limit, Settle, Take
from lmg.testing import Harness
from lmg.testing.upstream import Wait, chat_events
from lmg_redis import RedisCounters

from .conftest import RedisServer, until

ONE = Limit("one at a time", 1, None)
HELD = Slot[bool]("held")


class OneAtATime(Component):
    """One exchange at a time, everywhere."""

    requires: ClassVar = {"on_request": ("head",)}

    async def on_request(self, exchange: Exchange) -> Deny | None:
        if (await self.host.counters.take([Take(ONE, 1, held=True)])).refused is not None:
            return Deny(429, "busy", "Busy.")
        exchange[HELD] = True
        return None

    def on_settle(self, exchange: Exchange) -> None:
        if exchange.take(HELD):
            self.host.counters.settle([Settle(ONE, 1, 0)])


def gateway_on(server: RedisServer, **settings: Any) -> Harness:
    return Harness(
        {
            "pipeline": [{"one": {}}],
            "services": {"redis": {"url": server.url, "timeout_ms": 500, "heartbeat_ms": 100, **settings}},
        },
        classes={"redis": RedisCounters, "one": OneAtATime},
    )


async def degraded(gateway: Harness) -> dict[str, str]:
    answer = await gateway.get("/readyz")
    assert answer.status == 200
    return dict(answer.json["degraded"])


async def test_two_gateways_count_together_and_give_back_when_a_client_leaves(
    redis_server: RedisServer,
) -> None:
    async with gateway_on(redis_server) as one, gateway_on(redis_server) as other:
        assert one.host.counters.shared and await degraded(one) == {}
        one.upstream.stream(*chat_events("first")[:2], Wait(event=asyncio.Event()))
        client = await one.connect()
        await client.send(one.encode(one.body(stream=True)))
        await one.upstream.arrival()
        assert (await other.chat()).status == 429
        assert len(other.upstream.received) == 0
        await client.close(reset=True)
        await one.ended()
        assert (await other.chat()).status == 200


async def test_a_gateway_is_ready_and_degraded_while_the_server_is_gone(redis_server: RedisServer) -> None:
    async with gateway_on(redis_server) as gateway:
        gateway.host.metrics.enabled = True
        assert (await gateway.chat()).status == 200
        redis_server.kill()
        service = gateway.process.gateway.pipeline.services[0]
        await until(lambda: service.health() is not None)
        assert await degraded(gateway) == {"redis": "degraded"}
        assert (await gateway.chat()).status == 503  # the component's on_error is deny
        redis_server.start()
        await until(lambda: service.health() is None)
        assert await degraded(gateway) == {}
        assert (await gateway.chat()).status == 200
        series = {family.name: family.series for family in gateway.host.metrics.families()}
        assert series["lmg_store_up"] == {(): 1}
        assert series["lmg_store_errors_total"][("down",)] >= 1
        assert series["lmg_store_round_trip_seconds"][()][-1] > 0


async def test_a_reload_keeps_the_connection_where_its_settings_stay(redis_server: RedisServer) -> None:
    async with gateway_on(redis_server) as gateway:
        before = gateway.host.counters
        mesh = dict(gateway._mesh)
        assert await gateway.reload({**mesh, "pipeline": []})
        assert gateway.host.counters is before
        changed = {"redis": {**mesh["services"]["redis"], "timeout_ms": 400}}
        assert await gateway.reload({**mesh, "services": changed})
        assert gateway.host.counters is not before
        assert (await gateway.chat()).status == 200
        await until(lambda: redis_server.do("ZCARD", "{lmg}:holders") == 1)


async def test_a_required_server_that_is_not_there_stops_the_start(redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(ServiceError, match="connection refused"):
        async with gateway_on(redis_server, required_at_start=True):
            pass
