"""The differences that the README names are these, on both sides: one that goes away, or a new value, fails here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmg_opa.engines.interpreter import interpreter

# What is evaluated, what OPA 1.22 says, what regorus 0.13 says.
DIFFERENCES: list[tuple[str, Any, Any]] = [
    ('count("aé😀b")', 4, 5),
    ('upper("straße")', "STRAßE", "STRASSE"),
    ('lower("İ")', "i", "i\u0307"),
    ("regex.match(`\\bx`, `éx`)", True, False),
    ("regex.match(`\\d`, `٣`)", False, True),
    ('regex.match(`\\s`, "\\u00a0")', False, True),
    ('net.cidr_contains("10.0.0.0/8", "::ffff:10.1.1.1")', True, False),
    ("0.1 + 0.2 == 0.3", True, False),
    ('semver.is_valid("v1.0.0")', True, False),
    ('strings.count("aaa", "aa")', 1, 2),
    ('strings.replace_n({"a": "b", "b": "c"}, "ab")', "bc", "cc"),
    ('sprintf("%s", [1])', "%!s(int64=1)", "1"),
    ("json.marshal(`<`)", '"\\u003c"', '"<"'),
]


@pytest.mark.parametrize(("expression", "_opa", "here"), DIFFERENCES)
def test_regorus_says_what_is_documented(expression: str, _opa: Any, here: Any) -> None:
    asked = interpreter()
    asked.add_policy("a.rego", f"package a\n\nx := {expression}\n")
    assert asked.eval_rule("data.a.x") == here


def test_opa_says_what_is_documented(opa_tool: ModuleType, tmp_path: Path) -> None:
    rules = "\n".join(f"r{number} := {expression}" for number, (expression, _, _) in enumerate(DIFFERENCES))
    (tmp_path / "a.rego").write_text(f"package a\n\n{rules}\n")
    command = [opa_tool.opa(), "eval", "-d", "a.rego", "-f", "raw", "data.a"]
    said = json.loads(
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
    )
    assert [said[f"r{number}"] for number in range(len(DIFFERENCES))] == [opa for _, opa, _ in DIFFERENCES]
