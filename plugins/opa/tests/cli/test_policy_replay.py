"""`lmg policy replay`: a new policy over decisions of the past."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmg_opa.decision_log import Decided, entry
from lmg_opa.engine import Ruling

Lmg = Callable[..., tuple[int, str]]

POLICY = """\
# METADATA
# custom:
#   reads: [principal.subject, request.model, risk]
package lmg.authz

default allow := false

allow if input.request.model in {"small", "medium"}

reasons contains "model_not_allowed" if not allow

obligations := {"regions": ["eu"]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.rego"
    path.write_text(POLICY)
    return path


def past(
    model: str = "small",
    ruling: Ruling | None = None,
    *,
    component: str = "opa",
    mask: tuple[str, ...] = (),
    error: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A decision as the component logs it."""
    if ruling is None and not error:
        ruling = Ruling(True, (), {"regions": ["eu"]})
    asked = {"principal": {"subject": "ann"}, "request": {"model": model}, "risk": None, **more}
    decided = Decided(
        1.7e9, "x1", "127.0.0.1", "sha256:old", json.dumps(asked).encode(), ruling, error, "allow", 0.0001
    )
    return entry(
        decided,
        f"id-{model[:16]}",
        labels={"component": component},
        path="lmg/authz",
        mask=[path.split("/")[1:] for path in mask],
    )


def logged(tmp_path: Path, *events: dict[str, Any], name: str = "decisions.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in events))
    return path


def test_decisions_that_stay_are_counted(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, past(), past("large", Ruling(False, ("model_not_allowed",))))
    code, said = lmg("replay", "--policy", policy, log, "--fail-on-change")
    assert (code, "2 decisions: 2 stay, 0 change" in said) == (0, True)


def test_what_would_be_refused_comes_first(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(
        tmp_path,
        past("small", Ruling(True, (), {"regions": ["us"]})),
        past("medium", Ruling(False, ("model_not_allowed",))),
        past("large"),
    )
    code, said = lmg("replay", "--policy", policy, log)
    assert code == 0
    assert said.index("allow->deny: 1") < said.index("deny->allow: 1") < said.index("obligations: 1")
    assert "id-large" in said and "ann" in said and "model_not_allowed" in said
    assert "3 decisions: 0 stay, 3 change" in said


def test_a_change_fails_where_it_is_asked_to(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, past("large"))
    assert lmg("replay", "--policy", policy, log)[0] == 0
    assert lmg("replay", "--policy", policy, log, "--fail-on-change")[0] == 2


def test_what_is_shown_is_bounded_and_what_is_counted_is_not(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, *(past(f"large-{n}") for n in range(100)))
    _, said = lmg("replay", "--policy", policy, log, "--limit", 3, "--json")
    found = json.loads(said)
    assert (found["counts"]["allow->deny"], len(found["changes"]["allow->deny"])) == (100, 3)
    assert "and 97 more" in lmg("replay", "--policy", policy, log, "--limit", 3)[1]


def test_posted_batches_and_packed_files_are_read_as_well(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch.json.gz"
    batch.write_bytes(gzip.compress(json.dumps([past(), past("large")]).encode()))
    _, said = lmg("replay", "--policy", policy, batch, logged(tmp_path, past()), "--json")
    assert (json.loads(said)["decisions"], json.loads(said)["changed"]) == (3, 1)


def test_an_opa_servers_own_log_of_allow_alone_is_read(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    event = {
        "decision_id": "1",
        "path": "lmg/authz/allow",
        "input": {"request": {"model": "large"}},
        "result": True,
    }
    _, said = lmg("replay", "--policy", policy, logged(tmp_path, event), "--json")
    assert json.loads(said)["counts"]["allow->deny"] == 1


def test_a_decision_whose_input_was_masked_is_not_judged(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(
        tmp_path, past("large", mask=("/input/request/model",)), past(mask=("/input/request/parameters",)),
        past(mask=("/result/obligations",)), past("large", Ruling(False, ("other",)), mask=("/result/reasons",)),
    )  # fmt: skip
    _, said = lmg("replay", "--policy", policy, log, "--json")
    found = json.loads(said)
    assert (found["decisions"], found["masked"], found["same"]) == (4, 1, 3)


def test_what_the_policy_of_then_was_not_shown_is_said(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    event = past()
    del event["input"]["risk"]
    code, said = lmg("replay", "--policy", policy, logged(tmp_path, event))
    assert code == 0 and "no decision of the log holds input.risk" in said


def test_a_log_of_several_placements_asks_for_one(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, past(component="opa/access"), past("large", component="opa/risk"))
    code, said = lmg("replay", "--policy", policy, log)
    assert (code, "opa/access, opa/risk" in said) == (2, True)
    _, said = lmg("replay", "--policy", policy, log, "--component", "opa/access", "--json")
    assert (json.loads(said)["decisions"], json.loads(said)["of_others"]) == (1, 1)


def test_a_decision_without_an_answer_was_a_refusal(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, past(error="timeout"), past("large", error="timeout"))
    _, said = lmg("replay", "--policy", policy, log, "--json")
    found = json.loads(said)
    assert (found["counts"]["deny->allow"], found["changed"]) == (1, 1)


def test_a_policy_that_has_no_answer_now_counts_as_a_change(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    policy.write_text(POLICY + "\nallow := 5 if input.request.model\n")
    _, said = lmg("replay", "--policy", policy, logged(tmp_path, past()), "--json")
    assert json.loads(said)["counts"]["no answer"] == 1


def test_lines_that_are_no_decisions_are_counted_and_passed(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    log = logged(tmp_path, past())
    log.write_bytes(b'{"half": \n' + log.read_bytes() + b'[]\n{"input": {}, "result": {}}\n')
    code, said = lmg("replay", "--policy", policy, log, "--json")
    assert (code, json.loads(said)["unreadable"], json.loads(said)["decisions"]) == (0, 2, 1)


def test_a_log_without_decisions_ends_badly(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert lmg("replay", "--policy", policy, empty)[0] == 1
    assert lmg("replay", "--policy", policy, tmp_path / "none")[0] == 2


def test_nothing_of_a_caller_steers_the_terminal(lmg: Lmg, policy: Path, tmp_path: Path) -> None:
    _, said = lmg("replay", "--policy", policy, logged(tmp_path, past("\x1b[2J\x07large")))
    assert "\x1b" not in said and "\x07" not in said
