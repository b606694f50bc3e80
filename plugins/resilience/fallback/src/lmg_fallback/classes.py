"""The classes of failures: one table of what makes another target worth trying, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["SWITCHABLE", "TABLE", "Row", "class_of"]

Then = Literal["moves on", "own chain", "stops"]


@dataclass(frozen=True, slots=True)
class Row:
    """What has failed, and what that means.

    ``moves on``: another target is tried, unless the operator switches the row off. ``own chain``: only where a chain
    of this class is configured. ``stops``: the request is the caller's to mend, and no target would do better.
    """

    then: Then
    what: str


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "connect_error": Row("moves on", "no connection: refused, no route, no such name, TLS"),
        "timeout": Row("moves on", "no connection, no first event or no whole answer in time"),
        "closed": Row("moves on", "the connection broke, or the stream ended, before anything could leave"),
        "protocol": Row("moves on", "an answer that is malformed, too large, or not what the API sends"),
        "status": Row("moves on", "500, 502, 504 and any other 5xx; a redirect"),
        "overloaded": Row("moves on", "503, 529"),
        "request_timeout": Row("moves on", "408"),
        "rate_limited": Row("moves on", "429"),
        "credential": Row("moves on", "401, 402, 403: the gateway's own account was refused, or is empty"),
        "pool_exhausted": Row("moves on", "all connections to the provider are in use"),
        "unsupported": Row("moves on", "the provider's API has no words for something in the request"),
        "skipped": Row(
            "moves on", "not called: the breaker is open, out of bounds, a component's own reason"
        ),
        "context_length": Row("own chain", "the request is longer than the model's context"),
        "content_filter": Row("own chain", "the provider's own filter refused"),
        "bad_request": Row("stops", "400, 404, 409, 413, 422 and any other 4xx: the caller's own"),
    }
)
SWITCHABLE: Final = tuple(name for name, row in TABLE.items() if row.then == "moves on")

_OTHER_NAMES: Final = {
    "stale_connection": "closed",
    "answer_too_large": "protocol",
    "event_too_large": "protocol",
}


def class_of(kind: str, http_status: int | None) -> str:
    """The row of ``TABLE`` that a failure of this kind, with this status if the upstream gave one, belongs to.

    The status decides where there is one, for a kind names several (a 408 and a 504 are both ``timeout``); but a
    provider that says what is wrong is believed first (Gemini refuses a key with 400). A kind that is not known,
    from a provider with words of its own, is ``protocol``: whatever it was, it was no answer.
    """
    if kind in ("context_length", "content_filter", "credential"):
        return kind
    if http_status is None:
        kind = _OTHER_NAMES.get(kind, kind)
        return kind if kind in TABLE else "protocol"
    return _of_status(http_status)


def _of_status(status: int) -> str:
    if status in (401, 402, 403):
        return "credential"
    if status == 408:
        return "request_timeout"
    if status == 429:
        return "rate_limited"
    if status in (503, 529):
        return "overloaded"
    return "bad_request" if 400 <= status < 500 else "status"
