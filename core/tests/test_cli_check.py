"""`lmg check`: what it shows, what it warns of, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmg.cli import main

from .conftest import Install

SOURCE = """
from lmg import Component, Principal, Provider, ProviderConfig

class Auth(Component):
    provides = {"on_request": ("principal",)}
    def on_request(self, exchange):
        exchange.set_fact("principal", Principal("ann"))

class Guard(Component):
    requires = {"on_request": ("principal", "body")}
    uses = {"on_request": ("risk",)}
    def on_request(self, exchange): ...
    def on_response(self, exchange, response): ...

class Fragile(Component):
    def __init__(self, config, host, name):
        raise RuntimeError("no such policy")

class Model(Provider):
    Config = ProviderConfig
    async def start(self):
        raise AssertionError("check starts nothing")
"""


@pytest.fixture
def check(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    install("acme", SOURCE, auth="Auth", guard="Guard", fragile="Fragile", model="Model")

    def run(text: str, *options: str) -> tuple[int, str, str]:
        path = tmp_path / "mesh.yaml"
        path.write_text(text)
        code = main(["check", "--config", str(path), *options])
        return (code, *capsys.readouterr())

    return run


MESH = """
providers: {model: {models: [m1, m2]}}
pipeline: [auth, guard/a: {mode: shadow}, guard/b: {on_error: allow}]
"""


def test_hooks_are_shown_in_the_order_of_their_walk(check: Any) -> None:
    code, out, _ = check(MESH, "--json")
    hooks = json.loads(out)["hooks"]
    assert code == 0
    assert [step["component"] for step in hooks["on_request"]["steps"]] == ["auth", "guard/a", "guard/b"]
    assert [step["component"] for step in hooks["on_response"]["steps"]] == ["guard/b", "guard/a"]
    assert (hooks["on_request"]["walk"], hooks["on_response"]["walk"]) == ("down", "up")


def test_a_step_says_its_mode_and_its_facts(check: Any) -> None:
    auth, shadow, allowing = json.loads(check(MESH, "--json")[1])["hooks"]["on_request"]["steps"]
    assert auth["provides"] == ["principal"]
    assert (shadow["mode"], shadow["on_error"], allowing["on_error"]) == ("shadow", "deny", "allow")
    assert (shadow["requires"], shadow["uses"]) == (["principal", "body"], ["risk"])


def test_the_table_shows_every_component_and_model(check: Any) -> None:
    code, out, _ = check(MESH)
    assert code == 0
    for shown in (
        "auth (on_error: deny)",
        "guard/a (shadow, on_error: deny)",
        "▲ up",
        "principal, body, risk?",
        "m1, m2",
    ):
        assert shown in out


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("pipeline: []", "no authenticator always enforces"),
        ("pipeline: [auth: {when: {operation: [chat]}}]", "no authenticator always enforces"),
        ("insecure_no_auth: true", "insecure_no_auth is set"),
        ("pipeline: [auth, guard: {mode: shadow}]", "guard runs in shadow"),
        ("pipeline: [auth, guard: {mode: 'off'}]", "guard is off"),
        ("pipeline: [auth, guard: {on_error: allow}]", "requests pass without it"),
        ("pipeline: [auth]", "there is no provider"),
        ("providers: {model: {}}", "model names no models"),
    ],
)
def test_warns_where(text: str, warning: str, check: Any) -> None:
    code, out, _ = check(text, "--json")
    assert code == 0
    assert any(warning in said for said in json.loads(out)["warnings"])


def test_a_sound_configuration_has_no_warning(check: Any) -> None:
    assert (
        json.loads(check("providers: {model: {models: [m]}}\npipeline: [auth, guard]", "--json")[1])[
            "warnings"
        ]
        == []
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipeline: [guard, auth]", "a list that works"),
        ("pipeline: [gard]", "did you mean 'guard'?"),
        ("server: {prot: 1}", "did you mean 'port'?"),
        ("pipeline: [fragile]", "cannot be built: RuntimeError: no such policy"),
    ],
)
def test_a_fault_is_exit_code_2_with_its_place(text: str, said: str, check: Any) -> None:
    code, out, err = check(text)
    assert (code, out) == (2, "")
    assert said in err


def test_without_a_file_the_embedded_default_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    assert "the embedded default" in capsys.readouterr().out
