"""The error envelope of the OpenAI API.

Source: OpenAI API reference, "Error codes": ``{"error": {"message", "type", "param", "code"}}``.
"""

from __future__ import annotations

import orjson

__all__ = ["error_body"]


def error_body(status: int, code: str, message: str, type: str, param: str | None, request_id: str) -> bytes:
    """The envelope as bytes; ``request_id`` is an addition that clients ignore and people need."""
    error = {"message": message, "type": type, "param": param, "code": code, "request_id": request_id}
    return orjson.dumps({"error": error})
