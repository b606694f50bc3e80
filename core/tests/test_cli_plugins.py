"""`lmg plugins` and `lmg plugins new`: what is listed, what is written, and which names are refused."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lmg.cli import main
from lmg.cli.scaffold import KINDS, class_of

from .conftest import Install

SOURCE = """
from lmg import Component, Provider, Service

class Guard(Component):
    summary = "guards"
    stability = "beta"
    def on_request(self, exchange): ...
    def health(self): ...

class Model(Provider):
    summary = "serves"

class Counts(Service):
    protocol = "counters"

class Misspelt(Component):
    def on_requst(self, exchange): ...

class Future(Component):
    requires_kernel = ">=9"

def function(): ...
"""


@pytest.fixture
def listed(install: Install, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    install(
        "acme", SOURCE,
        guard="Guard", model="Model", counts="Counts", misspelt="Misspelt", future="Future", function="function", gone="Gone",
    )  # fmt: skip
    assert main(["plugins", "--json"]) == 0
    return {item["name"]: item for item in json.loads(capsys.readouterr().out)}


def test_each_kind_is_listed_with_what_it_does(listed: dict[str, Any]) -> None:
    guard, model, counts = listed["guard"], listed["model"], listed["counts"]
    assert (guard["kind"], guard["hooks"]) == ("listed", ["on_request", "health"])
    assert (guard["stability"], guard["summary"]) == ("beta", "guards")
    assert (guard["distribution"], guard["version"]) == ("lmg-acme", "1.2.3")
    assert (model["kind"], model["operations"]) == ("provider", ["chat"])
    assert (counts["kind"], counts["protocol"]) == ("service", "counters")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "cannot be imported"),
        ("function", "is no component class"),
        ("future", "is made for kernels >=9"),
        ("misspelt", "did you mean on_request?"),
    ],
)
def test_a_broken_component_is_listed_with_the_reason(name: str, reason: str, listed: dict[str, Any]) -> None:
    assert reason in listed[name]["broken"]


def test_the_table_names_broken_components_too(
    listed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "lmg-acme 1.2.3" in out
    assert "broken" in out


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_a_complete_distribution(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "new", "word_list", "--kind", kind, "--dir", str(tmp_path)]) == 0
    home = tmp_path / "lmg-word-list"
    assert str(home) in capsys.readouterr().out
    written = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert written == {
        ".gitignore", "LICENSE", "README.md", "pyproject.toml", "tests/test_word_list.py",
        "src/lmg_word_list/__init__.py", "src/lmg_word_list/config.py", "src/lmg_word_list/plugin.py", "src/lmg_word_list/py.typed",
    }  # fmt: skip
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    assert project["name"] == "lmg-word-list"
    assert project["entry-points"]["lmg.plugins"] == {"word_list": "lmg_word_list:WordList"}
    for path in home.rglob("*.py"):
        ast.parse(path.read_text())
    left = [
        name
        for name in written
        for mark in ("__NAME", "__CLASS", "__MODULE", "__KIND")
        if mark in (home / name).read_text()
    ]
    assert not left


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_has_a_row_for_every_setting_of_its_own(kind: str, tmp_path: Path) -> None:
    assert main(["plugins", "new", "word_list", "--kind", kind, "--dir", str(tmp_path)]) == 0
    home = tmp_path / "lmg-word-list"
    module = ast.parse((home / "src/lmg_word_list/config.py").read_text())
    (config,) = (node for node in module.body if isinstance(node, ast.ClassDef))
    settings = [
        node.target.id
        for node in config.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    rows = [
        line.split("`")[1] for line in (home / "README.md").read_text().splitlines() if line.startswith("| `")
    ]
    assert rows == settings


@pytest.mark.parametrize(
    "name",
    [
        "Word", "1word", "word-list", "_word", "word_", "word__list", "w" * 41, "word list", "../word", "wörter", "",
        "core", "auth_keys", "auth_static", "echo", "exchange", "http_provider", "exception", "any", "class_var", "words",
    ],
)  # fmt: skip
def test_a_name_that_would_not_work_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "new", "--kind", "guard", "--dir", str(tmp_path), "--", name]) == 2
    assert name in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_component_is_refused(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("acme", SOURCE, word_list="Guard")
    assert main(["plugins", "new", "word_list", "--kind", "guard", "--dir", str(tmp_path)]) == 2
    assert "is a component of lmg-acme" in capsys.readouterr().err


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lmg-word-list").mkdir()
    assert main(["plugins", "new", "word_list", "--kind", "guard", "--dir", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "lmg-word-list").iterdir())


@pytest.mark.parametrize(("name", "expected"), [("word", "Word"), ("word_list", "WordList"), ("a1_b", "A1B")])
def test_the_class_is_named_after_the_component(name: str, expected: str) -> None:
    assert class_of(name) == expected
