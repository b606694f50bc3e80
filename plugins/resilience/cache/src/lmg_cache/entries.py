"""One kept answer, and the bytes that it is in a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from lmg import Answer

__all__ = ["OVERHEAD", "Entry", "pack", "unpack"]

OVERHEAD: Final = 512
"""What an entry takes beside its body, about: its key, its place in two orders, the objects around it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer with its times on the clock of who keeps it; ``answer`` None marks what cannot be kept.

    Such a mark tells the next ones that waiting for each other is of no use.
    """

    answer: Answer | None
    stored_at: float
    fresh_until: float
    tenant: str = ""
    model: str = ""
    size: int = field(default=OVERHEAD)

    @classmethod
    def of(
        cls, body: bytes, content_type: bytes, now: float, ttl_s: float, tenant: str = "", model: str = ""
    ) -> Entry:
        """An answer that is fresh from ``now`` on for ``ttl_s``."""
        answer = Answer(body, headers=((b"content-type", content_type),))
        size = len(body) + len(content_type) + OVERHEAD
        return cls(answer, now, now + ttl_s, tenant, model, size)


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """A head and a body as one value of a store."""
    return orjson.dumps(head) + b"\n" + body


def unpack(value: bytes) -> tuple[dict[str, Any], bytes] | None:
    """What ``pack`` was given, or None where the value is of another make."""
    head, newline, body = value.partition(b"\n")
    try:
        told = orjson.loads(head)
    except orjson.JSONDecodeError:
        return None
    return (told, body) if newline and type(told) is dict else None
