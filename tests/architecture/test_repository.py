"""Rules that hold for the whole repository, read from its files."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 600
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
NOT_OURS = {".git", ".venv", ".cache", "dist", "node_modules", "__pycache__", ".hypothesis"}

# Written so that no expression matches its own source.
INDEX_ADDRESSES = {
    "a simple index": re.compile(r"https?://[^\s\"'<>`]*/simple\b"),
    "a package host": re.compile(r"files\.python[h]osted\.org|registry\.(npm[j]s|yarn[p]kg)\.(org|com)"),
    "an index option": re.compile(r"--(extra-)?index-[u]rl|--find-[l]inks|(?m:^\s*-i\s+https?:)"),
    "an index setting": re.compile(r"(PIP|UV)_(EXTRA_)?INDEX[_]URL|PIP_FIND[_]LINKS|(?m:^\s*registry\s*=)"),
    "a uv index": re.compile(r"\[\[tool\.uv\.[i]ndex\]\]|registry = \"https?:"),
    "a resolved address": re.compile(r"\"resolved\":\s*\"https?:"),
}
# Each turns data into code or objects; the gateway's data is JSON or safe YAML.
DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
DANGEROUS_BUILTINS = {"eval", "exec", "__import__"}
DANGEROUS_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


@dataclass(frozen=True)
class Distribution:
    """One installable part of the workspace: its folder and the metadata of its pyproject.toml."""

    folder: Path
    project: dict[str, Any]
    module: str

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def is_kernel(self) -> bool:
        return self.module == "lmg"

    @property
    def sources(self) -> list[Path]:
        return sorted((self.folder / "src").rglob("*.py"))


def find_distributions() -> list[Distribution]:
    found = []
    for pattern in ("core/pyproject.toml", "plugins/*/pyproject.toml", "plugins/*/*/pyproject.toml"):
        for path in sorted(ROOT.glob(pattern)):
            project = tomllib.loads(path.read_text())["project"]
            module = "lmg" if project["name"] == "lmg-core" else project["name"].replace("-", "_")
            found.append(Distribution(path.parent, project, module))
    return found


DISTRIBUTIONS = find_distributions()
PLUGINS = [one for one in DISTRIBUTIONS if not one.is_kernel]
SOURCES = [path for one in DISTRIBUTIONS for path in one.sources]

every_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda one: one.name)
every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda one: one.name)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def repository_files() -> tuple[Path, ...]:
    """The files that are, or would be, committed; without git, all but what a build makes."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)]
    return tuple(sorted({path for path in paths if path.is_file()}))


def text_of(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data[:8192] else data.decode("utf-8", errors="replace")


def imported_roots(path: Path) -> Iterator[tuple[str, int]]:
    """Yields the first name of every absolute import in a file, with its line."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno


def requirement_name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;@]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def test_no_file_names_a_package_index() -> None:
    found = []
    for path in repository_files():
        text = text_of(path)
        if text is None:
            continue
        for what, pattern in INDEX_ADDRESSES.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{relative(path)}:{line}: {what}: {match[0].strip()[:60]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "--index" + "-url https://mirror.example/pypi",
        "--extra-index" + "-url=https://mirror.example/pypi",
        "--find" + "-links /opt/wheels",
        "source = { registry" + ' = "https://mirror.example/s" }',
        "[[tool.uv." + "index]]",
        '"resolved"' + ': "https://mirror.example/ws/-/ws-8.tgz"',
        "https://mirror.example" + "/simple/httpx/",
        "registry" + "=https://mirror.example/",
        "PIP_INDEX" + "_URL=https://mirror.example",
    ],
)
def test_index_rules_recognise(line: str) -> None:
    assert any(pattern.search(line) for pattern in INDEX_ADDRESSES.values())


def test_path_configuration_files_are_not_committed() -> None:
    assert not [relative(path) for path in repository_files() if path.suffix == ".pth"]


def test_every_requirement_is_pinned_and_hashed() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert {path.stem for path in files} >= {"run", "test", "dev", "model", "lock"}
    problems = []
    for path in files:
        logical = re.sub(r"\\\n\s*", " ", path.read_text()).splitlines()
        for line in logical:
            if not line.strip() or line.startswith("#"):
                continue
            if not re.match(r"[a-z0-9][a-z0-9.-]*==[^\s;]+", line) or "--hash=sha256:" not in line:
                problems.append(f"{relative(path)}: {line[:80]}")
    assert not problems, "\n".join(problems)


def test_requirement_files_agree_with_one_another() -> None:
    pins: dict[str, dict[str, set[str]]] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        # A package may have one pin a marker: a release for older Pythons, and one for newer.
        pinned = re.findall(r"^([a-z0-9.-]+)==([^\s;\\]+)([^\\\n]*)", path.read_text(), re.MULTILINE)
        for name, version, marker in pinned:
            pins.setdefault(name + marker.rstrip(), {}).setdefault(version, set()).add(path.name)
    assert not {name: versions for name, versions in pins.items() if len(versions) > 1}


@every_distribution
def test_direct_dependencies_are_locked(distribution: Distribution) -> None:
    """A dependency that was added without `make lock` is found here, not at a newcomer's first start."""
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE))
    declared = {requirement_name(one) for one in distribution.project["dependencies"]}
    assert declared - locked - {one.name for one in DISTRIBUTIONS} == set()


@every_distribution
def test_distribution_has_the_skeleton(distribution: Distribution) -> None:
    package = distribution.folder / "src" / distribution.module
    wanted = [
        distribution.folder / "README.md",
        distribution.folder / "LICENSE",
        distribution.folder / "tests",
        package / "__init__.py",
        package / "py.typed",
    ]
    assert not [relative(path) for path in wanted if not path.exists()]
    assert (distribution.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert list((distribution.folder / "tests").rglob("test_*.py")), "a distribution has tests of its own"
    beside = {path.name for path in (distribution.folder / "src").iterdir()} - {"__pycache__"}
    assert beside == {distribution.module}, "one import package per distribution"

    project = distribution.project
    assert project["license"] == "MIT"
    assert project["license-files"] == ["LICENSE"]
    assert project["requires-python"] == ">=3.11"
    assert project["description"]


@every_plugin
def test_plugin_offers_components_and_depends_on_the_kernel(plugin: Distribution) -> None:
    assert plugin.name.startswith("lmg-")
    offered = plugin.project["entry-points"]["lmg.plugins"]
    assert offered
    assert all(value.split(":")[0].split(".")[0] == plugin.module for value in offered.values())
    names = {requirement_name(one) for one in plugin.project["dependencies"]}
    assert "lmg-core" in names
    assert not names & {other.name for other in PLUGINS}
    readme = (plugin.folder / "README.md").read_text()
    assert readme.count("<!-- config:start -->") == readme.count("<!-- config:end -->") == 1


def test_workspace_lists_every_distribution() -> None:
    """What is forgotten in one of these places is built, checked or installed by nobody."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {one.name for one in DISTRIBUTIONS}
    modules = {one.module for one in DISTRIBUTIONS}
    plugins = {one.module for one in PLUGINS}
    contracts = root["tool"]["importlinter"]["contracts"]
    everything = root["project"]["optional-dependencies"]["all"][0]

    members = {path for pattern in root["tool"]["uv"]["workspace"]["members"] for path in ROOT.glob(pattern)}
    assert members == {one.folder for one in DISTRIBUTIONS}
    assert set(root["tool"]["uv"]["sources"]) == names | {"llm-mesh-gateway"}
    assert set(root["tool"]["importlinter"]["root_packages"]) == modules
    assert set(contracts[0]["forbidden_modules"]) == plugins
    assert set(contracts[1]["modules"]) == plugins
    extras = re.search(r"\[(.*)\]", everything)
    assert extras
    assert set(extras[1].split(",")) == {one.name.removeprefix("lmg-") for one in PLUGINS}


@every_distribution
def test_imports_only_itself_the_kernel_and_what_it_declares(distribution: Distribution) -> None:
    """Kernel to plugin: never. Plugin to plugin: never. And nothing that happens to be installed by somebody else."""
    project = distribution.project
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {requirement_name(one) for group in groups for one in group}
    providers = packages_distributions()
    problems = []
    for path in distribution.sources:
        for name, line in imported_roots(path):
            if name in sys.stdlib_module_names or name in {distribution.module, "lmg"}:
                continue
            sources = {requirement_name(one) for one in providers.get(name, [name])}
            if not sources & declared:
                problems.append(
                    f"{relative(path)}:{line}: imports {name}, which {distribution.name} does not declare"
                )
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("module", ["lmg", "lmg.cli", "lmg.testing"])
def test_importing_the_kernel_imports_no_plugin(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {plugin.module for plugin in PLUGINS}


def test_source_does_not_turn_data_into_code() -> None:
    found = []
    for path in SOURCES:
        found += [
            f"{relative(path)}:{line}: imports {name}"
            for name, line in imported_roots(path)
            if name in DANGEROUS_MODULES
        ]
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in DANGEROUS_BUILTINS:
                found.append(f"{relative(path)}:{node.lineno}: calls {called.id}")
            elif (
                isinstance(called, ast.Attribute)
                and isinstance(called.value, ast.Name)
                and called.value.id == "yaml"
                and called.attr in DANGEROUS_YAML
                and not loads_safely(node)
            ):
                found.append(f"{relative(path)}:{node.lineno}: calls yaml.{called.attr}")
    assert not found, "\n".join(found)


def loads_safely(call: ast.Call) -> bool:
    """Tells whether a call of yaml.load names a loader of the safe family."""
    loaders = [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "Loader")]
    names = [one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in loaders]
    if any("Unsafe" in name or "Full" in name for name in names):
        return False
    return bool(names) and all(name in SAFE_LOADERS or derives_from_safe_loader(name) for name in names)


SAFE_LOADERS = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"}


@cache
def derives_from_safe_loader(name: str) -> bool:
    """Tells whether a class of the sources is a subclass of yaml's safe loader."""
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                bases = {
                    base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                    for base in node.bases
                }
                return bool(bases & SAFE_LOADERS)
    return False


def test_no_source_file_is_too_long() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_modules_are_named_after_what_they_hold() -> None:
    assert not [
        relative(path) for path in SOURCES if path.stem in VAGUE_NAMES or re.search(r"_v?\d+$", path.stem)
    ]
