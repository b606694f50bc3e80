"""What the files of a bundle amount to: modules, data, a compiled policy, and the name of this version.

The layout is OPA's (https://www.openpolicyagent.org/docs/management-bundles): a ``data.json`` or ``data.yaml`` stands under
``data`` at its directory. In a directory that is not packed every other ``.json`` and ``.yaml`` file does so, too, as with
``opa eval --data``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Final

import yaml

from lmg.jsontext import Json, JsonTextError, strict_loads

from .engine import Bundle, PolicyFault

__all__ = ["MANIFEST", "bundle_of", "is_part", "read_yaml"]

MANIFEST: Final = ".manifest"
WASM: Final = "policy.wasm"
MAX_DEPTH: Final = 64
MAX_REVISION: Final = 256
_DATA_FILES: Final = ("data.json", "data.yaml", "data.yml")


def is_part(name: str) -> bool:
    """Whether a file of a directory belongs to the bundle."""
    base = name.rpartition("/")[2]
    return name == MANIFEST or (
        not base.startswith(".") and base.endswith((".rego", ".json", ".yaml", ".yml", ".wasm"))
    )


def bundle_of(files: Mapping[str, bytes], *, packed: bool) -> Bundle:
    """The bundle of ``files`` by name; ``packed`` tells that they come from an archive.

    Raises:
        PolicyFault: a file that cannot be read, or data that stands in two of them.
    """
    modules: dict[str, str] = {}
    data: dict[str, Json] = {}
    for name in sorted(files):
        raw = files[name]
        base = name.rpartition("/")[2]
        if base.startswith("."):
            continue
        if base.endswith(".rego"):
            modules[name] = _text(name, raw)
        elif base.endswith((".json", ".yaml", ".yml")) and (not packed or base in _DATA_FILES):
            _merge(data, _at(name, _value(name, raw)), name)
    if not modules and WASM not in files:
        raise PolicyFault("there is no policy: no .rego file, and no policy.wasm")
    return Bundle(_revision(files), modules, data, files.get(WASM))


def _revision(files: Mapping[str, bytes]) -> str:
    """What the manifest calls this version; else a digest of all that is in it."""
    if MANIFEST in files:
        manifest = _json(MANIFEST, files[MANIFEST])
        stated = manifest.get("revision") if type(manifest) is dict else None
        if type(stated) is str and stated:
            return stated[:MAX_REVISION]
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{len(name)}:{name}{len(files[name])}:".encode() + files[name])
    return f"sha256:{digest.hexdigest()[:16]}"


def _at(name: str, value: Json) -> dict[str, Json]:
    """``value`` where its directory says that it stands."""
    folders = name.split("/")[:-1]
    for folder in reversed(folders):
        value = {folder: value}
    if type(value) is not dict:
        raise PolicyFault(f"{name}: at the top of a bundle data is an object")
    return value


def _merge(into: dict[str, Json], more: Mapping[str, Json], name: str) -> None:
    for key, value in more.items():
        there = into.get(key)
        if key not in into:
            into[key] = value
        elif type(there) is dict and type(value) is dict:
            _merge(there, value, name)
        else:
            raise PolicyFault(f"{name}: data.{key[:64]} stands in another file as well")


def _value(name: str, raw: bytes) -> Json:
    return _json(name, raw) if name.endswith(".json") else read_yaml(name, raw)


def _json(name: str, raw: bytes) -> Json:
    try:
        return strict_loads(raw, max_depth=MAX_DEPTH)
    except JsonTextError as error:
        raise PolicyFault(f"{name}: {error}") from None


def read_yaml(name: str, raw: bytes) -> Json:
    """The value of a YAML file, where it is one that JSON has as well.

    Raises:
        PolicyFault: with the line.
    """
    text = _text(name, raw)
    try:
        _check_shape(name, text)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark, "line", 0) + 1
        raise PolicyFault(f"{name}:{line}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PolicyFault(f"{name}: not YAML: {type(error).__name__}") from None
    return _as_json(name, value)


def _check_shape(name: str, text: str) -> None:
    """Refuses what is small here and large as a value: an alias makes one of a thousand."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = getattr(event.start_mark, "line", 0) + 1
        if isinstance(event, yaml.AliasEvent):
            raise PolicyFault(f"{name}:{line}: aliases are not taken")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise PolicyFault(f"{name}:{line}: nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _as_json(name: str, value: object) -> Json:
    if value is None or type(value) in (str, bool, int):
        return value  # type: ignore[return-value]
    if type(value) is float and value == value and abs(value) != float("inf"):
        return value
    if isinstance(value, date):  # a text for whoever wrote it, and for OPA
        return value.isoformat()
    if type(value) is list:
        return [_as_json(name, item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _as_json(name, item) for key, item in value.items()}
    raise PolicyFault(f"{name}: holds a value or a key that JSON does not have ({type(value).__name__})")


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise PolicyFault(f"{name}: not UTF-8") from None
