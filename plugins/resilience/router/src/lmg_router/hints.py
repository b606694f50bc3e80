"""What a caller may ask of the routing: one word, in the body or in a header."""

from __future__ import annotations

from typing import Final

from lmg import Deny, Exchange

__all__ = ["HINTS", "hint_of"]

HINTS: Final = ("high_quality", "low_cost", "low_latency", "on_prem")
_HEADER: Final = b"x-lmg-routing-hint"
_INVALID: Final = Deny(
    400,
    "invalid_routing_hint",
    f"'routing_hint' must be one of: {', '.join(HINTS)}.",
    param="routing_hint",
    headers=((b"x-should-retry", b"false"),),
)


def hint_of(exchange: Exchange, *, obeyed: bool) -> str | Deny:
    """The hint of a request, ``""`` where there is none; the body's wins over the header's.

    A word that is no hint is a ``Deny``: a caller who misspells ``on_prem`` must not be sent elsewhere. Hints that
    are not ``obeyed`` are as good as not given, but for ``on_prem``: it asks for less than the operator allows.
    """
    asked = exchange.fact("routing_hint")
    if asked is None:
        header = exchange.head.get(_HEADER)
        if header is None:
            return ""
        asked = header.decode("latin-1")
    if type(asked) is not str or asked not in HINTS:
        return _INVALID if obeyed else ""
    return asked if obeyed or asked == "on_prem" else ""
