"""What components can say about targets and attempts, and what the receipt then names."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmg import Answer, Component, Exchange, Failure, Health, Next, Retry, Service, Skip, Target
from lmg.cli import main
from lmg.exchange import Receipt
from lmg.records import Tried
from lmg.services.embedded import FileLedger
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import Harness, chat_body

TWO = {"a": {"models": ["alpha"]}, "b": {"models": ["beta"]}}


class Anywhere(Component):
    """Serves what nobody names by what there is."""

    def on_route(self, exchange: Exchange, targets: Any) -> Any:
        return targets or exchange.offered()


class Nowhere(Component):
    def on_route(self, exchange: Exchange, targets: Any) -> Any:
        return targets


async def test_a_fold_may_find_a_target_for_a_model_that_nobody_names() -> None:
    async with Harness({"pipeline": ["any"]}, classes={"any": Anywhere}, upstreams=TWO) as gateway:
        assert (await gateway.chat(model="gamma")).status == 200
        assert gateway.upstreams["a"].received[0].json["model"] == "alpha"


async def test_a_model_that_no_fold_finds_a_target_for_is_unknown() -> None:
    async with Harness({"pipeline": ["none"]}, classes={"none": Nowhere}, upstreams=TWO) as gateway:
        answer = await gateway.chat(model="gamma")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_targets_that_are_offered_lie_within_the_bounds() -> None:
    seen: list[tuple[Target, ...]] = []

    class Looks(Component):
        requires = {"on_request": ("body",)}

        def on_request(self, exchange: Exchange) -> None:
            exchange.narrow(providers=frozenset({"scripted/b"}))
            seen.append(exchange.offered())
            seen.append(exchange.offered("alpha"))

    async with Harness({"pipeline": ["looks"]}, classes={"looks": Looks}, upstreams=TWO) as gateway:
        await gateway.chat(model="beta")
    assert [[target.name for target in found] for found in seen] == [["scripted/b:beta"], []]


class Skips(Component):
    def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
        if attempt.number == 2:
            raise Skip("open")
        yield


class There(Component):
    """Back to the first target, after the second was skipped."""

    def on_failure(self, exchange: Exchange, failure: Failure) -> Any:
        if failure.kind == "skipped":
            return Retry(to=exchange.attempts[0].target.name)
        return Next("scripted/b:beta")


async def test_a_retry_can_name_an_earlier_target_and_the_receipt_names_every_attempt() -> None:
    classes = {"skips": Skips, "there": There}
    async with Harness({"pipeline": ["there", "skips"]}, classes=classes, upstreams=TWO) as gateway:
        gateway.upstreams["a"].reply({"error": {"message": "busy"}}, status=503)
        gateway.upstreams["a"].reply(chat_body())
        assert (await gateway.chat(model="alpha")).status == 200
        await gateway.ended()
        [receipt] = gateway.receipts
    assert [(t.target, t.outcome, t.http_status) for t in receipt.tried] == [
        ("scripted/a:alpha", "overloaded", 503),
        ("scripted/b:beta", "open", None),
        ("scripted/a:alpha", "complete", 200),
    ]
    assert receipt.attempts == 3


async def test_what_an_answer_without_an_upstream_says_it_used_is_not_used_again() -> None:
    body = b'{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}'

    class Gives(Component):
        requires = {"on_request": ("body",)}

        def on_request(self, exchange: Exchange) -> Answer:
            again = exchange.request.body.get("user") == "again"
            return Answer(body, replay_of="req_first" if again else "")

    async with Harness({"pipeline": ["gives"]}, classes={"gives": Gives}) as gateway:
        assert (await gateway.chat()).json["usage"]["total_tokens"] == 16
        await gateway.chat(user="again")
        await gateway.ended(2)
        assert [receipt.input_tokens + receipt.output_tokens for receipt in gateway.receipts] == [0, 0]
        assert (gateway.receipts[1].purpose, gateway.receipts[1].parent) == ("replay", "req_first")
        recorded = await gateway.host.ledger.recent()
    assert [receipt.exchange_id for receipt in recorded] == [gateway.receipts[0].exchange_id]


async def test_a_probe_asks_what_costs_no_tokens_with_the_providers_own_key() -> None:
    async with Harness(provider={"api_key": "sk-upstream-123456789"}) as gateway:
        gateway.upstream.reply({}, status=401)
        provider = gateway.process.gateway.pipeline.providers["scripted"]
        assert await provider.probe() == 401
        [asked] = gateway.upstream.received
        assert (asked.method, asked.path, asked.header("authorization")) == (
            "GET", "/v1/models", "Bearer sk-upstream-123456789",
        )  # fmt: skip


async def test_a_queue_of_a_components_own_is_beside_the_time_of_its_hooks() -> None:
    class Queues(Component):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.max_wait_s = 30.0

        async def on_request(self, exchange: Exchange) -> None:
            await asyncio.sleep(0.05)

    mesh = {"pipeline": [{"queues": {"timeout_ms": 1}}]}
    async with Harness(mesh, classes={"queues": Queues}) as gateway:
        assert (await gateway.chat()).status == 200


async def test_a_service_that_is_not_well_shows_in_readyz_and_keeps_the_gateway_ready() -> None:
    class Store(Service, MemoryCounters):
        protocol = "counters"

        def __init__(self, *args: Any) -> None:
            Service.__init__(self, *args)
            MemoryCounters.__init__(self)

        def health(self) -> Health:
            return Health("degraded", "redis.internal does not answer")

    async with Harness({"services": {"store": {}}}, classes={"store": Store}) as gateway:
        answer = await gateway.get("/readyz")
    assert (answer.status, answer.json["degraded"]) == (200, {"store": "degraded"})
    assert b"redis.internal" not in answer.raw


async def test_a_ledger_of_an_older_release_is_read_and_goes_on(tmp_path: Path) -> None:
    receipt = Receipt(
        "req_1", 1.0, "acme", "ann", "chat", "openai.chat", "m", "p", 200, "complete", "", 1, 5, 2, 0, 0, False, None, False, None, 1.5,
        tried=(Tried("p:m", "complete", 200, 1.0),),
    )  # fmt: skip
    ledger = FileLedger(tmp_path / "ledger", batch_s=0.01)
    ledger.record(receipt)
    await ledger.flush()
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger") as db:
        db.execute("ALTER TABLE receipt DROP COLUMN tried")
    db.close()
    again = FileLedger(tmp_path / "ledger", batch_s=0.01)
    again.record(replace(receipt, exchange_id="req_2", at=2.0))
    assert await again.recent() == [
        replace(receipt, exchange_id="req_2", at=2.0),
        replace(receipt, tried=()),
    ]
    again.close()


def test_a_plugin_can_add_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = SimpleNamespace(
        __doc__="Says hello.",
        arguments=lambda parser: parser.add_argument("name"),
        run=lambda options: print("hello", options.name) or 3,
    )
    found = {"hello": SimpleNamespace(load=lambda: command)}
    monkeypatch.setattr("lmg.discovery.commands", lambda: found)
    assert main(["hello", "ann"]) == 3
    assert capsys.readouterr().out == "hello ann\n"
    assert main([]) == 0
    assert "added by plugins: hello" in capsys.readouterr().out
