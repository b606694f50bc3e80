"""How long a circuit stays open: longer each time, shorter again after a healthy while."""

from __future__ import annotations

from random import Random
from typing import Final

__all__ = ["Backoff"]

_MAX_LEVEL: Final = 30


class Backoff:
    """Open times in seconds: ``base``, twice that, four times, up to ``cap``; each spread by ``jitter`` (0.2 is ±20 %).

    ``level`` counts the openings that are still remembered; one is forgotten for each ``heal`` seconds in which the
    circuit was closed. The spread keeps replicas, and targets that failed together, from probing together.
    """

    __slots__ = ("base", "cap", "heal", "jitter", "level")

    def __init__(self, base: float, cap: float, heal: float, jitter: float) -> None:
        self.base, self.cap, self.heal, self.jitter = base, cap, heal, jitter
        self.level = 0

    def grow(self, random: Random) -> float:
        """The next open time; the one after it is longer."""
        seconds = self.base * 2.0**self.level * (1.0 + self.jitter * (2.0 * random.random() - 1.0))
        self.level = min(self.level + 1, _MAX_LEVEL)
        return min(seconds, self.cap)

    def rest(self, closed_s: float) -> None:
        """Forgets openings for ``closed_s`` seconds of health."""
        self.level = max(0, self.level - int(closed_s / self.heal))
