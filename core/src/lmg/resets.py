"""How long an upstream asks to wait, in whichever of the providers' forms it says so.

Source: RFC 9110 §10.2.3 (``Retry-After``); OpenAI "Rate limits in headers" (``x-ratelimit-reset-*``, as in ``6m0s``);
Anthropic "Rate limits, response headers" (``anthropic-ratelimit-*-reset``, RFC 3339).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["LONGEST_S", "reset_after_s", "retry_after_s"]

LONGEST_S: Final = 86_400.0 * 30
"""What is longer is no statement about a pause."""

RawHeaders = Sequence[tuple[bytes, bytes]]
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def retry_after_s(headers: RawHeaders, *, now: float | None = None) -> float | None:
    """Seconds that ``retry-after-ms`` or ``retry-after`` (seconds, or a date) ask for; None where neither does."""
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        for key, value in headers:
            if key == name:
                seconds = _number(value, unit)
                if seconds is None and name == b"retry-after":
                    seconds = _until_date(value, now)
                if seconds is not None:
                    return seconds
    return None


def reset_after_s(headers: RawHeaders, *, now: float | None = None) -> float | None:
    """Seconds until the upstream serves again: ``Retry-After``, else the latest reset of a limit that is used up."""
    stated = retry_after_s(headers, now=now)
    if stated is not None:
        return stated
    found = dict(headers)
    waits = []
    for name, value in headers:
        if name.startswith(b"x-ratelimit-reset"):
            left = found.get(name.replace(b"-reset", b"-remaining", 1))
            wait = _duration(value, now)
        elif name.startswith(b"anthropic-ratelimit-") and name.endswith(b"-reset"):
            left = found.get(name[: -len(b"reset")] + b"remaining")
            wait = _until_rfc3339(value, now)
        else:
            continue
        if wait is not None and left is not None and left.strip() == b"0":
            waits.append(wait)
    return max(waits, default=None)


def _bounded(seconds: float) -> float | None:
    return seconds if 0 <= seconds < LONGEST_S else None


def _number(value: bytes, unit: float) -> float | None:
    try:
        return _bounded(float(value) * unit)
    except ValueError:
        return None


def _duration(value: bytes, now: float | None) -> float | None:
    text = value.decode("latin-1").strip()
    pieces = _DURATION.findall(text)
    if pieces and _DURATION.sub("", text) == "":
        return _bounded(sum(float(number) * _UNITS[unit] for number, unit in pieces))
    seconds = _number(value, 1.0)
    if seconds is not None:
        return seconds
    try:
        stamp = float(value)  # some servers state the second of the reset instead
    except ValueError:
        return None
    return _bounded(stamp - (time.time() if now is None else now))


def _until_date(value: bytes, now: float | None) -> float | None:
    try:
        at = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    return _until(at, now)


def _until_rfc3339(value: bytes, now: float | None) -> float | None:
    try:
        at = datetime.fromisoformat(value.decode("latin-1").strip())
    except ValueError:
        return None
    return _until(at, now)


def _until(at: datetime, now: float | None) -> float | None:
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return _bounded(max(0.0, at.timestamp() - (time.time() if now is None else now)))
