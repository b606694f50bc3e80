"""What every decoder of a request asks of a value before it looks inside."""

from __future__ import annotations

from typing import Any

from ..errors import Refusal
from ..jsontext import Json

__all__ = ["items_of", "object_of"]


def items_of(item: Json, where: str) -> list[Any]:
    """``item`` as an array; raises ``Refusal`` (400, with its place) where it is none."""
    if type(item) is not list:
        raise Refusal(400, "invalid_request", f"'{where}' must be an array.", param=where)
    return item


def object_of(item: Json, where: str) -> dict[str, Any]:
    """``item`` as an object; raises ``Refusal`` (400, with its place) where it is none."""
    if type(item) is not dict:
        raise Refusal(400, "invalid_request", f"'{where}' must be an object.", param=where)
    return item
