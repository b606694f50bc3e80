"""Single values: environment references, durations, and secrets, which are never copied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import urlsplit

from ..notes import Notes, Path

__all__ = ["Values", "amount", "is_reference"]

_PREFIX: Final = "os.environ/"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Values:
    """Turns the source's values into mesh.yaml's; remembers which variables have a meaning."""

    def __init__(self, source: object, notes: Notes) -> None:
        self._notes = notes
        self._taken = {_variable(text) for text in _texts(source) if is_reference(text)}
        self._named: dict[str, str] = {}

    def reserve(self, variable: str) -> None:
        """The variable has a meaning of its own: no secret of the file is called so."""
        self._taken.add(variable)

    def text(self, value: object, path: Path) -> str | None:
        """A text that is no secret, or a reference to one."""
        if not isinstance(value, str) or not value:
            return None
        if is_reference(value):
            return self._reference(value, path)
        if "${" in value:
            self._notes.changed(path, "lmg reads ${…} in it as a reference", "check it")
        return value

    def secret(self, value: object, path: Path, variable: str) -> str | None:
        """A reference. A secret that stands in the source itself gets a variable: it is never copied."""
        if value is None or value == "":
            return None
        text = str(value)
        if is_reference(text):
            return self._reference(text, path)
        if text not in self._named:
            name, n = variable, 1
            while name in self._taken:
                n += 1
                name = f"{variable}_{n}"
            self._taken.add(name)
            self._named[text] = name
        name = self._named[text]
        self._notes.changed(
            path,
            f"what may be a secret stands in the file itself: it was not copied, mesh.yaml says ${{{name}}}",
            f"put it into the environment as {name}",
        )
        return f"${{{name}}}"

    def url(self, value: object, path: Path, variable: str) -> str | None:
        """A base URL. One that holds a user, a password or a query may hold a secret, and is treated as one."""
        if not isinstance(value, str) or not value or is_reference(value):
            return self.text(value, path)
        try:
            parts = urlsplit(value)
            plain = not (parts.username or parts.password or parts.query or parts.fragment)
        except ValueError:
            plain = False
        return self.text(value.rstrip("/"), path) if plain else self.secret(value, path, variable)

    def milliseconds(self, value: object, path: Path) -> int | None:
        """A number of seconds, as milliseconds; says so where it is none."""
        if value is None:
            return None
        seconds = amount(value)
        if seconds is None or not 0 < seconds < 10**7:
            self._notes.lost(
                path, "it is no number of seconds in the file itself", "set timeout_ms of the provider"
            )
            return None
        return max(1, int(seconds * 1000))

    def _reference(self, value: str, path: Path) -> str:
        name = _variable(value)
        if name != value.removeprefix(_PREFIX):
            self._notes.changed(
                path, f"lmg cannot read a variable of this name: mesh.yaml says {name}", f"set {name}"
            )
        return f"${{{name}}}"


def is_reference(value: object) -> bool:
    """Whether ``value`` is ``os.environ/NAME``."""
    return isinstance(value, str) and value.startswith(_PREFIX) and len(value) > len(_PREFIX)


def amount(value: object) -> Decimal | None:
    """A number as it was written; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _variable(value: str) -> str:
    name = value.removeprefix(_PREFIX)
    if _NAME.fullmatch(name):
        return name
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return name if not name[0].isdigit() else f"_{name}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
