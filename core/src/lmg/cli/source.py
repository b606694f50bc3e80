"""Where a command's configuration comes from: a file, ./mesh.yaml, or the embedded default."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from ..config import MeshConfig, read_config, validate
from ..discovery import discover, kind_of, load_component
from ..errors import DiscoveryError
from ..pipeline import Blueprint, draft

__all__ = ["add_config_argument", "embedded_default", "find_config", "read_blueprint"]


def add_config_argument(parser: ArgumentParser) -> None:
    """The option that every command with a configuration has."""
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        metavar="FILE",
        help="the configuration (default: ./mesh.yaml, else the embedded default)",
    )


def find_config(given: Path | None) -> Path | None:
    """The file to read, or None for the embedded default."""
    if given is not None:
        return given
    return Path("mesh.yaml") if Path("mesh.yaml").is_file() else None


def read_blueprint(
    path: Path | None, overrides: Mapping[str, object] | None = None
) -> tuple[Blueprint, tuple[Path, ...]]:
    """The checked configuration and the files it came from. ``overrides`` are settings of ``server:``."""
    empty: tuple[Path, ...] = ()
    if path is None:
        config, document, files = embedded_default(os.environ), None, empty
    else:
        config, document = read_config(path)
        files = document.files
    if overrides:
        server = {**config.server.model_dump(), **overrides}
        config = config.model_copy(
            update={"server": validate(type(config.server), server, ("server",), None)}
        )
    return draft(config, document), files


def embedded_default(environ: Mapping[str, str]) -> MeshConfig:
    """What runs without a mesh.yaml: every installed provider that needs nothing, or whose key is in the environment."""
    installed = discover()
    providers = {}
    for name in sorted(installed):
        try:
            component = load_component(name, installed, kind=("listed", "provider", "service"))
        except DiscoveryError:
            continue
        if kind_of(component) == "provider":
            settings = component.embedded(environ)
            if settings is not None:
                providers[name] = settings
    return MeshConfig.model_validate({"providers": providers})
