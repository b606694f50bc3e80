"""What an error of the Gemini API says.

Source: Gemini API, "Troubleshooting guide"; google.rpc.Status, ErrorInfo and RetryInfo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from lmg.dialects.wire import Fault, FaultKind, classify, json_of
from lmg.resets import LONGEST_S

__all__ = ["fault", "fault_of_error", "retry_delay_s"]

_SECONDS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?s")
# What is wrong with the account is told by a 400, too.
_ACCOUNT_REASONS: Final = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "CONSUMER_INVALID"})
_ACCOUNT_TEXTS: Final = (
    "api key not valid", "api key expired", "api key not found", "user location is not supported", "enable billing",
    "authentication credentials",
)  # fmt: skip


def fault(status: int, body: bytes) -> Fault:
    """What the body of an error says; never raises."""
    return fault_of_error(status, _error(body), body)


def fault_of_error(status: int, error: dict[str, Any], body: bytes) -> Fault:
    """What the object ``error`` says; ``body`` is the text that it stood in."""
    message, code = error.get("message"), error.get("status")
    return Fault(
        message if type(message) is str else "",
        code.lower() if type(code) is str else None,
        kind=_kind(status, error, body),
    )


def retry_delay_s(body: bytes) -> float | None:
    """The pause in seconds that an error asks for in its details, or None."""
    for detail in _details(_error(body)):
        stated = detail.get("retryDelay")
        if type(stated) is str and _SECONDS.fullmatch(stated):
            seconds = float(stated[:-1])
            return seconds if seconds < LONGEST_S else None
    return None


def _error(body: bytes) -> dict[str, Any]:
    value = json_of(body)
    if type(value) is list and value:  # as the endpoints write it that know no server-sent events
        value = value[0]
    found = value.get("error") if type(value) is dict else None
    return found if type(found) is dict else {"message": found}


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    yield from (one for one in details if type(one) is dict) if type(details) is list else ()


def _kind(status: int, error: dict[str, Any], body: bytes) -> FaultKind:
    if status in (401, 403) or error.get("status") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return "credential"
    text = str(error.get("message") or "").lower()
    if status == 400 and (
        any(detail.get("reason") in _ACCOUNT_REASONS for detail in _details(error))
        or any(mark in text for mark in _ACCOUNT_TEXTS)
    ):
        return "credential"
    return classify(status, body)
