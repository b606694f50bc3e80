"""`lmg schema`: what an editor accepts and marks is what the gateway accepts and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmg.cli import main

from .conftest import Install

SOURCE = """
from typing import Literal
from lmg import *
from pydantic import Field, SecretStr

class Inner(ComponentConfig):
    size: int = Field(1, ge=1, description="How large.")

class GuardConfig(ComponentConfig):
    \"\"\"A guard's settings.\"\"\"
    level: Literal["low", "high"] = "low"
    inner: Inner = Inner()
    token: SecretStr | None = None

class Guard(Component):
    Config = GuardConfig
    modes = frozenset({"enforce", "off"})

class StrictConfig(ComponentConfig):
    limit: int

class Strict(Component):
    Config = StrictConfig

class Model(Provider):
    Config = ProviderConfig

class Counts(Service):
    protocol = "counters"
"""


@pytest.fixture
def schema(install: Install, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    install("acme", SOURCE, guard="Guard", strict="Strict", model="Model", counts="Counts", broken="Missing")
    assert main(["schema"]) == 0
    out, err = capsys.readouterr()
    assert "left out: 'broken' cannot be imported" in err
    made: dict[str, Any] = json.loads(out)
    return made


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(item)


def test_every_reference_within_the_schema_leads_somewhere(schema: dict[str, Any]) -> None:
    for node in nodes(schema):
        target = node.get("$ref")
        if isinstance(target, str):
            assert target.removeprefix("#/$defs/") in schema["$defs"]


def test_sections_name_the_installed_components_of_their_kind(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    assert "model" in properties["providers"]["properties"]
    assert "guard" not in properties["providers"]["properties"]
    assert "counts" in properties["services"]["properties"]
    settings, alone, instance = properties["pipeline"]["items"]["anyOf"]
    assert {"guard", "strict"} <= set(settings["properties"])
    assert "guard" in alone["enum"]
    assert "strict" not in alone["enum"], "it has a setting that is required"
    assert "guard" in instance["pattern"]


def test_a_listed_component_has_its_own_settings_and_those_of_all(schema: dict[str, Any]) -> None:
    guard = schema["$defs"]["guard"]
    assert {"level", "inner", "token", "mode", "on_error", "timeout_ms", "when"} <= set(guard["properties"])
    assert guard["properties"]["mode"]["anyOf"][0]["enum"] == ["enforce", "off"]
    assert guard["additionalProperties"] is False
    assert schema["$defs"]["guard.Inner"]["properties"]["size"]["description"] == "How large."


GOOD = [
    "{}",
    "pipeline: [guard, guard/second, guard: {level: high, mode: enforce, timeout_ms: 10}]",
    "pipeline: [guard: , strict/one: {limit: 3}]",
    "pipeline: [guard: {level: '${LEVEL}', timeout_ms: '${MS:-10}', inner: {size: '${SIZE}'}, token: '${file:/t}'}]",
    "pipeline: [guard: {when: {tenant: [a]}}]",
    "providers: {model: , model/two: {models: [m], priority: 1, timeout_ms: '${T}'}}",
    "services: {counts: {}}",
    "server: {port: '${PORT}', watch: false, tls: {cert_file: c, key_file: k}}",
    "include: [a.yaml]",
]
BAD = [
    "pipelin: []",
    "pipeline: [gard]",
    "pipeline: [strict]",
    "pipeline: [strict: {}]",
    "pipeline: [model]",
    "pipeline: [guard: {mode: shadow}]",
    "pipeline: [guard: {level: middle}]",
    "pipeline: [guard: {inner: {size: 0}}]",
    "pipeline: [guard: {inner: {sice: 1}}]",
    "pipeline: [guard: {}, {guard/a: {}, guard/b: {}}]",
    "pipeline: [guard/]",
    "providers: {guard: {}}",
    "providers: {model: {priority: -1}}",
    "services: {model: {}}",
    "server: {port: no}",
    "server: {port: 70000}",
]


@pytest.mark.parametrize("text", GOOD)
def test_accepts(text: str, schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", BAD)
def test_marks(text: str, schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text))


def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)


def test_it_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mesh.schema.json"
    assert main(["schema", "-o", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"# yaml-language-server: $schema={path}" in err
    assert json.loads(path.read_text())["title"] == "mesh.yaml"


def test_a_file_that_cannot_be_written_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", "-o", str(tmp_path / "missing" / "schema.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
