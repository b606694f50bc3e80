"""The decision log: OPA's format, masked, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import gzip
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmg import Host
from lmg.testing import Harness, ScriptedUpstream, VirtualClock
from lmg.testing.upstream import Received, Script, Wait
from lmg_opa import Opa, OpaConfig
from lmg_opa.decision_log import Decided, DecisionLog, entry
from lmg_opa.engine import Ruling

from .conftest import CLASSES, HEADER

Write = Callable[..., str]
POLICY = (
    HEADER
    + 'default allow := false\nallow if input.principal.subject == "ann"\n'
    + 'obligations := {"tags": {"project": "apollo"}}\nreasons contains "not_ann"\n'
)


def decided(n: int = 0, ruling: Ruling | None = None, document: bytes = b'{"a": 1}') -> Decided:
    return Decided(
        1_800_000_000.25, f"e{n}", "10.0.0.1", "r-1", document, ruling, "timeout", "allow", 0.000_02
    )


def opa_of(gateway: Harness) -> Opa:
    return next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, Opa))


async def test_each_decision_is_a_line_in_opas_format(policy: Write, tmp_path: Path) -> None:
    file, folder = tmp_path / "decisions.jsonl", policy(POLICY, files={".manifest": '{"revision": "r-17"}'})
    log = {
        "file": str(file),
        "labels": {"region": "eu"},
        "mask": ["/input/principal/attributes", "/result/nothing"],
    }
    mesh = {"pipeline": ["caller", {"opa": {"bundle": folder, "decision_log": log}}]}
    async with Harness(mesh, classes=CLASSES, clock=VirtualClock()) as gateway:
        await gateway.chat("a secret prompt")
        await gateway.chat("a secret prompt")
        await gateway.chat(headers={"x-caller": "acme/bob/engineer"})
        await gateway.ended(3)
        ids = [exchange.id for exchange in gateway.exchanges]
    text = file.read_text()
    assert "secret" not in text
    allowed, cached, denied = (json.loads(line) for line in text.splitlines())
    assert allowed["labels"] == {"region": "eu", "component": "opa"}
    assert allowed["bundles"] == {"policy": {"revision": "r-17"}}
    assert allowed["path"] == "lmg/authz"
    assert allowed["timestamp"] == "2027-01-15T08:00:00.000000Z"
    assert allowed["requested_by"] == "127.0.0.1"
    assert allowed["result"] == {"allow": True, "reasons": [], "obligations": {"tags": {"project": "apollo"}}}
    assert allowed["erased"] == ["/input/principal/attributes"]
    assert "attributes" not in allowed["input"]["principal"]
    assert allowed["metrics"]["timer_rego_query_eval_ns"] >= 0
    assert (cached["custom"]["cached"], cached["metrics"]) == (True, {})
    assert (denied["result"]["allow"], denied["custom"]["outcome"]) == (False, "deny")
    assert [event["custom"]["exchange"] for event in (allowed, cached, denied)] == ids
    assert len({event["decision_id"] for event in (allowed, cached, denied)}) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_masking_does_not_reach_into_what_the_cache_holds() -> None:
    ruling = Ruling(True, (), {"tags": {"project": "apollo"}})
    event = entry(decided(ruling=ruling), "id", labels={}, path="p", mask=[["result", "obligations", "tags"]])
    assert event["result"]["obligations"] == {} and event["erased"] == ["/result/obligations/tags"]
    assert ruling.obligations == {"tags": {"project": "apollo"}}


async def test_no_answer_is_logged_with_its_code() -> None:
    event = entry(decided(), "id", labels={}, path="p", mask=[])
    assert event["error"] == {"code": "timeout"} and "result" not in event


class Logs:
    """Takes batches as OPA's log service does; ``failures`` are refused first."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[Any] = []
        self.batches = 0

    def __call__(self, request: Received) -> Script:
        assert request.header("content-encoding") == "gzip"
        if self.failures:
            self.failures -= 1
            return Script(500, [], [b""])
        self.batches += 1
        self.events += json.loads(gzip.decompress(request.body))
        return Script(200, [], [b"{}"])


async def log_to(url: str, host: Host, **settings: Any) -> DecisionLog:
    config = OpaConfig.model_validate({"bundle": "x", "decision_log": {"url": url, **settings}})
    assert config.decision_log is not None
    log = DecisionLog(host, "opa", "lmg/authz", config.decision_log)
    await log.start()
    return log


async def test_batches_are_posted_gzipped_and_again_after_a_failure() -> None:
    logs, host = Logs(failures=2), Host(clock=VirtualClock())
    async with ScriptedUpstream(answer=logs) as server:
        log = await log_to(f"{server.url}/logs", host, token="log-token-0123456789")
        for n in range(700):
            log.add(decided(n))
        clock = host.clock
        assert isinstance(clock, VirtualClock)
        while logs.batches < 2:
            await clock.advance(10)
        await log.drain()
        assert [event["custom"]["exchange"] for event in logs.events] == [f"e{n}" for n in range(700)]
        assert (log.dropped, log.failing, logs.batches) == (0, False, 2)
        assert server.received[0].header("authorization") == "Bearer log-token-0123456789"
        await log.stop()
        await host.aclose()


async def test_what_has_no_room_is_dropped_and_counted_and_nobody_waits() -> None:
    held, host = asyncio.Event(), Host()

    def hangs(request: Received) -> Script:
        return Script(200, [], [Wait(event=held), b"{}"])

    async with ScriptedUpstream(answer=hangs) as server:
        log = await log_to(f"{server.url}/logs", host, size=3)
        log.add(decided())
        while not server.received:
            await asyncio.sleep(0)
        assert [log.add(decided(n)) for n in range(5)] == [True, True, True, False, False]
        assert log.dropped == 2
        held.set()
        await log.drain()
        assert log.dropped == 2
        await log.stop()
        await host.aclose()


async def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    file, host = tmp_path / "decisions.jsonl", Host()
    config = OpaConfig.model_validate({"bundle": "x", "decision_log": {"file": str(file)}})
    assert config.decision_log is not None
    log = DecisionLog(host, "opa", "lmg/authz", config.decision_log)
    await log.start()
    log.add(decided(1))
    await log.drain()
    file.rename(tmp_path / "old.jsonl")
    log.add(decided(2))
    await log.drain()
    assert json.loads(file.read_text())["custom"]["exchange"] == "e2"
    await log.stop()
    await host.aclose()


async def test_a_disk_that_fails_is_told_and_forgotten_when_it_does_not(tmp_path: Path) -> None:
    folder, host = tmp_path / "logs", Host()
    folder.mkdir()
    config = OpaConfig.model_validate({"bundle": "x", "decision_log": {"file": str(folder / "d.jsonl")}})
    assert config.decision_log is not None
    log = DecisionLog(host, "opa", "lmg/authz", config.decision_log)
    await log.start()
    folder.rename(tmp_path / "away")
    log.add(decided(1))
    await log.drain()
    assert (log.failing, log.dropped) == (True, 1)
    folder.mkdir()
    log.add(decided(2, Ruling(True, (), {"max_output_tokens": 2**70})))
    log.add(decided(3))
    await log.drain()
    assert (log.failing, log.dropped) == (False, 2)
    await log.stop()
    await host.aclose()
