"""The header that tells a client which targets were tried before the one that answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lmg import Attempt

__all__ = ["HEADER", "listed"]

HEADER: Final = b"x-lmg-attempts"
MAX_ENTRIES: Final = 16
MAX_BYTES: Final = 1024
MAX_NAME: Final = 128
# A provider without a list of models takes any name: what could break a header or the list is taken out of it.
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|[,;]")


def listed(attempts: Sequence[Attempt]) -> bytes:
    """The attempts that have ended, as ``target;kind[;status]`` separated by commas: at most 16, at most 1 KiB."""
    entries: list[str] = []
    size = 0
    for attempt in attempts[:MAX_ENTRIES]:
        outcome = attempt.outcome
        if outcome is None:
            continue
        kind = outcome.error.kind if outcome.error is not None else outcome.status
        entry = f"{_plain(attempt.target.name)};{_plain(kind)}"
        if outcome.http_status is not None:
            entry += f";{outcome.http_status}"
        size += len(entry) + 2
        if size > MAX_BYTES:
            break
        entries.append(entry)
    return ", ".join(entries).encode("ascii")


def _plain(name: str) -> str:
    return _UNSAFE.sub("?", name[:MAX_NAME])
