"""The arithmetic of limits: what every counter store on one machine decides by.

A bucket is (spent, at, held): ``spent`` drains evenly since ``at``, ``held`` does not. A store with a server
behind it carries the same rules in a script of its own; ``lmg.testing.check_counter_store`` holds all to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from . import Level, Limit, Take, Taken

__all__ = ["EPSILON", "drained", "judge", "level"]

EPSILON: Final = 1e-6
"""Draining leaves fractions; less than a millionth of a token decides nothing."""

Load = Callable[[str], tuple[float, float, int]]


def drained(spent: float, at: float, now: float, limit: Limit) -> float:
    """What is left of ``spent`` at ``now``. A clock that went back (the machine was restarted) drains nothing."""
    if limit.window_s is None or not spent:
        return 0.0
    left = spent - max(0.0, now - at) * (limit.capacity / limit.window_s)
    return left if left > EPSILON else 0.0


def level(spent: float, held: int, limit: Limit) -> Level:
    """What a client may be told of a limit."""
    _, capacity, window_s = limit
    left = capacity - spent - held + EPSILON
    return Level(
        int(left) if left > 0 else 0,
        spent / capacity * window_s if spent and window_s is not None and capacity else 0.0,
    )


def judge(takes: Sequence[Take], load: Load, now: float) -> tuple[Taken, dict[str, tuple[float, int]]]:
    """Whether all of ``takes`` fit, and what each bucket then is: key to (spent, held by everybody)."""
    before: dict[str, tuple[float, int]] = {}
    after: dict[str, tuple[float, int]] = {}
    refused: Take | None = None
    longest = 0.0
    for take in takes:
        limit, amount, is_held = take
        key, capacity, _ = limit
        if key in after:
            spent, held = after[key]
        else:
            spent, at, held = load(key)
            if spent:
                spent = drained(spent, at, now, limit)
            before[key] = after[key] = spent, held
        over = spent + held + amount - capacity
        if over > EPSILON:
            wait = _wait(over, take)
            if refused is None or wait > longest:
                refused, longest = take, wait
        elif is_held:
            after[key] = spent, held + amount
        else:
            after[key] = spent + amount, held
    states = after if refused is None else before
    levels = tuple([level(*states[limit.key], limit) for limit, _, _ in takes])
    if refused is None:
        return Taken(None, None, levels), after
    return Taken(refused, None if longest == math.inf else longest, levels), before


def _wait(over: float, take: Take) -> float:
    limit = take.limit
    if limit.window_s is None or take.amount > limit.capacity:
        return math.inf
    # What is held is taken for spent: it drains from when it is settled, and by then it is rarely all used.
    return over / limit.capacity * limit.window_s
