"""Errors: what an upstream's say, before a stream and in it, and how a client is told.

Source: OpenAI API reference, "Error codes"; "Streaming events" of responses, ``error`` and ``response.failed``.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ...jsontext import Json
from ...sse import encode_event
from ..wire import Fault, StreamFault, classify, json_of

__all__ = ["FAILED", "error_event", "fault", "stream_fault"]

FAILED: Final = frozenset({"error", "response.failed", "response.cancelled"})
"""The events that say that there will be no answer."""
LAST: Final = 2**31 - 1
"""The number of the event that ends a broken stream: whoever orders events by number finds it behind all others."""
_STATUSES: Final = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "vector_store_timeout": 504,
    "invalid_prompt": 400,
    "data_residency_mismatch": 400,
    "bio_policy": 400,
    "context_length_exceeded": 400,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
}
_FILTERED: Final = frozenset({"bio_policy", "image_content_policy_violation"})


def _stated(value: Json) -> dict[str, Any]:
    """The error in a body or an event, wherever it stands."""
    whole: dict[str, Any] = value if type(value) is dict else {}
    inside = whole.get("response")
    for place in (whole, inside if type(inside) is dict else {}):
        error = place.get("error")
        if type(error) is dict:
            return error
        if type(error) is str:
            return {"message": error}
    return whole


def fault(status: int, body: bytes) -> Fault:
    """What an error of this API says."""
    return _fault(status, _stated(json_of(body)), body)


def _fault(status: int, stated: dict[str, Any], text: bytes) -> Fault:
    message, code, type_, param = (stated.get(key) for key in ("message", "code", "type", "param"))
    filtered = type(code) is str and code in _FILTERED
    return Fault(
        message if type(message) is str else "",
        str(code) if code is not None else None,
        type_ if type(type_) is str and type_ not in FAILED else None,
        param if type(param) is str else None,
        "content_filter" if filtered else classify(status, text),
    )


def stream_fault(value: dict[str, Any]) -> StreamFault:
    """The error that an event states, with the status that it would have had before the stream."""
    stated = _stated(value)
    code, kind = stated.get("code"), stated.get("type")
    status = next((s for s in (stated.get("status"), value.get("status"), code) if _is_status(s)), None)
    if status is None:
        status = _STATUSES.get(code, 0) if type(code) is str else 0
    if not status:
        image = type(code) is str and (code.startswith("image_") or "_image" in code)
        status = 400 if image or kind == "invalid_request_error" else 502
    error = {key: item for key, item in stated.items() if key in ("message", "code", "type", "param")}
    return StreamFault(status, _fault(status, error, orjson.dumps(error)))


def _is_status(status: Any) -> bool:
    return type(status) is int and 400 <= status < 600


def error_event(code: str, message: str, type: str, param: str | None, request_id: str) -> bytes:
    """The event that ends a broken stream: as the reference has it, and with the object that SDKs raise for."""
    value = {
        "type": "error",
        "code": code,
        "message": message,
        "param": param,
        "sequence_number": LAST,
        "error": {"type": type, "code": code, "message": message, "param": param, "request_id": request_id},
    }
    return encode_event(orjson.dumps(value), b"error")
