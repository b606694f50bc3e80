"""Errors of this API: which type a status has, which status a type, and what a body says."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ...jsontext import Json
from ..wire import Fault, classify, json_of

__all__ = ["error_body", "fault", "status_of_type", "type_of"]

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


# How a 400 tells that the account has no money left, which is no fault of the caller's.
_ACCOUNT: Final = (
    b"credit balance is too low",
    b"api usage limits",
    b"spend_limit_reached",
    b"billing_error",
)


def type_of(status: int, stated: str) -> str:
    """The type that clients of this API tell errors apart by.

    ``stated`` wins where it is one of the API's own and says more than the kernel's catch-all.
    """
    own = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return stated if stated in _STATUSES and stated not in ("invalid_request_error", "api_error") else own


def status_of_type(type_: Json) -> int:
    """The status that an error in a stream would have had before it."""
    return _STATUSES.get(type_, 502) if type(type_) is str else 502


def error_body(status: int, code: str, message: str, type: str, param: str | None, request_id: str) -> bytes:
    """The envelope as bytes; the gateway's code stands where this API has its own."""
    details: dict[str, Any] = {"error_code": code}
    if param is not None:
        details["param"] = param
    error = {"type": type_of(status, type), "message": message, "details": details}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def fault(status: int, body: bytes) -> Fault:
    """What an error of this API says."""
    value = json_of(body)
    found = value.get("error", value) if type(value) is dict else None
    stated: dict[str, Any] = found if type(found) is dict else {"message": found}
    details = stated.get("details")
    code = details.get("error_code") if type(details) is dict else stated.get("code")
    param = details.get("param") if type(details) is dict else stated.get("param")
    message, type_ = stated.get("message"), stated.get("type")
    lowered = body[:8192].lower()
    account = status == 400 and any(mark in lowered for mark in _ACCOUNT)
    return Fault(
        message if type(message) is str else "",
        code if type(code) is str else None,
        type_ if type(type_) is str else None,
        param if type(param) is str else None,
        "credential" if account else classify(status, body),
    )
