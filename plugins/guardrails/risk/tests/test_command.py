"""`lmg approvals` against a running gateway."""

from __future__ import annotations

import asyncio
import json

import pytest

from lmg.cli import main
from lmg.testing import Harness

from .conftest import CLASSES, harness
from .test_approvals import ASKS, RISKY, asked, listed, repeat


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setenv("LMG_KEY", "sk-officer")


async def lmg(gateway: Harness, *arguments: str) -> int:
    """The command in a thread: its client waits, and the gateway runs in this loop."""
    return await asyncio.to_thread(main, ["approvals", *arguments, "--url", gateway.url])


async def test_what_waits_is_listed_shown_and_granted(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway)
        assert await lmg(gateway, "list") == 0
        out = capsys.readouterr().out
        for word in (ticket, "pending", "acme", "alice", "test-model", "0.50", "injection"):
            assert word in out
        assert await lmg(gateway, "show", ticket) == 0
        out = capsys.readouterr().out
        assert "0.500" in out
        assert "bytes; characters: user" in out
        assert "please" not in out
        assert await lmg(gateway, "grant", ticket) == 0
        assert "granted" in capsys.readouterr().out
        assert (await repeat(gateway, ticket)).status == 200
        assert await lmg(gateway, "list") == 0
        assert ticket not in capsys.readouterr().out
        assert await lmg(gateway, "list", "--all") == 0
        assert "used" in capsys.readouterr().out
        assert await lmg(gateway, "grant", ticket) == 1
        assert "409: Not decided: it has been decided already." in capsys.readouterr().err


async def test_deny_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with harness(ASKS) as gateway:
        ticket = await asked(gateway)
        assert await lmg(gateway, "deny", ticket) == 0
        assert "denied" in capsys.readouterr().out
        assert await lmg(gateway, "list", "--all", "--json") == 0
        assert json.loads(capsys.readouterr().out)["approvals"] == await listed(gateway)


async def test_it_finds_the_component_by_its_usual_names_or_the_one_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Harness({"pipeline": ["users", "guard", {"risk": ASKS}]}, classes=CLASSES) as gateway:
        assert (await gateway.chat(RISKY)).status == 403
        assert await lmg(gateway, "list") == 0
        assert "alice" in capsys.readouterr().out
        assert await lmg(gateway, "list", "--component", "risk") == 0
        assert await lmg(gateway, "list", "--component", "risk/other") == 1
        assert "no component 'risk/other'" in capsys.readouterr().err
        assert await lmg(gateway, "list", "--component", "../receipts") == 2


async def test_the_key_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness(ASKS) as gateway:
        monkeypatch.setenv("LMG_KEY", "sk-somebody")
        assert await lmg(gateway, "list") == 1
        assert "scope admin" in capsys.readouterr().err
        monkeypatch.setenv("OPS_KEY", "sk-officer")
        assert await lmg(gateway, "list", "--key-env", "OPS_KEY") == 0
        monkeypatch.setenv("LMG_KEY", "sk with a space")
        assert await lmg(gateway, "list") == 2


async def test_what_callers_have_written_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with harness({**ASKS, "approval": {"show_text": True}}, models=["evil\x1b]0;title\x07"]) as gateway:
        ticket = await asked(gateway, RISKY + "\x1b[2J")
        assert await lmg(gateway, "show", ticket) == 0
        out = capsys.readouterr().out
        assert "please" in out
        assert "\x1b" not in out
        assert "\x07" not in out


def test_a_wrong_command_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approvals", "list", "--url", "http://127.0.0.1:9"]) == 1
    assert "no gateway answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main(["approvals", "list", "--url", "ftp://x"]) == 2
    assert main(["approvals", "grant", "../x"]) == 2
    for arguments in ([], ["fly"], ["grant"]):
        with pytest.raises(SystemExit) as ended:
            main(["approvals", *arguments])
        assert ended.value.code == 2
