"""A real PostgreSQL behind several gateways: revocation reaches all, and its absence takes down nobody."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from lmg import ServiceError
from lmg.testing.servers import PostgresServer
from lmg_auth_keys.key_text import mint

from .conftest import PEPPER, Gateway, bearer, until

WITHIN_S = 5.0


async def test_gateways_that_start_together_create_the_tables_once(postgres: PostgresServer) -> None:
    async with AsyncExitStack() as stack:
        gateways = [Gateway(postgres.url, timeout_s=10) for _ in range(4)]
        await asyncio.gather(*(stack.enter_async_context(gateway) for gateway in gateways))
        assert postgres.do("SELECT count(*) FROM lmg_auth_keys_meta") == "1"
        made = await gateways[0].issue()
        for gateway in gateways:
            await until(lambda gateway=gateway: gateway.component._directory.get(made["id"]), WITHIN_S)
            assert await gateway.status(made["key"]) == 200


async def test_a_revocation_reaches_every_replica_within_five_seconds(postgres: PostgresServer) -> None:
    # With the default of poll_s, as an operator has it.
    async with Gateway(postgres.url, poll_s=1) as one, Gateway(postgres.url, poll_s=1) as other:
        made = await one.issue()
        await until(lambda: other.component._directory.get(made["id"]), WITHIN_S)
        assert await other.status(made["key"]) == 200
        began = time.monotonic()
        assert (await one.admin("DELETE", f"keys/{made['id']}")).status == 200
        assert await one.status(made["key"]) == 401
        while await other.status(made["key"]) != 401:
            assert time.monotonic() - began < WITHIN_S
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < WITHIN_S


async def test_many_changes_from_two_replicas_at_the_same_time_are_all_seen_by_both(
    postgres: PostgresServer,
) -> None:
    async with Gateway(postgres.url, timeout_s=10) as one, Gateway(postgres.url, timeout_s=10) as other:
        made = await asyncio.gather(*(gateway.issue(f"s{n}") for n in range(20) for gateway in (one, other)))
        await asyncio.gather(
            *((one, other)[n % 2].admin("DELETE", f"keys/{key['id']}") for n, key in enumerate(made[:20]))
        )
        gone, kept = {key["id"] for key in made[:20]}, {key["id"] for key in made[20:]}
        for gateway in (one, other):
            await gateway.poll()
            there = {entry.id for entry in gateway.component._directory.all()}
            assert there >= kept
            assert not there & gone


class Load:
    """Callers that do not stop, and what they were told."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.statuses: list[int] = []
        self.slowest_s = 0.0
        self._gateway, self._key = gateway, key

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(4)]
        return self

    async def _call(self) -> None:
        while True:
            began = time.monotonic()
            self.statuses.append((await self._gateway.chat(headers=bearer(self._key))).status)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def more(self, count: int) -> None:
        wanted = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= wanted)


async def test_a_database_that_stops_and_comes_back_under_load_refuses_no_known_caller(
    postgres: PostgresServer,
) -> None:
    async with Gateway(postgres.url) as gateway, Gateway(postgres.url) as other:
        gateway.host.metrics.enabled = True
        kept, gone = await gateway.issue("kept"), await gateway.issue("gone")
        async with Load(gateway, kept["key"]) as load:
            await load.more(20)
            for end in (postgres.stop, postgres.kill):
                await asyncio.to_thread(end)
                await until(lambda: gateway.running.follower.away and other.running.follower.away)
                health = gateway.component.health()
                assert health is not None
                assert health.state == "degraded"
                assert (await gateway.admin("POST", "keys", {"subject": "x"})).status == 503
                await load.more(50)
                await asyncio.to_thread(postgres.start)
                await until(lambda: not gateway.running.follower.away and not other.running.follower.away)
                assert gateway.component.health() is None
                await load.more(20)
            await other.admin("DELETE", f"keys/{gone['id']}")
            await gateway.poll()
            assert [await gateway.status(gone["key"]) for _ in range(20)] == [401] * 20
            await load.more(20)
        assert set(load.statuses) == {200}
        assert gateway.polls_failed > 0


async def test_a_key_revoked_while_one_replica_could_not_poll_is_refused_after_its_next_poll(
    postgres: PostgresServer,
) -> None:
    async with Gateway(postgres.url, timeout_s=0.5) as gateway:
        made = await gateway.issue()
        await asyncio.to_thread(postgres.kill)
        await until(lambda: gateway.running.follower.away)
        assert await gateway.status(made["key"]) == 200
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(
            postgres.do,
            "UPDATE lmg_auth_keys_meta SET revision = revision + 1;"
            f"UPDATE lmg_auth_keys SET revoked_at = 1, revision = (SELECT revision FROM lmg_auth_keys_meta) WHERE id = '{made['id']}'",
        )
        await until(lambda: not gateway.running.follower.away)
        await gateway.poll()
        assert await gateway.status(made["key"]) == 401


async def test_a_frozen_database_stalls_no_request_and_heals(postgres: PostgresServer) -> None:
    async with Gateway(postgres.url, timeout_s=4) as gateway:
        made = await gateway.issue()
        async with Load(gateway, made["key"]) as load:
            await load.more(10)
            load.slowest_s = 0.0
            postgres.freeze()
            await load.more(200)
            # The poll that hangs meanwhile has four seconds; whoever waited for it would have waited as long.
            assert load.slowest_s < 2.0
            began = time.monotonic()
            _, unknown = mint(gateway.component.random)
            assert set(await asyncio.gather(*(gateway.status(unknown) for _ in range(20)))) == {401}
            assert time.monotonic() - began < 2.0
            assert not gateway.running.follower.away
            await until(lambda: gateway.running.follower.away)
            assert (await gateway.admin("GET", "keys")).status == 503
            postgres.thaw()
            await until(lambda: not gateway.running.follower.away)
            await load.more(10)
        assert set(load.statuses) == {200}
        assert (await gateway.admin("GET", "keys")).status == 200


async def test_a_gateway_that_starts_without_its_database_lets_known_callers_in_and_heals(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    async with Gateway(postgres.url, state_dir=state) as gateway:
        kept, gone = await gateway.issue("kept"), await gateway.issue("gone")
        await gateway.admin("DELETE", f"keys/{gone['id']}")
    await asyncio.to_thread(postgres.kill)
    async with Gateway(postgres.url, state_dir=state, timeout_s=1) as gateway:
        assert [await gateway.status(key["key"]) for key in (kept, gone)] == [200, 401]
        await asyncio.to_thread(postgres.start)
        await until(lambda: not gateway.running.follower.away and gateway.running.follower.age_s() < 1)
        fresh = await gateway.issue("fresh")
        assert [await gateway.status(key["key"]) for key in (kept, gone, fresh)] == [200, 401, 200]


async def test_a_gateway_that_starts_while_its_database_is_frozen_takes_the_snapshot(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    async with Gateway(postgres.url, state_dir=state) as gateway:
        made = await gateway.issue()
    postgres.freeze()
    async with Gateway(postgres.url, state_dir=state, timeout_s=0.3) as gateway:
        assert await gateway.status(made["key"]) == 200
        postgres.thaw()
        await until(lambda: not gateway.running.follower.away)
        assert (await gateway.admin("DELETE", f"keys/{made['id']}")).status == 200
        assert await gateway.status(made["key"]) == 401


async def test_what_postgres_holds_is_of_no_use_to_whoever_reads_it(postgres: PostgresServer) -> None:
    async with Gateway(postgres.url) as gateway:
        made = await gateway.issue()
        assert await gateway.status(made["key"]) == 200
        await gateway.running.usage.flush()
        dumped = await asyncio.to_thread(postgres.dump)
    assert made["id"] in dumped
    assert made["key"] not in dumped
    assert made["key"][17:60] not in dumped


async def test_the_rights_of_the_readme_are_enough_once_the_tables_are_there(
    postgres: PostgresServer,
) -> None:
    async with Gateway(postgres.url) as gateway:
        made = await gateway.issue()
    await asyncio.to_thread(
        postgres.do,
        "CREATE ROLE little LOGIN; GRANT SELECT, INSERT, UPDATE ON lmg_auth_keys TO little;"
        "GRANT SELECT, UPDATE ON lmg_auth_keys_meta TO little",
    )
    async with Gateway(postgres.url.replace("postgres@", "little@")) as gateway:
        fresh = await gateway.issue()
        new = (await gateway.admin("POST", f"keys/{fresh['id']}/rotate", {"grace_s": 0})).json
        assert [await gateway.status(key["key"]) for key in (made, fresh, new)] == [200, 401, 200]
        await gateway.admin("DELETE", f"keys/{made['id']}")
        await gateway.running.usage.flush()
        assert (await gateway.admin("GET", f"keys/{new['id']}")).json["last_used_at"] is not None


async def test_a_wrong_password_stops_the_start_and_is_not_shown(postgres: PostgresServer) -> None:
    await asyncio.to_thread(postgres.do, "CREATE ROLE locked NOLOGIN")
    url = postgres.url.replace("postgres@", "locked:a-password-0123456789@")
    with pytest.raises(ServiceError, match="cannot be asked") as caught:
        await Gateway(url).__aenter__()
    assert "a-password" not in str(caught.value)


async def test_a_revocation_from_the_command_line_reaches_every_gateway(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(
        f"pipeline:\n  - auth_keys: {{pepper: {PEPPER}, database: '{postgres.url}'}}\n"
        "providers: {echo: {}}\nserver: {port: 0, watch: false}\n"
    )
    keys = [sys.executable, "-m", "lmg", "keys"]

    async def run(*arguments: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [*keys, *arguments, "--config", str(mesh)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    key = await run("create", "team-a")
    async with Gateway(postgres.url, poll_s=1) as one, Gateway(postgres.url, poll_s=1) as other:
        assert [await gateway.status(key) for gateway in (one, other)] == [200, 200]
        await run("revoke", key[4:16])
        began = time.monotonic()
        while [await gateway.status(key) for gateway in (one, other)] != [401, 401]:
            assert time.monotonic() - began < WITHIN_S
            await asyncio.sleep(0.05)
