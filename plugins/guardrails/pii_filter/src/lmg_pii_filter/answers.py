"""The way back: placeholders become values again, and what the model has written itself is treated as policy says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from lmg import Deny, StreamEvent
from lmg.redaction import Found
from lmg.redaction.filter import RedactingFilter

from .placeholders import Restorer
from .policy import Policies, Policy
from .redactor import ContextRedactor
from .refusals import blocked, signed_denial
from .scanner import PLACEHOLDER, Scanner

__all__ = ["AnswerFilter", "AnswerReview"]


class AnswerReview:
    """What is known of one answer. ``redactor`` treats its texts; afterwards ``denied`` says whether it may pass.

    Values of the request are let be where the model has written them out: they are the caller's own.
    """

    def __init__(
        self,
        policies: Policies,
        policy: Policy,
        values: dict[str, str],
        replacement: Callable[[str, str], str],
        *,
        signed: str,
        tell: Callable[[str], None],
    ) -> None:
        self._policies, self.policy = policies, policy
        self._restorer = Restorer(values) if values else None
        self._own = frozenset(values.values())
        self._replacement = replacement
        self._signed, self._tell = signed, tell
        self.restored = 0
        self.counts: Counter[str] = Counter()
        self.denied: Deny | None = None
        self.redactor = ContextRedactor(
            Scanner(policy.out_ranks, policy.out_numbers, restorer=self._restorer), self._replace
        )

    @property
    def idle(self) -> bool:
        """Whether no text can be changed or refused."""
        return self._restorer is None and not self.policy.outgoing

    def _replace(self, one: Found) -> str:
        if one.name == PLACEHOLDER:
            assert self._restorer is not None
            self.restored += 1
            return self._restorer.original(one.text)
        if one.text in self._own or self._policies.allows(one.text):
            return one.text
        if not self.counts[one.name]:
            self._tell(one.name)
        self.counts[one.name] += 1
        action = self.policy.outgoing[one.name]
        if action == "block":
            self.denied = self.denied or blocked(one.name, "answer")
            return ""
        return one.text if action == "tag" else self._replacement(one.name, one.text)

    def signed(self, text: str) -> Deny | None:
        """What is said to a signed text: it leaves as it is, or not at all."""
        for one in self.redactor.find(text):
            if one.name == PLACEHOLDER or one.text in self._own or self._policies.allows(one.text):
                continue
            action = self.policy.outgoing[one.name]
            if action == "block":
                return blocked(one.name, "answer")
            if action != "tag" and self._signed == "deny":
                return signed_denial(one.name, "answer")
        return None


class AnswerFilter(RedactingFilter):
    """The review of a streamed answer. ``seen`` is told every event, ``done`` once, at the end."""

    def __init__(
        self,
        review: AnswerReview,
        seen: Callable[[StreamEvent], None],
        opaque: Callable[[], Deny | None],
        done: Callable[[], None],
    ) -> None:
        super().__init__(review.redactor, review.signed)
        self._review = review
        self._seen, self._opaque_said, self._done = seen, opaque, done

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        """What may leave; a refusal where something may not."""
        self._seen(event)
        if any(delta.format == "opaque" for delta in event.deltas):
            said = self._opaque_said()
            if said is not None:
                return said
        out = super().feed(event)
        return self._review.denied or out

    def finish(self) -> Iterable[StreamEvent] | Deny:
        """What was held to the end."""
        out = super().finish()
        return self._review.denied or out

    def close(self) -> None:
        """Counts what was found."""
        self._done()
