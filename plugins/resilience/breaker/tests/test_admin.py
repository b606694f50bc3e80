"""What operators see and do."""

from __future__ import annotations

from typing import Any

import pytest

from lmg import Component, Exchange, Principal
from lmg.testing import ChatAnswer, Harness

from .conftest import Opened, breaker_of, calls, state_of

TARGET = "scripted/a:test-model"


class Everybody(Component):
    """Takes every caller for an operator, or for nobody in particular."""

    provides = {"on_request": ("principal",)}
    requires = {"on_request": ("head",)}
    scopes = frozenset({"admin"})

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("principal", Principal("op", scopes=self.scopes))


class NoOperator(Everybody):
    scopes = frozenset()


async def start(opened: Opened, who: type[Component] = Everybody) -> Harness:
    return await opened("a", "b", below=("everybody",), classes={"everybody": who})


async def post(gateway: Harness, path: str, body: Any) -> ChatAnswer:
    return await gateway.request(body, path=f"/admin/v1/breaker/{path}")


async def test_states_shows_every_circuit_the_open_ones_first(opened: Opened) -> None:
    gateway = await start(opened)
    await gateway.chat()
    gateway.upstreams["a"].reply({"error": {}}, status=500)
    for _ in range(5):
        await gateway.chat()
    await gateway.chat()
    shown = (await gateway.get("/admin/v1/breaker/states")).json["circuits"]
    assert [one["target"] for one in shown] == [TARGET, "scripted/b:test-model", "scripted/a", "scripted/b"]
    assert shown[0] == {
        "target": TARGET, "state": "open", "reason": "consecutive", "for_s": 0.0, "open_for_s": 5.0, "opens": 1,
        "failures_in_a_row": 0, "waiting": 0, "probing": False,
    }  # fmt: skip
    assert shown[1]["state"] == "closed" and shown[1]["reason"] is None


async def test_a_target_can_be_opened_and_reset_by_hand(opened: Opened) -> None:
    gateway = await start(opened)
    await gateway.chat()
    answer = await post(gateway, "open", {"target": TARGET, "for_s": 60})
    assert (answer.status, answer.json["state"], answer.json["open_for_s"]) == (200, "open", 60.0)
    await gateway.chat()
    assert calls(gateway) == {"a": 1, "b": 1}
    answer = await post(gateway, "reset", {"target": TARGET})
    assert (answer.json["state"], state_of(gateway, "a")) == ("closed", "closed")
    await gateway.chat()
    assert calls(gateway) == {"a": 2, "b": 1}


async def test_a_whole_provider_can_be_opened_by_its_name(opened: Opened) -> None:
    gateway = await start(opened)
    await gateway.chat()
    await post(gateway, "open", {"target": "scripted/a"})
    await gateway.chat()
    assert calls(gateway) == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("open", {"target": "nobody:knows"}, 404, "unknown_target"),
        ("reset", {"target": "nobody:knows"}, 404, "unknown_target"),
        ("open", {}, 400, "invalid_request"),
        ("open", [], 400, "invalid_request"),
        ("open", {"target": 5}, 400, "invalid_request"),
        ("open", {"target": TARGET, "for_s": -1}, 400, "invalid_request"),
        ("open", {"target": TARGET, "for_s": 1e12}, 400, "invalid_request"),
        ("reset", {"target": TARGET, "why": "x"}, 400, "invalid_request"),
        ("close", {"target": TARGET}, 404, "not_found"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_field(
    opened: Opened, path: str, body: Any, status: int, code: str
) -> None:
    gateway = await start(opened)
    await gateway.chat()
    answer = await post(gateway, path, body)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert state_of(gateway, "a") == "closed"


async def test_only_operators_may(opened: Opened) -> None:
    gateway = await start(opened, NoOperator)
    await gateway.chat()
    assert (await gateway.get("/admin/v1/breaker/states")).status == 403
    assert (await post(gateway, "open", {"target": TARGET})).status == 403
    assert not breaker_of(gateway).registry.unsettled
