"""The kernel's redactor with a memory: what is found may depend on the words before it, in streams as in whole texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lmg.redaction import Found, Redactor, TextStream
from lmg.redaction.json_stream import JsonStream
from lmg.redaction.stream import Left

from .scanner import BACK, Scanner

__all__ = ["ContextRedactor", "ContextStream"]


class ContextRedactor(Redactor):
    """Puts ``replace(found)`` in the place of what ``scanner`` finds."""

    def __init__(self, scanner: Scanner, replace: Callable[[Found], str]) -> None:
        super().__init__((), replace)
        self.scanner = scanner

    def find(self, text: str) -> list[Found]:
        """The values in ``text``, in order."""
        return list(self.scanner.find(text, 0, len(text)))

    def stream(self) -> TextStream:
        """The same for a text that comes in pieces."""
        return ContextStream(self)

    def json_stream(self) -> JsonStream:
        """The same for JSON that comes in pieces: the name of a member is the context of its value."""
        return JsonStream(_InJson(self.scanner, self.replace))


class ContextStream(TextStream):
    """One text on its way; ``before`` is what stands before it. Of what has left, as much is kept as is looked back at."""

    __slots__ = ("_scanner",)

    def __init__(self, redactor: ContextRedactor, before: str = "") -> None:
        super().__init__(redactor)
        self._scanner = redactor.scanner
        self._before = before

    @property
    def tail(self) -> str:
        """The end of what has left, as it came."""
        return self._before

    def step(self, piece: str, *, last: bool = False) -> list[Left]:
        """What leaves, part by part: all that begins before the first place that is not decided."""
        text = self._before + self._held + piece
        begin, end = len(self._before), len(text)
        if begin == end:
            return []
        safe = end if last else self._scanner.open(text, begin)
        out: list[Left] = []
        at = begin
        for one in self._scanner.find(text, begin, safe):
            if one.end > safe:  # it may go on, or belong to what follows
                safe = one.start
                break
            replacement = self._redactor.replace(one)
            if replacement == one.text:
                continue
            if one.start > at:
                out.append(Left(one.start - at, text[at : one.start], False))
            out.append(Left(one.end - one.start, replacement, True))
            at = one.end
        if safe > at:
            out.append(Left(safe - at, text[at:safe], False))
        self._held = text[safe:]
        if safe > begin:
            self._before = text[max(0, safe - BACK) : safe]
        return out


_BORDER: Final = "\0"


class _InJson(ContextRedactor):
    """The redactor of one JSON text: each string is a text of its own, and the one before it is its context."""

    def __init__(self, scanner: Scanner, replace: Callable[[Found], str]) -> None:
        super().__init__(scanner, replace)
        self._last: ContextStream | None = None
        self._number = ""

    def _context(self) -> str:
        # The last string that holds something, and nothing of what stood before that one.
        tail = self._last.tail.rstrip(_BORDER) if self._last is not None else ""
        own = tail.rpartition(_BORDER)[2]
        return f"{own}: "[-BACK:] if own else ""

    def stream(self) -> TextStream:
        self._last = ContextStream(self, self._context() + _BORDER)
        return self._last

    def find(self, text: str) -> list[Found]:
        """The values in a number that are replaced by another text: it becomes a string only then."""
        before = self._context()
        whole = before + text
        out: list[str] = []
        at = len(before)
        found = list(self.scanner.find(whole, at, len(whole)))
        for one in found:
            out += (whole[at : one.start], self.replace(one))
            at = one.end
        self._number = "".join((*out, whole[at:]))
        return found if self._number != text else []

    def whole(self, text: str) -> str:
        """What the number becomes that ``find`` was asked about just before."""
        return self._number
