"""The score of an answer: of the signals that nobody has judged yet, looked at with every event that passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from lmg import Deny, Exchange, Signal, StreamEvent, StreamFilter

from .families import OUTPUT, directions
from .levels import Decision, Levels
from .scores import Tally

__all__ = ["AnswerFilter", "AnswerReview"]


class AnswerReview:
    """Judges the signals that come after the first ``judged``; those of the request, where no other has judged them."""

    def __init__(
        self,
        exchange: Exchange,
        tally: Tally,
        levels: Levels,
        judged: int | None,
        conclude: Callable[[Exchange, Decision], None],
        answered: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._tally = tally
        self._levels = levels
        self._conclude = conclude
        self._seen = judged or 0
        self._concluded = False
        self.decision = Decision(0.0, (), ())
        if judged is None:
            # Nobody has judged the request: what is there by now speaks of it, or of the answer if that is whole.
            self._take(exchange.signals, answered)

    def look(self) -> bool:
        """Takes in what has been signalled since; whether it must not go on."""
        signals = self._exchange.signals
        if len(signals) > self._seen:
            self._take(signals, None)
        return "block" in self.decision.actions

    def _take(self, signals: tuple[Signal, ...], answered: Collection[str] | None) -> None:
        new = signals[self._seen :]
        places = [OUTPUT] * len(new) if answered is None else directions(self._exchange, new, answered)
        for signal, direction in zip(new, places, strict=True):
            self._tally.add(signal, direction)
        self._seen += len(new)
        self.decision = self._levels.decide(self._tally)

    def end(self) -> None:
        """Counts the score, once."""
        if not self._concluded:
            self._concluded = True
            self._conclude(self._exchange, self.decision)


class AnswerFilter(StreamFilter):
    """Ends a stream whose score is too high; changes nothing."""

    def __init__(
        self, review: AnswerReview, refusal: Callable[[Decision], Deny], flag: Callable[[Decision], None]
    ) -> None:
        self._review = review
        self._refusal = refusal
        self._flag = flag
        self._flagged = False

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        """The event, or the end."""
        return self._denied() or (event,)

    def finish(self) -> Iterable[StreamEvent] | Deny:
        """Looks once more: the guards have said their last."""
        denied = self._denied()
        self._review.end()
        return denied or ()

    def _denied(self) -> Deny | None:
        blocked = self._review.look()
        decision = self._review.decision
        if not self._flagged and "flag" in decision.actions:
            self._flagged = True
            self._flag(decision)
        if not blocked:
            return None
        self._review.end()
        return self._refusal(decision)

    def close(self) -> None:
        """Counts an answer that was cut off, where it had a score."""
        if self._review.decision.score > 0:
            self._review.end()
