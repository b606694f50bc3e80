"""Approval: by somebody else, for this very request, in time, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lmg import Host, ServiceError
from lmg.services.memory_counters import MemoryCounters
from lmg.testing import ChatAnswer, Harness, VirtualClock

from .conftest import OFFICER, harness, user

ASKS = {"approval_above": 0.3, "block_above": 0.8}
RISKY = "!injection=0.5 please"
ROOT = "/admin/v1/risk/in/approvals"


async def asked(gateway: Harness, text: str = RISKY, **more: Any) -> str:
    """Sends what needs an approval; its id."""
    answer = await gateway.chat(text, **more)
    assert (answer.status, answer.error["code"]) == (403, "approval_required"), answer.raw
    assert answer.headers["x-should-retry"] == "false"
    return answer.headers["x-lmg-approval"]


async def decide(
    gateway: Harness, ticket: str, verb: str = "grant", who: dict[str, str] = OFFICER
) -> ChatAnswer:
    return await gateway.request(b"", path=f"{ROOT}/{ticket}/{verb}", headers=who)


async def listed(gateway: Harness, query: str = "", who: dict[str, str] = OFFICER) -> list[Any]:
    answer = await gateway.get(ROOT + query, headers=who)
    assert answer.status == 200, answer.raw
    return list(answer.json["approvals"])


async def repeat(
    gateway: Harness, ticket: str, text: str = RISKY, who: str = "acme/alice", **more: Any
) -> ChatAnswer:
    return await gateway.chat(text, headers=user(who, **{"x-lmg-approval": ticket}), **more)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_granted_request_passes_once(stream: bool) -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway, stream=stream)
        assert ticket in (await gateway.chat(RISKY, stream=stream)).error["message"]
        assert gateway.upstream.received == []
        assert (await decide(gateway, ticket)).status == 200
        assert (await repeat(gateway, ticket, stream=stream)).status == 200
        assert len(gateway.upstream.received) == 1
        again = await repeat(gateway, ticket, stream=stream)
        assert (again.status, again.error["code"]) == (403, "approval_required")
        assert again.headers["x-lmg-approval"] != ticket, "a new one must be asked for"
        assert len(gateway.upstream.received) == 1


@pytest.mark.parametrize("kept", ["in memory", "in files"])
async def test_of_fifty_repeats_at_once_exactly_one_passes(kept: str, tmp_path: Path) -> None:
    async with harness(ASKS, host=Host(state_dir=tmp_path if kept == "in files" else None)) as gateway:
        ticket = await asked(gateway)
        await decide(gateway, ticket)
        answers = await asyncio.gather(*(repeat(gateway, ticket) for _ in range(50)))
        assert sorted(answer.status for answer in answers) == [200] + [403] * 49
        assert len(gateway.upstream.received) == 1
        assert len({answer.headers["x-lmg-approval"] for answer in answers if answer.status == 403}) == 1


class Slow(MemoryCounters):
    """Gives way to others before each step, as a store across a network does."""

    async def put(self, *args: Any, **more: Any) -> bool:
        await asyncio.sleep(0)
        return await super().put(*args, **more)

    async def get(self, *args: Any) -> list[bytes | None]:
        await asyncio.sleep(0)
        return await super().get(*args)

    async def remove(self, *args: Any) -> bool:
        await asyncio.sleep(0)
        return await super().remove(*args)

    async def tally(self, *args: Any) -> dict[str, int]:
        await asyncio.sleep(0)
        return await super().tally(*args)


@pytest.mark.parametrize("verbs", [("grant", "deny"), ("grant", "grant")])
async def test_two_replicas_ask_decide_and_let_pass_as_one(
    clock: VirtualClock, verbs: tuple[str, str]
) -> None:
    hosts = [Host(clock=clock), Host(clock=clock)]
    hosts[0].counters = hosts[1].counters = Slow(clock.monotonic)
    async with harness(ASKS, host=hosts[0]) as one, harness(ASKS, host=hosts[1]) as other:
        both = (one, other)
        tickets = await asyncio.gather(*(asked(both[n % 2]) for n in range(20)))
        assert len(set(tickets)) == 1
        assert [shown["id"] for shown in await listed(other)] == [tickets[0]]
        words = await asyncio.gather(*(decide(both[n % 2], tickets[0], verbs[n % 2]) for n in range(10)))
        assert sorted(word.status for word in words) == [200] + [409] * 9
        granted = (await listed(one))[0]["standing"] == "granted"
        answers = await asyncio.gather(*(repeat(both[n % 2], tickets[0]) for n in range(50)))
        assert sorted(answer.status for answer in answers) == ([200] if granted else [403]) + [403] * 49
        assert len(one.upstream.received) + len(other.upstream.received) == granted


async def test_nobody_grants_their_own() -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway, headers=OFFICER)
        answer = await decide(gateway, ticket)
        assert (answer.status, answer.error["code"]) == (403, "own_request")
        assert (await decide(gateway, ticket, "deny")).status == 403
        assert (await decide(gateway, ticket, who=user("acme/chief", **{"x-scopes": "admin"}))).status == 200


async def test_a_denied_request_stays_denied_while_its_time_lasts(clock: VirtualClock) -> None:
    async with harness(ASKS, clock=clock) as gateway:
        ticket = await asked(gateway)
        assert (await decide(gateway, ticket, "deny")).status == 200
        for answer in (await repeat(gateway, ticket), await gateway.chat(RISKY)):
            assert (answer.status, answer.error["code"]) == (403, "approval_denied")
        late = await decide(gateway, ticket, "grant")
        assert (late.status, late.error["code"]) == (409, "already_decided")
        assert gateway.upstream.received == []
        await clock.advance(901)
        assert await asked(gateway) != ticket


@pytest.mark.parametrize("granted_first", [True, False])
async def test_after_its_time_it_is_worth_nothing(clock: VirtualClock, granted_first: bool) -> None:
    async with harness(ASKS, clock=clock) as gateway:
        ticket = await asked(gateway)
        if granted_first:
            await decide(gateway, ticket)
        await clock.advance(900)
        late = await decide(gateway, ticket)
        assert (late.status, late.error["code"]) == (409, "approval_expired")
        answer = await repeat(gateway, ticket)
        assert (answer.status, answer.error["code"]) == (403, "approval_required")
        assert gateway.upstream.received == []
        assert [one["standing"] for one in await listed(gateway) if one["id"] == ticket] == ["expired"]


async def test_in_time_it_passes(clock: VirtualClock) -> None:
    async with harness({**ASKS, "approval": {"ttl_s": 60}}, clock=clock) as gateway:
        ticket = await asked(gateway)
        await clock.advance(30)
        await decide(gateway, ticket)
        await clock.advance(29.9)
        assert (await repeat(gateway, ticket)).status == 200


@pytest.mark.parametrize("change", ["text", "model", "caller", "tenant", "field", "nonsense"])
async def test_it_is_for_this_request_alone(change: str) -> None:
    async with harness(ASKS, models=["test-model", "other"]) as gateway:
        ticket = await asked(gateway)
        await decide(gateway, ticket)
        if change == "text":
            answer = await repeat(gateway, ticket, RISKY + "!")
        elif change == "model":
            answer = await repeat(gateway, ticket, model="other")
        elif change == "caller":
            answer = await repeat(gateway, ticket, who="acme/bob")
        elif change == "tenant":
            answer = await repeat(gateway, ticket, who="evil/alice")
        elif change == "field":
            answer = await repeat(gateway, ticket, temperature=1)
        else:
            answer = await repeat(gateway, "../" + ticket)
        assert (answer.status, answer.error["code"]) == (403, "approval_required")
        assert gateway.upstream.received == []
        assert (await repeat(gateway, ticket)).status == 200, "what was tried with it has not used it up"


async def test_what_is_to_be_blocked_is_blocked_with_an_approval_too() -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway)
        await decide(gateway, ticket)
        answer = await repeat(gateway, ticket, "!injection=0.9")
        assert (answer.status, answer.error["code"]) == (403, "risk_blocked")


async def test_who_decides_sees_who_and_why_but_no_text() -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway, RISKY + " my private words")
        answer = await gateway.get(f"{ROOT}/{ticket}", headers=OFFICER)
        (shown,) = answer.json["approvals"]
        assert (shown["tenant"], shown["subject"], shown["model"]) == ("acme", "alice", "test-model")
        assert (shown["score"], shown["reasons"], shown["standing"]) == (0.5, ["injection"], "pending")
        assert shown["characters"] == {"user": len(RISKY + " my private words")}
        assert shown["body_bytes"] > 0
        assert b"private words" not in answer.raw
        values = repr(gateway.host.counters._values)
        assert "private words" not in values, "nor does the store"


async def test_text_is_shown_where_that_is_wanted_and_bounded() -> None:
    async with harness({**ASKS, "approval": {"show_text": True, "max_text": 20}}) as gateway:
        ticket = await asked(gateway, RISKY + "x" * 100 + " the end of it")
        (shown,) = (await gateway.get(f"{ROOT}/{ticket}", headers=OFFICER)).json["approvals"]
        assert shown["text"] == "xxxxxx the end of it"
        assert "text" not in (await listed(gateway))[0], "the list is for choosing"


async def test_only_operators_decide_and_those_of_a_tenant_about_their_own() -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway)
        plain = user("acme/bob")
        theirs = user("acme/bob", **{"x-scopes": "admin:risk/in"})
        foreign = user("evil/bob", **{"x-scopes": "admin:risk/in"})
        reader = user("acme/eve", **{"x-scopes": "admin:read"})
        assert (await gateway.get(ROOT, headers=plain)).status == 403
        assert (await decide(gateway, ticket, who=plain)).status == 403
        assert (await decide(gateway, ticket, who=reader)).status == 403
        assert await listed(gateway, who=foreign) == []
        assert (await decide(gateway, ticket, who=foreign)).status == 404
        assert [one["id"] for one in await listed(gateway, who=reader)] == [ticket]
        assert (await decide(gateway, ticket, who=theirs)).status == 200
        assert ("bob", "success") in [(event.actor, event.outcome) for event in gateway.audited]


async def test_the_list_can_be_narrowed_and_is_newest_first(clock: VirtualClock) -> None:
    async with harness(ASKS, clock=clock) as gateway:
        ids = []
        for n in range(3):
            ids.append(await asked(gateway, f"{RISKY} {n}"))
            await clock.advance(1)
        await decide(gateway, ids[1])
        assert [one["id"] for one in await listed(gateway)] == ids[::-1]
        assert [one["id"] for one in await listed(gateway, "?standing=pending")] == [ids[2], ids[0]]
        assert (await gateway.get(f"{ROOT}/apr_nope", headers=OFFICER)).status == 404


async def test_what_is_asked_for_is_bounded_and_one_tenant_cannot_take_it_all(clock: VirtualClock) -> None:
    settings = {**ASKS, "approval": {"max_open": 6, "max_open_per_tenant": 4}}
    async with harness(settings, clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        for n in range(4):
            await asked(gateway, f"{RISKY} {n}")
        full = await gateway.chat(f"{RISKY} 5")
        assert (full.status, full.error["code"]) == (503, "approval_unavailable")
        assert await asked(gateway, f"{RISKY} 0"), "one that is asked for already needs no room"
        for n in range(2):
            await asked(gateway, f"{RISKY} {n}", headers=user("other/bob"))
        assert (await gateway.chat(RISKY, headers=user("third/bob"))).status == 503
        await clock.advance(1800)
        assert await asked(gateway, f"{RISKY} 6")
        series = next(
            f for f in gateway.host.metrics.families() if f.name == "llm_risk_approvals_total"
        ).series
        assert series == {("risk/in", "asked"): 7, ("risk/in", "full"): 2}


async def test_without_the_store_nothing_that_needs_approval_passes(clock: VirtualClock) -> None:
    class Gone(MemoryCounters):
        async def get(self, keys: Any) -> list[bytes | None]:
            raise ServiceError("gone")

    host = Host(clock=clock)
    host.counters = Gone(clock.monotonic)
    async with harness(ASKS, host=host) as gateway:
        answer = await gateway.chat(RISKY)
        assert (answer.status, answer.error["code"]) == (503, "approval_unavailable")
        assert (await gateway.chat("hello")).status == 200
        assert (await gateway.get(ROOT, headers=OFFICER)).status in (200, 503)
        assert len(gateway.upstream.received) == 1


async def test_what_waits_survives_a_change_of_the_configuration() -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway)
        changed = {"pipeline": ["users", "guard", {"risk/in": {**ASKS, "approval_above": 0.35}}]}
        assert await gateway.reload(changed)
        assert (await decide(gateway, ticket)).status == 200
        assert (await repeat(gateway, ticket)).status == 200


async def test_a_granted_request_is_redacted_as_well() -> None:
    settings = {**ASKS, "redact_above": 0.2, "redact": ["email"]}
    async with harness(settings, below=["redactor"]) as gateway:
        ticket = await asked(gateway, RISKY + " bob@example.com")
        await decide(gateway, ticket)
        assert (await repeat(gateway, ticket, RISKY + " bob@example.com")).status == 200
        assert b"[email]" in gateway.upstream.received[0].body
    async with harness(settings) as gateway:
        answer = await gateway.chat(RISKY)
        assert (answer.status, answer.error["code"]) == (403, "obligation_unmet")
        assert await listed(gateway) == [], "nobody is asked about what cannot pass"


async def test_in_shadow_nothing_is_asked_for() -> None:
    async with harness({**ASKS, "mode": "shadow"}) as gateway:
        assert (await gateway.chat(RISKY)).status == 200
        assert await listed(gateway) == []


async def test_an_approval_is_forgotten_in_the_end(clock: VirtualClock) -> None:
    async with harness(ASKS, clock=clock) as gateway:
        ticket = await asked(gateway)
        await clock.advance(1801)
        assert await listed(gateway) == []
        assert (await gateway.get(f"{ROOT}/{ticket}", headers=OFFICER)).status == 404
