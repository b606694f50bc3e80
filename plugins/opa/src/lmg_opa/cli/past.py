"""Recorded decisions in OPA's decision-log format (https://www.openpolicyagent.org/docs/management-decision-logs).

Files of JSON lines, arrays of events as they are posted, either of them packed by gzip.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from lmg import ConfigError
from lmg.jsontext import Json, JsonTextError, strict_loads

__all__ = ["MAX_LINE_BYTES", "Past", "document_of", "read_log"]

MAX_LINE_BYTES: Final = 64 << 20
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Past:
    """One recorded decision. ``allow`` is None where the policy gave no answer then, ``reasons`` and ``obligations``
    where they were masked; ``erased`` are masked paths of the input.
    """

    decision_id: str
    timestamp: str
    component: str
    input: dict[str, Json]
    allow: bool | None
    reasons: tuple[str, ...] | None
    obligations: dict[str, Json] | None
    erased: tuple[tuple[str, ...], ...]


def read_log(path: Path) -> Iterator[Past | None]:
    """The decisions in ``path``, in order; None for what is none.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    yield from _events(unpacked)
            else:
                yield from _events(file)
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _events(file: IO[bytes] | gzip.GzipFile) -> Iterator[Past | None]:
    while line := file.readline(MAX_LINE_BYTES):
        if not line.strip():
            continue
        try:
            value = strict_loads(line.strip())
        except JsonTextError:
            yield None
            continue
        for event in value if isinstance(value, list) else [value]:
            yield _past(event)


def _past(event: Any) -> Past | None:
    if not isinstance(event, dict) or not isinstance(event.get("input"), dict):
        return None
    result = event.get("result")
    # An OPA server's own log may hold the answer of `allow` alone.
    said: dict[str, Any] = result if isinstance(result, dict) else {"allow": result}
    allow, reasons, obligations = said.get("allow"), said.get("reasons"), said.get("obligations")
    if "error" in event:
        allow = None
    elif not isinstance(allow, bool):
        return None
    stated = event.get("erased")
    erased = (
        [path.split("/")[1:] for path in stated if isinstance(path, str)] if isinstance(stated, list) else []
    )
    labels = event.get("labels")
    return Past(
        _text(event.get("decision_id")),
        _text(event.get("timestamp")),
        _text(labels.get("component")) if isinstance(labels, dict) else "",
        event["input"],
        allow,
        None if _took(erased, "reasons") else _codes(reasons),
        None if _took(erased, "obligations") else obligations if isinstance(obligations, dict) else {},
        tuple(tuple(path[1:]) for path in erased if path[:1] == ["input"]),
    )


def _took(erased: list[list[str]], name: str) -> bool:
    return any(path[:1] == ["result"] and path[1:2] in ([], [name]) for path in erased)


def _codes(reasons: object) -> tuple[str, ...]:
    return (
        tuple(sorted(code for code in reasons if isinstance(code, str))) if isinstance(reasons, list) else ()
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def document_of(past: Past) -> bytes:
    """The input as it was put before the policy."""
    return orjson.dumps(past.input)
