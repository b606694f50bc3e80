"""From signals to a score between 0 and 1: graded (noisy-or with caps and floors) or the documented sum.

A tally is added to as signals come, so that a long stream is not scored anew with each of them. Both kinds are monotone:
another signal, or a more probable one, never lowers the score.
"""

from __future__ import annotations

from typing import Final, Protocol

from lmg import Signal
from lmg.records import fits

from .config import AdditiveConfig
from .families import ALL, WHOLE, Families, reason_code

__all__ = ["AdditiveTally", "GradedTally", "Tally", "share"]

MAX_FAMILIES: Final = 64
MAX_REASONS: Final = 16
_OTHER: Final = "other"


class Tally(Protocol):
    """What has been seen so far. A mask is a sum of directions (see ``families``)."""

    def add(self, signal: Signal, direction: int) -> None:
        """Takes in one signal about ``direction``."""

    def score(self, mask: int = ALL) -> float:
        """The score of the signals about the directions in ``mask``, and about the exchange as a whole."""

    def raise_by(self, probability: float, reason: str) -> None:
        """Takes in what is known from elsewhere, as one more signal about the whole."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Codes of what made the score, the weightiest first; at most 16."""

    @property
    def families(self) -> tuple[str, ...]:
        """The families that have been seen."""


def share(value: float) -> float:
    """``value`` within 0..1. What is no number counts as certain: a guard that miscounts must not open the gate."""
    if value != value:  # NaN
        return 1.0
    return min(1.0, max(0.0, value))


class _Reasons:
    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[str, float] = {}

    def add(self, code: str, part: float) -> None:
        parts = self._parts
        if code not in parts and len(parts) >= MAX_FAMILIES:
            code = _OTHER
        parts[code] = max(part, parts.get(code, 0.0))

    def __call__(self) -> tuple[str, ...]:
        ordered = sorted(self._parts.items(), key=lambda pair: (-pair[1], pair[0]))
        return tuple(code for code, part in ordered[:MAX_REASONS] if part > 0)


class GradedTally:
    """``1 - product of (1 - weight * probability)`` (noisy-or), where a family adds at most its cap; a certain signal sets a floor."""

    __slots__ = ("_caps", "_families", "_floors", "_left", "_raised", "_reasons")

    def __init__(self, families: Families) -> None:
        self._families = families
        # For each direction and family, the probability that all its signals are wrong.
        self._left: dict[tuple[int, str], float] = {}
        self._caps: dict[str, float] = {}
        self._floors: dict[int, float] = {}
        self._raised = 1.0
        self._reasons = _Reasons()

    def add(self, signal: Signal, direction: int) -> None:
        name, family = self._families.of(signal.name)
        probability = share(signal.probability)
        part = probability * share(signal.weight) * family.weight
        if name not in self._caps:
            if len(self._caps) >= MAX_FAMILIES:
                name = _OTHER
            self._caps.setdefault(name, family.cap if name != _OTHER else 1.0)
        key = (direction, name)
        self._left[key] = self._left.get(key, 1.0) * (1.0 - part)
        certain = family.certain_above
        if certain is not None and probability > certain:
            self._floors[direction] = max(family.floor, self._floors.get(direction, 0.0))
            part = max(part, family.floor)
        self._reasons.add(reason_code(signal.name), part)

    def raise_by(self, probability: float, reason: str) -> None:
        self._raised *= 1.0 - share(probability)
        self._reasons.add(reason, probability)

    def score(self, mask: int = ALL) -> float:
        mask |= WHOLE
        by_family: dict[str, float] = {}
        for (direction, name), left in self._left.items():
            if direction & mask:
                by_family[name] = by_family.get(name, 1.0) * left
        all_left = self._raised
        for name, left in by_family.items():
            all_left *= 1.0 - min(self._caps[name], 1.0 - left)
        floor = max((floor for direction, floor in self._floors.items() if direction & mask), default=0.0)
        # Nine digits: 0.5 made of three factors is to be 0.5.
        return share(round(max(floor, 1.0 - all_left), 9))

    @property
    def reasons(self) -> tuple[str, ...]:
        return self._reasons()

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self._caps)


class AdditiveTally:
    """The documented sum: each kind that is seen adds its number, once."""

    __slots__ = ("_config", "_raised", "_reasons", "_seen")

    def __init__(self, config: AdditiveConfig) -> None:
        self._config = config
        self._seen: dict[str, int] = {}
        self._raised = 0.0
        self._reasons = _Reasons()

    def add(self, signal: Signal, direction: int) -> None:
        if share(signal.probability) < self._config.present_from:
            return
        config = self._config
        for kind, patterns in (
            ("jailbreak", config.jailbreak_signals),
            ("sensitive_data", config.sensitive_data_signals),
            ("tool_frequency", config.tool_frequency_signals),
        ):
            if any(fits(pattern, signal.name) for pattern in patterns):
                self.saw(kind, direction)
                self._reasons.add(reason_code(signal.name), self._amount(kind))

    def saw(self, kind: str, direction: int) -> None:
        """One of the four kinds has been seen in ``direction``."""
        self._seen[kind] = self._seen.get(kind, 0) | direction
        if kind == "max_tokens":
            self._reasons.add(kind, self._amount(kind))

    def raise_by(self, probability: float, reason: str) -> None:
        self._raised = min(1.0, self._raised + share(probability))
        self._reasons.add(reason, probability)

    def score(self, mask: int = ALL) -> float:
        mask |= WHOLE
        total = sum(self._amount(kind) for kind, where in self._seen.items() if where & mask)
        return min(1.0, round(total + self._raised, 9))

    @property
    def reasons(self) -> tuple[str, ...]:
        return self._reasons()

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self._seen)

    def _amount(self, kind: str) -> float:
        amount: float = getattr(self._config, kind)
        return amount
