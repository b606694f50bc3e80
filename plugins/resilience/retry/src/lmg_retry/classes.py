"""The classes of failures that the same target may not have a second time: one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lmg import Outcome
from lmg.failures import StatusFailure

__all__ = ["CALLER", "TABLE", "TARGET", "Row", "class_of", "reason_of"]

CALLER: Final = "caller"
"""The request is the caller's to mend: no target is asked again."""
TARGET: Final = "target"
"""This target would fail again at once; one that failed before it may do better by now."""


@dataclass(frozen=True, slots=True)
class Row:
    """What has failed, and whether it is tried again where the operator says nothing."""

    retried: bool
    what: str


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "connect_error": Row(True, "no connection: refused, no route, no such name, TLS"),
        "connect_timeout": Row(True, "no connection in time"),
        "closed": Row(True, "the connection broke, or the stream ended, before anything could leave"),
        "request_timeout": Row(True, "408"),
        "rate_limited": Row(True, "429"),
        "status": Row(True, "500, 502, 504 and any other 5xx"),
        "overloaded": Row(True, "503, 529"),
        "timeout": Row(False, "no first event or no whole answer in time: it took long, and was paid for"),
        "protocol": Row(False, "an answer that is malformed, or not what the API sends"),
        "pool_exhausted": Row(False, "all connections to the provider are in use"),
    }
)

_OTHER_NAMES: Final = {"stale_connection": "closed"}


def class_of(kind: str, stage: str, http_status: int | None) -> str:
    """The row of ``TABLE`` that a failure belongs to, or ``TARGET`` or ``CALLER``, which are never tried again."""
    if kind in ("context_length", "content_filter"):
        return CALLER
    if kind == "credential":
        return TARGET
    if http_status is not None:
        return _of_status(http_status)
    if kind == "timeout":
        return "connect_timeout" if stage == "connect" else "timeout"
    kind = _OTHER_NAMES.get(kind, kind)
    return kind if kind in TABLE else TARGET


def _of_status(status: int) -> str:
    if status == 408:
        return "request_timeout"
    if status == 429:
        return "rate_limited"
    if status in (503, 529):
        return "overloaded"
    if status >= 500:
        return "status"
    # The gateway's own account (401 to 403) and redirects stay as they are, however often they are asked for.
    return TARGET if status < 400 or status in (401, 402, 403) else CALLER


def reason_of(outcome: Outcome) -> str:
    """The class of a failed attempt. A provider that says `x-should-retry: false` (OpenAI, Anthropic) is believed."""
    error = outcome.error
    if error is None:
        return TARGET
    reason = class_of(error.kind, error.stage, outcome.http_status)
    if (
        reason in TABLE
        and isinstance(error, StatusFailure)
        and error.reply.header(b"x-should-retry") == b"false"
    ):
        return TARGET
    return reason
