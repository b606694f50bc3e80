"""What operators see and do: the admin routes, and the command that asks them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lmg.cli import main
from lmg.testing import ChatAnswer, Harness, VirtualClock

from .conftest import EXPERIMENT, NEW, calls, component, harness, user
from .test_rollout import FAILS, QUICK, Flaky, ask, host_with, tick, trial

SECOND = {**EXPERIMENT, "name": "second", "model": "other-*", "plan": [10, 100]}
TWO = {"experiments": [EXPERIMENT, SECOND]}


async def get(gateway: Harness, query: str = "") -> ChatAnswer:
    return await gateway.get(f"/admin/v1/canary/experiments{query}")


async def post(gateway: Harness, verb: str, body: Any = None) -> ChatAnswer:
    return await gateway.request(b"" if body is None else body, path=f"/admin/v1/canary/{verb}")


# -- routes -----------------------------------------------------------------------------------------


async def test_an_experiment_is_shown_with_what_it_waits_for(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock) as gateway:
        await ask(gateway, 12)
        answer = await get(gateway)
        assert answer.status == 200
        (shown,) = answer.json["experiments"]
        old, new = calls(gateway)
        assert shown["samples"] == {"baseline": old, "canary": new, "mirrored": 0}, "to the last request"
        assert (shown["status"], shown["percent"], shown["stages"]) == ("running", 50.0, [50, 75, 100])
        assert shown["waits_for"][0] == "1.0 more minutes"
        assert shown["store_reachable"] is True
        assert [one["measure"] for one in shown["findings"]] == ["error_rate"]
        assert [event["to"] for event in shown["history"]] == ["50"]


async def test_only_operators_may_look_or_act() -> None:
    async with harness() as gateway:
        for method, path in (("GET", "experiments"), ("POST", "abort")):
            answer = await gateway.request(
                b"", method=method, path=f"/admin/v1/canary/{path}", headers=user("alice")
            )
            assert answer.status == 403
        assert trial(gateway).percent == 50


@pytest.mark.parametrize(
    ("verb", "body", "status", "percent"),
    [
        ("promote", None, 200, 75),
        ("promote", {"experiment": "trial", "to": 100}, 200, 100),
        ("promote", {"to": 75.0}, 200, 75),
        ("promote", {"to": 60}, 409, 50),
        ("promote", {"to": "100"}, 400, 50),
        ("promote", {"to": True}, 400, 50),
        ("abort", {}, 200, 0),
        ("abort", {"to": 5}, 400, 50),
        ("pause", None, 200, 50),
        ("resume", None, 409, 50),
        ("restart", None, 200, 50),
        ("abort", {"experiment": "nope"}, 404, 50),
        ("abort", {"experiment": ["trial"]}, 400, 50),
        ("abort", b"[1]", 400, 50),
        ("abort", b"{", 400, 50),
        ("destroy", None, 404, 50),
    ],
)
async def test_what_may_be_asked(verb: str, body: Any, status: int, percent: float) -> None:
    async with harness(QUICK) as gateway:
        answer = await post(gateway, verb, body)
        assert answer.status == status, answer.raw
        assert trial(gateway).percent == percent
        if status == 200:
            assert answer.json["experiments"][0]["percent"] == percent


async def test_an_abort_holds_for_the_very_next_request() -> None:
    async with harness({"plan": [100]}) as gateway:
        await ask(gateway, 2)
        assert (await post(gateway, "abort")).status == 200
        await ask(gateway, 2)
        assert calls(gateway) == (2, 2)


async def test_where_there_are_several_one_must_be_named() -> None:
    async with harness(settings=TWO) as gateway:
        answer = await post(gateway, "abort")
        assert (answer.status, answer.error["message"]) == (
            400,
            "Name one of the experiments: trial, second.",
        )
        assert len((await get(gateway)).json["experiments"]) == 2
        assert [one["name"] for one in (await get(gateway, "?experiment=second")).json["experiments"]] == [
            "second"
        ]


async def test_without_the_store_the_last_known_is_shown_and_nothing_is_moved(clock: VirtualClock) -> None:
    store = Flaky(clock)
    async with harness(QUICK, clock=clock, host=host_with(store, clock)) as gateway:
        store.gone = True
        (shown,) = (await get(gateway)).json["experiments"]
        assert (shown["store_reachable"], shown["percent"]) == (False, 50.0)
        answer = await post(gateway, "abort")
        assert (answer.status, answer.error["code"]) == (503, "store_unreachable")
        assert trial(gateway).percent == 50


async def test_a_rollback_says_why(clock: VirtualClock) -> None:
    async with harness(QUICK, clock=clock) as gateway:
        gateway.upstreams[NEW].reply(FAILS, status=500)
        await ask(gateway, 60)
        await tick(clock)
        (shown,) = (await get(gateway)).json["experiments"]
        assert shown["status"] == "rolled_back"
        assert shown["history"][-1]["reason"] == "error_rate"
        assert "100.00% against 0.00%" in shown["history"][-1]["detail"]
        assert shown["waits_for"] == []


# -- the command ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.delenv("LMG_KEY", raising=False)


async def lmg(gateway: Harness, *arguments: str) -> int:
    """The command in a thread: its client waits, and the gateway runs in this loop."""
    return await asyncio.to_thread(main, ["canary", *arguments, "--url", gateway.url])


async def test_status_shows_experiments_and_one_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness(settings=TWO) as gateway:
        await ask(gateway, 4)
        assert await lmg(gateway, "status") == 0
        both = capsys.readouterr().out
        assert "trial" in both
        assert "second" in both
        assert "History" not in both
        assert await lmg(gateway, "status", "trial") == 0
        one = capsys.readouterr().out
        for word in ("running", "50 %", "error_rate", "+2.00%", "History", "start", "more minutes"):
            assert word in one
        assert "second" not in one


async def test_status_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness() as gateway:
        assert await lmg(gateway, "status", "--json") == 0
        assert json.loads(capsys.readouterr().out) == (await get(gateway)).json


async def test_promote_and_abort_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness(QUICK) as gateway:
        assert await lmg(gateway, "promote") == 0
        assert trial(gateway).percent == 75
        assert await lmg(gateway, "promote", "trial", "--to", "100") == 0
        assert trial(gateway).percent == 100
        assert await lmg(gateway, "abort", "trial") == 0
        assert trial(gateway).percent == 0
        assert "aborted" in capsys.readouterr().out
        assert await lmg(gateway, "abort", "trial") == 1
        assert (
            "409: trial cannot abort: it is aborted already: nobody gets the canary."
            in capsys.readouterr().err
        )
        assert await lmg(gateway, "restart") == 0
        assert trial(gateway).percent == 50


async def test_the_key_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lmg import Component, Exchange, Principal
    from lmg.credentials import credential_of
    from lmg_canary import Canary

    class Keys(Component):
        provides = {"on_request": ("principal",)}
        modes = frozenset({"enforce"})

        def on_request(self, exchange: Exchange) -> None:
            scopes = {"sk-operator": frozenset({"admin"}), "sk-user": frozenset[str]()}
            found = scopes.get(credential_of(exchange.head) or "")
            if found is not None:
                exchange.set_fact("principal", Principal("s", scopes=found))

    mesh = {"pipeline": ["keys", {"canary": {"experiments": [EXPERIMENT]}}]}
    async with Harness(mesh, classes={"keys": Keys, "canary": Canary}) as gateway:
        assert await lmg(gateway, "status") == 1
        assert "401" in (told := capsys.readouterr().err)
        assert "LMG_KEY" in told
        monkeypatch.setenv("LMG_KEY", "sk-user")
        assert await lmg(gateway, "status") == 1
        assert "scope admin" in capsys.readouterr().err
        monkeypatch.setenv("OPS_KEY", "sk-operator")
        assert await lmg(gateway, "status", "--key-env", "OPS_KEY") == 0
        monkeypatch.setenv("LMG_KEY", "sk with a space")
        assert await lmg(gateway, "status") == 2


async def test_another_name_in_the_pipeline_is_hinted_at(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness() as gateway:
        assert await lmg(gateway, "status", "--component", "canaries") == 1
        assert "lists no component 'canaries'" in capsys.readouterr().err
        assert await lmg(gateway, "status", "--component", "../receipts") == 2


def test_no_gateway_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["canary", "status", "--url", "http://127.0.0.1:9"]) == 1
    assert "no gateway answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main(["canary", "status", "--url", "ftp://x"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["promote", "--to", "many"], ["promote", "--to", "101"], ["abort", "--to", "5"]],
)
def test_a_wrong_command_line_is_exit_code_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["canary", *arguments])
    assert ended.value.code == 2


async def test_what_the_gateway_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness() as gateway:
        component(gateway).trials[0].name = "evil\x1b]0;title\x07"
        assert await lmg(gateway, "status") == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x07" not in out
