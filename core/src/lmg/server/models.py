"""The list of models, in the words of whoever asks.

Source: OpenAI API reference, "List models"; Claude API reference, "List Models".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import Refusal
from ..exchange import Target

__all__ = ["anthropic_list", "anthropic_model", "openai_list", "openai_model"]

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 20
_UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"


def openai_model(target: Target) -> dict[str, Any]:
    """One model as clients of the OpenAI API read it."""
    return {"id": target.model, "object": "model", "created": 0, "owned_by": target.provider}


def openai_list(targets: Sequence[Target]) -> dict[str, Any]:
    """All models at once."""
    return {"object": "list", "data": [openai_model(target) for target in targets]}


def anthropic_model(target: Target) -> dict[str, Any]:
    """One model as clients of the Anthropic API read it; its date, which nobody knows here, is the epoch."""
    return {
        "type": "model",
        "id": target.model,
        "display_name": target.model,
        "created_at": _UNKNOWN_DATE,
        "lifecycle": "active",
        "max_input_tokens": target.capabilities.context_tokens,
        "max_tokens": target.capabilities.max_output_tokens,
        "capabilities": None,
    }


def anthropic_list(targets: Sequence[Target], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of the models: ``limit`` of them behind ``after_id`` or before ``before_id``.

    Raises:
        Refusal: 400 for a limit out of bounds or an id that is not in the list.
    """
    limit = _limit(query.get("limit", ""))
    ids = [target.model for target in targets]
    start, end = 0, len(ids)
    if "after_id" in query:
        start = _place(ids, query["after_id"], "after_id") + 1
    if "before_id" in query:
        end = _place(ids, query["before_id"], "before_id")
    backwards = "before_id" in query and "after_id" not in query
    page = targets[start:end][-limit:] if backwards else targets[start:end][:limit]
    data = [anthropic_model(target) for target in page]
    return {
        "data": data,
        "has_more": len(page) < end - start,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _limit(asked: str) -> int:
    if not asked:
        return DEFAULT_PAGE
    if not (asked.isdecimal() and len(asked) < 6 and 1 <= int(asked) <= MAX_PAGE):
        raise Refusal(
            400, "invalid_request", f"'limit' must be a number from 1 to {MAX_PAGE}.", param="limit"
        )
    return int(asked)


def _place(ids: Sequence[str], id: str, param: str) -> int:
    if id not in ids:
        raise Refusal(400, "invalid_request", f"'{param}' names no model of the list.", param=param)
    return ids.index(id)
