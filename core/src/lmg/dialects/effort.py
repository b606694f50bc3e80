"""How much to reason, between APIs that say it in words and APIs that say it in tokens."""

from __future__ import annotations

from typing import Final

__all__ = ["effort_of", "nearest"]

_RANKS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")


def effort_of(budget: int | None) -> str:
    """A budget of tokens in words; empty where there is none."""
    if budget is None:
        return ""
    return "low" if budget <= 2048 else "medium" if budget <= 16384 else "high"


def nearest(effort: str, levels: tuple[str, ...]) -> str:
    """The level for ``effort``: the same, else the next lower, else the lowest. Words that no ranking knows stay."""
    if effort in levels or effort not in _RANKS:
        return effort
    below = [level for level in levels if _RANKS.index(level) < _RANKS.index(effort)]
    return below[-1] if below else levels[0]
