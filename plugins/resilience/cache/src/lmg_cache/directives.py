"""What a request's ``Cache-Control`` asks of a cache.

Source: RFC 9111 §5.2.1. ``max-stale`` changes nothing here (nothing stale is ever given), nor does ``no-transform``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lmg import Head

__all__ = ["NOTHING", "Asked", "asked"]

LONGEST_S: Final = 2**31
"""What a larger number of seconds counts as (RFC 9111 §1.2.2)."""
_DIRECTIVE: Final = re.compile(rb'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:=(?:"([^"]*)"|([^\s,"]*)))?')


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's wishes. Without ``reads`` no kept answer is given, without ``stores`` none is kept."""

    reads: bool = True
    stores: bool = True
    only_if_cached: bool = False
    max_age_s: int | None = None
    min_fresh_s: int = 0

    def accepts(self, age_s: float, left_s: float) -> bool:
        """Whether an answer of this age that is fresh for ``left_s`` seconds more will do."""
        return (
            (self.max_age_s is None or age_s <= self.max_age_s) and left_s > 0 and left_s >= self.min_fresh_s
        )


NOTHING: Final = Asked()
"""Of a request that says nothing."""


def asked(head: Head) -> Asked:
    """What the head asks for; of contradicting directives the stricter one counts."""
    lines = head.all(b"cache-control")
    if not lines:
        return NOTHING
    flags: set[bytes] = set()
    max_age: int | None = None
    min_fresh = 0
    for name, quoted, plain in _DIRECTIVE.findall(b",".join(lines)):
        name = name.lower()
        if name == b"max-age":
            # One that cannot be read asks for something fresh: 0 is the safe reading (RFC 9111 §4.2.1).
            seconds = _seconds(quoted or plain) or 0
            max_age = seconds if max_age is None else min(max_age, seconds)
        elif name == b"min-fresh":
            wanted = _seconds(quoted or plain)
            min_fresh = max(min_fresh, LONGEST_S if wanted is None else wanted)
        else:
            flags.add(name)
    no_store = b"no-store" in flags
    return Asked(
        not no_store and b"no-cache" not in flags,
        not no_store,
        b"only-if-cached" in flags,
        max_age,
        min_fresh,
    )


def _seconds(value: bytes) -> int | None:
    if not value.isdigit():
        return None
    return int(value) if len(value) <= 10 and int(value) < LONGEST_S else LONGEST_S
