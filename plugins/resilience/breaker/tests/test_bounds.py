"""How many targets are remembered, and under which names they are shown."""

from __future__ import annotations

from lmg.testing import Harness, chat_body

from .conftest import DOWN, Opened, breaker_of


async def test_models_that_clients_name_freely_are_bounded_and_no_label(opened: Opened) -> None:
    gateway = await opened("a", models=("*",), max_targets=10)
    for n in range(25):
        assert (await gateway.chat(model=f"their-own-{n}")).status == 200
    watches = breaker_of(gateway).registry.watches
    assert len(watches) == 10
    assert "scripted/a:their-own-24" in watches
    await fail_until_open_named(gateway, "their-own-24")
    shown = str([family.series for family in gateway.host.metrics.families() if "breaker" in family.name])  # type: ignore[attr-defined]
    assert "their-own" not in shown
    assert "scripted/a:*" in shown


async def fail_until_open_named(gateway: Harness, model: str) -> None:
    gateway.upstreams["a"].reply(DOWN, status=500)
    for _ in range(5):
        await gateway.chat(model=model)
    assert f"scripted/a:{model}" in breaker_of(gateway).registry.unsettled


async def test_an_open_target_is_remembered_longer_than_a_closed_one(opened: Opened) -> None:
    gateway = await opened("a", models=("*",), max_targets=3)
    await fail_until_open_named(gateway, "ill")
    gateway.upstreams["a"].reply(chat_body())
    for n in range(20):
        await gateway.chat(model=f"well-{n}")
    assert set(breaker_of(gateway).registry.watches) == {
        f"scripted/a:{name}" for name in ("ill", "well-18", "well-19")
    }


async def test_where_all_are_open_the_oldest_makes_room(opened: Opened) -> None:
    gateway = await opened("a", models=("*",), max_targets=2)
    for name in ("one", "two", "three"):
        await fail_until_open_named(gateway, name)
    assert set(breaker_of(gateway).registry.unsettled) == {"scripted/a:two", "scripted/a:three"}
