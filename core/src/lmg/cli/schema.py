"""Print the JSON Schema of mesh.yaml, made from the kernel's settings and those of every installed component."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from ..config import Envelope, MeshConfig
from ..discovery import Installed, discover, kind_of, load_component
from ..errors import ConfigError, DiscoveryError

__all__ = ["HELP", "arguments", "mesh_schema", "run"]

HELP = "print the JSON Schema of mesh.yaml, for editors"

Schema = dict[str, Any]

_REFERENCE: Final = {"$ref": "#/$defs/Reference"}
# Beside a type, these make a string refuse some strings: a reference must be let through explicitly.
_NARROWS: Final = frozenset({"pattern", "minLength", "maxLength", "format", "enum", "const"})
# What describes a setting stays beside `anyOf`, where editors look for it.
_SAID: Final = ("title", "description", "default", "examples", "deprecated")


def arguments(parser: ArgumentParser) -> None:
    """`lmg schema`'s options."""
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="write it there (default: stdout)")


def run(options: Namespace) -> int:
    """0; a component that cannot be loaded is left out, and said on stderr."""
    installed = discover()
    components: dict[str, type[Any]] = {}
    for name in sorted(installed):
        try:
            components[name] = _component(name, installed)
        except DiscoveryError as error:
            sys.stderr.write(f"left out: {error}\n")
    text = orjson.dumps(mesh_schema(components), option=orjson.OPT_INDENT_2).decode() + "\n"
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{options.output} cannot be written: {error.strerror}") from None
    sys.stderr.write(
        f"first line of mesh.yaml, for editors:\n# yaml-language-server: $schema={options.output}\n"
    )
    return 0


def _component(name: str, installed: dict[str, Installed]) -> type[Any]:
    return load_component(name, installed, kind=("listed", "provider", "service"))


def mesh_schema(components: Mapping[str, type[Any]]) -> Schema:
    """The JSON Schema (2020-12) of a mesh.yaml that may name ``components``."""
    definitions: Schema = {}
    whole = _lifted(MeshConfig.model_json_schema(), "", definitions)
    envelope = _lifted(Envelope.model_json_schema(), "", definitions)["properties"]
    names: dict[str, list[str]] = {"listed": [], "provider": [], "service": []}
    bare: list[str] = []
    for name, component in components.items():
        kind = kind_of(component)
        own = _lifted(
            component.Config.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"),
            f"{name}.",
            definitions,
        )
        if component.summary:
            own.setdefault("description", component.summary)
        if kind == "listed":
            mode = {
                **envelope["mode"],
                "enum": [mode for mode in envelope["mode"]["enum"] if mode in component.modes],
            }
            own["properties"] = {**own.get("properties", {}), **envelope, "mode": mode}
        own.setdefault("additionalProperties", False)
        definitions[name] = own
        names[kind].append(name)
        if not own.get("required"):
            bare.append(name)
    properties = whole["properties"]
    for section, kind in (("providers", "provider"), ("services", "service")):
        properties[section] = {**_said(properties[section]), **_by_name(names[kind], bare)}
    properties["pipeline"] = {
        **_said(properties["pipeline"]),
        "type": "array",
        "items": _entry(names["listed"], bare),
    }
    text = {"type": "string"}
    properties["include"] = {
        "anyOf": [text, {"type": "array", "items": text}], "description": "Further files, read relative to this one.",
    }  # fmt: skip
    definitions = {name: _with_references(definition) for name, definition in definitions.items()}
    definitions["Reference"] = {
        "type": "string", "pattern": r"\$\{[^{}\n]+\}", "description": "A value from elsewhere: ${VAR}, ${VAR:-default} or ${file:/path}.",
    }  # fmt: skip
    # The sections of components hold names and references to definitions only, no scalar of their own.
    sections = ("providers", "services", "pipeline", "include")
    whole["properties"] = {
        key: value if key in sections else _with_references(value) for key, value in properties.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "mesh.yaml",
        "$defs": definitions,
    }


def _lifted(schema: Schema, prefix: str, definitions: Schema) -> Schema:
    """``schema`` without its definitions, which go to ``definitions`` under ``prefix``."""
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"{prefix}{name}"] = definition
    return schema


def _by_name(names: list[str], bare: list[str]) -> Schema:
    """A mapping of ``name`` or ``name/instance`` to that component's settings."""
    settings = {name: _settings(name, bare) for name in names}
    return {
        "type": "object",
        "properties": settings,
        "patternProperties": {f"^{re.escape(name)}/.+$": value for name, value in settings.items()},
        "additionalProperties": False,
    }


def _settings(name: str, bare: list[str]) -> Schema:
    there = {"$ref": f"#/$defs/{name}"}
    return {"anyOf": [there, {"type": "null"}]} if name in bare else there


def _entry(names: list[str], bare: list[str]) -> Schema:
    """One entry of the pipeline: a name, or a name with settings."""
    alone = [name for name in names if name in bare]
    forms: list[Schema] = [{**_by_name(names, bare), "minProperties": 1, "maxProperties": 1}]
    if alone:
        instance = "|".join(map(re.escape, alone))
        forms += [{"enum": alone}, {"type": "string", "pattern": f"^({instance})/.+$"}]
    return {"anyOf": forms}


def _said(schema: Schema) -> Schema:
    return {key: schema[key] for key in _SAID if key in schema}


def _with_references(schema: Any) -> Any:
    """``schema`` with a ``${…}`` reference allowed wherever a scalar is asked for."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: value if key in ("default", "enum", "const", "examples") else _walk(key, value)
        for key, value in schema.items()
    }
    if not _refuses_references(schema):
        return inner
    narrow = {key: value for key, value in inner.items() if key not in _SAID}
    return {**_said(inner), "anyOf": [narrow, _REFERENCE]}


def _walk(key: str, value: Any) -> Any:
    if key in ("properties", "patternProperties"):
        return {name: _with_references(item) for name, item in value.items()}
    return _with_references(value)


def _refuses_references(schema: Schema) -> bool:
    kind = schema.get("type")
    if kind in ("integer", "number", "boolean"):
        return True
    return (kind == "string" or (kind is None and "$ref" not in schema)) and bool(_NARROWS & schema.keys())
