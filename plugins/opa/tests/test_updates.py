"""New versions: they run once they compile, all at once, and what is broken changes nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from lmg import ConfigError, Host
from lmg.testing import Harness, ScriptedUpstream, VirtualClock
from lmg.testing.upstream import Received, Script
from lmg_opa import Opa
from lmg_opa.signatures import content_hash

from .conftest import ALLOW_ALL, CLASSES, DENY_ALL, HEADER

Write = Callable[..., str]
SECRET = "a-secret-for-bundles-of-32-bytes-and-more"
KEYS = {"release": {"algorithm": "HS256", "key": SECRET}}


def opa_of(gateway: Harness) -> Opa:
    return next(c for _, c in gateway.process.gateway.pipeline.listed if isinstance(c, Opa))


def packed(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def signed(files: Mapping[str, str], *, secret: str = SECRET, kid: str = "release") -> dict[str, str]:
    listed = [
        {"name": name, "algorithm": "SHA-256", "hash": content_hash(name, text.encode(), "SHA-256")}
        for name, text in files.items()
    ]
    token = jwt.encode({"files": listed}, secret, "HS256", headers={"kid": kid})
    return {**files, ".signatures.json": json.dumps({"signatures": [token]})}


class Server:
    """Serves one bundle with its ETag, counts who asks, and may be told to fail."""

    def __init__(self) -> None:
        self.bundle = b""
        self.status = 200
        self.asked: list[str | None] = []

    def serve(self, files: Mapping[str, str]) -> None:
        self.bundle = packed(files)

    def __call__(self, request: Received) -> Script:
        self.asked.append(request.header("if-none-match"))
        etag = f'"{hashlib.sha256(self.bundle).hexdigest()}"'
        if self.status != 200:
            return Script(self.status, [], [b""])
        if request.header("if-none-match") == etag:
            return Script(304, [], [b""])
        return Script(200, [("etag", etag)], [self.bundle])


async def passed(clock: VirtualClock, opa: Opa, seconds: float) -> None:
    """Lets time pass, and the look for a newer version that it brings come to its end in its thread."""
    looked = asyncio.Event()
    versions = opa.versions
    refresh = versions._refresh

    async def told(source: Any) -> None:
        await refresh(source)
        looked.set()

    versions._refresh = told  # type: ignore[method-assign]
    await clock.advance(seconds)
    async with asyncio.timeout(10):
        await looked.wait()
    versions._refresh = refresh  # type: ignore[method-assign]


async def stops_the_start(
    mesh: Mapping[str, Any], says: str = "'opa'", state_dir: Path | None = None
) -> None:
    host = Host(state_dir=state_dir)
    try:
        with pytest.raises(ConfigError, match=says):
            async with Harness(mesh, classes=CLASSES, host=host):
                pass
    finally:
        await host.aclose()


def rewrite(folder: str, text: str, file: str = "policy.rego") -> None:
    target = Path(folder) / file
    beside = target.with_name(f".{target.name}")
    beside.write_text(text)
    beside.replace(target)


def mesh(folder: str, **settings: Any) -> dict[str, Any]:
    return {"pipeline": ["caller", {"opa": {"bundle": folder, **settings}}]}


async def test_a_changed_directory_runs_at_the_next_look(policy: Write) -> None:
    folder, clock = policy(ALLOW_ALL), VirtualClock()
    async with Harness(mesh(folder), classes=CLASSES, clock=clock) as gateway:
        assert (await gateway.chat()).status == 200
        rewrite(folder, DENY_ALL)
        assert (await gateway.chat()).status == 200
        await passed(clock, opa_of(gateway), 1.0)
        assert (await gateway.chat()).status == 403


async def test_data_changes_like_policies_do(policy: Write) -> None:
    text = HEADER + "default allow := false\nallow if input.principal.subject in data.staff.names\n"
    folder, clock = policy(text, files={"staff/data.json": '{"names": ["ann"]}'}), VirtualClock()
    async with Harness(mesh(folder), classes=CLASSES, clock=clock) as gateway:
        assert (await gateway.chat()).status == 200
        rewrite(folder, '{"names": []}', "staff/data.json")
        await passed(clock, opa_of(gateway), 1.0)
        assert (await gateway.chat()).status == 403


async def test_a_broken_update_keeps_the_last_good_version_and_shows(policy: Write) -> None:
    folder, clock = policy(ALLOW_ALL), VirtualClock()
    async with Harness(mesh(folder), classes=CLASSES, clock=clock) as gateway:
        opa = opa_of(gateway)
        rewrite(folder, HEADER + "allow := tru\n")
        await passed(clock, opa, 1.0)
        assert (await gateway.chat()).status == 200
        health = opa.health()
        assert health is not None and health.state == "degraded" and "policy.rego:3" in health.detail
        assert (await gateway.get("/readyz")).json["degraded"] == {"opa": "degraded"}
        await passed(clock, opa, 1.0)  # nothing has changed: it is neither read again nor forgotten
        assert opa.health() == health
        rewrite(folder, DENY_ALL)
        await passed(clock, opa, 1.0)
        assert opa.health() is None
        assert (await gateway.chat()).status == 403


async def test_a_directory_that_is_gone_keeps_the_last_good_version(policy: Write) -> None:
    folder, clock = policy(ALLOW_ALL), VirtualClock()
    async with Harness(mesh(folder), classes=CLASSES, clock=clock) as gateway:
        opa = opa_of(gateway)
        os.rename(folder, f"{folder}-away")
        await passed(clock, opa, 1.0)
        assert (await gateway.chat()).status == 200
        assert opa.health() is not None
        os.rename(f"{folder}-away", folder)
        await passed(clock, opa, 1.0)
        assert opa.health() is None


async def test_updates_under_load_never_give_an_answer_of_two_versions(policy: Write) -> None:
    """Version n allows exactly subject n and tags the receipt with n: no request may see anything else."""

    def version(n: int) -> str:
        return (
            HEADER
            + f'default allow := false\nallow if input.principal.subject == "s{n}"\n'
            + f'obligations := {{"tags": {{"version": "v{n}"}}}}\n'
        )

    folder, clock = policy(version(0)), VirtualClock()
    async with Harness(mesh(folder), classes=CLASSES, clock=clock) as gateway:
        opa, running, ends = opa_of(gateway), [0], False
        answers: list[tuple[int, int, int, int]] = []

        async def load(n: int) -> None:
            while not ends:
                before = running[0]
                status = (await gateway.chat(headers={"x-caller": f"acme/s{n}/engineer"})).status
                answers.append((n, before, running[0], status))

        loads = [asyncio.create_task(load(n)) for n in range(4)]
        for n in (1, 2, 3, 2, 1, 0):
            done = len(answers)
            while len(answers) < done + 12:
                await asyncio.sleep(0)
            rewrite(folder, version(n))
            # Until the look is over either version may answer.
            before, running[0] = running[0], -1
            await passed(clock, opa, 1.0)
            running[0] = n
            assert before != n
        ends = True
        await asyncio.gather(*loads)
        await gateway.ended(len(answers))
    sure = [(n, before, status) for n, before, after, status in answers if before == after != -1]
    assert len(sure) > 20
    assert all(status == (200 if n == running_ else 403) for n, running_, status in sure)
    assert {status for *_, status in answers} == {200, 403}
    for receipt in gateway.receipts:
        if receipt.status == 200:
            assert receipt.tags == {"version": f"v{receipt.subject[1:]}"}


# -- downloads --------------------------------------------------------------------------------------


def from_url(url: str, **settings: Any) -> dict[str, Any]:
    source = {"url": f"{url}/bundle.tar.gz", "poll_s": 5, "keys": KEYS, **settings}
    return {"pipeline": ["caller", {"opa": {"bundle_url": source}}]}


async def test_a_signed_bundle_is_downloaded_and_asked_for_by_its_etag(tmp_path: Path) -> None:
    server, clock = Server(), VirtualClock()
    server.serve(signed({"policy.rego": ALLOW_ALL, "limits/data.json": '{"b": 2.50, "a": [1, "é"]}'}))
    async with (
        ScriptedUpstream(answer=server) as there,
        Harness(from_url(there.url), classes=CLASSES, clock=clock) as gateway,
    ):
        opa = opa_of(gateway)
        assert (await gateway.chat()).status == 200
        await passed(clock, opa, 5.0)
        assert server.asked[0] is None and server.asked[1] is not None
        server.serve(signed({"policy.rego": DENY_ALL}))
        await passed(clock, opa, 5.0)
        assert (await gateway.chat()).status == 403


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"policy.rego": ALLOW_ALL}, "not signed"),
        (signed({"policy.rego": ALLOW_ALL}, secret="x" * 40), "does not hold"),
        (signed({"policy.rego": ALLOW_ALL}, kid="other"), "not known"),
        (signed({"policy.rego": DENY_ALL}) | {"policy.rego": ALLOW_ALL}, "not what was signed"),
        (signed({"policy.rego": DENY_ALL}) | {"more.rego": ALLOW_ALL}, "does not name"),
    ],
)
async def test_what_the_right_key_has_not_signed_never_runs(files: dict[str, str], says: str) -> None:
    server, clock = Server(), VirtualClock()
    server.serve(files)
    async with ScriptedUpstream(answer=server) as there:
        await stops_the_start(from_url(there.url), says)
        server.serve(signed({"policy.rego": DENY_ALL}))
        async with Harness(from_url(there.url), classes=CLASSES, clock=clock) as gateway:
            server.serve(files)
            await passed(clock, opa_of(gateway), 5.0)
            assert (await gateway.chat()).status == 403
            health = opa_of(gateway).health()
            assert health is not None and says in health.detail


async def test_a_server_that_fails_is_asked_less_often_and_the_last_good_version_stays() -> None:
    server, clock = Server(), VirtualClock()
    server.serve(signed({"policy.rego": ALLOW_ALL}))
    async with (
        ScriptedUpstream(answer=server) as there,
        Harness(from_url(there.url), classes=CLASSES, clock=clock) as gateway,
    ):
        opa = opa_of(gateway)
        server.status = 500
        await passed(clock, opa, 5.0)
        assert (await gateway.chat()).status == 200
        health = opa.health()
        assert health is not None and "500" in health.detail
        await clock.advance(9.0)
        assert len(server.asked) == 2
        server.status = 200
        await passed(clock, opa, 1.0)
        assert opa.health() is None


async def test_the_last_good_bundle_starts_a_gateway_whose_server_is_down(tmp_path: Path) -> None:
    server = Server()
    server.serve(signed({"policy.rego": DENY_ALL}))
    async with ScriptedUpstream(answer=server) as there:
        async with Harness(from_url(there.url), classes=CLASSES, host=Host(state_dir=tmp_path)):
            pass
        server.status = 503
        async with Harness(from_url(there.url), classes=CLASSES, host=Host(state_dir=tmp_path)) as gateway:
            assert (await gateway.chat()).status == 403
            assert opa_of(gateway).health() is not None
        (tmp_path / "opa" / "opa.tar.gz").write_bytes(packed({"policy.rego": ALLOW_ALL}))
        await stops_the_start(from_url(there.url), "not signed", tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"", b"not gzip", gzip.compress(b"not a tar"), packed({"a.rego": ALLOW_ALL})[:-9]],
    ids=["empty", "text", "no archive", "cut"],
)
async def test_garbage_is_refused(body: bytes) -> None:
    server = Server()
    server.bundle = body
    async with ScriptedUpstream(answer=server) as there:
        await stops_the_start(from_url(there.url))
