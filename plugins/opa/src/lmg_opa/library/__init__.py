"""Policies to copy: each a folder with its rules, its data and its tests; and how several make one.

A part (``models_by_role``) is the package ``lmg.policies.<part>`` with ``allow`` and ``reasons``, and ``obligations`` where it
binds what it allows. Its data stands under its own name. A policy is parts and an ``authz.rego`` that asks them all: a
request passes if each of them allows it, so that a part which is missing, or has no answer, allows nothing.

Parts call no builtin and match no text against a pattern, so no two engines can differ over them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import yaml

from lmg import ConfigError

__all__ = ["COMBINED", "Part", "combined", "compose", "part", "parts"]

COMBINED: Final = "combined"
"""The policy of the shipped example: a folder for each place in the pipeline."""

_METADATA: Final = re.compile(r"^# METADATA\n((?:#.*\n)+)package ", re.MULTILINE)
_IMPORT: Final = re.compile(r"^import data\.lmg\.policies\.(\w+)$", re.MULTILINE)
_BINDS: Final = re.compile(r"^obligations\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """One policy of the library: its ``files`` by name, the paths of the input that it reads, and whether it binds."""

    name: str
    title: str
    files: Mapping[str, str]
    reads: tuple[str, ...]
    binds: bool


def parts() -> dict[str, Part]:
    """Every part by name."""
    return {
        folder.name: _part(folder)
        for folder in sorted(_root().iterdir(), key=lambda folder: folder.name)
        if folder.is_dir() and folder.joinpath("policy.rego").is_file()
    }


def part(name: str) -> Part:
    """The part ``name``.

    Raises:
        ConfigError: there is none.
    """
    known = parts()
    if name not in known:
        raise ConfigError(
            f"the library has no policy '{name}'", hint=f"it has {', '.join([*known, COMBINED])}"
        )
    return known[name]


def compose(names: Iterable[str]) -> dict[str, str]:
    """The files of a policy that asks each of ``names``, by their path in its folder.

    Raises:
        ConfigError: the library has no such part.
    """
    chosen = [part(name) for name in sorted(set(names))]
    return {
        "authz.rego": _entry(chosen),
        "authz_test.rego": _entry_test([one.name for one in chosen]),
        **_files(chosen),
    }


def combined() -> dict[str, str]:
    """The files of the shipped combination: ``access/`` for the entrance, ``risk/`` for below the guards, ``changes/`` for
    the admin API."""
    found: dict[str, str] = {}
    for place in sorted(_root().joinpath(COMBINED).iterdir(), key=lambda place: place.name):
        own = {file.name: file.read_text() for file in place.iterdir() if file.name.endswith(".rego")}
        used = [part(name) for name in _IMPORT.findall(own["authz.rego"])]
        found |= {f"{place.name}/{name}": text for name, text in sorted({**own, **_files(used)}.items())}
    return found


def _root() -> Traversable:
    return resources.files(__name__)


def _part(folder: Traversable) -> Part:
    files = {
        name: folder.joinpath(name).read_text() for name in ("policy.rego", "data.json", "policy_test.rego")
    }
    source = files["policy.rego"]
    found = _METADATA.search(source)
    assert found is not None
    metadata = yaml.safe_load("".join(line[2:] or "\n" for line in found[1].splitlines(keepends=True)))
    return Part(
        folder.name, metadata["title"], files, tuple(metadata["custom"]["reads"]), bool(_BINDS.search(source))
    )  # fmt: skip


def _files(chosen: Iterable[Part]) -> dict[str, str]:
    return {f"{one.name}/{name}": text for one in chosen for name, text in one.files.items()}


def _entry(chosen: list[Part]) -> str:
    names = [one.name for one in chosen]
    allows = "\n".join(f"\t{name}.allow" for name in names)
    rules = [
        "default allow := false",
        f"# Each must allow: one that is missing, or that has no answer, allows nothing.\nallow if {{\n{allows}\n}}",
        *(f"reasons contains code if some code in {name}.reasons" for name in names),
        *(
            f"obligations[name] := value if some name, value in {one.name}.obligations"
            for one in chosen
            if one.binds
        ),
    ]
    reads = ", ".join(_widest({path for one in chosen for path in one.reads}))
    imports = "\n".join(f"import data.lmg.policies.{name}" for name in names)
    title = "; ".join(one.title for one in chosen)
    return (
        f"# METADATA\n# title: {title}\n# custom:\n#   reads: [{reads}]\npackage lmg.authz\n\n{imports}\n\n"
        + "\n\n".join(rules)
        + "\n"
    )


def _widest(paths: set[str]) -> list[str]:
    """``paths`` without those inside another of them."""
    return sorted(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))


def _entry_test(names: list[str]) -> str:
    """Tests that every part is asked: where all allow the policy does, and no more where one of them does not."""
    rules = [_asked("all_allow", "authz.allow", names, "")]
    rules += [_asked(f"{name}_must_allow", "not authz.allow", names, name) for name in names]
    return "package lmg.authz_test\n\nimport data.lmg.authz\n\n" + "\n\n".join(rules) + "\n"


def _asked(test: str, claim: str, names: list[str], refuses: str) -> str:
    said = [
        f"with data.lmg.policies.{name}.allow as {'false' if name == refuses else 'true'}" for name in names
    ]
    return f"test_{test} if {{\n\t{claim} " + "\n\t\t".join(said) + "\n}"
