"""Every line of the README's commands runs as it is written, in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from lmg_opa.decision_log import Decided, entry
from lmg_opa.engine import Ruling

README = Path(__file__).parents[2] / "README.md"
_SECTION = re.compile(r"<!-- library:start -->(.*)<!-- library:end -->", re.DOTALL)
_LINE = re.compile(r"^\$ (.+)$", re.MULTILINE)

ASKED = {
    "admin": None, "principal": {"roles": ["lead"]}, "request": {"model": "echo"}, "time": {"weekday": "monday", "hour": 9},
}  # fmt: skip


def _lines() -> list[str]:
    section = _SECTION.search(README.read_text())
    assert section is not None
    return _LINE.findall(section[1])


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps(ASKED))
    (tmp_path / "request.json").write_text(
        json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hello"}]})
    )
    (tmp_path / "mesh.yaml").write_text("pipeline:\n  - opa: {bundle: policies}\n")
    decided = Decided(
        1.7e9, "x", "127.0.0.1", "1", json.dumps(ASKED).encode(), Ruling(True), "", "allow", 0.0
    )
    (tmp_path / "decisions.jsonl").write_text(
        json.dumps(entry(decided, "1", labels={}, path="lmg/authz", mask=[])) + "\n"
    )
    program = tmp_path / "bin" / "lmg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lmg "$@"\n')
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    lines = _lines()
    assert {line.split()[2] for line in lines} == {"new", "test", "eval", "explain", "replay"}
    for line in lines:
        ran = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
        assert ran.stdout
