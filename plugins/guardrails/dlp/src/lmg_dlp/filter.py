"""The guard on the events of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from lmg import Deny, StreamEvent
from lmg.redaction.filter import RedactingFilter, Signed

from .findings import Findings

__all__ = ["DlpFilter", "RunWatch"]

_CHARS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"


class RunWatch:
    """Tells when a run of base64 characters has become ``longest`` long in some text, without holding any of it."""

    __slots__ = ("_longest", "_runs")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._runs: dict[str, int] = {}

    def reached(self, id: str, text: str) -> bool:
        """Whether the run at the end of the text ``id``, with the ``text`` that has come, is that long for the first time."""
        tail = len(text) - len(text.rstrip(_CHARS))
        before = self._runs.get(id, 0)
        self._runs[id] = now = before + tail if tail == len(text) else tail
        return before < self._longest <= now


class DlpFilter(RedactingFilter):
    """Redacts; ends the stream where something was found that blocks; says what was found as soon as it is known."""

    def __init__(
        self,
        findings: Findings,
        signed: Signed,
        opaque: Callable[[], Deny | None],
        report: Callable[[], None],
    ) -> None:
        super().__init__(findings.redactor, signed)
        self._first = RedactingFilter(findings.first) if findings.first is not None else None
        self._findings = findings
        self._opaque = opaque
        self._report = report
        self._watch = RunWatch(findings.policy.watch_chars) if findings.policy.watch is not None else None

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        """What may leave; a ``Deny`` instead of anything that blocks."""
        for delta in event.deltas:
            if delta.format == "opaque":
                denied = self._opaque()
                if denied is not None:
                    return denied
            elif self._watch is not None and self._watch.reached(delta.id, delta.text):
                self._findings.add("encoded_payload", "tag")
        return self._judged(self._through(event) if self._first is not None else super().feed(event))

    def finish(self) -> Iterable[StreamEvent] | Deny:
        """What was held; a ``Deny`` instead where it blocks."""
        last = self._first.finish() if self._first is not None else ()
        assert not isinstance(last, Deny)  # it judges no signed text
        return self._judged(self._each(last, super().finish))

    def _through(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        assert self._first is not None
        given = self._first.feed(event)
        assert not isinstance(given, Deny)
        return self._each(given, tuple)

    def _each(
        self, events: Iterable[StreamEvent], rest: Callable[[], Iterable[StreamEvent] | Deny]
    ) -> Iterable[StreamEvent] | Deny:
        """What leaves of ``events``, and then of the ``rest``."""
        out: list[StreamEvent] = []
        for event in events:
            said = super().feed(event)
            if isinstance(said, Deny):
                return said
            out += said
        said = rest()
        return said if isinstance(said, Deny) else [*out, *said]

    def _judged(self, out: Iterable[StreamEvent] | Deny) -> Iterable[StreamEvent] | Deny:
        self._report()
        return self._findings.denial() or out
