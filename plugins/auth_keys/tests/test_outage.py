"""The database away, edited, replaced; the snapshot that stands in for it, and when it does not."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lmg import ServiceError
from lmg.dialects.registry import DIALECTS
from lmg.dryrun import DryRun
from lmg.exchange import Head
from lmg.testing import VirtualClock
from lmg_auth_keys.snapshot import Snapshot

from .conftest import Gateway, bearer, sqlite, until

HOUR = 3600.0
NOW = 1_800_000_000.0


class Place:
    """A database whose folder can be taken away, and a folder for the state."""

    def __init__(self, folder: Path) -> None:
        self.there, self.away = folder / "db", folder / "away"
        self.state = folder / "state"
        self.there.mkdir()
        self.state.mkdir()

    def gateway(self, after_s: float = 0.0, **settings: Any) -> Gateway:
        clock = VirtualClock(NOW + after_s)
        settings = {"poll_s": 4, "max_stale_s": HOUR, **settings}
        return Gateway(sqlite(self.there / "keys.sqlite"), state_dir=self.state, clock=clock, **settings)

    def take_away(self) -> None:
        self.there.rename(self.away)

    def bring_back(self) -> None:
        self.away.rename(self.there)

    @property
    def snapshot(self) -> Path:
        return self.state / "auth_keys.snapshot"

    @property
    def stamp(self) -> Path:
        return self.state / "auth_keys.snapshot.stamp"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def advance(gateway: Gateway, seconds: float) -> None:
    clock = gateway.host.clock
    assert isinstance(clock, VirtualClock)
    await clock.advance(seconds)


async def test_a_start_without_the_database_serves_known_keys_until_they_are_too_old(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
    place.take_away()
    async with place.gateway(HOUR - 100) as gateway:
        assert await gateway.status(made["key"]) == 200
        health = gateway.component.health()
        assert health is not None
        assert (health.state, "3500 s old" in health.detail) == ("degraded", True)
        assert (await gateway.get("/readyz")).json["degraded"] == {"auth_keys": "degraded"}
        await advance(gateway, 101)
        answer = await gateway.chat(headers=bearer(made["key"]))
        assert (answer.status, answer.error["code"]) == (503, "auth_unavailable")
        assert answer.headers["retry-after"] == "4"
        assert len(gateway.upstream.received) == 1
        health = gateway.component.health()
        assert health is not None
        assert health.state == "failed"
        # The other authenticator does not depend on it.
        assert await gateway.status("sk-operator-0123456789") == 200
        place.bring_back()
        await gateway.poll()
        assert await gateway.status(made["key"]) == 200
        assert gateway.component.health() is None


async def test_a_key_that_expires_while_the_database_is_away_stops(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue(expires_in_s=500)
    place.take_away()
    async with place.gateway(499) as gateway:
        assert await gateway.status(made["key"]) == 200
        await advance(gateway, 1)
        assert await gateway.status(made["key"]) == 401


@pytest.mark.parametrize("after_s", [HOUR + 1, 10 * HOUR])
async def test_a_snapshot_that_is_too_old_lets_nobody_in(place: Place, after_s: float) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
    place.take_away()
    async with place.gateway(after_s) as gateway:
        assert await gateway.status(made["key"]) == 503


async def test_a_snapshot_from_the_future_is_refused(place: Place) -> None:
    async with place.gateway(HOUR) as gateway:
        await gateway.issue()
    place.take_away()
    with pytest.raises(ServiceError, match="the clock has been set back"):
        await place.gateway().__aenter__()


async def test_without_database_and_without_snapshot_it_does_not_start(place: Place) -> None:
    place.take_away()
    with pytest.raises(ServiceError, match=r"cannot be opened .*; the snapshot cannot be read"):
        await place.gateway().__aenter__()


def swap_digests(raw: bytes) -> bytes:
    head, block, signature = raw.split(b"\n")
    (row,) = json.loads(block)
    row[1] = "00" * 32
    return b"\n".join([head, json.dumps([row]).encode(), signature])


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "another digest": swap_digests,
    "another subject": lambda raw: raw.replace(b"alice", b"admin"),
    "later": lambda raw: raw.replace(b"1800000000", b"1800009999"),
    "a block less": lambda raw: b"\n".join([raw.split(b"\n")[0], raw.split(b"\n")[2]]),
    "no signature": lambda raw: raw[: raw.rindex(b" ") + 1],
    "no last line": lambda raw: raw[: raw.rindex(b"\n")],
    "another pepper": lambda raw: raw[: raw.rindex(b"\n") + 1] + b"2" + raw[raw.rindex(b" ") :],
    "not ascii": lambda raw: raw[:-2] + b"\xff\xfe",
    "one byte": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "nothing": lambda raw: b"",
}


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edited_snapshot_is_refused(place: Place, edit: str) -> None:
    async with place.gateway() as gateway:
        await gateway.issue("alice")
    changed = EDITS[edit](place.snapshot.read_bytes())
    assert changed != place.snapshot.read_bytes()
    place.snapshot.write_bytes(changed)
    place.take_away()
    with pytest.raises(ServiceError, match="signature is wrong"):
        await place.gateway().__aenter__()


async def test_an_edited_stamp_does_not_make_a_snapshot_younger(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
    place.stamp.write_bytes(place.stamp.read_bytes().replace(b"1800000000", b"1800009000"))
    place.take_away()
    async with place.gateway(HOUR + 1) as gateway:
        assert await gateway.status(made["key"]) == 503


async def test_the_stamp_keeps_an_unchanged_snapshot_young(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
    async with place.gateway(2 * HOUR):
        pass
    place.take_away()
    async with place.gateway(2 * HOUR + 60) as gateway:
        assert await gateway.status(made["key"]) == 200


async def test_a_snapshot_of_another_database_is_refused(place: Place, tmp_path: Path) -> None:
    async with place.gateway() as gateway:
        await gateway.issue()
    with pytest.raises(ServiceError, match="of another database"):
        await Gateway(sqlite(tmp_path / "no" / "other.sqlite"), state_dir=place.state).__aenter__()


async def test_a_key_that_was_revoked_is_not_in_the_snapshot(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
        await gateway.admin("DELETE", f"keys/{made['id']}")
    assert made["id"].encode() not in place.snapshot.read_bytes()
    place.take_away()
    async with place.gateway() as gateway:
        assert await gateway.status(made["key"]) == 401


async def test_a_revocation_is_in_the_snapshot_within_seconds(place: Place) -> None:
    async with place.gateway() as gateway:
        made = await gateway.issue()
        await advance(gateway, 1)
        await until(lambda: made["id"].encode() in place.snapshot.read_bytes())
        await gateway.admin("DELETE", f"keys/{made['id']}")
        await advance(gateway, 1)
        await until(lambda: made["id"].encode() not in place.snapshot.read_bytes())


async def test_whoever_stops_last_does_not_bring_an_older_snapshot_back(place: Place) -> None:
    async with place.gateway() as newer:
        async with place.gateway() as older:
            made = await newer.issue()
            await newer.running.tending.save()
            assert older.running.follower.state.revision < newer.running.follower.state.revision
        assert made["id"].encode() in place.snapshot.read_bytes()


async def test_all_files_are_private(place: Place) -> None:
    before = os.umask(0)
    try:
        async with place.gateway() as gateway:
            await gateway.issue()
    finally:
        os.umask(before)
    files = [place.there / "keys.sqlite", place.snapshot, place.stamp]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    assert {file.name for file in place.state.iterdir()} == {place.snapshot.name, place.stamp.name}


async def test_a_snapshot_that_cannot_be_written_stops_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.gateway() as gateway:
        place.snapshot.unlink()
        place.snapshot.mkdir()
        made = await gateway.issue()
        await gateway.running.tending.sweep()
        await gateway.running.tending.sweep()
        assert await gateway.status(made["key"]) == 200
    said = [record for record in caplog.records if "auth_keys_snapshot_not_written" in record.message]
    assert len(said) == 1


async def test_a_database_that_was_emptied_counts_as_it_is(database: str, tmp_path: Path) -> None:
    async with Gateway(database) as gateway:
        made = await gateway.issue()
        with sqlite3.connect(tmp_path / "keys.sqlite") as db:
            db.execute("DELETE FROM lmg_auth_keys")
            db.execute("UPDATE lmg_auth_keys_meta SET epoch = 'another', revision = 0")
        db.close()
        await gateway.poll()
        assert await gateway.status(made["key"]) == 401


async def test_a_database_that_was_restored_from_an_older_copy_counts_as_it_is(
    database: str, tmp_path: Path
) -> None:
    async with Gateway(database, clock=VirtualClock()) as gateway:
        kept, gone = await gateway.issue("kept"), await gateway.issue("gone")
        with sqlite3.connect(tmp_path / "keys.sqlite") as db:
            db.execute("DELETE FROM lmg_auth_keys WHERE id = ?", (gone["id"],))
            db.execute("UPDATE lmg_auth_keys_meta SET revision = 1")
        db.close()
        await gateway.poll()
        assert [await gateway.status(key["key"]) for key in (kept, gone)] == [200, 401]


async def test_after_a_longer_absence_everything_is_read_again(database: str, tmp_path: Path) -> None:
    clock = VirtualClock()
    async with Gateway(database, clock=clock, poll_s=4) as gateway:
        made = await gateway.issue()
        # A copy that was put back, and has since counted as far as the gateway had seen.
        with sqlite3.connect(tmp_path / "keys.sqlite") as db:
            db.execute("UPDATE lmg_auth_keys SET revoked_at = 1")
        db.close()
        await gateway.poll()
        assert await gateway.status(made["key"]) == 200
        clock._elapsed += 61
        await gateway.poll()
        assert await gateway.status(made["key"]) == 401


async def test_tables_that_were_dropped_are_an_outage(database: str, tmp_path: Path) -> None:
    async with Gateway(database, clock=VirtualClock()) as gateway:
        made = await gateway.issue()
        with sqlite3.connect(tmp_path / "keys.sqlite") as db:
            db.execute("ALTER TABLE lmg_auth_keys_meta RENAME TO gone")
        db.close()
        with pytest.raises(ServiceError):
            await gateway.poll()
        assert await gateway.status(made["key"]) == 200
        assert gateway.component.health() is not None


async def test_a_row_that_nobody_can_read_refuses_its_own_caller_alone(database: str, tmp_path: Path) -> None:
    async with Gateway(database) as gateway:
        broken, fine = await gateway.issue("broken"), await gateway.issue("fine")
    with sqlite3.connect(tmp_path / "keys.sqlite") as db:
        db.execute("UPDATE lmg_auth_keys SET allows = 'no json' WHERE id = ?", (broken["id"],))
    db.close()
    async with Gateway(database) as gateway:
        assert [await gateway.status(key["key"]) for key in (broken, fine)] == [503, 200]


async def test_tables_of_a_newer_release_stop_the_start(database: str, tmp_path: Path) -> None:
    async with Gateway(database):
        pass
    with sqlite3.connect(tmp_path / "keys.sqlite") as db:
        db.execute("UPDATE lmg_auth_keys_meta SET version = 99")
    db.close()
    with pytest.raises(ServiceError, match=r"version 99.*update lmg-auth-keys"):
        await Gateway(database).__aenter__()


async def test_a_locked_file_stalls_no_request_and_heals(database: str, tmp_path: Path) -> None:
    async with Gateway(database, timeout_s=0.2) as gateway:
        made = await gateway.issue()
        holder = sqlite3.connect(tmp_path / "keys.sqlite")
        holder.execute("BEGIN EXCLUSIVE")
        await until(lambda: gateway.running.follower.away)
        assert await gateway.status(made["key"]) == 200
        assert (await gateway.admin("POST", "keys", {"subject": "x"})).status == 503
        holder.rollback()
        holder.close()
        await until(lambda: not gateway.running.follower.away)
        assert (await gateway.admin("POST", "keys", {"subject": "x"})).status == 200


async def test_gateways_that_start_together_create_the_tables_once(database: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        gateways = [Gateway(database, timeout_s=10) for _ in range(4)]
        await asyncio.gather(*(stack.enter_async_context(gateway) for gateway in gateways))
        made = await gateways[0].issue()
        for gateway in gateways:
            await until(lambda gateway=gateway: gateway.component._directory.get(made["id"]))
            assert await gateway.status(made["key"]) == 200
    with sqlite3.connect(tmp_path / "keys.sqlite") as db:
        assert db.execute("SELECT count(*) FROM lmg_auth_keys_meta").fetchone() == (1,)
    db.close()


async def test_a_dry_run_knows_callers_from_the_snapshot_and_touches_no_database(place: Place) -> None:
    async with Gateway(sqlite(place.there / "keys.sqlite"), state_dir=place.state) as gateway:
        made = await gateway.issue("alice")
        blueprint = gateway.read({**gateway._mesh, "server": {"state_dir": str(place.state)}})
    place.take_away()
    head = Head("POST", "/v1/chat/completions", ((b"authorization", f"Bearer {made['key']}".encode()),))
    body = json.dumps({"model": "test-model", "messages": [{"role": "user", "content": "hi"}]}).encode()
    async with DryRun(blueprint) as dry:
        await dry.walk(DIALECTS[b"/v1/chat/completions"], head, body)
        assert dry.exchange is not None
        principal = dry.exchange.principal
    assert not place.there.exists()
    assert principal is not None
    assert principal.subject == "alice"
    place.snapshot.unlink()
    async with DryRun(blueprint) as dry:
        assert any("its keys are in a database" in note for note in dry.notes)


async def test_the_poll_goes_on_by_itself(database: str) -> None:
    async with Gateway(database) as one, Gateway(database) as other:
        made = await one.issue()
        await until(lambda: other.component._directory.get(made["id"]))
        await one.admin("DELETE", f"keys/{made['id']}")
        await until(lambda: other.component._directory.get(made["id"]) is None)
        assert await other.status(made["key"]) == 401


def test_a_snapshot_shows_nothing_of_its_pepper() -> None:
    from lmg_auth_keys.peppers import Peppers

    from .conftest import PEPPER

    peppers = Peppers("1", {"1": PEPPER})
    assert PEPPER not in repr(peppers) + repr(Snapshot(Path("x"), "y", peppers))
