"""Reads mesh.yaml into plain values that remember their place: file, line, key path.

``${VAR}``, ``${VAR:-default}`` and ``${file:/path}`` are put in after parsing, so a value can never
become structure, and braces need no quotes inside a flow mapping.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from .errors import ConfigError

__all__ = ["Document", "load"]

MAX_BYTES: Final = 4 * 2**20
MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 100
_REFERENCE: Final = re.compile(r"\$\{([^{}\n]*)\}")
_MARK: Final = re.compile("\ue000(\\d+)\ue001")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "tag:yaml.org,2002:merge"


class Document:
    """A parsed configuration: ``value`` and, per key path, where it stands (``file:line``)."""

    def __init__(
        self, value: dict[str, Any], places: dict[tuple[str | int, ...], str], files: tuple[Path, ...]
    ) -> None:
        self.value, self.places, self.files = value, places, files

    def where(self, path: tuple[str | int, ...]) -> str:
        """The place of ``path``, or of the nearest thing above it."""
        for n in range(len(path), -1, -1):
            if path[:n] in self.places:
                return self.places[path[:n]]
        return ""


def load(path: Path, environ: Mapping[str, str] | None = os.environ) -> Document:
    """Reads ``path`` and what it includes. ``environ`` None leaves ``${…}`` as it stands.

    Raises:
        ConfigError: with file:line and what to do; no value of a secret is ever part of it.
    """
    places: dict[tuple[str | int, ...], str] = {}
    files: list[Path] = []
    value = _load(path, environ, places, files, ())
    return Document(value, places, tuple(files))


def _load(
    path: Path,
    environ: Mapping[str, str] | None,
    places: dict[tuple[str | int, ...], str],
    files: list[Path],
    above: tuple[Path, ...],
) -> dict[str, Any]:
    if path.resolve() in above:
        raise ConfigError(f"{path} includes itself", hint="remove it from include:")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist",
            hint="name the file with --config, or run without it for the embedded default",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
    files.append(path)
    reader = _Reader(path, environ, places)
    value = reader.read(text)
    included = value.pop("include", [])
    if isinstance(included, str):
        included = [included]
    if not isinstance(included, list) or not all(isinstance(item, str) for item in included):
        raise ConfigError("include: must be a list of file names", where=reader.place(("include",)))
    for name in included:
        for key, item in _load(path.parent / name, environ, places, files, (*above, path.resolve())).items():
            if key in value and isinstance(value[key], dict) and isinstance(item, dict):
                twice = next((inner for inner in item if inner in value[key]), None)
                if twice is not None:
                    raise ConfigError(
                        f"'{twice}' is configured twice",
                        where=places.get((key, twice), ""),
                        path=f"{key}.{twice}",
                    )
                value[key] |= item
            elif key in value:
                raise ConfigError(f"'{key}' is configured twice", where=places.get((key,), ""), path=key)
            else:
                value[key] = item
    return value


class _Reader:
    def __init__(
        self, path: Path, environ: Mapping[str, str] | None, places: dict[tuple[str | int, ...], str]
    ) -> None:
        self.path, self.environ, self.places = path, environ or {}, places
        self.resolves = environ is not None
        self.references: list[str] = []
        self.scalars = yaml.SafeLoader("")
        self.nodes = 0

    def place(self, path: tuple[str | int, ...]) -> str:
        return self.places.get(path, str(self.path))

    def read(self, text: str) -> dict[str, Any]:
        if "\ue000" in text:
            raise ConfigError("the file holds the private character U+E000", where=str(self.path))
        loader = _Loader(_REFERENCE.sub(self._mark, text) if self.resolves else text)
        try:
            node = loader.get_single_node()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{self.path}:{mark.line + 1}" if mark else str(self.path)
            problem = _MARK.sub("${…}", str(getattr(error, "problem", None) or "it is not valid YAML"))
            raise ConfigError(
                f"not valid YAML: {problem}", where=where, hint="check indentation, quotes and brackets"
            ) from None
        finally:
            loader.dispose()
        if node is None:
            return {}
        value = self._value(node, ())
        if not isinstance(value, dict):
            raise ConfigError(
                "the configuration must be a mapping", where=f"{self.path}:1", hint="as in 'pipeline: [...]'"
            )
        return value

    def _mark(self, match: re.Match[str]) -> str:
        self.references.append(match.group(1))
        return f"\ue000{len(self.references) - 1}\ue001"

    def _value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self.nodes += 1
        where = f"{self.path}:{node.start_mark.line + 1}"
        if self.nodes > MAX_NODES:
            raise ConfigError(f"more than {MAX_NODES} values (aliases count each time)", where=where)
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} (an alias of itself?)", where=where)
        self.places.setdefault(path, where)
        if isinstance(node, yaml.MappingNode):
            value: dict[str, Any] = {}
            for key_node, value_node in self._pairs(node, len(path)):
                key = (
                    self._value(key_node, (*path, "<key>")) if isinstance(key_node, yaml.ScalarNode) else None
                )
                place = f"{self.path}:{key_node.start_mark.line + 1}"
                if not isinstance(key, str | int | float | bool):
                    raise ConfigError("a key must be a plain scalar", where=place)
                # As it is written: YAML 1.1 reads a bare `on` as true.
                name = key if isinstance(key, str) else str(key_node.value)
                if name in value:
                    raise ConfigError(
                        f"'{name}' is configured twice", where=place, path=".".join(map(str, (*path, name)))
                    )
                self.places[(*path, name)] = place
                value[name] = self._value(value_node, (*path, name))
            return value
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, n)) for n, item in enumerate(node.value)]
        text = str(node.value)
        if "\ue000" in text:
            return _MARK.sub(
                lambda match: self._resolve(self.references[int(match.group(1))], where, path), text
            )
        if node.tag.startswith("!"):
            raise ConfigError(f"the tag {node.tag} is not supported", where=where)
        try:
            return self.scalars.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            raise ConfigError(
                f"this is no {node.tag.rpartition(':')[2]}", where=where, hint="quote it where it is a text"
            ) from None

    def _pairs(self, node: yaml.MappingNode, depth: int) -> list[tuple[yaml.Node, yaml.Node]]:
        """The entries of a mapping, those of ``<<`` last and only where they are not its own."""
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            self.nodes += 1
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode) or depth > MAX_DEPTH or self.nodes > MAX_NODES:
                    place = f"{self.path}:{key.start_mark.line + 1}"
                    raise ConfigError("<<: takes a mapping, or a list of them", where=place)
                merged = self._pairs(source, depth + 1)
                own += [pair for pair in merged if pair[0].value not in names]
                names |= {str(inner.value) for inner, _ in merged}
        return own

    def _resolve(self, reference: str, where: str, path: tuple[str | int, ...]) -> str:
        dotted = ".".join(map(str, path))
        if reference.startswith("file:"):
            try:
                return Path(reference[5:]).read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                what = getattr(error, "strerror", None) or "it is not text"
                raise ConfigError(
                    f"the file of ${{{reference}}} cannot be read: {what}", where=where, path=dotted
                ) from None
        name, colon, default = reference.partition(":-")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"${{{reference}}} is no reference",
                where=where,
                path=dotted,
                hint="write ${NAME}, ${NAME:-default} or ${file:/path}",
            )
        value = self.environ.get(name, "")
        if value or colon:
            return value or default
        raise ConfigError(
            f"the environment has no {name}",
            where=where,
            path=dotted,
            hint=f"set {name}, or write ${{{name}:-default}}",
        )
