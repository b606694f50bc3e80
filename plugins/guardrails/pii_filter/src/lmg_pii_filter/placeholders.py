"""Placeholders: words that stand for values on their way to a model and back.

``EMAIL_QXKZBTRM`` is a label, which tells the model what it is, and eight letters that a keyed hash has made of tenant,
conversation and value: the same value is the same word in every turn. Letters alone: no number is recognised in them, and
they mean the same in any case.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Final

from .entities import ENTITIES, label

__all__ = ["MAX_VALUES", "Keys", "Mint", "Restorer"]

_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels: no words."""
_CODE: Final = 8
_LONGEST: Final = max(len(label(one)) for one in ENTITIES)
_BETWEEN: Final = r"\\{0,3}[_\- ]"
"""Models escape underscores for markdown, and once more inside JSON; some write a hyphen or a space."""
MAX_VALUES: Final = 5_000
"""Values of one conversation that can be restored; further ones are masked all the same."""


def _letters(digest: bytes, count: int) -> str:
    number = int.from_bytes(digest, "big")
    out = []
    for _ in range(count):
        number, rest = divmod(number, len(_LETTERS))
        out.append(_LETTERS[rest])
    return "".join(out)


class Keys:
    """What is derived from the configured secret, for each tenant its own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"lmg-pii-filter\0" + secret).digest()

    def of(self, purpose: str, *parts: str) -> bytes:
        """32 bytes for ``purpose`` and ``parts``; which parts they were cannot be mistaken."""
        mac = hmac.new(self._secret, purpose.encode(), hashlib.sha256)
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            mac.update(len(raw).to_bytes(8, "big") + raw)
        return mac.digest()

    def hashed(self, tenant: str, entity: str, value: str) -> str:
        """What stands for ``value`` under the action ``hash``: 16 letters, alike in all conversations of the tenant."""
        return f"{label(entity)}#{_letters(self.of('hash', tenant, entity, value), 16)}"


class Mint:
    """Makes the placeholders of one conversation, and remembers what they stand for."""

    def __init__(self, keys: Keys, tenant: str, conversation: str, typed: Callable[[str], bool]) -> None:
        self._keys, self._tenant, self._conversation, self._typed = keys, tenant, conversation, typed
        self._of: dict[tuple[str, str], str] = {}
        self.values: dict[str, str] = {}
        """What each placeholder stands for."""

    def adopt(self, values: Mapping[str, str]) -> None:
        """Those of earlier turns go on, but for what the caller has typed."""
        for placeholder, value in values.items():
            if not self._typed(placeholder[-_CODE:]):
                self.values[placeholder] = value

    def placeholder(self, entity: str, value: str) -> str:
        """The word that stands for ``value``: never one that stands for another, or that the caller has typed itself."""
        there = self._of.get((entity, value))
        if there is not None:
            return there
        for n in range(100):
            code = _letters(
                self._keys.of("placeholder", self._tenant, self._conversation, entity, value, str(n)), _CODE
            )
            placeholder = f"{label(entity)}_{code}"
            if self.values.get(placeholder, value) == value and not self._typed(code):
                break
        else:  # the caller has typed a hundred hashes that it cannot know
            raise RuntimeError("no placeholder is free")
        if len(self.values) < MAX_VALUES:
            self._of[entity, value] = placeholder
            self.values[placeholder] = value
        return placeholder


class Restorer:
    """Finds the placeholders of ``values`` in text, however a model has written them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {placeholder[-_CODE:]: value for placeholder, value in values.items()}
        labels = sorted({placeholder[: -_CODE - 1] for placeholder in values}, key=len, reverse=True)
        self._prefixes = {one[:n] for one in labels for n in range(1, len(one) + 1)}
        names = "|".join(labels)
        self._pattern = re.compile(rf"(?:{names}){_BETWEEN}([{_LETTERS}]{{{_CODE}}})", re.IGNORECASE)
        self._begun = re.compile(
            rf"(?:{names})\\{{0,3}}(?:[_\- ][{_LETTERS}]{{0,{_CODE - 1}}})?\Z", re.IGNORECASE
        )

    def original(self, written: str) -> str:
        """The value for a placeholder as it was found."""
        return self._values[written[-_CODE:].upper()]

    def find(self, text: str, start: int, end: int, name: str) -> list[tuple[int, int, str]]:
        """Start and end of each that begins between ``start`` and ``end``, as ``name``."""
        return [
            (one.start(), one.end(), name)
            for one in self._pattern.finditer(text, start)
            if one.start() < end and one.group(1).upper() in self._values
        ]

    def open(self, text: str, begin: int) -> int:
        """Where a placeholder begins that is not complete; ``len(text)`` where none does."""
        end = len(text)
        for at in range(max(begin, end - _LONGEST), end):
            if text[at:].upper() in self._prefixes:
                return self._earlier(text, begin, at)
        return self._earlier(text, begin, end)

    def _earlier(self, text: str, begin: int, at: int) -> int:
        begun = self._begun.search(text, max(begin, len(text) - _LONGEST - _CODE - 4))
        return min(at, begun.start()) if begun is not None else at
