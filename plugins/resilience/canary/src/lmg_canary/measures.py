"""What is measured of each arm, kept as sums of whole numbers that workers and replicas add up together."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from math import log
from typing import Final, Literal, NamedTuple

from lmg import Outcome

from .sequential import Moments

__all__ = ["ARMS", "KEYS", "Arm", "Keys", "failures_of", "moments_of", "observe", "observe_risk"]

Arm = Literal["baseline", "canary", "mirror"]
ARMS: Final[tuple[Arm, ...]] = ("baseline", "canary", "mirror")

_LOG: Final = 1000  # thousandths of a natural logarithm of milliseconds
_RISK: Final = 10_000
# A store counts in 64 bits: the square of a cost, in nano-dollars, is kept in two words.
_WORD: Final = 1 << 30


class Moment(NamedTuple):
    """The names of the sums of one measure, and how many units make one."""

    n: str
    total: str
    squares: str
    high: str
    unit: int


class Keys(NamedTuple):
    """The names of an arm's sums."""

    n: str
    failed: str
    first_token: Moment
    latency: Moment
    cost: Moment
    risk: Moment


def _keys_of(arm: Arm) -> Keys:
    def moment(name: str, unit: int) -> Moment:
        of = f"{arm}.{name}"
        return Moment(f"{of}.n", f"{of}.sum", f"{of}.squares", f"{of}.high", unit)

    return Keys(
        f"{arm}.n",
        f"{arm}.failed",
        moment("first_token", _LOG),
        moment("latency", _LOG),
        moment("cost", 1),
        moment("risk", _RISK),
    )


KEYS: Final = {arm: _keys_of(arm) for arm in ARMS}


# -- in ---------------------------------------------------------------------------------------------


def observe(
    sums: MutableMapping[str, int], keys: Keys, outcome: Outcome, *, streamed: bool, cost: int | None
) -> None:
    """Adds how an attempt ended. ``cost`` is nano-dollars, None where the target has no price.

    Every failure counts, the caller's own faults too: both arms get their part of those, and a canary that refuses
    what the baseline takes is worse. A client that left before it saw anything is no failure, but has waited at
    least so long.
    """
    status = outcome.status
    if status == "complete":
        sums[keys.n] += 1
        _add_time(sums, keys.latency, outcome.duration_s)
        if streamed and outcome.first_token_s is not None:
            _add_time(sums, keys.first_token, outcome.first_token_s)
        if cost is not None:
            _add(sums, keys.cost, cost)
            high, low = divmod(cost * cost, _WORD)
            sums[keys.cost.high] += high
            sums[keys.cost.squares] += low
    elif status == "failed":
        sums[keys.n] += 1
        sums[keys.failed] += 1
    elif status == "cancelled" and outcome.first_token_s is None:
        _add_time(sums, keys.first_token if streamed else keys.latency, outcome.duration_s)


def observe_risk(sums: MutableMapping[str, int], keys: Keys, risk: float) -> None:
    """Adds the risk of an answer, in 0..1."""
    value = round(min(1.0, max(0.0, risk)) * _RISK)
    _add(sums, keys.risk, value)
    sums[keys.risk.squares] += value * value


def _add_time(sums: MutableMapping[str, int], keys: Moment, seconds: float) -> None:
    value = round(log(max(seconds * 1000.0, 1.0)) * _LOG)
    _add(sums, keys, value)
    sums[keys.squares] += value * value


def _add(sums: MutableMapping[str, int], keys: Moment, value: int) -> None:
    sums[keys.n] += 1
    sums[keys.total] += value


# -- out --------------------------------------------------------------------------------------------


def failures_of(sums: Mapping[str, int], *arms: Arm) -> Moments:
    """How many attempts of ``arms`` ended, and how many failed."""
    return Moments(
        sum(sums.get(KEYS[arm].n, 0) for arm in arms), sum(sums.get(KEYS[arm].failed, 0) for arm in arms)
    )


def moments_of(
    sums: Mapping[str, int], measure: Literal["first_token", "latency", "cost", "risk"], *arms: Arm
) -> Moments:
    """What ``arms`` have of a measure: logarithms of milliseconds, nano-dollars, or risks in 0..1."""
    n = total = squares = 0
    unit = 1
    for arm in arms:
        keys: Moment = getattr(KEYS[arm], measure)
        unit = keys.unit
        n += sums.get(keys.n, 0)
        total += sums.get(keys.total, 0)
        squares += sums.get(keys.squares, 0) + sums.get(keys.high, 0) * _WORD
    return Moments(n, total / unit, squares / (unit * unit))
