"""How long things are usually held: what can be said of a wait that time alone does not end."""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

WEIGHT: Final = 0.125


class Pace:
    """A running mean of durations; until it has one of its own it is what the wider one says, at last ``unknown_s``."""

    __slots__ = ("_mean_s", "_unknown_s", "_wider")

    def __init__(self, wider: Pace | None = None, *, unknown_s: float = 0.0) -> None:
        self._mean_s: float | None = None
        self._wider = wider
        self._unknown_s = unknown_s

    def add(self, seconds: float) -> None:
        """One more duration, here and in the wider one."""
        mean = self._mean_s
        self._mean_s = seconds if mean is None else mean + (seconds - mean) * WEIGHT
        if self._wider is not None:
            self._wider.add(seconds)

    @property
    def mean_s(self) -> float:
        """How long it usually takes."""
        if self._mean_s is not None:
            return self._mean_s
        return self._wider.mean_s if self._wider is not None else self._unknown_s
