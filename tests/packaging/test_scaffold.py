"""What `lmg plugins new` writes installs, is found, stands in mesh.yaml, and passes its own tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 300
LMG = (sys.executable, "-c", "import sys; from lmg.cli import main; sys.exit(main())")

MESHES = {
    "guard": "pipeline: [word_list: {words: [falcon]}]",
    "policy": "pipeline: [caller, word_list: {denied: {acme: [x]}}]",
    "provider": "providers: {word_list: {api_key: 'sk-0123456789', models: [m]}}",
    "router": "pipeline: [word_list: {prefer: [eu]}]",
    "exporter": "pipeline: [word_list: {path: out.jsonl}]",
}
CALLER = """
from lmg import Component
class Caller(Component):
    provides = {"on_request": ("principal",)}
    def on_request(self, exchange): ...
"""


def run(*command: str | Path, cwd: Path, site: Path) -> str:
    """Runs a program to which ``site`` is installed; returns what it printed, and fails the test if it fails."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept
        | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.mark.parametrize("kind", MESHES)
def test_a_new_plugin_installs_is_listed_and_passes_its_tests(kind: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    run(*LMG, "plugins", "new", "word_list", "--kind", kind, "--dir", tmp_path, cwd=tmp_path, site=site)
    home = tmp_path / "lmg-word-list"

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", site, home, cwd=tmp_path, site=site)
    assert (site / "lmg_word_list" / "py.typed").is_file()

    listed = {
        item["name"]: item for item in json.loads(run(*LMG, "plugins", "--json", cwd=tmp_path, site=site))
    }
    assert listed["word_list"]["distribution"] == "lmg-word-list"
    assert listed["word_list"]["broken"] is None

    if kind == "policy":
        install_caller(site)
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESHES[kind])
    assert "word_list" in run(*LMG, "check", "--config", mesh, cwd=tmp_path, site=site)

    passed = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=home, site=site)
    assert " passed" in passed
    assert "skipped" not in passed


def test_linter_and_type_checker_find_nothing_in_new_plugins(tmp_path: Path) -> None:
    for kind in MESHES:
        run(
            *LMG,
            "plugins",
            "new",
            f"my_{kind}",
            "--kind",
            kind,
            "--dir",
            tmp_path,
            cwd=tmp_path,
            site=tmp_path,
        )
    rules = ["--isolated", "--no-cache", "--select", "A,B,E,F,I,N,RUF,SIM,UP", "--ignore", "E501"]
    sources = [f"lmg-my-{kind}/src" for kind in MESHES]
    known = json.dumps([f"{tmp_path}/{source}" for source in sources])
    run(
        sys.executable,
        "-m",
        "ruff",
        "check",
        *rules,
        "--config",
        f"src = {known}",
        ".",
        cwd=tmp_path,
        site=tmp_path,
    )
    checked = [*sources, *(f"lmg-my-{kind}/tests/test_my_{kind}.py" for kind in MESHES)]
    cache = f"--cache-dir={tmp_path / 'mypy'}"
    site = Path(os.pathsep.join(str(tmp_path / source) for source in sources))
    run(sys.executable, "-m", "mypy", "--strict", cache, *checked, cwd=tmp_path, site=site)


def install_caller(site: Path) -> None:
    """An authenticator, for what requires one."""
    (site / "lmg_caller.py").write_text(CALLER)
    info = site / "lmg_caller-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lmg-caller\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lmg.plugins]\ncaller = lmg_caller:Caller\n")
