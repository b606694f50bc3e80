"""What the commands are given: a policy's folder, an input, and text that must not steer a terminal."""

from __future__ import annotations

import asyncio
import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

from lmg import ConfigError
from lmg.jsontext import Json, JsonTextError, strict_loads

from ..engine import Bundle, Policy, PolicyFault
from ..engines import engine
from ..sources import PathSource, SourceFault

__all__ = [
    "PACKAGE", "add_json_argument", "add_package_argument", "add_policy_argument", "compiled", "plain", "read_bundle",
    "read_document",
]  # fmt: skip

PACKAGE: Final = "lmg.authz"
# What a caller wrote must not steer the terminal that shows it (ECMA-48 control functions).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def add_policy_argument(parser: ArgumentParser, *, required: bool = True) -> None:
    """``--policy``, ``--package`` and ``--engine``."""
    parser.add_argument(
        "--policy", "-p", type=Path, required=required, metavar="DIR", help="a folder, a .rego file, or a .tar.gz bundle"
    )  # fmt: skip
    add_package_argument(parser)
    parser.add_argument(
        "--engine",
        choices=("regorus", "regorus_vm", "wasm"),
        default="regorus",
        help="what runs it (default: regorus)",
    )


def add_package_argument(parser: ArgumentParser) -> None:
    """``--package``."""
    parser.add_argument(
        "--package", default=PACKAGE, metavar="NAME", help=f"the package that decides (default: {PACKAGE})"
    )


def add_json_argument(parser: ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def read_bundle(path: Path) -> Bundle:
    """The bundle at ``path``, read as the gateway reads it.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        bundle = asyncio.run(PathSource(path, 1.0).load())
    except (SourceFault, PolicyFault) as error:
        raise ConfigError(str(error), path=str(path)) from error
    if bundle is None:
        raise ConfigError("there is no policy", path=str(path))
    return bundle


def compiled(bundle: Bundle, name: str, package: str) -> Policy:
    """``bundle`` in the engine ``name``, after the checks that the gateway makes.

    Raises:
        ConfigError: the gateway would not load it.
    """
    try:
        return engine(name).load(bundle, package)
    except PolicyFault as error:
        raise ConfigError(f"the gateway would not load this policy: {error}") from error


def read_document(path: str) -> tuple[bytes, Json]:
    """The strict JSON at ``path`` (``-`` is stdin): its bytes and its value.

    Raises:
        ConfigError: it cannot be read, or is no such JSON.
    """
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return raw, strict_loads(raw)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except JsonTextError as error:
        raise ConfigError(str(error), path=path) from None


def plain(text: object, limit: int = 200) -> str:
    """``text`` in one line of at most ``limit`` characters, without what a terminal would obey."""
    shown = _CONTROL.sub("\ufffd", str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
