"""The breaker in a real gateway: who is called, and what clients get meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lmg import Component, Exchange, Failure, Next, Skip
from lmg.cli import main
from lmg.testing import Harness, VirtualClock, Wait, chat_body, chat_events, check_component
from lmg_breaker import Breaker

from .conftest import DOWN, Opened, breaker_of, calls, clock_of, fail_until_open, state_of

# Open


async def test_open_breaker_skips_target_without_calling_it(opened: Opened) -> None:
    gateway = await opened("a", "b")
    await fail_until_open(gateway, "a")
    for _ in range(10):
        assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 5, "b": 10}


async def test_a_single_target_that_is_open_is_a_fast_503_that_says_when_to_come_back(opened: Opened) -> None:
    gateway = await opened("a", open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(1.5)
    answer = await gateway.chat()
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_target", "4")
    assert calls(gateway) == {"a": 5}
    await clock_of(gateway).advance(4)
    gateway.upstreams["a"].reply(chat_body("well again"))
    assert (await gateway.chat()).text == "well again", "waiting as long as was said succeeds"


async def test_it_moves_on_by_itself_from_what_it_has_skipped(opened: Opened) -> None:
    """Between routing and the attempt a target may have opened: nobody else need be there to go on."""

    class OpensLate(Component):
        def on_route(self, exchange: Exchange, targets: Any) -> Any:
            breaker_of(gateway).registry.add("scripted/a", "test-model").circuit.force(0.0, 1000.0)
            return targets

    gateway = await opened("a", "b", below=("opens_late",), classes={"opens_late": OpensLate})
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 0, "b": 1}
    assert [one.outcome for one in gateway.receipts[0].tried] == ["open", "complete"]


async def test_somebody_elses_skip_is_not_its_business(opened: Opened) -> None:
    class Skips(Component):
        def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
            raise Skip("mine")
            yield

    gateway = await opened("a", "b", below=("skips",), classes={"skips": Skips})
    assert (await gateway.chat()).status == 503
    assert [one.outcome for one in gateway.receipts[0].tried] == ["mine"]


async def test_the_callers_own_faults_open_nothing(opened: Opened) -> None:
    gateway = await opened("a")
    for status in (400, 404, 413, 422) * 5:
        gateway.upstreams["a"].reply({"error": {"message": "yours"}}, status=status)
        assert (await gateway.chat()).status == status
    assert state_of(gateway, "a") == "closed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_that_breaks_counts_as_one_that_never_began(opened: Opened, stream: bool) -> None:
    gateway = await opened("a")
    gateway.upstreams["a"].stream(*(chat_events("one", done=False)[:-2] if stream else ()), framing="chunked")
    for _ in range(5):
        assert (await gateway.chat(stream=True)).error is not None
    assert state_of(gateway, "a") == "open"


async def test_clients_that_leave_open_nothing(opened: Opened) -> None:
    gateway = await opened("a")
    gateway.upstreams["a"].stream(Wait(event=asyncio.Event()))
    for n in range(8):
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body(stream=True)))
        await gateway.upstreams["a"].arrival(n + 1)
        await client.close(reset=True)
        await gateway.ended(n + 1)
    assert state_of(gateway, "a") == "closed"
    assert breaker_of(gateway).registry.named("scripted/a:test-model").waiting == {}  # type: ignore[union-attr]


# Half-open


async def test_after_its_time_one_call_finds_out_and_closes_it(opened: Opened) -> None:
    gateway = await opened("a", "b", open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    gateway.upstreams["a"].reply(chat_body("a again"))
    assert (await gateway.chat()).text == "a again"
    assert state_of(gateway, "a") == "closed"


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c", "d", "e")])
async def test_200_concurrent_requests_at_half_open_make_exactly_one_call(
    opened: Opened, names: tuple[str, ...]
) -> None:
    gateway = await opened(*names, open_s=5, probes_to_close=2)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    held = asyncio.Event()
    gateway.upstreams["a"].reply(b" ", Wait(event=held), json.dumps(chat_body()).encode())
    running = [asyncio.ensure_future(gateway.chat()) for _ in range(200)]
    await gateway.upstreams["a"].arrival(6)
    await gateway.ended(5 + 199)
    assert calls(gateway)["a"] == 6
    held.set()
    statuses = sorted(answer.status for answer in await asyncio.gather(*running))
    assert statuses == ([200] + [503] * 199 if names == ("a",) else [200] * 200)
    assert state_of(gateway, "a") == "half_open", "one of two probes went well"


async def test_a_probe_whose_client_leaves_makes_room_for_the_next(opened: Opened) -> None:
    gateway = await opened("a", open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    gateway.upstreams["a"].reply(b"{", Wait(event=asyncio.Event()), b"}")
    for n in range(3):
        client = await gateway.connect()
        await client.send(gateway.encode(gateway.body()))
        await gateway.upstreams["a"].arrival(6 + n)
        assert (await gateway.chat()).status == 503
        await client.close(reset=True)
        await gateway.ended(5 + 2 * (n + 1))
        assert state_of(gateway, "a") == "half_open"
    gateway.upstreams["a"].reply(chat_body())
    assert (await gateway.chat()).status == 200
    assert state_of(gateway, "a") == "closed"


async def test_a_probe_that_a_component_further_in_skips_makes_room_for_the_next(opened: Opened) -> None:
    skipping: list[bool] = [False]

    class Skips(Component):
        def on_attempt(self, exchange: Exchange, attempt: Any) -> Any:
            if skipping[0]:
                raise Skip("mine")
            yield

    gateway = await opened("a", below=("skips",), classes={"skips": Skips}, open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    skipping[0] = True
    await gateway.chat()
    assert state_of(gateway, "a") == "half_open"
    skipping[0] = False
    gateway.upstreams["a"].reply(chat_body())
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 6}


async def test_a_long_stream_as_probe_lets_the_others_in_once_it_has_begun(opened: Opened) -> None:
    gateway = await opened("a", open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    held = asyncio.Event()
    first, *rest = chat_events("one", "two")
    gateway.upstreams["a"].stream(first, rest[0], Wait(event=held), *rest[1:])
    client = await gateway.connect()
    await client.send(gateway.encode(gateway.body(stream=True)))
    await client.head()
    gateway.upstreams["a"].reply(chat_body())
    assert (await gateway.chat()).status == 200
    assert state_of(gateway, "a") == "closed"
    held.set()


async def test_a_target_that_flaps_is_left_alone_for_longer_each_time(opened: Opened) -> None:
    """Five upstreams, one of which is well for every probe and ill again at once."""
    gateway = await opened("a", "b", "c", "d", "e", below=("move_on",), open_s=5, max_open_s=80, heal_s=1000)
    clock, lengths = clock_of(gateway), []
    for _ in range(5):
        await fail_until_open(gateway, "a")
        lengths.append(
            breaker_of(gateway).registry.unsettled["scripted/a:test-model"].open_until - clock.monotonic()
        )
        await clock.advance(lengths[-1])
        gateway.upstreams["a"].reply(chat_body())
        assert (await gateway.chat()).status == 200
        assert state_of(gateway, "a") == "closed"
    assert lengths == [5, 10, 20, 40, 80]
    assert all(receipt.status == 200 for receipt in gateway.receipts), "clients saw nothing of it"


# Rate limits


async def test_a_429_leaves_the_target_alone_for_as_long_as_it_says(opened: Opened) -> None:
    gateway = await opened("a", "b")
    gateway.upstreams["a"].reply(DOWN, status=429, headers=[("retry-after", "20")])
    assert (await gateway.chat()).status == 429
    await clock_of(gateway).advance(19)
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 1, "b": 1}
    await clock_of(gateway).advance(1)
    gateway.upstreams["a"].reply(chat_body())
    await gateway.chat()
    assert calls(gateway) == {"a": 2, "b": 1}


async def test_a_single_target_that_throttles_goes_on_being_asked(opened: Opened) -> None:
    """A 429 that names no time may be anybody's: what is left of the limit is still worth having."""
    gateway = await opened("a")
    gateway.upstreams["a"].reply(DOWN, status=429)
    assert (await gateway.chat()).status == 429
    assert state_of(gateway, "a") == "open"
    gateway.upstreams["a"].reply(chat_body())
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 2}


async def test_a_429_that_says_nothing_moves_the_load_for_a_moment(opened: Opened) -> None:
    gateway = await opened("a", "b", rate_limit_open_s=1)
    gateway.upstreams["a"].reply(DOWN, status=429)
    await gateway.chat()
    assert (await gateway.chat()).status == 200
    assert calls(gateway) == {"a": 1, "b": 1}


# Keys


async def test_a_refused_key_closes_all_models_of_its_provider(opened: Opened) -> None:
    gateway = await opened("a", "b", models=("m1", "m2"), credential_open_s=30)
    gateway.upstreams["a"].reply({"error": {"message": "bad key"}}, status=401)
    assert (await gateway.chat(model="m1")).status == 502
    assert (await gateway.chat(model="m2")).status == 200
    assert calls(gateway) == {"a": 1, "b": 1}
    await clock_of(gateway).advance(30)
    gateway.upstreams["a"].reply(chat_body())
    assert (await gateway.chat(model="m2")).status == 200
    assert calls(gateway) == {"a": 2, "b": 1}
    series = gateway.host.metrics.gauge("llm_breaker_state", "", ("target",)).series
    assert series["scripted/a",] == 0


async def test_one_403_is_the_callers_and_three_in_a_row_the_keys(opened: Opened) -> None:
    gateway = await opened("a")
    gateway.upstreams["a"].reply({"error": {"message": "not you"}}, status=403)
    for _ in range(3):
        assert (await gateway.chat()).status == 403
    assert (await gateway.chat()).status == 503
    assert calls(gateway) == {"a": 3}


# Around it


async def test_health_says_so_when_every_target_is_open(opened: Opened) -> None:
    gateway = await opened("a", "b")
    assert (await gateway.get("/readyz")).json["degraded"] == {}
    for name in "ab":
        await gateway.chat()
        breaker_of(gateway).registry.add(f"scripted/{name}", "test-model").circuit.force(0.0, 100.0)
    ready = await gateway.get("/readyz")
    assert (ready.status, ready.json["degraded"]) == (200, {"breaker": "degraded"})


async def test_metrics_tell_states_transitions_and_skips(opened: Opened) -> None:
    gateway = await opened("a", open_s=5)
    await fail_until_open(gateway, "a")
    await gateway.chat()
    await clock_of(gateway).advance(5)
    gateway.upstreams["a"].reply(chat_body())
    await gateway.chat()
    families = {family.name: family.series for family in gateway.host.metrics.families()}  # type: ignore[attr-defined]
    target = "scripted/a:test-model"
    assert families["llm_breaker_state"][target,] == 0
    assert families["llm_breaker_skips_total"] == {(target,): 1}
    assert families["llm_breaker_transitions_total"] == {
        (target, "open", "consecutive"): 1, (target, "half_open", "time"): 1, (target, "closed", "probes"): 1,
    }  # fmt: skip


async def test_a_fallback_above_decides_first(opened: Opened) -> None:
    asked: list[str | None] = []

    class Fallback(Component):
        def on_failure(self, exchange: Exchange, failure: Failure) -> Next | None:
            asked.append(failure.skip_reason)
            return None

    harness = Harness(
        {"pipeline": ["fallback", {"breaker": {}}]},
        classes={"breaker": Breaker, "fallback": Fallback},
        upstreams={"a": {}, "b": {}},
    )
    async with harness as gateway:
        await gateway.chat()
        breaker_of(gateway).registry.add("scripted/a", "test-model").circuit.force(0.0, 1e12)
        breaker_of(gateway).registry.unsettled.clear()  # as if it had opened after routing
        assert (await gateway.chat()).status == 200
    assert asked == ["open"]


async def test_in_shadow_it_judges_and_keeps_nobody_away() -> None:
    harness = Harness(
        {"pipeline": [{"breaker": {"mode": "shadow"}}]},
        classes={"breaker": Breaker}, upstreams={"a": {}, "b": {}}, clock=VirtualClock(),
    )  # fmt: skip
    async with harness as gateway:
        await fail_until_open(gateway, "a")
        gateway.upstreams["a"].reply(chat_body())
        assert [(await gateway.chat()).status for _ in range(3)] == [200] * 3
        assert calls(gateway) == {"a": 8, "b": 0}


async def test_a_permit_comes_back_even_where_the_kernel_gives_no_ending(opened: Opened) -> None:
    gateway = await opened("a", open_s=5)
    await fail_until_open(gateway, "a")
    await clock_of(gateway).advance(5)
    exchange, breaker = gateway.exchanges[0], breaker_of(gateway)
    around = breaker.on_attempt(exchange, exchange.attempts[0])
    around.send(None)
    circuit = breaker.registry.unsettled["scripted/a:test-model"]
    assert circuit.probe is not None
    around.close()
    assert (circuit.probe, circuit.waiting) == (None, {})


def test_check_shows_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("pipeline: [{breaker: {open_s: 10}}]\n")
    assert main(["check", "--config", str(path)]) == 0
    assert "breaker (on_error: allow)" in capsys.readouterr().out
    path.write_text("pipeline: [{breaker: {open_s: 1000}}]\n")
    assert main(["check", "--config", str(path)]) != 0
    assert "open_s is longer than max_open_s" in capsys.readouterr().err


async def test_it_passes_what_every_component_passes() -> None:
    await check_component(lambda: (Breaker, {}))


def test_constructing_it_starts_nothing() -> None:
    from lmg import Host

    host = Host()
    Breaker(Breaker.Config(), host, "breaker")
    assert not host._tasks
