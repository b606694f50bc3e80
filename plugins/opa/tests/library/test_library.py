"""The library's policies are complete, tested, formatted, and stay in what every engine has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from lmg import ConfigError
from lmg_opa.bundles import bundle_of
from lmg_opa.cli.check import run_tests
from lmg_opa.engines import engine
from lmg_opa.engines.syntax import parse
from lmg_opa.library import combined, compose, part, parts

from ..opa_tool import opa


def _places() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: compose([name]) for name in parts()}
    found["everything"] = compose(parts())
    for name, text in combined().items():
        place, _, rest = name.partition("/")
        found.setdefault(f"combined/{place}", {})[rest] = text
    return found


POLICIES = _places()


def _written(files: Mapping[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _bundle(files: Mapping[str, str]):  # type: ignore[no-untyped-def]
    return bundle_of({name: text.encode() for name, text in files.items()}, packed=False)


@pytest.mark.parametrize("name", POLICIES)
def test_every_test_passes_and_every_line_is_tested(name: str) -> None:
    report = run_tests(_bundle(POLICIES[name]), "lmg.authz")
    assert report.passed, report
    assert not {file: lines.missed for file, lines in report.coverage.items() if lines.missed}


ODD = """\
package odd_test

test_true := true

test_text := "x"

test_number := 5

test_object := {}

test_null := null

test_false := false

test_undefined if input.x

test_error if 1 / 0 == 1

test_conflict := x if some x in [1, 2]

test_replaced if data.x == 1 with data.x as 1

test_not_replaced if data.x == 1

test_input if input.x == 1 with input as {"x": 1}

test_builtin if count([1, 2]) == 2

test_one_of_two if 1 == 2

test_every if {
	every x in [1, 2] { x > 0 }
}
"""


@pytest.mark.parametrize("name", [*POLICIES, "odd"])
def test_opa_passes_the_same_tests(name: str, tmp_path: Path) -> None:
    files = {"odd_test.rego": ODD} if name == "odd" else POLICIES[name]
    folder = _written(files, tmp_path)
    ran = subprocess.run(
        [opa(), "test", "--format=json", str(folder)], capture_output=True, timeout=120, check=False
    )
    theirs = {
        f"{one['package']}.{one['name']}": not one.get("fail", False) and "error" not in one
        for one in json.loads(ran.stdout)
    }
    ours = {one.name: one.verdict == "pass" for one in run_tests(_bundle(files), "lmg.authz").results}
    assert ours == theirs


@pytest.mark.parametrize("name", POLICIES)
def test_opa_finds_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    folder = _written(POLICIES[name], tmp_path)
    checked = subprocess.run(
        [opa(), "check", "--strict", str(folder)], capture_output=True, timeout=120, check=False
    )
    assert checked.returncode == 0, checked.stderr
    formatted = subprocess.run(
        [opa(), "fmt", "--list", str(folder)], capture_output=True, timeout=120, check=False
    )
    assert not formatted.stdout


@pytest.mark.parametrize("name", POLICIES)
def test_no_builtin_is_called(name: str) -> None:
    sources = {file: text for file, text in POLICIES[name].items() if file.endswith(".rego")}
    modules = parse({file: text for file, text in sources.items() if not file.endswith("_test.rego")})
    assert [call for module in modules for rule in module.rules for call in rule.calls] == []


@pytest.mark.parametrize("name", POLICIES)
def test_the_gateway_loads_it_and_it_allows_nobody(name: str) -> None:
    policy = engine("regorus").load(_bundle(POLICIES[name]))
    assert policy.reads and not policy.volatile
    nobody = policy.decide(b'{"principal": null}')
    # A risk is nobody's; one that was not measured binds.
    assert (
        nobody.obligations.get("on_prem", False) is nobody.allow is (name in ("risk_bounds", "combined/risk"))
    )
    policy.close()


@pytest.mark.parametrize("name", parts())
def test_a_missing_part_allows_nothing(name: str) -> None:
    files = {file: text for file, text in compose([name]).items() if not file.startswith(f"{name}/")}
    policy = engine("regorus").load(_bundle(files))
    for document in (b"{}", b'{"admin": {"method": "GET"}}', b'{"admin": null, "risk": 0}'):
        assert policy.decide(document).allow is False
    policy.close()


@pytest.mark.parametrize("name", parts())
def test_a_part_without_its_data_allows_no_model(name: str) -> None:
    files = {file: text for file, text in compose([name]).items() if not file.endswith(".json")}
    policy = engine("regorus").load(_bundle(files))
    asked = {
        "admin": None, "candidates": [{"name": "a:b", "region": "eu"}], "risk": 0, "time": {"weekday": "monday", "hour": 9},
        "principal": {"subject": "a", "tenant": "t", "roles": ["r"], "attributes": {"department": "d", "data_class": "public"}},
        "request": {"model": "m", "tools": ["t"], "token_estimate": 1},
    }  # fmt: skip
    # Who asks for a model changes nothing, so four eyes have nothing to see.
    assert policy.decide(json.dumps(asked).encode()).allow is (name == "four_eyes")
    policy.close()


def test_reasons_are_codes() -> None:
    codes = [
        code
        for name in POLICIES
        for code in engine("regorus").load(_bundle(POLICIES[name])).decide(b"{}").reasons
    ]
    assert codes and all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_what_is_not_in_the_library_is_an_error_that_says_what_is() -> None:
    with pytest.raises(ConfigError, match="working_hours"):
        part("working_hour")


def test_the_example_is_the_librarys_combination() -> None:
    example = Path(__file__).parents[4] / "examples" / "identity-and-policy" / "policies"
    if not example.is_dir():
        pytest.skip("the examples are in the repository only")
    shipped = {
        path.relative_to(example).as_posix(): path.read_text()
        for path in example.rglob("*")
        if path.suffix == ".rego"
    }
    assert shipped == {name: text for name, text in combined().items() if name.endswith(".rego")}
