"""What the ending of an attempt says about its target: one table, by the kind of the failure and the status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from lmg import Attempt, Exchange, Outcome

__all__ = ["TABLE", "Row", "Verdict", "row_of", "was_cut_short"]

Verdict = Literal[
    "success", "failure", "alive", "limited", "overloaded", "credential", "forbidden", "nothing"
]


@dataclass(frozen=True, slots=True)
class Row:
    """What an ending counts as.

    ``success`` and ``failure`` are evidence. ``alive``: the target has answered, to something that was the caller's
    own fault: neither success nor failure, but enough for a probe. ``limited`` and ``overloaded`` open for the time
    that the upstream states, ``credential`` and ``forbidden`` are about the provider's key, ``nothing`` is no news.
    """

    verdict: Verdict
    what: str


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "complete": Row("success", "an answer"),
        "connect_error": Row("failure", "no connection: refused, no route, no such name, TLS"),
        "timeout": Row("failure", "no connection, no first event or no whole answer in time; 408, 504"),
        "closed": Row("failure", "the connection broke, or the stream ended too early"),
        "protocol": Row("failure", "an answer that is malformed, or not what the API sends"),
        "status": Row("failure", "500, 502 and any other 5xx; a redirect"),
        "overloaded": Row("overloaded", "503, 529: open for the stated time, a failure where none is stated"),
        "rate_limited": Row("limited", "429: open for the stated time, briefly where none is stated"),
        "credential": Row("credential", "401, 402: the key was refused, or its account is empty"),
        "forbidden": Row("forbidden", "403: the key was refused, if it is refused again and again"),
        "bad_request": Row("alive", "400, 404, 409, 413, 422 and any other 4xx"),
        "context_length": Row("alive", "the request is longer than the model's context"),
        "content_filter": Row("alive", "the provider's own filter refused"),
        "answer_too_large": Row("alive", "an answer over the gateway's own bound"),
        "event_too_large": Row("alive", "an event over the gateway's own bound"),
        "cancelled": Row("nothing", "the client left, or a guard refused the answer"),
        "skipped": Row("nothing", "a component further in did not let the call be made"),
        "unsupported": Row("nothing", "the request cannot be expressed to this provider: it was not sent"),
        "pool_exhausted": Row("nothing", "the gateway's own connections are all in use"),
        "stale_connection": Row("nothing", "a kept connection that the peer had closed meanwhile"),
    }
)
"""By the kind of the outcome; a kind that is not known, from a provider with words of its own, is ``protocol``."""

_SUCCESS: Final = TABLE["complete"]
_ADMISSION: Final = TABLE["unsupported"]


def row_of(outcome: Outcome) -> Row:
    """The row that an outcome belongs to."""
    if outcome.status == "complete":
        return _SUCCESS
    error = outcome.error
    if error is None:
        return TABLE["skipped" if outcome.status == "skipped" else "cancelled"]
    if error.stage == "admission":
        return _ADMISSION  # refused within the gateway, whatever it is called
    kind = error.kind
    if kind == "bad_request" and outcome.http_status == 403:
        kind = "forbidden"
    return TABLE.get(kind) or TABLE["protocol"]


def was_cut_short(exchange: Exchange, attempt: Attempt, outcome: Outcome, fair_s: float) -> bool:
    """Whether a timeout was the exchange's own: its deadline came before the target had ``fair_s`` seconds.

    The last of several attempts may be left with next to no time, which says nothing about the last target.
    """
    error = outcome.error
    if (
        error is None
        or error.kind != "timeout"
        or error.stage == "connect"
        or outcome.http_status is not None
    ):
        return False
    # Both are the kernel's own times, not the host's clock.
    return outcome.duration_s < fair_s and attempt.started + outcome.duration_s >= exchange.deadline - 0.05
