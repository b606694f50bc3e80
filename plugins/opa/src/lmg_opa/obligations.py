"""What a policy binds a request to, read from its answer and handed to the kernel.

| obligation | value | what becomes of it |
|---|---|---|
| `providers` | names | only these are called |
| `regions` | names | only targets there |
| `on_prem` | `true` | only targets on premises |
| `max_output_tokens` | an integer from 1 | the longest answer, also sent upstream |
| `redact` | entities | a guard below must redact each (`redact:<entity>`) |
| `budget_class` | a name | a budget below must spend from this class |
| `guards` | component to mode | the component, further down, runs in this mode |
| `tags` | names to values | stand on the receipt |

Whatever else a policy writes is nothing that could be carried out, so it is a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from lmg import MeshError

if TYPE_CHECKING:
    from lmg import Component, Exchange
    from lmg.component import Mode
    from lmg.jsontext import Json

__all__ = ["NONE", "ObligationFault", "Obligations", "bind", "read"]

MAX_NAMES: Final = 256
MAX_TAGS: Final = 32
_ENTITY: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_MODES: Final = ("enforce", "shadow", "off")


class ObligationFault(MeshError):
    """The policy binds to what nothing can carry out. The text names the obligation's kind and no value of it."""


@dataclass(frozen=True, slots=True)
class Obligations:
    """What was read; nothing by default."""

    bounds: Mapping[str, Any] = field(default_factory=dict)
    redact: tuple[str, ...] = ()
    budget_class: str = ""
    guards: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


NONE: Final = Obligations()


def read(stated: Mapping[str, Json]) -> Obligations:
    """The obligations of a policy's answer.

    Raises:
        ObligationFault: an unknown name, or a value that is not of its kind.
    """
    if not stated:
        return NONE
    unknown = [name for name in stated if name not in _READERS]
    if unknown:
        raise ObligationFault("unknown_obligation")
    found: dict[str, Any] = {}
    for name, value in stated.items():
        try:
            found[name] = _READERS[name](value)
        except ValueError:
            raise ObligationFault(f"malformed_obligation:{name}") from None
    bounds: dict[str, Any] = {
        name: found[name] for name in ("providers", "regions", "max_output_tokens") if name in found
    }
    if found.get("on_prem"):
        bounds["on_prem"] = True
    return Obligations(
        bounds, found.get("redact", ()), found.get("budget_class", ""), found.get("guards", {}), found.get("tags", {})
    )  # fmt: skip


def bind(exchange: Exchange, by: Component, obligations: Obligations) -> None:
    """Binds ``exchange``. Modes come first: what a guard is obliged to must be true of the mode that it then runs in.

    Raises:
        Refusal: 403, nothing further down can carry one of them out.
        ObligationFault: more tags than a receipt holds.
    """
    for component, mode in obligations.guards.items():
        exchange.set_mode(by, component, cast("Mode", mode))
    if obligations.bounds:
        exchange.narrow(**obligations.bounds)
    for entity in obligations.redact:
        exchange.oblige(by, f"redact:{entity}")
    if obligations.budget_class:
        exchange.oblige(by, "budget_class", obligations.budget_class)
    for name, value in obligations.tags.items():
        try:
            exchange.tag(name, value)
        except ValueError:
            raise ObligationFault("malformed_obligation:tags") from None


def _name(value: Json) -> str:
    if type(value) is not str or not _NAME.fullmatch(value):
        raise ValueError
    return value


def _names(value: Json) -> frozenset[str]:
    if type(value) is not list or len(value) > MAX_NAMES:
        raise ValueError
    return frozenset(_name(item) for item in value)


def _flag(value: Json) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _cap(value: Json) -> int:
    # Engines that count in doubles write 100.0 where others write 100.
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _entities(value: Json) -> tuple[str, ...]:
    names = sorted(_names(value))
    if not all(_ENTITY.fullmatch(name) for name in names):
        raise ValueError
    return tuple(names)


def _pairs(value: Json) -> dict[str, str]:
    if type(value) is not dict or len(value) > MAX_NAMES:
        raise ValueError
    return {_name(name): _name(item) for name, item in value.items()}


def _guards(value: Json) -> dict[str, str]:
    guards = _pairs(value)
    if not all(mode in _MODES for mode in guards.values()):
        raise ValueError
    return guards


def _tags(value: Json) -> dict[str, str]:
    if type(value) is not dict or len(value) > MAX_TAGS:
        raise ValueError
    for name, item in value.items():
        if not 0 < len(name) <= 64 or type(item) is not str or len(item) > 256:
            raise ValueError
    return cast("dict[str, str]", value)


_READERS: Final[Mapping[str, Callable[[Json], Any]]] = {
    "providers": _names,
    "regions": _names,
    "on_prem": _flag,
    "max_output_tokens": _cap,
    "redact": _entities,
    "budget_class": _name,
    "guards": _guards,
    "tags": _tags,
}
