"""What an operator sees of a cache, and can make it forget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmg.testing import Wait, chat_body

from .conftest import ADMIN, cached, component, gateway_of, of, raw, said


async def purge(gateway: Any, body: Any) -> Any:
    return await gateway.request(body, path="/admin/v1/cache/purge", headers=ADMIN)


async def test_stats_tell_requests_and_room() -> None:
    async with gateway_of(cached()) as gateway:
        for _ in range(3):
            await gateway.chat("hello")
        stats = (await gateway.get("/admin/v1/cache/stats", headers=ADMIN)).json
        assert stats["requests"] == {"hit": 2, "miss": 1, "bypass": 0, "coalesced": 0}
        assert (stats["entries"], stats["tenants"], stats["stored"], stats["flights"]) == (1, 1, 1, 0)
        assert stats["bytes"] > 500 and stats["held_bytes"] == 0


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"tenant": "acme"}, {("acme", "a"): "miss", ("acme", "b"): "miss", ("rival", "a"): "hit"}),
        ({"model": "a*"}, {("acme", "a"): "miss", ("acme", "b"): "hit", ("rival", "a"): "miss"}),
        (
            {"tenant": "acme", "model": "a"},
            {("acme", "a"): "miss", ("acme", "b"): "hit", ("rival", "a"): "hit"},
        ),
        ({}, {("acme", "a"): "miss", ("acme", "b"): "miss", ("rival", "a"): "miss"}),
    ],
    ids=["tenant", "model", "both", "all"],
)
async def test_a_purge_forgets_what_it_names(body: Any, left: dict[tuple[str, str], str]) -> None:
    async with gateway_of(cached(), models=["a", "b"]) as gateway:
        for tenant, model in left:
            await gateway.chat("hello", model=model, headers=of(tenant))
        answer = await purge(gateway, body)
        assert answer.json == {"purged": list(left.values()).count("miss")}
        for (tenant, model), expected in left.items():
            assert said(await gateway.chat("hello", model=model, headers=of(tenant))) == expected


async def test_what_was_asked_before_a_purge_is_not_kept_after_it() -> None:
    async with gateway_of(cached()) as gateway:
        ready = asyncio.Event()
        gateway.upstream.reply(b"", Wait(event=ready), raw(chat_body()))
        before = asyncio.ensure_future(gateway.chat("hello"))
        await gateway.upstream.arrival(1)
        await purge(gateway, {})
        after = asyncio.ensure_future(gateway.chat("hello"))
        await gateway.upstream.arrival(2)  # it does not wait for an answer that is to be forgotten
        ready.set()
        assert [said(one) for one in await asyncio.gather(before, after)] == ["miss", "miss"]
        assert said(await gateway.chat("hello")) == "hit"


@pytest.mark.parametrize("body", [[], {"tenants": "x"}, {"tenant": 1}, {"model": ""}])
async def test_a_purge_that_makes_no_sense_is_refused(body: Any) -> None:
    async with gateway_of(cached()) as gateway:
        await gateway.chat("hello")
        assert (await purge(gateway, body)).status == 400
        assert said(await gateway.chat("hello")) == "hit"


async def test_only_operators_may_ask() -> None:
    async with gateway_of(cached()) as gateway:
        assert (await gateway.request({}, path="/admin/v1/cache/purge", headers=of("acme"))).status == 403
        assert (await gateway.get("/admin/v1/cache/stats", headers=of("acme"))).status == 403


async def test_many_purges_stay_few_marks() -> None:
    async with gateway_of(cached()) as gateway:
        for n in range(100):
            await purge(gateway, {"tenant": f"t{n}"})
        assert len(component(gateway, "cache")._purges) <= 64
