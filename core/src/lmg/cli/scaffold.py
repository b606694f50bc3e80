"""A new plugin: a distribution of its own with one working component, and tests that pass."""

from __future__ import annotations

import builtins
import keyword
import re
import typing
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import lmg

from ..component import Component
from ..discovery import KNOWN, discover
from ..errors import ConfigError

__all__ = ["KINDS", "create"]

KINDS: Final = ("guard", "policy", "provider", "router", "exporter")

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME: Final = 40
_PLACEHOLDER: Final = re.compile(r"__[A-Z]+__")

# Where each template goes; `{kind}` is the kind's own folder, the rest is shared.
_FILES: Final = {
    "pyproject.toml": ("pyproject.toml.in",),
    "LICENSE": ("LICENSE.in",),
    ".gitignore": ("gitignore.in",),
    "README.md": ("{kind}/README.md.in", "development.md.in"),
    "src/__MODULE__/__init__.py": ("init.py.in",),
    "src/__MODULE__/config.py": ("{kind}/config.py.in",),
    "src/__MODULE__/plugin.py": ("{kind}/plugin.py.in",),
    "src/__MODULE__/py.typed": (),
    "tests/test___NAME__.py": ("{kind}/tests.py.in",),
}
# What the templates import beside the public names of `lmg`.
_IMPORTED: Final = {"Annotated", "Facts", "Field", "Harness", "Path", "RedactionFilter", "Worker", "Words"}


def create(name: str, kind: str, folder: Path) -> Path:
    """Writes the distribution ``lmg-<name>`` below ``folder``; returns where.

    Raises:
        ConfigError: the name cannot be used, or something is in the way; nothing was written.
    """
    check_name(name)
    values = placeholders(name, kind)
    home = folder / values["__DISTRIBUTION__"]
    if home.exists():
        raise ConfigError(f"{home} is there already", hint="choose another name, or another --dir")
    rendered = {fill(path, values): render(parts, kind, values) for path, parts in _FILES.items()}
    try:
        for path, text in rendered.items():
            target = home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{home} cannot be written: {error.strerror}") from None
    return home


def check_name(name: str) -> None:
    """Refuses names that would not work as a component, a module and a class, or that are taken."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigError(
            f"'{name}' cannot be a component's name",
            hint=f"lower-case letters, digits and single underscores, from a letter on, at most {MAX_NAME}",
        )
    installed = discover()
    if name in installed:
        raise ConfigError(
            f"'{name}' is a component of {installed[name].distribution}", hint="choose another name"
        )
    taken = {"lmg-core", *KNOWN.values(), *(item.distribution for item in installed.values())}
    if name in KNOWN or distribution_of(name) in taken or find_spec(module_of(name)) is not None:
        raise ConfigError(f"'{name}' belongs to another distribution", hint="choose another name")
    words = {class_of(name), f"{class_of(name)}Config"}
    if keyword.iskeyword(name) or words & {*lmg.__all__, *dir(builtins), *typing.__all__, *_IMPORTED}:
        raise ConfigError(
            f"'{name}' already means something else in a plugin's code", hint="choose another name"
        )


def distribution_of(name: str) -> str:
    """``lmg-word-list``."""
    return f"lmg-{name.replace('_', '-')}"


def module_of(name: str) -> str:
    """``lmg_word_list``."""
    return f"lmg_{name}"


def class_of(name: str) -> str:
    """``WordList``."""
    return "".join(part.capitalize() for part in name.split("_"))


def placeholders(name: str, kind: str) -> dict[str, str]:
    """What the templates leave open."""
    return {
        "__NAME__": name,
        "__KIND__": kind,
        "__CLASS__": class_of(name),
        "__MODULE__": module_of(name),
        "__DISTRIBUTION__": distribution_of(name),
        "__UPPER__": name.upper(),
        "__KERNEL__": Component.requires_kernel,
    }


def render(parts: tuple[str, ...], kind: str, values: Mapping[str, str]) -> str:
    """The templates ``parts``, one after the other, filled in."""
    home = files("lmg") / "_scaffold"
    return "".join(
        fill((home / part.format(kind=kind)).read_text(encoding="utf-8"), values) for part in parts
    )


def fill(text: str, values: Mapping[str, str]) -> str:
    """``text`` with every placeholder replaced."""
    return _PLACEHOLDER.sub(lambda match: values[match[0]], text)
