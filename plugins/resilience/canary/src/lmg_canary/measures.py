"""What is measured of each arm, kept as sums of whole numbers that workers and replicas add up together."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Final, Literal

from lmg import Outcome

from .sequential import Moments

__all__ = ["ARMS", "Arm", "Batch", "Sums", "failures_of", "moments_of"]

Arm = Literal["baseline", "canary", "mirror"]
Measure = Literal["first_token", "latency", "cost", "risk"]
ARMS: Final[tuple[Arm, ...]] = ("baseline", "canary", "mirror")

_LOG: Final = 1000  # thousandths of a natural logarithm of milliseconds
_OF_A_SECOND: Final = log(1000.0) * _LOG
_RISK: Final = 10_000
_UNITS: Final = {"first_token": _LOG, "latency": _LOG, "cost": 1, "risk": _RISK}
# A store counts in 64 bits: the square of a cost, in nano-dollars, is kept in two words.
_WORD: Final = 1 << 30
_NAMES: Final = (
    "n", "failed",
    "first_token.n", "first_token.sum", "first_token.squares",
    "latency.n", "latency.sum", "latency.squares",
    "cost.n", "cost.sum", "cost.squares", "cost.high",
    "risk.n", "risk.sum", "risk.squares",
)  # fmt: skip
_N, _FAILED, _FIRST_TOKEN, _LATENCY, _COST, _RISKS = 0, 1, 2, 5, 8, 12


class Sums:
    """What one arm has added since it was last handed in: whole numbers, in the order of ``_NAMES``."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = [0] * len(_NAMES)

    def observe(self, outcome: Outcome, *, streamed: bool, cost: int | None) -> None:
        """Adds how an attempt ended. ``cost`` is nano-dollars, None where the target has no price.

        Every failure counts, the caller's own faults too: both arms get their part of those, and a canary that
        refuses what the baseline takes is worse. A client that left before it saw anything is no failure, but has
        waited at least so long.
        """
        values, status = self.values, outcome.status
        if status == "complete":
            values[_N] += 1
            self._add_time(_LATENCY, outcome.duration_s)
            if streamed and outcome.first_token_s is not None:
                self._add_time(_FIRST_TOKEN, outcome.first_token_s)
            if cost is not None:
                squares = cost * cost
                values[_COST] += 1
                values[_COST + 1] += cost
                values[_COST + 2] += squares % _WORD
                values[_COST + 3] += squares // _WORD
        elif status == "failed":
            values[_N] += 1
            values[_FAILED] += 1
        elif status == "cancelled" and outcome.first_token_s is None:
            self._add_time(_FIRST_TOKEN if streamed else _LATENCY, outcome.duration_s)

    def observe_risk(self, risk: float) -> None:
        """Adds the risk of an answer, in 0..1."""
        values, value = self.values, round(min(1.0, max(0.0, risk)) * _RISK)
        values[_RISKS] += 1
        values[_RISKS + 1] += value
        values[_RISKS + 2] += value * value

    def _add_time(self, at: int, seconds: float) -> None:
        # Below a millisecond all is equally fast: the logarithm of nothing is no number to average.
        value = int(log(seconds) * _LOG + _OF_A_SECOND) if seconds > 0.001 else 0
        values = self.values
        values[at] += 1
        values[at + 1] += value
        values[at + 2] += value * value


class Batch:
    """What all arms of an experiment have added in this process since it was last handed in."""

    def __init__(self) -> None:
        self.arms: dict[Arm, Sums] = {arm: Sums() for arm in ARMS}

    def sums(self) -> dict[str, int]:
        """The sums by name, those that are not 0."""
        return {
            f"{arm}.{name}": value
            for arm, sums in self.arms.items()
            for name, value in zip(_NAMES, sums.values, strict=True)
            if value
        }

    def taken(self) -> dict[str, int]:
        """``sums``; afterwards there are none."""
        found = self.sums()
        self.clear()
        return found

    def clear(self) -> None:
        """Forgets everything."""
        for sums in self.arms.values():
            sums.values[:] = [0] * len(_NAMES)


# -- out --------------------------------------------------------------------------------------------


def failures_of(sums: Mapping[str, int], *arms: Arm) -> Moments:
    """How many attempts of ``arms`` ended, and how many failed."""
    return Moments(
        sum(sums.get(f"{arm}.n", 0) for arm in arms), sum(sums.get(f"{arm}.failed", 0) for arm in arms)
    )


def moments_of(sums: Mapping[str, int], measure: Measure, *arms: Arm) -> Moments:
    """What ``arms`` have of a measure: logarithms of milliseconds, nano-dollars, or risks in 0..1."""
    n = total = squares = 0
    for arm in arms:
        of = f"{arm}.{measure}"
        n += sums.get(f"{of}.n", 0)
        total += sums.get(f"{of}.sum", 0)
        squares += sums.get(f"{of}.squares", 0) + sums.get(f"{of}.high", 0) * _WORD
    unit = _UNITS[measure]
    return Moments(n, total / unit, squares / (unit * unit))
