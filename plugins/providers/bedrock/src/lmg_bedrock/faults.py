"""Errors of the API: what each is to the gateway.

Source: Amazon Bedrock API reference, "Common errors" and the errors of "Converse" and "ConverseStream".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from lmg.dialects.wire import Fault, FaultKind, StreamFault, classify, json_of

__all__ = ["error_body", "fault", "status_of", "stream_fault"]


@dataclass(frozen=True, slots=True)
class _Known:
    """``status`` is what an error is answered with, which need not be what the API says."""

    status: int
    code: str
    kind: FaultKind = ""


_ERRORS: Final[dict[str, _Known]] = {
    "ValidationException": _Known(400, "validation"),
    "ThrottlingException": _Known(429, "throttling"),
    "TooManyRequestsException": _Known(429, "throttling"),
    "ServiceQuotaExceededException": _Known(429, "service_quota_exceeded"),
    "ModelTimeoutException": _Known(408, "model_timeout"),
    "ModelNotReadyException": _Known(429, "model_not_ready"),
    "ServiceUnavailableException": _Known(503, "service_unavailable"),
    "InternalServerException": _Known(500, "internal_server"),
    "InternalFailure": _Known(500, "internal_server"),
    "ResourceNotFoundException": _Known(404, "resource_not_found"),
    # The API counts these among the caller's faults, and tells the caller to try again.
    "ModelErrorException": _Known(502, "model_error"),
    "ModelStreamErrorException": _Known(502, "model_stream_error"),
    "AccessDeniedException": _Known(403, "access_denied", "credential"),
    "UnrecognizedClientException": _Known(403, "unrecognized_client", "credential"),
    "ExpiredTokenException": _Known(403, "expired_token", "credential"),
    "InvalidSignatureException": _Known(403, "invalid_signature", "credential"),
    "IncompleteSignatureException": _Known(403, "incomplete_signature", "credential"),
    "MissingAuthenticationTokenException": _Known(403, "missing_authentication", "credential"),
    "InvalidClientTokenId": _Known(403, "unrecognized_client", "credential"),
    "OptInRequired": _Known(403, "opt_in_required", "credential"),
    "NotAuthorized": _Known(403, "not_authorized", "credential"),
}
_TYPES: Final = {404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error"}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_ERROR_TYPE: Final = b"x-amzn-errortype"


def error_body(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An error's body with its type in it, which the API states in a header."""
    stated = next((value.decode("latin-1") for key, value in headers if key == _ERROR_TYPE), "")
    value = json_of(body)
    found: dict[str, Any] = value if type(value) is dict else {}
    name = _name(stated) or _name(found.get("__type")) or _name(found.get("code"))
    message = found.get("message", found.get("Message"))
    return orjson.dumps({"__type": name, "message": message if type(message) is str else ""})


def status_of(status: int, body: bytes) -> int:
    """The status to answer for an error of the API's."""
    known = _ERRORS.get(_type_of(json_of(body)))
    return known.status if known is not None else 502 if status == 424 else status


def fault(status: int, body: bytes) -> Fault:
    """What an error body says, once ``error_body`` has written it."""
    value = json_of(body)
    name = _type_of(value)
    known = _ERRORS.get(name)
    kind = known.kind if known is not None else "credential" if status == 403 else ""
    message = value.get("message") if type(value) is dict else None
    return Fault(
        message if type(message) is str else "",
        known.code if known is not None else None,
        _TYPES.get(status),
        None,
        kind or classify(status, body),
    )


def stream_fault(data: bytes) -> StreamFault:
    """An exception of a stream: its status is what it would have been before the stream."""
    name = _type_of(json_of(data))
    known = _ERRORS.get(name)
    status = known.status if known is not None else 502
    # The status of our own fault would be read as the gateway's.
    status = 502 if status == 500 else status
    return StreamFault(status, fault(status, data))


def _type_of(value: Any) -> str:
    return _name(value.get("__type")) if type(value) is dict else ""


def _name(stated: Any) -> str:
    """The name alone of ``aws.namespace#Name:http://where``; members of a stream begin with a small letter."""
    if type(stated) is not str:
        return ""
    found = _NAME.match(stated.partition(":")[0].rpartition("#")[2])
    return found[0][:1].upper() + found[0][1:] if found else ""
