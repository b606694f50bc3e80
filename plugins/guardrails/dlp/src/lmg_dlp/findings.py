"""What was found in one direction of an exchange, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from lmg import Deny, Signal
from lmg.redaction import Detector, Found, Redactor

from .assignments import ASSIGNMENTS
from .canaries import PREFIX
from .config import Action
from .kinds import ASSIGNED, probability
from .links import Links
from .shapes import SHAPES, TELEGRAM
from .tokens import TOKENS

__all__ = ["Direction", "Findings", "Policy"]

Direction = Literal["request", "answer"]
TAKEN_OUT: Final = 0.45
"""How a value weighs that was taken out: by itself it brings no score over the usual threshold of 0.5."""
_STRENGTH: Final = {"off": 0, "tag": 1, "redact": 2, "block": 3}
_VENDORS: Final = (TOKENS, SHAPES, TELEGRAM, Links())
_REMOVED: Final = frozenset({"invisible", "hidden_text"})


class Policy:
    """The detectors of one direction, and the action for each kind; made once, at start."""

    def __init__(
        self,
        direction: Direction,
        detectors: Sequence[Detector],
        actions: Mapping[str, Action],
        placeholder: str,
        *,
        first: Sequence[Detector] = (),
        tenants: Sequence[str] = (),
        watch: re.Pattern[str] | None = None,
        watch_chars: int = 0,
    ) -> None:
        self.direction = direction
        self.detectors = tuple(detectors)
        self.first = tuple(first)
        """Those that come before the others: without invisible characters a text may be a secret that it was not with them."""
        self._actions = actions
        self._placeholder = placeholder
        self._tenants = tuple(tenants)
        self.watch, self.watch_chars = watch, watch_chars

    def action(self, kind: str) -> Action:
        """What becomes of a value of ``kind``."""
        return self._actions.get(kind, "redact")

    def kind(self, found: Found, tenant: str) -> str:
        """The kind as operators call it: whose the canary is, which vendor's the token behind ``api_key =`` is."""
        return self.reading(found, tenant)[0]

    def reading(self, found: Found, tenant: str) -> tuple[str, str]:
        """The kind of ``found``, and the words before the value that introduce it, which are no secret."""
        text = found.text
        if found.name.startswith(PREFIX):
            own = self._tenants[int(found.name.removeprefix(PREFIX))] == tenant
            return "own_canary" if own else "canary", ""
        if found.name not in ASSIGNED or not text:
            return found.name, ""
        words, value = ASSIGNMENTS.split(text)
        for detector in _VENDORS:
            for one in detector.find(text, 0, len(text)):
                return one.name, text[: min(one.start, len(words))]
        for one in ASSIGNMENTS.find(value, 0, len(value)):  # `my key is DB_PASSWORD=…`
            name = value[: one.start]
            if name.replace("_", "").isalpha() or not name:
                return one.name, words + name + ASSIGNMENTS.split(one.text)[0]
        return found.name, words

    def inside(self, found: Found) -> list[Found]:
        """What is found in the text of ``found`` alone."""
        each = [one for detector in self.detectors for one in detector.find(found.text, 0, len(found.text))]
        return sorted(each, key=lambda one: (one.start, -one.end))

    def placeholder(self, kind: str) -> str:
        """What stands in the place of a value of ``kind``."""
        return "" if kind in _REMOVED else self._placeholder.replace("{kind}", kind)


class Findings:
    """Of one exchange, in one direction: counts kinds, never keeps a text."""

    def __init__(self, policy: Policy, tenant: str, count: Callable[[str, str], None]) -> None:
        self.policy = policy
        self.kinds: dict[str, int] = {}
        self.blocked = ""
        self._probability: dict[str, float] = {}
        self._weight: dict[str, float] = {}
        self._new: list[str] = []
        self._tenant = tenant
        self._count = count
        self.redactor = Redactor(policy.detectors, self.replace)
        self.first = Redactor(policy.first, self.replace) if policy.first else None

    def whole(self, text: str, *, json: bool = False) -> str:
        """``text``, or JSON, without what may not be in it."""
        for redactor in (self.first, self.redactor):
            if redactor is not None:
                text = redactor.json(text) if json else redactor.whole(text)
        return text

    def found_in(self, text: str) -> bool:
        """Whether there is anything to be found in ``text``; nothing is counted."""
        return bool((self.first is not None and self.first.find(text)) or self.redactor.find(text))

    def replace(self, found: Found) -> str:
        """What stands in the place of ``found``: the redactor asks once for each, whether streamed or whole."""
        policy = self.policy
        first, words = policy.reading(found, self._tenant)
        if not found.text:  # it was too long to be held: there is nothing to let through
            self.add(first, "redact" if policy.action(first) != "block" else "block")
            return policy.placeholder(first)
        inside = [(one, policy.kind(one, self._tenant)) for one in policy.inside(found)]
        strongest = max((policy.action(kind) for _, kind in inside), key=_STRENGTH.__getitem__, default="off")
        if _STRENGTH[policy.action(first)] >= _STRENGTH[strongest]:
            strongest = policy.action(first)
        elif strongest == "block":
            first = next(kind for _, kind in inside if policy.action(kind) == "block")
        self.add(first, policy.action(first), found.text)
        if strongest == "block":
            return policy.placeholder(first)
        if policy.action(first) == "redact":
            return self._harmless(words, inside) + policy.placeholder(first)
        return self._inner(found, inside) if strongest == "redact" else found.text

    def _harmless(self, words: str, inside: Sequence[tuple[Found, str]]) -> str:
        """``words`` up to what in them is itself a value: `the password for <a customer's name> is`."""
        for one, kind in inside:
            if one.name not in ASSIGNED and self.policy.action(kind) in ("redact", "block"):
                return words[: one.start]
        return words

    def _inner(self, found: Found, inside: Sequence[tuple[Found, str]]) -> str:
        """``found``, which may pass, without what may not, in it."""
        out: list[str] = []
        at = 0
        for one, kind in inside:
            if self.policy.action(kind) == "redact" and one.end > at:
                self.add(kind, "redact", one.text)
                out += (found.text[at : max(at, one.start)], self.policy.placeholder(kind))
                at = one.end
        return "".join((*out, found.text[at:]))

    def add(self, kind: str, action: Action, text: str = "") -> None:
        """Counts a finding."""
        if action == "off":
            return
        if kind not in self.kinds:
            self._new.append(kind)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self._probability[kind] = max(self._probability.get(kind, 0.0), probability(kind, text))
        self._weight[kind] = max(self._weight.get(kind, 0.0), TAKEN_OUT if action == "redact" else 1.0)
        self._count(kind, action)
        if action == "block":
            self.blocked = self.blocked or kind

    def signals(self) -> list[Signal]:
        """One for each kind that was found since this was last asked."""
        new, self._new = self._new, []
        where = self.policy.direction
        return [Signal("dlp", self._probability[kind], self._weight[kind], where, kind) for kind in new]

    def denial(self) -> Deny | None:
        """The refusal, where something was found that blocks; it tells the caller no more than the kind."""
        if not self.blocked:
            return None
        what = "request holds" if self.policy.direction == "request" else "answer held"
        # Whose canary it was, and that it is one, is nobody's business but the operator's.
        kind = "confidential data" if self.blocked in ("canary", "own_canary") else self.blocked
        return Deny(
            403,
            "sensitive_data",
            f"The {what} something that may not leave: {kind}.",
            f"{self.policy.direction}: {self.blocked}",
        )
