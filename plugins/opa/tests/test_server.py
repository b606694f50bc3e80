"""An OPA server that decides, and all the ways in which it does not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from lmg.testing import Harness, ScriptedUpstream
from lmg.testing.servers import free_port
from lmg.testing.upstream import Received, Script, Wait

from .conftest import CLASSES, Redactor


class Authz:
    """Answers like an OPA server; ``raw`` stands in the place of an answer."""

    def __init__(self, result: Mapping[str, Any] | None = None, **script: Any) -> None:
        self.result = result
        self.script = script
        self.asked: list[Received] = []

    def __call__(self, request: Received) -> Script:
        self.asked.append(request)
        if self.script:
            return Script(self.script.get("status", 200), [], self.script["pieces"])
        answer = {"decision_id": "d-1"} | ({"result": self.result} if self.result is not None else {})
        return Script(200, [("content-type", "application/json")], [json.dumps(answer).encode()])


def mesh(url: str, *below: Any, **settings: Any) -> dict[str, Any]:
    return {
        "pipeline": [
            "caller",
            {"opa": {"server": {"url": url, "token": "opa-token-0123456789"}, **settings}},
            *below,
        ]
    }


async def test_the_server_decides_and_is_shown_the_input() -> None:
    authz = Authz({"allow": True, "obligations": {"redact": ["email"], "max_output_tokens": 7}})
    async with (
        ScriptedUpstream(answer=authz) as server,
        Harness(mesh(server.url, "redactor"), classes=CLASSES) as gateway,
    ):
        assert (await gateway.chat(max_tokens=50)).status == 200
        assert gateway.upstream.received[0].json["max_tokens"] == 7
        assert Redactor.seen[0][0] == {"redact:email": True}
        authz.result = {"allow": False, "reasons": ["closed"]}
        assert (await gateway.chat()).error["code"] == "policy_denied"
        assert len(gateway.upstream.received) == 1
    asked = authz.asked[0]
    assert asked.path.partition("?")[0] == "/v1/data/lmg/authz"
    assert asked.header("authorization") == "Bearer opa-token-0123456789"
    assert asked.json["input"]["principal"]["subject"] == "ann"
    assert asked.json["input"]["request"]["parameters"] == {"max_output_tokens": 50}


@pytest.mark.parametrize(
    "authz",
    [
        Authz(None),
        Authz({"allow": "true"}),
        Authz({}),
        Authz(pieces=[b"<html>"]),
        Authz(pieces=[b'{"result": {"allow": false, "allow": true}}']),
        Authz(status=500, pieces=[b'{"result": {"allow": true}}']),
        Authz(status=302, pieces=[b'{"result": {"allow": true}}']),
        Authz(pieces=[b'{"result": {"allow": true}, "x": "' + b"x" * 600_000 + b'"}']),
    ],
)  # fmt: skip
async def test_what_is_no_answer_lets_nobody_through(authz: Authz) -> None:
    async with (
        ScriptedUpstream(answer=authz) as server,
        Harness(mesh(server.url), classes=CLASSES) as gateway,
    ):
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (503, "policy_unavailable")
        assert not gateway.upstream.received


async def test_a_server_that_is_down_is_a_503() -> None:
    async with Harness(mesh(f"http://127.0.0.1:{free_port()}"), classes=CLASSES) as gateway:
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (503, "policy_unavailable")
        assert not gateway.upstream.received


@pytest.mark.parametrize(
    "pieces", [[Wait(event=asyncio.Event())], [b'{"resu', Wait(event=asyncio.Event()), b"lt"]]
)
async def test_a_server_that_hangs_is_a_503_by_the_deadline(pieces: list[Any]) -> None:
    async with (
        ScriptedUpstream(answer=Authz(pieces=pieces)) as server,
        Harness(mesh(server.url, deadline_ms=80), classes=CLASSES) as gateway,
    ):
        began = time.monotonic()
        refused = await gateway.chat()
        assert (refused.status, refused.error["code"]) == (503, "policy_unavailable")
        assert time.monotonic() - began < 2
        assert not gateway.upstream.received


async def test_no_answer_is_a_refusal_also_where_failures_of_the_component_are_let_pass() -> None:
    for settings in ({"deadline_ms": 50}, {"deadline_ms": 60, "timeout_ms": 20}):
        async with (
            ScriptedUpstream(answer=Authz(pieces=[Wait(event=asyncio.Event())])) as server,
            Harness(mesh(server.url, on_error="allow", **settings), classes=CLASSES) as gateway,
        ):
            assert (await gateway.chat()).error["code"] == "policy_unavailable"
            assert not gateway.upstream.received


async def test_a_servers_decisions_are_kept_only_where_a_cache_is_stated() -> None:
    for settings, asked in (({}, 3), ({"cache": {"ttl_s": 30}}, 1), ({"cache": {"size": 0}}, 3)):
        authz = Authz({"allow": True})
        async with (
            ScriptedUpstream(answer=authz) as server,
            Harness(mesh(server.url, **settings), classes=CLASSES) as gateway,
        ):
            for _ in range(3):
                assert (await gateway.chat()).status == 200
        assert len(authz.asked) == asked
