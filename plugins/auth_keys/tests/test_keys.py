"""Keys that the gateway issues: who gets in with one, as whom, and until when."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from lmg import ConfigError
from lmg.testing import VirtualClock, check_component
from lmg_auth_keys import follower
from lmg_auth_keys.key_text import _checksum, id_of, mint
from lmg_auth_keys.plugin import AuthKeys

from .conftest import PEPPER, Gateway, bearer, sqlite


async def test_a_key_is_served_and_says_who_calls(database: str) -> None:
    async with Gateway(database, models=("small", "large")) as gateway:
        made = await gateway.issue(
            "alice", tenant="acme", roles=["dev"], scopes=["batch"], models=["sm*"], operations=["chat"],
            budget_class="interns", attributes={"department": "sales", "floors": ["1", "2"]}, expires_in_s=60,
        )  # fmt: skip
        assert (await gateway.chat(headers=bearer(made["key"]))).status == 200
        principal = (await gateway.ended()).principal
    assert principal is not None
    assert (principal.subject, principal.tenant, principal.issuer) == ("alice", "acme", "auth_keys")
    assert principal.key_id == made["id"]
    assert principal.expires_at == made["expires_at"]
    assert (principal.roles, principal.scopes) == (frozenset({"dev"}), frozenset({"batch"}))
    assert (principal.models, principal.operations) == (frozenset({"sm*"}), frozenset({"chat"}))
    assert principal.budget_class == "interns"
    assert principal.attributes == {"department": "sales", "floors": ("1", "2")}


async def test_what_the_key_does_not_allow_is_refused(database: str) -> None:
    async with Gateway(database, models=("small", "large")) as gateway:
        made = await gateway.issue(models=["sm*"])
        assert (await gateway.chat(model="small", headers=bearer(made["key"]))).status == 200
        assert (await gateway.chat(model="large", headers=bearer(made["key"]))).status == 403
        assert len(gateway.upstream.received) == 1


async def test_every_credential_with_our_prefix_that_is_no_live_key_gets_the_same_401(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with Gateway(sqlite(tmp_path / "keys.sqlite"), clock=clock) as gateway:
        gateway.host.metrics.enabled = True
        good, expired, revoked = [await gateway.issue(expires_in_s=60) for _ in range(3)]
        await gateway.admin("DELETE", f"keys/{revoked['id']}")
        key, (_, unknown) = good["key"], mint(gateway.component.random)
        _, other = mint(gateway.component.random)
        body = good["key"][:17] + other[17:60]
        wrong_secret = body + _checksum(body)
        await gateway.admin("POST", f"keys/{expired['id']}/rotate", {"grace_s": 1})
        await clock.advance(2)
        given = {
            "malformed": [key[:-1], key + "0", key[:-1] + ("0" if key[-1] != "0" else "1"), "lmg_", "lmg_x", key.swapcase().replace("LMG_", "lmg_")],
            "unknown": [unknown],
            "wrong": [wrong_secret],
            "expired": [expired["key"]],
            "revoked": [revoked["key"]],
        }  # fmt: skip
        texts = set()
        for result, keys in given.items():
            for one in keys:
                answer = await gateway.request(b"{not json", headers=bearer(one))
                assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), result
                assert answer.headers["www-authenticate"] == "Bearer"
                texts.add((answer.error["message"], answer.error["type"]))
            assert gateway.counted("llm_auth_keys_requests_total", (result,)) == len(keys)
        assert len(texts) == 1
        assert gateway.upstream.received == []
        assert await gateway.status(key) == 200


async def test_a_credential_of_another_kind_is_left_to_the_other_authenticators(database: str) -> None:
    async with Gateway(database) as gateway:
        assert await gateway.status("sk-operator-0123456789") == 200
        answer = await gateway.chat(headers=bearer("sk-of-somebody-else-0123456789"))
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        answer = await gateway.chat()
        assert (answer.status, answer.error["code"]) == (401, "missing_credential")


async def test_a_key_stops_at_the_second_in_which_it_expires(database: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock) as gateway:
        made = await gateway.issue(expires_in_s=10)
        await clock.advance(9.9)
        assert await gateway.status(made["key"]) == 200
        await clock.advance(0.1)
        assert await gateway.status(made["key"]) == 401
        await clock.advance(10)
        assert gateway.component._directory.get(made["id"]) is None
        shown = (await gateway.admin("GET", f"keys/{made['id']}")).json
        assert shown["status"] == "expired"


async def test_a_rotated_key_works_until_its_grace_is_over_and_the_new_one_grants_the_same(
    database: str,
) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock) as gateway:
        old = await gateway.issue("alice", tenant="acme", roles=["dev"], attributes={"floor": "2"})
        new = (await gateway.admin("POST", f"keys/{old['id']}/rotate", {"grace_s": 30})).json
        assert new["rotated_from"] == old["id"]
        same = ("subject", "tenant", "roles", "scopes", "models", "operations", "budget_class", "attributes")
        assert [new[name] for name in same] == [old[name] for name in same]
        assert [await gateway.status(key["key"]) for key in (old, new)] == [200, 200]
        await clock.advance(30)
        assert [await gateway.status(key["key"]) for key in (old, new)] == [401, 200]


async def test_without_grace_the_old_key_ends_at_once(database: str) -> None:
    async with Gateway(database) as gateway:
        old = await gateway.issue()
        new = (await gateway.admin("POST", f"keys/{old['id']}/rotate", {"grace_s": 0})).json
        assert [await gateway.status(key["key"]) for key in (old, new)] == [401, 200]
        assert (await gateway.admin("GET", f"keys/{old['id']}")).json["status"] == "revoked"


async def test_a_grace_never_makes_a_key_last_longer(database: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock) as gateway:
        old = await gateway.issue(expires_in_s=10)
        new = (await gateway.admin("POST", f"keys/{old['id']}/rotate", {"grace_s": 60})).json
        assert new["expires_at"] == old["expires_at"]
        await clock.advance(10)
        assert await gateway.status(old["key"]) == 401


async def test_of_rotations_at_the_same_time_one_is_done(database: str) -> None:
    async with Gateway(database, timeout_s=10) as gateway:
        old = await gateway.issue()
        answers = await asyncio.gather(
            *(gateway.admin("POST", f"keys/{old['id']}/rotate", {"grace_s": 60}) for _ in range(5))
        )
        assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
        assert (await gateway.admin("GET", "keys")).json["keys"][2:] == []


@pytest.mark.parametrize("ended", ["revoked", "expired", "rotated"])
async def test_a_key_that_has_ended_is_not_rotated(database: str, ended: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock) as gateway:
        made = await gateway.issue(expires_in_s=10)
        if ended == "revoked":
            await gateway.admin("DELETE", f"keys/{made['id']}")
        elif ended == "rotated":
            await gateway.admin("POST", f"keys/{made['id']}/rotate", {})
        else:
            await clock.advance(10)
        answer = await gateway.admin("POST", f"keys/{made['id']}/rotate", {})
        assert (answer.status, answer.error["code"]) == (409, "not_rotatable")


async def test_the_last_use_is_written_once_a_minute_at_most(database: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock) as gateway:
        made = await gateway.issue()

        async def last_used() -> float | None:
            await gateway.running.usage.flush()
            shown = (await gateway.admin("GET", f"keys/{made['id']}")).json
            return shown["last_used_at"]  # type: ignore[no-any-return]

        assert await last_used() is None
        first = clock.now()
        await gateway.status(made["key"])
        assert await last_used() == first
        await clock.advance(59)
        await gateway.status(made["key"])
        assert await last_used() == first
        await clock.advance(1)
        await gateway.status(made["key"])
        assert await last_used() == first + 60


async def test_a_flood_of_unknown_keys_asks_the_database_five_times_a_second_at_most(database: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock, poll_s=4) as gateway:
        asked = 0

        def count(*_: object) -> None:
            nonlocal asked
            asked += 1

        event.listen(gateway.running.store._engine.sync_engine, "before_cursor_execute", count)
        for tenth in range(10):
            keys = [mint(gateway.component.random)[1] for _ in range(20)]
            assert set(await asyncio.gather(*(gateway.status(key) for key in keys))) == {401}
            await clock.advance(0.1)
            assert asked <= 1 + tenth // 2
        assert 0 < asked <= 5


async def test_a_new_key_works_at_once_on_a_replica_that_has_not_polled_since(database: str) -> None:
    clock = VirtualClock()
    async with (
        Gateway(database, clock=clock, poll_s=4) as one,
        Gateway(database, clock=clock, poll_s=4) as other,
    ):
        await clock.advance(1)
        made = await one.issue()
        assert other.component._directory.get(made["id"]) is None
        assert set(await asyncio.gather(*(other.status(made["key"]) for _ in range(10)))) == {200}


async def test_no_more_keys_are_issued_than_max_keys(database: str) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock, max_keys=2) as gateway:
        first = await gateway.issue()
        await gateway.issue(expires_in_s=5)
        answer = await gateway.admin("POST", "keys", {"subject": "bob"})
        assert (answer.status, answer.error["code"]) == (409, "too_many_keys")
        await gateway.admin("DELETE", f"keys/{first['id']}")
        assert await gateway.status((await gateway.issue())["key"]) == 200
        await clock.advance(5)
        assert await gateway.status((await gateway.issue())["key"]) == 200


async def test_a_key_that_another_replica_issued_beyond_the_bound_finds_room_when_there_is_some(
    database: str,
) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock, max_keys=2) as small, Gateway(database, clock=clock) as large:
        first, second, third = [await large.issue() for _ in range(3)]
        await small.poll()
        assert [await small.status(key["key"]) for key in (first, second, third)] == [200, 200, 401]
        health = small.component.health()
        assert health is not None
        assert "no room (max_keys)" in health.detail
        await large.admin("DELETE", f"keys/{first['id']}")
        await small.poll()
        await small.poll()
        assert [await small.status(key["key"]) for key in (first, second, third)] == [401, 200, 200]
        assert small.component.health() is None


async def test_more_live_keys_than_max_keys_stop_the_start(database: str) -> None:
    async with Gateway(database) as gateway:
        for _ in range(3):
            await gateway.issue()
    with pytest.raises(
        ConfigError, match=r"auth_keys\.max_keys: there are more than 2 live keys \(raise it\)"
    ):
        await Gateway(database, max_keys=2).__aenter__()


async def test_keys_survive_a_reload_that_changes_the_settings(database: str) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue()
        mesh = {"pipeline": [{"auth_keys": {**gateway.settings, "grace_s": 5}}]}
        assert await gateway.reload(mesh)
        assert await gateway.status(made["key"]) == 200


async def test_keys_of_an_old_pepper_work_while_it_is_configured(database: str) -> None:
    new = "the-next-pepper-of-the-tests-0123456789"
    async with Gateway(database) as gateway:
        old = await gateway.issue()
    turned = {"pepper": new, "pepper_id": "2"}
    async with Gateway(database, **turned, old_peppers={"1": PEPPER}) as gateway:
        fresh = await gateway.issue()
        assert [await gateway.status(key["key"]) for key in (old, fresh)] == [200, 200]
        assert gateway.component.health() is None
    async with Gateway(database, **turned) as gateway:
        assert [await gateway.status(key["key"]) for key in (old, fresh)] == [401, 200]
        health = gateway.component.health()
        assert health is not None
        assert health.state == "degraded"


async def test_more_keys_than_one_page_are_all_found_after_a_start(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "PAGE", 4)
    async with Gateway(database) as gateway:
        texts = [(await gateway.issue(f"s{n}"))["key"] for n in range(14)]
    async with Gateway(database) as gateway:
        now = gateway.host.clock.now()
        found = [gateway.component._verifier.verify(text, now) for text in texts]
        assert [entry.id for entry in found] == [id_of(text) for text in texts]  # type: ignore[union-attr]


async def test_more_changes_than_one_page_are_all_seen(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "PAGE", 3)
    clock = VirtualClock()  # it stands still: nothing is polled but on demand
    async with Gateway(database, clock=clock) as one, Gateway(database, clock=clock) as other:
        texts = [(await one.issue(f"s{n}"))["key"] for n in range(5)]
        rotated = (await one.admin("POST", f"keys/{texts[0][4:16]}/rotate", {"grace_s": 0})).json
        assert {await other.status(text) for text in texts} == {401}
        await other.poll()
        assert [await other.status(text) for text in (*texts, rotated["key"])] == [401, *[200] * 5]


async def test_it_passes_the_conformance_checks(database: str) -> None:
    await check_component(lambda: (AuthKeys, {"pepper": PEPPER, "database": database}))


def test_the_static_component_is_had_without_a_database_library() -> None:
    program = "import sys; from lmg_auth_keys import AuthStatic; print('sqlalchemy' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
