"""`lmg keys`: at the database, and through the admin API of a gateway that runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmg.cli import main
from lmg_auth_keys.key_text import PATTERN

from .conftest import PEPPER, ROOT, Gateway, sqlite, until


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMG_TEST_PEPPER", PEPPER)
    path = tmp_path / "mesh.yaml"
    path.write_text(
        "pipeline:\n  - auth_keys: {pepper: '${LMG_TEST_PEPPER}'}\n"
        f"server: {{state_dir: '{tmp_path}'}}\n"
        "providers: {}\n"
    )
    return path


def lmg(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["keys", *arguments]) == code
    said = capsys.readouterr()
    return said.out, said.err


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(lmg(capsys, *arguments, "--json")[0])


def test_create_prints_the_key_alone_on_stdout_and_once(
    mesh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = lmg(capsys, "create", "team-a", "--tenant", "acme", "--config", str(mesh))
    assert re.fullmatch(PATTERN + "\n", out)
    assert "team-a of acme, expires never. The key is not shown again." in err
    assert out.strip() not in err
    listed, _ = lmg(capsys, "list", "--config", str(mesh))
    assert out[4:16] in listed
    assert out.strip() not in listed


def test_every_field_can_be_given(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = made(
        capsys, "create", "team-a", "--config", str(mesh), "--role", "dev", "--role", "ops", "--scope", "batch", "--model", "gpt-*",
        "--operation", "chat", "--budget-class", "small", "--attribute", "floor=2", "--expires-in", "90d",
    )  # fmt: skip
    assert (key["tenant"], key["roles"], key["scopes"]) == ("default", ["dev", "ops"], ["batch"])
    assert (key["models"], key["operations"], key["budget_class"]) == (["gpt-*"], ["chat"], "small")
    assert key["attributes"] == {"floor": "2"}
    assert key["expires_at"] - key["created_at"] == 90 * 86_400
    assert key["created_by"].startswith("lmg keys/uid ")


def test_rotate_and_revoke(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("--config", str(mesh))
    old = made(capsys, "create", "team-a", *here)
    new = made(capsys, "rotate", old["id"], "--grace", "15m", *here)
    assert new["rotated_from"] == old["id"]
    out, err = lmg(capsys, "rotate", old["id"], *here, code=1)
    assert (out, "has been rotated" in err) == ("", True)
    assert lmg(capsys, "revoke", new["id"], *here)[0] == f"{new['id']} is revoked\n"
    keys = {key["id"]: key for key in made(capsys, "list", *here)["keys"]}
    assert (keys[old["id"]]["status"], keys[new["id"]]["status"]) == ("live", "revoked")
    assert keys[old["id"]]["expires_at"] == pytest.approx(new["created_at"] + 900)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["revoke", "AAAAAAAAAAAA"], 1, "There is no such key."),
        (["create", "x", "--operation", "everything"], 1, "operations.0"),
        (["list", "--limit", "0"], 1, "limit is a number"),
        (["list", "--component", "auth_keys/other"], 2, "lists no 'auth_keys/other'"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(
    mesh: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    out, err = lmg(capsys, *arguments, "--config", str(mesh), code=code)
    assert out == ""
    assert said in err


def test_a_time_that_is_none_is_a_wrong_command_line(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "create", "x", "--expires-in", "soon"])
    assert "a number with s, m, h or d" in capsys.readouterr().err


def test_nothing_in_a_cell_steers_the_terminal(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lmg(capsys, "create", "evil\x1b[2J\x9b", "--config", str(mesh))
    listed, _ = lmg(capsys, "list", "--config", str(mesh))
    assert "\x1b[2J" not in listed
    assert "\x9b" not in listed


async def test_a_key_from_the_command_line_reaches_a_gateway_that_runs(
    mesh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Gateway(sqlite(mesh.parent / "auth_keys.sqlite")) as gateway:
        key = await asyncio.to_thread(made, capsys, "create", "team-a", "--config", str(mesh))
        await until(lambda: gateway.component._directory.get(key["id"]))
        assert await gateway.status(key["key"]) == 200
        await asyncio.to_thread(made, capsys, "revoke", key["id"], "--config", str(mesh))
        await until(lambda: gateway.component._directory.get(key["id"]) is None)
        assert await gateway.status(key["key"]) == 401


# Through the admin API


async def remote(gateway: Gateway, *arguments: str, token: str = ROOT) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "lmg", "keys", *arguments, "--url", gateway.url]
    return await asyncio.to_thread(
        subprocess.run, program, env={"LMG_ADMIN_KEY": token, "PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}, capture_output=True, text=True, check=False
    )  # fmt: skip


async def test_all_four_work_through_the_admin_api(database: str) -> None:
    async with Gateway(database) as gateway:
        created = await remote(gateway, "create", "team-a", "--tenant", "acme", "--role", "dev")
        assert created.returncode == 0, created.stderr
        key = created.stdout.strip()
        assert await gateway.status(key) == 200
        listed = json.loads((await remote(gateway, "list", "--tenant", "acme", "--json")).stdout)
        assert [one["id"] for one in listed["keys"]] == [key[4:16]]
        rotated = json.loads((await remote(gateway, "rotate", key[4:16], "--grace", "0s", "--json")).stdout)
        assert [await gateway.status(one) for one in (key, rotated["key"])] == [401, 200]
        assert (await remote(gateway, "revoke", rotated["id"])).returncode == 0
        assert await gateway.status(rotated["key"]) == 401


async def test_a_refusal_of_the_admin_api_is_said_and_the_token_is_not(database: str) -> None:
    async with Gateway(database) as gateway:
        said = await remote(gateway, "create", "x", token="sk-nobody-0123456789")
        assert (said.returncode, said.stdout) == (1, "")
        assert "refused (401)" in said.stderr
        assert "sk-nobody" not in said.stderr
        said = await remote(gateway, "revoke", "../../pipeline")
        assert "no id of a key" in said.stderr


@pytest.mark.parametrize(
    ("url", "token", "code", "said"),
    [
        ("http://127.0.0.1:1", "sk-0123456789", 1, "cannot be reached (ConnectError)"),
        ("ftp://127.0.0.1", "sk-0123456789", 2, "no address of a gateway"),
        ("http://127.0.0.1:1", "", 2, "LMG_ADMIN_KEY holds no credential"),
    ],
)
def test_a_gateway_that_cannot_be_asked_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    token: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("LMG_ADMIN_KEY", token)
    out, err = lmg(capsys, "list", "--url", url, code=code)
    assert out == ""
    assert said in err
