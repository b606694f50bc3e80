"""What finds values: by patterns over an alphabet, or as known texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Detector", "Found", "KnownValues", "Patterns", "Rule"]


class Found(NamedTuple):
    """A value at ``start`` up to ``end`` of a text, found as ``name``. ``text`` is the value itself, empty where it was
    too long to be held.
    """

    start: int
    end: int
    name: str
    text: str


class Detector(Protocol):
    """Finds values, each within one run of characters.

    A detector is *local*: what it finds in a run depends on the run and the one character before and behind it, and on
    nothing else. So a run that has ended is decided, whatever comes later; and a run that is dead holds no value.
    """

    max_length: int
    """A live run that is longer is taken for a value as a whole,"""

    name: str
    """and this is its name then."""

    def last_run(self, text: str) -> int:
        """Where the run begins that goes up to the end of ``text``; ``len(text)`` where there is none."""

    def run_end(self, text: str, start: int) -> int:
        """Where the run ends that goes on at ``start``; ``len(text)`` where it may go on behind it."""

    def lives(self, text: str, start: int) -> bool:
        """Whether the run ``text[start:]`` may hold a value, or come to hold one with what follows."""

    def find(self, text: str, start: int, end: int) -> Iterable[Found]:
        """The values in ``text[start:end]``, where every run has ended; they may overlap."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of value. ``pattern`` (a regular expression) matches characters of its alphabet only, but for assertions of
    one character; ``check`` sorts out what only looks like one. A text without ``hint`` is not searched for it.
    """

    name: str
    pattern: str
    check: Callable[[str], bool] | None = None
    hint: str = ""


class Patterns:
    """Rules over one alphabet, the inside of a character class (``A-Za-z0-9._-``).

    A run is dead, and holds no value, where it does not begin with one of ``prefixes``, or has no ``anchor`` (a
    character) within its first ``within`` ones; the patterns have to say the same (``(?<![A-Za-z0-9._-])sk-…``). A live run
    of more than ``max_length`` characters is taken for a value as a whole: so the memory of a stream is bounded, and
    nothing leaks by being long.
    """

    def __init__(
        self,
        alphabet: str,
        rules: Sequence[Rule],
        *,
        max_length: int,
        prefixes: Sequence[str] = (),
        anchor: str = "",
        within: int = 0,
    ) -> None:
        self._rules = [(rule, re.compile(rule.pattern)) for rule in rules]
        self._inside = re.compile(f"[{alphabet}]")
        self._outside = re.compile(f"[^{alphabet}]")
        self._long = re.compile(f"[{alphabet}]{{{max_length + 1},}}")
        self._prefixes = tuple(prefixes)
        self._anchor, self._within = anchor, within
        self.max_length = max_length
        self.name = rules[0].name
        # The common alphabets are ASCII: the end of a text is then stripped by the interpreter's own loop.
        self._chars = "".join(chr(n) for n in range(128) if self._inside.match(chr(n)))
        self._ascii = not any(self._inside.match(chr(n)) for n in range(128, 0x3100))

    def last_run(self, text: str) -> int:
        if self._ascii:
            return len(text.rstrip(self._chars))
        at = len(text)
        while at and self._inside.match(text, at - 1):
            at -= 1
        return at

    def run_end(self, text: str, start: int) -> int:
        outside = self._outside.search(text, start)
        return outside.start() if outside is not None else len(text)

    def lives(self, text: str, start: int) -> bool:
        length = len(text) - start
        if self._prefixes and not any(
            text.startswith(prefix, start) or (length < len(prefix) and prefix.startswith(text[start:]))
            for prefix in self._prefixes
        ):
            return False
        return (
            not self._anchor
            or length <= self._within
            or text.find(self._anchor, start, start + self._within + 1) >= 0
        )

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        if end - start > self.max_length:
            for run in self._long.finditer(text, start, end):
                begins = run.start() == 0 or not self._inside.match(text, run.start() - 1)
                if begins and self.lives(run.group(), 0):
                    yield Found(run.start(), run.end(), self.name, "")
        for rule, pattern in self._rules:
            if rule.hint and text.find(rule.hint, start, end) < 0:
                continue
            for match in pattern.finditer(text, start, end):
                value = match.group()
                if rule.check is None or rule.check(value):
                    yield Found(match.start(), match.end(), rule.name, value)


class KnownValues:
    """Texts that are known: placeholders, canaries, keys of one's own. ``values`` maps each to the name of its kind."""

    name = "known"

    def __init__(self, values: Mapping[str, str]) -> None:
        self._names = {value: name for value, name in values.items() if value}
        self._prefixes = {value[:n] for value in self._names for n in range(1, len(value))}
        self.max_length = max(map(len, self._names), default=0)
        ordered = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def last_run(self, text: str) -> int:
        """Where the longest end of ``text`` begins that is the beginning of a value."""
        for at in range(max(0, len(text) - self.max_length + 1), len(text)):
            if text[at:] in self._prefixes:
                return at
        return len(text)

    def run_end(self, text: str, start: int) -> int:
        return start  # none is ever too long

    def lives(self, text: str, start: int) -> bool:
        return True

    def find(self, text: str, start: int, end: int) -> Iterator[Found]:
        if self._pattern is not None:
            for match in self._pattern.finditer(text, start):
                yield Found(match.start(), match.end(), self._names[match.group()], match.group())
