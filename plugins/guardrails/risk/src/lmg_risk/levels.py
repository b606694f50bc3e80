"""What is done at which score: for each tenant and direction, resolved at start.

Directions may have thresholds of their own, and signals of several directions add up. A threshold is passed where the
signals of all directions *at least as strict* pass it together: so a lenient direction never loosens a strict one, and
another signal never makes the outcome milder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lmg.records import fits

from .config import ACTIONS, Action, Direction, RiskConfig, ThresholdsConfig
from .families import ALL, OUTPUT, TOOL, USER, WHOLE
from .scores import Tally

__all__ = ["Decision", "Levels", "Tenants"]

MAX_TENANTS: Final = 1024
_DIRECTIONS: Final[tuple[tuple[int, Direction], ...]] = ((USER, "user"), (TOOL, "tool"), (OUTPUT, "output"))


@dataclass(frozen=True, slots=True)
class Decision:
    """A score, the codes of what made it, and what is to be done: every action that it reaches, the mildest first."""

    score: float
    reasons: tuple[str, ...]
    actions: tuple[Action, ...]

    @property
    def action(self) -> str:
        """The strictest of them, or ``none``."""
        return self.actions[-1] if self.actions else "none"


class Levels:
    """The thresholds of one tenant."""

    __slots__ = ("_steps", "refuses_above")

    def __init__(self, above: Mapping[Action, Mapping[int, float]]) -> None:
        # For each action: thresholds, each with the directions that are at least as strict.
        self._steps: list[tuple[Action, tuple[tuple[float, int], ...]]] = []
        for action in ACTIONS:
            there = above.get(action, {})
            steps = tuple(
                (threshold, WHOLE | sum(direction for direction, own in there.items() if own <= threshold))
                for threshold in sorted(set(there.values()))
            )
            if steps:
                self._steps.append((action, steps))
        refusing = [t for action in ("approval", "block") for t in above.get(action, {}).values()]
        self.refuses_above: float = min(refusing, default=1.0)
        """The lowest score above which a request is refused."""

    def decide(self, tally: Tally) -> Decision:
        """What is to be done with what has been seen."""
        total = tally.score(ALL)
        known = {ALL: total}

        def passed(threshold: float, mask: int) -> bool:
            if mask not in known:
                known[mask] = tally.score(mask)
            return known[mask] > threshold

        actions = tuple(
            action
            for action, steps in self._steps
            if any(passed(threshold, mask) for threshold, mask in steps)
        )
        return Decision(total, tally.reasons, actions)


class Tenants:
    """The levels of every tenant: of the rules that fit it, on top of what holds for all."""

    def __init__(self, config: RiskConfig) -> None:
        self._config = config
        self._everybody = [rule for rule in config.thresholds if not rule.tenants]
        self._others = any(rule.tenants for rule in config.thresholds)
        self._default = Levels(_resolved(config, self._everybody))
        self._known: dict[str, Levels] = {}

    def levels(self, tenant: str) -> Levels:
        """The levels of ``tenant``."""
        if not self._others:
            return self._default
        found = self._known.get(tenant)
        if found is None:
            if len(self._known) >= MAX_TENANTS:
                self._known.clear()
            rules = [
                rule
                for rule in self._config.thresholds
                if not rule.tenants or any(fits(pattern, tenant) for pattern in rule.tenants)
            ]
            same = len(rules) == len(self._everybody)
            found = self._known[tenant] = self._default if same else Levels(_resolved(self._config, rules))
        return found


def _resolved(config: RiskConfig, rules: Sequence[ThresholdsConfig]) -> dict[Action, dict[int, float]]:
    """For each action the threshold of each direction: of the first rule that writes it (`null` included)."""
    above: dict[Action, dict[int, float]] = {action: {} for action in ACTIONS}
    for direction, name in _DIRECTIONS:
        for action in ACTIONS:
            setting = f"{action}_above"
            tables = (rule for rule in rules if setting in rule.written and rule.concerns(name))
            value: float | None = getattr(next(tables, config), setting)
            if value is not None:
                above[action][direction] = value
    return above
