"""What a client is told of its limits: OpenAI's headers, and Anthropic's for clients that speak its API.

Source: OpenAI "Rate limits in headers" (``x-ratelimit-*``, resets as durations); Anthropic "Rate limits, response
headers" (``anthropic-ratelimit-*``, resets as RFC 3339 times); RFC 9110 §10.2.3 (``Retry-After``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lmg import Exchange
    from lmg.services import Level

    from .bounds import Scoped
    from .config import Kind

__all__ = ["Family", "duration", "families_of", "retry_headers", "tell"]

_TOKENS: Final = frozenset({"tokens", "input_tokens", "output_tokens", "weighted_tokens"})
_OPENAI: Final[dict[str, frozenset[str]]] = {"requests": frozenset({"requests"}), "tokens": _TOKENS}
_ANTHROPIC: Final[dict[str, frozenset[str]]] = {
    **_OPENAI, "input-tokens": frozenset({"input_tokens"}), "output-tokens": frozenset({"output_tokens"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """Three headers, and the places of the bounds that they may speak of: the one with the least left."""

    limit: bytes
    remaining: bytes
    reset: bytes
    places: tuple[int, ...]
    rfc3339: bool


@lru_cache(maxsize=1024)
def families_of(kinds: tuple[Kind, ...], *, anthropic: bool) -> tuple[Family, ...]:
    """The headers for bounds of these kinds; those of Anthropic are for clients that speak its API."""
    found = []
    for name, counted in (_ANTHROPIC if anthropic else _OPENAI).items():
        places = tuple(n for n, kind in enumerate(kinds) if kind in counted)
        if places:
            limit, remaining, reset = (
                f"anthropic-ratelimit-{name}-{what}" if anthropic else f"x-ratelimit-{what}-{name}"
                for what in ("limit", "remaining", "reset")
            )
            found.append(Family(limit.encode(), remaining.encode(), reset.encode(), places, anthropic))
    return tuple(found)


def tell(exchange: Exchange, scoped: Scoped, levels: Sequence[Level]) -> None:
    """Sets the headers of the answer; one that another component has set stays where it has less left."""
    there, bounds = exchange.reply_headers, scoped.bounds
    told: dict[bytes, bytes] = {}
    # All dialects know OpenAI's, which came first.
    families = scoped.families
    if exchange.dialect.name.startswith("anthropic."):
        families += scoped.anthropic_families
    for family in families:
        places = family.places
        place = places[0] if len(places) == 1 else min(places, key=lambda n: levels[n].remaining)
        bound, level = bounds[place], levels[place]
        left = level.remaining
        if (before := there.get(family.remaining)) is not None and int(before) <= left:
            continue
        # What is held will be spent, or come back sooner: until then the bucket is full again at the latest.
        reset_s = (bound.capacity - left) * bound.unit_s
        if reset_s < level.reset_s:
            reset_s = level.reset_s
        told[family.limit] = bound.shown
        told[family.remaining] = b"%d" % left
        told[family.reset] = (
            _time(exchange.host.clock.now() + reset_s) if family.rfc3339 else duration(reset_s)
        )
    if told:
        exchange.set_reply_headers(told)


def duration(seconds: float) -> bytes:
    """``seconds``, rounded up, as OpenAI writes them: ``12ms``, ``8.64s``, ``6m0s``, ``1h30m0s``."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000 - 1e-6)
    if seconds < 60:
        return b"%gs" % (math.ceil(seconds * 100 - 1e-6) / 100)
    whole = math.ceil(seconds - 1e-6)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)


def retry_headers(wait_s: float, most_s: float) -> tuple[tuple[bytes, bytes], ...]:
    """When to come again, never sooner than is true up to ``most_s``.

    SDKs sleep for as long as they are told, so where it is longer they are told not to retry by themselves.
    """
    told_s = min(wait_s, most_s)
    headers = (
        (b"retry-after", b"%d" % max(1, math.ceil(told_s - 1e-9))),
        (b"retry-after-ms", b"%d" % max(1, math.ceil(told_s * 1000 - 1e-6))),
    )
    return headers if wait_s <= most_s else (*headers, (b"x-should-retry", b"false"))


def _time(at: float) -> bytes:
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
