"""How long until a refused request would be let through: by the bucket where time helps, else by how long things are held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lmg.services import Level, Take

    from .bounds import Bound, Scoped

__all__ = ["wait_s"]

SLACK: Final = 2.0
"""Requests that are on their way upstream are spent when they get there: within twice the usual time, mostly."""


def wait_s(
    scoped: Scoped,
    takes: Sequence[Take],
    levels: Sequence[Level],
    drains_s: float | None,
    ahead: Mapping[str, int] | None = None,
) -> float:
    """Seconds until ``takes`` of ``scoped`` would fit by what ``levels`` say, were nobody else to come.

    ``drains_s`` is what the store has said, which knows fractions, or None where it has not. ``ahead`` is what others
    who came before are waiting for, by key.
    """
    longest = drains_s or 0.0
    for bound, take, level in zip(scoped.bounds, takes, levels, strict=False):
        needed = take.amount + (ahead.get(take.limit.key, 0) if ahead is not None else 0)
        if needed <= level.remaining:
            continue
        if bound.limit.window_s is None:
            longest = max(longest, scoped.held.mean_s)
        else:
            known = drains_s is not None and ahead is None
            longest = max(longest, _windowed(scoped, bound, needed, level, drains_s if known else None))
    return longest


def _windowed(scoped: Scoped, bound: Bound, needed: int, level: Level, drains_s: float | None) -> float:
    spent = level.reset_s / bound.unit_s
    if drains_s is None:
        drains_s = max(needed - level.remaining, needed + spent - bound.capacity) * bound.unit_s
    # Of what is not left, the store tells only what is spent; the rest is held.
    held = bound.capacity - math.ceil(level.remaining + spent - 1e-6)
    if held <= 0:
        return drains_s
    if bound.measure is None:
        return drains_s + SLACK * scoped.admitted.mean_s
    # What is held does not drain. Where draining alone makes no room, the wait begins when it is settled.
    return drains_s + scoped.held.mean_s if held + needed > bound.capacity else drains_s
