"""`lmg policy test`, `eval`, `explain` and `new`, as operators run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Lmg = Callable[..., tuple[int, str]]

POLICY = """\
# METADATA
# custom:
#   reads: [principal.roles, request.model]
package lmg.authz

default allow := false

allow if {
	"lead" in input.principal.roles
}

allow if {
	some role in input.principal.roles
	input.request.model in data.models[role]
}

reasons contains "model_not_allowed" if not allow

obligations := {"regions": ["eu"]}
"""
TESTS = """\
package lmg.authz_test

import data.lmg.authz

test_developers_have_small_models if {
	authz.allow with input as {"principal": {"roles": ["dev"]}, "request": {"model": "small"}}
}
"""
FAILING = """
test_guests_have_nothing if {
	guest := {"principal": {"roles": ["guest"]}}
	not authz.allow with input as guest
	authz.reasons == {"another"} with input as guest
	1 == 2
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "authz.rego").write_text(POLICY)
    (policies / "authz_test.rego").write_text(TESTS)
    (policies / "data.json").write_text(json.dumps({"models": {"dev": ["small"]}}))
    return policies


def asks(tmp_path: Path, role: str = "dev", model: str = "small") -> Path:
    path = tmp_path / "input.json"
    path.write_text(json.dumps({"principal": {"roles": [role]}, "request": {"model": model}}))
    return path


# -- test -------------------------------------------------------------------------------------------


def test_passing_tests_end_well(lmg: Lmg, folder: Path) -> None:
    code, said = lmg("test", folder)
    assert (code, "1 pass" in said) == (0, True)


def test_a_failing_test_is_named_with_its_place_and_where_it_stopped(lmg: Lmg, folder: Path) -> None:
    (folder / "authz_test.rego").write_text(TESTS + FAILING)
    code, said = lmg("test", folder)
    assert code == 1
    assert "FAIL data.lmg.authz_test.test_guests_have_nothing  authz_test.rego:9" in said
    assert 'no further than authz_test.rego:12: authz.reasons == {"another"} with input as guest' in said

    code, said = lmg("test", folder, "--json")
    found = json.loads(said)
    (failed,) = [one for one in found["tests"] if one["verdict"] == "fail"]
    assert (code, failed["line"], failed["stopped"]) == (1, 9, 12)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("test_x := 5", "fail"),
        ("test_x := {}", "fail"),
        ("test_x if 1 / 0 == 1", "error"),
        ("test_x := x if some x in [1, 2]", "error"),
        ("test_x if true\n\ntest_x if false", "error"),
        ("todo_test_x if false", "skip"),
        ('test_x[name] if some name in ["a", "b"]', "fail"),
    ],
)
def test_only_what_is_true_passes(lmg: Lmg, folder: Path, body: str, verdict: str) -> None:
    (folder / "more_test.rego").write_text(f"package more_test\n\n{body}\n")
    code, said = lmg("test", folder, "--json")
    assert {one["verdict"] for one in json.loads(said)["tests"] if "more_test" in one["name"]} == {verdict}
    assert code == (0 if verdict == "skip" else 1)


def test_a_folder_without_tests_does_not_pass(lmg: Lmg, folder: Path) -> None:
    (folder / "authz_test.rego").unlink()
    code, said = lmg("test", folder)
    assert (code, "there are no tests" in said) == (1, True)


def test_a_policy_that_the_gateway_would_not_load_fails(lmg: Lmg, folder: Path) -> None:
    (folder / "more.rego").write_text('package lmg.authz\n\nreasons contains "x" if opa.runtime().env.HOME\n')
    code, said = lmg("test", folder)
    assert (code, "would not load" in said, "more.rego:3" in said) == (1, True, True)


def test_lines_that_no_test_reaches_are_shown(lmg: Lmg, folder: Path) -> None:
    (folder / "more.rego").write_text("package more\n\nfar if {\n\tdata.x == 1\n}\n")
    code, said = lmg("test", folder, "--coverage")
    assert code == 0 and "0 of 1" in said and "more.rego" in said
    assert lmg("test", folder, "--threshold", "100")[0] == 1


def test_a_module_without_rules_is_one(lmg: Lmg, folder: Path) -> None:
    (folder / "empty.rego").write_text("package empty\n")
    assert lmg("test", folder)[0] == 0


def test_a_module_that_does_not_parse_is_an_error_with_its_place(lmg: Lmg, folder: Path) -> None:
    (folder / "broken.rego").write_text("package broken\n\nallow {\n")
    code, said = lmg("test", folder)
    assert code == 2 and "broken.rego" in said and "Traceback" not in said


# -- eval and explain -------------------------------------------------------------------------------


def test_eval_shows_the_ruling_its_obligations_and_the_version(
    lmg: Lmg, folder: Path, tmp_path: Path
) -> None:
    code, said = lmg("eval", "--policy", folder, "--input", asks(tmp_path), "--json")
    found = json.loads(said)
    assert code == 0
    assert (found["allow"], found["reasons"], found["error"]) == (True, [], None)
    assert found["obligations"] == {"regions": ["eu"]}
    assert found["revision"].startswith("sha256:") and found["took_us"] > 0

    code, said = lmg("eval", "--policy", folder, "--input", asks(tmp_path, "guest"))
    assert (code, "refused: model_not_allowed" in said) == (0, True)


def test_eval_says_where_obligations_cannot_be_carried_out(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    (folder / "authz.rego").write_text(POLICY.replace("regions", "reginos"))
    code, said = lmg("eval", "--policy", folder, "--input", asks(tmp_path))
    assert (code, "refused: nothing can carry out its obligations" in said) == (0, True)


def test_eval_without_an_answer_ends_badly(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    (folder / "more.rego").write_text("package lmg.authz\n\nallow := 5 if input.request.model\n")
    code, said = lmg("eval", "--policy", folder, "--input", asks(tmp_path))
    assert (code, "no answer" in said, "Traceback" in said) == (1, True, False)


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', "NaN"])
def test_an_input_that_is_not_strict_json_is_an_error(
    lmg: Lmg, folder: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    assert lmg("eval", "--policy", folder, "--input", tmp_path / "bad.json")[0] == 2


def test_explain_shows_where_each_body_stopped(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    code, said = lmg("explain", "--policy", folder, "--input", asks(tmp_path, "dev", "large"), "--json")
    found = json.loads(said)
    allow = found["rules"][0]
    assert code == 0
    assert (allow["rule"], allow["value"]) == ("data.lmg.authz.allow", False)
    assert [stop["line"] for stop in allow["stopped"]] == [9, 14]
    assert [rule["rule"] for rule in found["rules"][1:]] == [
        "data.lmg.authz.reasons",
        "data.lmg.authz.obligations",
    ]


def test_explain_shows_no_control_characters_of_an_input(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    _, said = lmg("explain", "--policy", folder, "--input", asks(tmp_path, "dev", "\x1b[2J\u202e"))
    assert "\x1b" not in said and "\u202e" not in said


def _mesh(tmp_path: Path, pipeline: str) -> Path:
    (tmp_path / "mesh.yaml").write_text(f"pipeline:\n{pipeline}")
    return tmp_path / "mesh.yaml"


def test_explain_builds_the_input_that_the_component_would(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    mesh = _mesh(tmp_path, f"  - opa: {{bundle: {folder}}}\n")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "large", "messages": [{"role": "user", "content": "hello"}]}))
    code, said = lmg("explain", "--config", mesh, request, "--json")
    found: dict[str, Any] = json.loads(said)
    assert code == 0
    assert found["input"]["request"]["model"] == "large"
    assert found["input"]["principal"] is None
    assert (found["ruling"]["allow"], found["ruling"]["reasons"]) == (False, ["model_not_allowed"])


def test_explain_asks_which_of_several(lmg: Lmg, folder: Path, tmp_path: Path) -> None:
    mesh = _mesh(tmp_path, f"  - opa/a: {{bundle: {folder}}}\n  - opa/b: {{bundle: {folder}}}\n")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "small", "messages": [{"role": "user", "content": "hello"}]}))
    code, said = lmg("explain", "--config", mesh, request)
    assert (code, "opa/a, opa/b" in said) == (2, True)
    # The first refuses: the second is not asked.
    code, said = lmg("explain", "--config", mesh, request, "--component", "opa/b")
    assert (code, "does not get as far" in said) == (2, True)


def test_explain_wants_either_an_input_or_a_configuration(lmg: Lmg, folder: Path) -> None:
    assert lmg("explain", "--policy", folder)[0] == 2


def test_what_was_not_compiled_is_an_error_for_the_compiled_engine(
    lmg: Lmg, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    code, said = lmg("eval", "--policy", folder, "--input", asks(tmp_path), "--engine", "wasm")
    assert (code, "opa build -t wasm" in said) == (2, True)


# -- new --------------------------------------------------------------------------------------------


def test_new_policies_pass_their_own_tests(lmg: Lmg, tmp_path: Path) -> None:
    code, said = lmg("new", "working_hours", "data_residency", "--to", tmp_path / "new")
    assert code == 0 and "lmg policy test" in said
    assert lmg("test", tmp_path / "new")[0] == 0


def test_the_combination_has_a_folder_for_each_place(lmg: Lmg, tmp_path: Path) -> None:
    assert lmg("new", "combined", "--to", tmp_path)[0] == 0
    for place in ("access", "risk", "changes"):
        assert lmg("test", tmp_path / place)[0] == 0


def test_new_overwrites_nothing(lmg: Lmg, tmp_path: Path) -> None:
    (tmp_path / "authz.rego").write_text("package mine\n")
    code, said = lmg("new", "four_eyes", "--to", tmp_path)
    assert (code, "is there already" in said) == (2, True)
    assert (tmp_path / "authz.rego").read_text() == "package mine\n"
    assert not (tmp_path / "four_eyes").exists()


def test_new_without_a_name_lists_the_library(lmg: Lmg) -> None:
    code, said = lmg("new")
    assert code == 0 and "department_budgets" in said and "combined" in said
    assert len(json.loads(lmg("new", "--json")[1])) == 8
