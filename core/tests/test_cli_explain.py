"""`lmg explain`: the real walk, with nothing taken, called or shown that should not be."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmg.cli import main
from lmg.services import Limit, Take
from lmg.services.file_counters import FileCounters

from .conftest import Install

SOURCE = """
from lmg import *
from lmg.credentials import credential_of
from lmg.services import Limit as Bound, Take

class Model(Provider):
    Config = ProviderConfig
    async def start(self):
        raise AssertionError("explain starts no provider")
    async def call(self, exchange, attempt):
        raise AssertionError("explain calls no provider")

class Embedded(Model):
    @classmethod
    def default_models(cls):
        return ["tiny"]
    def targets(self):
        return [Target(self.name, "", "")]

class Auth(Component):
    provides = {"on_request": ("principal",)}
    requires = {"on_request": ("head",)}
    def on_request(self, exchange):
        if credential_of(exchange.head) == "sk-very-secret":
            exchange.set_fact("principal", Principal("ann", "acme"))

class Mask(Component):
    provides = {"on_request": ("risk",)}
    requires = {"on_request": ("body",)}
    async def on_request(self, exchange):
        for segment in exchange.request.segments():
            exchange.request.replace(segment, segment.text.replace("falcon", "*"))
        exchange.set_fact("risk", 0.25)
        exchange.set_fact("secret", "sk-very-secret")
        exchange.reply_header(b"x-masked", b"1")
        exchange.narrow(regions=frozenset({"eu"}), max_output_tokens=10)

class Block(Component):
    requires = {"on_request": ("body",)}
    def on_request(self, exchange):
        return Deny(403, "blocked", "Not this.", reason="rule 7")

class Answers(Component):
    requires = {"on_request": ("body",)}
    def on_request(self, exchange):
        return Answer(b"{}")

class Limit(Component):
    requires = {"on_request": ("body",)}
    async def on_request(self, exchange):
        taken = await self.host.counters.take([Take(Bound("k", 3, 1e9), 1)])
        return Deny(429, "limited") if taken.refused else None

class Judge(Component):
    requires = {"on_request": ("body",)}
    async def on_request(self, exchange):
        await exchange.fork(exchange.candidates[0], "judge")

class Asks(Component):
    async def start(self):
        await self.host.http.get("https://id.example.com/keys")
    def on_request(self, exchange): ...

class Slow(Component):
    requires = {"on_request": ("body",)}
    provides = {"on_request": ("score",)}
    def on_request(self, exchange):
        async def check():
            return Finding({"score": 3})
        return Later(check())

class Broken(Component):
    def on_request(self, exchange):
        raise ValueError("quotes the caller")

class Route(Component):
    def on_route(self, exchange, targets):
        for target in targets[1:]:
            exchange.drop(target, "too far")
        return targets[:1]

class Turn(Component):
    def on_route(self, exchange, targets):
        return list(reversed(targets))

class Leaves(Component):
    def on_settle(self, exchange):
        raise AssertionError("explain settles nothing")
    def on_end(self, exchange):
        raise AssertionError("explain ends nothing")
    def on_attempt(self, exchange, attempt):
        raise AssertionError("explain attempts nothing")
        yield
"""
COMPONENTS = (
    "Model", "Embedded", "Auth", "Mask", "Block", "Answers", "Limit", "Judge", "Asks", "Slow", "Broken", "Route", "Turn", "Leaves",
)  # fmt: skip
TWO = "providers: {model/us: {models: [m], region: us, priority: 1}, model/eu: {models: [m], region: eu, priority: 2}}\n"


@pytest.fixture
def explain(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    install("acme", SOURCE, **{name.lower(): name for name in COMPONENTS})

    def run(text: str, *options: str, table: bool = False) -> Any:
        path = tmp_path / "mesh.yaml"
        path.write_text(text)
        assert main(["explain", "--config", str(path), *options, *([] if table else ["--json"])]) == 0
        out = capsys.readouterr().out
        return out if table else json.loads(out)

    return run


def steps(found: Any) -> dict[str, Any]:
    return {step["component"]: SimpleNamespace(**step) for step in found["steps"]}


def test_a_request_is_walked_down_to_its_targets_in_order(explain: Any) -> None:
    found = explain(TWO + "pipeline: [turn, leaves]")
    assert found["outcome"] == {"is": "forwarded"}
    assert [target["name"] for target in found["targets"]] == ["model/eu:m", "model/us:m"]
    assert steps(found)["turn"].changes == ["order"]
    assert found["afterwards"]["on_attempt"] == ["leaves"]


def test_facts_and_changes_are_shown_and_secrets_are_not(explain: Any) -> None:
    text = TWO + "pipeline: [auth, mask]"
    found = explain(text, "--header", "authorization: Bearer sk-very-secret")
    assert steps(found)["auth"].facts == ["principal: ann of acme"]
    assert steps(found)["mask"].facts == ["risk: 0.25", "secret"]
    assert steps(found)["mask"].changes == ["reply header x-masked", "bounds"]
    assert "sk-very-secret" not in json.dumps(found)
    assert "sk-very-secret" not in explain(
        text, "--header", "authorization: Bearer sk-very-secret", table=True
    )


def test_a_changed_body_is_said_and_not_shown(explain: Any, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": "the falcon"}]}))
    found = explain(TWO + "pipeline: [mask]", str(request))
    assert "body" in steps(found)["mask"].changes
    assert "falcon" not in json.dumps(found)


def test_bounds_leave_targets_out_with_a_reason(explain: Any) -> None:
    found = explain(TWO + "pipeline: [mask]")
    assert [target["name"] for target in found["targets"]] == ["model/eu:m"]
    assert [(drop["target"], drop["component"]) for drop in found["dropped"]] == [("model/us:m", "bounds")]
    assert (found["bounds"]["regions"], found["bounds"]["max_output_tokens"]) == (["eu"], 10)


def test_a_dropped_target_has_its_component_and_reason(explain: Any) -> None:
    found = explain(TWO + "pipeline: [route]")
    assert found["dropped"] == [
        {"target": "model/eu:m", "component": "route", "reason": "too far", "status": 503, "shadow": False}
    ]
    assert steps(found)["route"].verdict == "keeps 1 of 2"


def test_the_walk_ends_where_a_component_refuses(explain: Any) -> None:
    found = explain(TWO + "pipeline: [block, mask]")
    assert steps(found)["block"].verdict == "Deny(403 blocked)"
    assert steps(found)["mask"].verdict == "not reached"
    assert found["outcome"]["reason"] == "block: rule 7"


def test_a_shadow_component_shows_what_it_would_have_done(explain: Any) -> None:
    found = explain(TWO + "pipeline: [block: {mode: shadow}, route: {mode: shadow}]")
    assert (steps(found)["block"].mode, steps(found)["block"].verdict) == ("shadow", "Deny(403 blocked)")
    assert len(found["targets"]) == 2
    assert found["dropped"][0]["shadow"] is True
    assert "would have: Deny(403 blocked)" in explain(TWO + "pipeline: [block: {mode: shadow}]", table=True)


def test_an_answer_of_a_component_ends_the_walk(explain: Any) -> None:
    found = explain(TWO + "pipeline: [answers, mask]")
    assert found["outcome"] == {"is": "answered", "status": 200}
    assert found["targets"] == []


def test_a_component_whose_condition_does_not_match_is_said(explain: Any) -> None:
    found = explain(TWO + "pipeline: [block: {when: {model: [other]}}]")
    assert steps(found)["block"].verdict == "when does not match"


def test_a_missing_credential_is_refused_as_when_serving(explain: Any) -> None:
    assert explain(TWO + "pipeline: [auth]")["outcome"]["code"] == "missing_credential"


def test_the_key_can_come_from_the_environment(explain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    assert explain(TWO + "pipeline: [auth]", "--key-env", "MY_KEY")["outcome"] == {"is": "forwarded"}


def test_a_failure_is_shown_without_its_text(explain: Any) -> None:
    found = explain(TWO + "pipeline: [broken: {on_error: allow}]")
    assert (steps(found)["broken"].verdict, steps(found)["broken"].detail) == ("failed", "ValueError")
    assert "quotes the caller" not in json.dumps(found)
    assert found["outcome"] == {"is": "forwarded"}


def test_what_a_check_that_was_left_running_found_is_shown(explain: Any) -> None:
    slow = steps(explain(TWO + "pipeline: [slow: {join: answer}]"))["slow"]
    assert (slow.verdict, slow.facts) == ("Later", ["score: 3"])


def test_a_model_that_a_component_would_call_is_not_called(explain: Any) -> None:
    found = explain(TWO + "pipeline: [judge]")
    assert steps(found)["judge"].verdict == "not explained"
    assert steps(found)["judge"].detail == "it would call model/us:m (judge)"
    assert found["outcome"] == {"is": "forwarded"}


def test_a_component_that_would_connect_is_noted(explain: Any) -> None:
    found = explain(TWO + "pipeline: [asks]")
    assert found["notes"] == ["asks did not start completely: it would connect to id.example.com"]


def test_an_embedded_model_is_a_target_without_being_started(explain: Any) -> None:
    found = explain("providers: {embedded: {}}")
    assert [target["name"] for target in found["targets"]] == ["embedded:tiny"]


@pytest.mark.parametrize(("used", "outcome"), [(2, "forwarded"), (3, "refused")])
def test_claims_are_judged_against_the_shared_counters_and_not_taken(
    used: int, outcome: str, explain: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    store, limit = FileCounters(state / "counters"), Limit("k", 3, 1e9)
    asyncio.run(store.take([Take(limit, used)]))
    before = sorted((path, path.stat().st_mtime_ns) for path in state.rglob("*"))
    text = TWO + f"server: {{state_dir: {state}}}\npipeline: [limit]"
    # `explain` is a process of its own; here it reads the file that this one has open.
    store.close()
    for _ in range(2):
        assert explain(text)["outcome"]["is"] == outcome
    assert sorted(path.name for path in state.iterdir()) == ["counters"]
    assert [path for path, _ in before if path.parent.name != "holders"] == sorted(
        path for path in state.rglob("*") if path.parent.name != "holders"
    )


def test_the_request_can_come_from_stdin(explain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"model": "other", "messages": [{"role": "user"}]}'))
    )
    found = explain(TWO, "-")
    assert (found["request"]["model"], found["outcome"]["code"]) == ("other", "model_not_found")


def test_a_malformed_request_is_refused_as_when_serving(explain: Any, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"model": "m", "model": "n"}')
    assert explain(TWO, str(tmp_path / "request.json"))["outcome"]["code"] == "duplicate_key"


@pytest.mark.parametrize(
    "options",
    [
        ["--path", "/v1/nothing"],
        ["--header", "sk-very-secret"],
        ["--key-env", "NOT_SET_ANYWHERE"],
        ["missing.json"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", *options]) == 2
    assert "sk-very-secret" not in capsys.readouterr().err
