"""What a refused client is told: which limit, by its own numbers, and when to come again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lmg import Deny

from .headers import retry_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmg.services import Take

    from .bounds import Bound, Scoped

__all__ = ["bound_of", "limit_reached", "limits_unavailable", "too_large"]

STORE_RETRY_S = 1.0


def limit_reached(bound: Bound, amount: int, wait_s: float, most_s: float) -> Deny:
    """429: come again in ``wait_s`` seconds."""
    rule = bound.rule
    asked = f" This request reserves {amount:,}." if bound.measure is not None else ""
    return Deny(
        429,
        "rate_limit_exceeded",
        f"Limit reached: {rule.words}.{asked} Try again in {_words(wait_s)}.",
        reason=f"{rule.name}/{rule.kind}, wait {wait_s:.3f} s",
        type="rate_limit_error",
        headers=retry_headers(wait_s, most_s),
    )


def too_large(bound: Bound, amount: int) -> Deny:
    """429 that no waiting helps: the request alone is more than the limit ever has."""
    rule = bound.rule
    return Deny(
        429,
        "request_too_large_for_limit",
        f"This request reserves {amount:,} {rule.noun}, and the limit has room for {bound.capacity:,} at once "
        f"({rule.words}). Send less, or ask for a shorter answer.",
        reason=f"{rule.name}/{rule.kind}, reserves {amount}",
        type="rate_limit_error",
        headers=((b"x-should-retry", b"false"),),
    )


def limits_unavailable(why: str) -> Deny:
    """503: what has been used is not known, and a limit declares that nothing passes then."""
    return Deny(
        503,
        "limits_unavailable",
        "The gateway cannot check its limits at the moment. Please retry.",
        reason=why,
        type="server_error",
        headers=retry_headers(STORE_RETRY_S, STORE_RETRY_S),
    )


def bound_of(scoped: Scoped, takes: Sequence[Take], refused: Take) -> Bound:
    """The bound that ``refused`` belongs to."""
    return next(
        bound for bound, take in zip(scoped.bounds, takes, strict=False) if take.limit == refused.limit
    )


def _words(seconds: float) -> str:
    if seconds < 60:
        return f"{math.ceil(seconds * 100) / 100:g} s"
    minutes = math.ceil(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
