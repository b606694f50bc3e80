"""Puts replacements in the places of what detectors find: in a whole text, or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .detectors import Detector, Found

if TYPE_CHECKING:
    from .json_stream import JsonStream

__all__ = ["Left", "Redactor", "TextStream"]

Replace = Callable[[Found], str]


class Left(NamedTuple):
    """A part that has left: of how many characters that came, as which text, and whether that is another."""

    came: int
    text: str
    replaced: bool


class Redactor:
    """Detectors, and what stands in the place of a value.

    Values that overlap are one: the text from the first's start to the last's end, under the name of the one that
    begins first. ``replace`` is asked once for each; what it returns is not searched again.
    """

    def __init__(self, detectors: Sequence[Detector], replace: Replace) -> None:
        self.detectors = tuple(detectors)
        self.replace = replace

    def find(self, text: str) -> list[Found]:
        """The values in ``text``, in order."""
        found = [one for detector in self.detectors for one in detector.find(text, 0, len(text))]
        return _together(found, text) if found else found

    def whole(self, text: str) -> str:
        """``text`` with its values replaced."""
        found = self.find(text)
        if not found:
            return text
        out: list[str] = []
        at = 0
        for one in found:
            out += (text[at : one.start], self.replace(one))
            at = one.end
        return "".join((*out, text[at:]))

    def stream(self) -> TextStream:
        """The same for a text that comes in pieces."""
        return TextStream(self)

    def json(self, text: str) -> str:
        """JSON with the values in its strings (and its numbers) replaced; it stays JSON."""
        stream = self.json_stream()
        return stream.feed(text) + stream.finish()

    def json_stream(self) -> JsonStream:
        """The same for JSON that comes in pieces."""
        from .json_stream import JsonStream

        return JsonStream(self)


class TextStream:
    """One text on its way. What is held is bounded by the longest value that some detector may still complete."""

    __slots__ = ("_before", "_covered", "_held", "_redactor", "_swallowed")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._before = ""
        """The character before what is held, as it came: patterns look at it."""
        self._covered = 0
        """How much of what is held belongs to a value that has been replaced already."""
        self._swallowed: set[int] = set()
        """The detectors, by place, whose run was too long: it has been replaced, and what follows of it is dropped."""

    @property
    def held(self) -> int:
        """Characters that wait."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """What leaves after ``piece`` has come."""
        return "".join([text for _, text, _ in self.step(piece)])

    def finish(self) -> str:
        """What leaves when no more comes."""
        return "".join([text for _, text, _ in self.step("", last=True)])

    def step(self, piece: str, *, last: bool = False) -> list[Left]:
        """What leaves, part by part, for whoever keeps the text in another form as well."""
        text = self._before + self._held + piece
        begin, end = len(self._before), len(text)
        if begin == end:
            return []
        covered, safe = begin + self._covered, end
        found: list[Found] = []
        swallowed: dict[int, int] = {}
        for n, detector in enumerate(self._redactor.detectors):
            start = begin
            if n in self._swallowed:
                start = detector.run_end(text, begin)
                covered = max(covered, start)
                if start == end:
                    swallowed[n] = begin - 1
                    continue
            run = end if last else detector.last_run(text)
            # A run that began before what is held was dead: a live one is not let go.
            if not start <= run < end or not detector.lives(text, run):
                run = end
            elif end - run > detector.max_length:
                found.append(Found(run, end, detector.name, ""))
                swallowed[n] = run
            else:
                safe = min(safe, run)
            found += detector.find(text, start, run)
        # What was too long is replaced now, although nobody knows yet where it ends.
        ended = end if not swallowed else end - 1
        return self._leave(text, begin, safe, covered, ended, found, swallowed)

    def _leave(
        self,
        text: str,
        begin: int,
        safe: int,
        covered: int,
        ended: int,
        found: list[Found],
        swallowed: dict[int, int],
    ) -> list[Left]:
        """Lets go of what is decided, at most up to ``safe``, and keeps the rest."""
        out: list[Left] = []
        at = begin
        for one in _together(found, text) if found else found:
            if one.start < covered:  # it goes on with what has been replaced
                covered = max(covered, one.end)
                continue
            if one.start >= safe or safe < one.end <= ended:
                safe = min(safe, one.start)
                break
            _pass(out, text, at, min(covered, safe), one.start)
            out.append(Left(min(one.end, safe) - one.start, self._redactor.replace(one), True))
            at = covered = one.end
        _pass(out, text, at, min(covered, safe), safe)
        self._held, self._covered = text[safe:], max(0, covered - safe)
        self._swallowed = {n for n, run in swallowed.items() if run < safe}  # the others are still held
        if safe > begin:
            self._before = text[safe - 1]
        return out


def _pass(out: list[Left], text: str, at: int, covered: int, end: int) -> None:
    """Drops what belongs to a value that was replaced, up to ``covered``, and lets the rest through, up to ``end``."""
    if covered > at:
        out.append(Left(covered - at, "", True))
        at = covered
    if end > at:
        out.append(Left(end - at, text[at:end], False))


def _together(found: list[Found], text: str) -> list[Found]:
    """Those that overlap as one, in order; of those that begin together the first detector's gives its name."""
    found.sort(key=lambda one: one.start)
    out: list[Found] = []
    for one in found:
        last = out[-1] if out else None
        if last is None or one.start >= last.end:
            out.append(one)
        else:
            end = max(last.end, one.end)
            out[-1] = Found(
                last.start, end, last.name, text[last.start : end] if last.text and one.text else ""
            )
    return out
