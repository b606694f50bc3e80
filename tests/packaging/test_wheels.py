"""Every distribution builds, and every plugin works where only the kernel and itself are installed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "core"
PLUGINS = sorted(
    path.parent for path in [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("plugins/*/*/pyproject.toml")]
)
FOLDERS = [ROOT, KERNEL, *PLUGINS]
TIMEOUT_S = 600

every_distribution = pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: project_of(one)["name"])
every_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda one: project_of(one)["name"])


def project_of(folder: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Runs a program with little of this one's environment, and returns what it printed; fails the test if it fails."""
    # Without CI: what a plugin's optional parts need is not installed here, and its tests of them are skipped.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "COV", "VIRTUAL")) and name != "CI"
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


@contextmanager
def only_one(folder: Path) -> Iterator[Path]:
    """Lets one worker at a time work on a folder; yields the stamp that says that the work is done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / ".done"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Path]:
    """The wheels of the workspace, by name, built once for all workers, with the backend that is installed here."""
    base = tmp_path_factory.getbasetemp()
    target = (base if worker_id == "master" else base.parent) / "wheels"
    with only_one(target) as done:
        if not done.exists():
            build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
            run(*build, "--wheel-dir", target, *FOLDERS, cwd=target)
            done.touch()
    return {path.name.split("-")[0].replace("_", "-"): path for path in target.glob("*.whl")}


@pytest.fixture(scope="session")
def empty_python() -> Path:
    """A Python that has the third-party packages of requirements/test.txt and nothing of the workspace.

    It is kept in .cache until the requirements or the Python change.
    """
    requirements = ROOT / "requirements" / "test.txt"
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()[
        :16
    ]
    home = ROOT / ".cache" / "packaging" / key
    python = home / "venv" / "bin" / "python"
    with only_one(home) as done:
        if not done.exists():
            run(sys.executable, "-m", "venv", "--clear", home / "venv", cwd=home)
            install = [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--only-binary",
                ":all:",
            ]
            run(*install, "-r", requirements, cwd=home)
            done.touch()
    return python


@every_distribution
def test_wheel_holds_the_package_its_types_and_its_licence(folder: Path, wheels: dict[str, Path]) -> None:
    name = project_of(folder)["name"]
    with zipfile.ZipFile(wheels[name]) as wheel:
        entries = wheel.namelist()
        metadata = wheel.read(next(one for one in entries if one.endswith(".dist-info/METADATA"))).decode()

    assert any(one.endswith(".dist-info/licenses/LICENSE") for one in entries)
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert not [one for one in entries if one.endswith(".pth")]
    tops = {one.split("/")[0] for one in entries if ".dist-info/" not in one}
    if folder == ROOT:
        assert not tops, "the meta-package has no code of its own"
        return
    module = "lmg" if folder == KERNEL else name.replace("-", "_")
    assert tops == {module}
    assert f"{module}/py.typed" in entries
    # `lmg/testing` is the published kit; the tests themselves stay at home.
    assert not [
        one for one in entries if "/tests/" in one or Path(one).name.startswith(("test_", "conftest"))
    ]


@every_plugin
def test_plugin_passes_its_tests_with_only_the_kernel_and_itself(
    folder: Path, wheels: dict[str, Path], empty_python: Path, tmp_path: Path
) -> None:
    name = project_of(folder)["name"]
    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    pip = [empty_python, "-m", "pip"]
    run(
        *pip,
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        installed,
        wheels["lmg-core"],
        wheels[name],
        cwd=work,
    )
    built = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    for part in built["sdist"]["include"]:
        if part != "src" and (folder / part).is_dir():
            shutil.copytree(folder / part, work / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(folder / "README.md", work)
    shutil.copy(ROOT / "pyproject.toml", work)  # the same pytest settings: warnings are errors

    paths = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run(*pip, "check", cwd=work, **paths)
    listed = run(empty_python, "-c", LIST_PLUGINS, cwd=work, **paths).split()
    assert listed == [name]
    run(empty_python, "-m", "pytest", "-q", "tests", cwd=work, **paths)


LIST_PLUGINS = """
from importlib.metadata import entry_points
print(*sorted({one.dist.name for one in entry_points(group="lmg.plugins")}))
"""


def test_kernel_works_without_any_plugin(wheels: dict[str, Path], empty_python: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    pip = [empty_python, "-m", "pip"]
    run(*pip, "install", "--quiet", "--no-deps", "--target", installed, wheels["lmg-core"], cwd=tmp_path)
    paths = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    run(*pip, "check", cwd=tmp_path, **paths)
    run(
        empty_python,
        "-c",
        "import sys; from lmg.cli import main; sys.argv = ['lmg', '--help']; main()",
        cwd=tmp_path,
        **paths,
    )
