"""The shapes that answers and their events share: the response object, its items, their parts and their ids.

Source: OpenAI API reference, "The response object".
"""

from __future__ import annotations

import hashlib
from typing import Any

from ...jsontext import Json
from ...records import Usage

__all__ = [
    "annotation_of",
    "decode_usage",
    "encode_usage",
    "item_id",
    "response_id",
    "response_object",
]


def item_id(prefix: str, *of: object) -> str:
    """An id that depends on ``of`` alone, so that the same answer has the same ids however it travels."""
    digest = hashlib.sha256("\x00".join(map(str, of)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{prefix}_{digest[:48]}"


def response_id(id: str) -> str:
    """An upstream's id of an answer as that of a response."""
    return id if id.startswith("resp_") else f"resp_{id}"


def response_object(id: str, model: str, created: int, service_tier: str = "") -> dict[str, Any]:
    """A response that has begun. What it would repeat of the request has the values of a request without it."""
    out: dict[str, Any] = {
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }
    if service_tier:
        out["service_tier"] = service_tier
    return out


def decode_usage(stated: Json) -> Usage | None:
    """The tokens that an answer states."""
    if type(stated) is not dict:
        return None
    read, wrote = stated.get("input_tokens_details"), stated.get("output_tokens_details")
    return Usage(
        _count(stated, "input_tokens"),
        _count(stated, "output_tokens"),
        _count(read, "cached_tokens"),
        _count(wrote, "reasoning_tokens"),
        False,
        _count(read, "cache_write_tokens"),
    )


def _count(stated: Json, key: str) -> int:
    count = stated.get(key) if type(stated) is dict else None
    return count if type(count) is int and count >= 0 else 0


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The tokens as a client of this dialect reads them."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def annotation_of(citation: Json, end: int) -> dict[str, Any] | None:
    """A citation as an annotation of the first ``end`` characters; None where this dialect has no words for it."""
    if type(citation) is str:
        citation = {"url": citation}
    if type(citation) is not dict:
        return None
    stated: dict[str, Any] = citation
    if stated.get("type") == "url_citation" and type(stated.get("url_citation")) is dict:
        return {"type": "url_citation", **stated["url_citation"]}  # as chat completions write it
    if stated.get("type") in ("file_citation", "url_citation", "container_file_citation", "file_path"):
        return stated
    if type(stated.get("url")) is str:
        url: str = stated["url"]
        title = str(stated.get("title") or url)
        return {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": end}
    named = stated.get("document_title") or stated.get("title")
    if type(named) is str:
        index = stated.get("document_index")
        at = index if type(index) is int else 0
        return {
            "type": "file_citation",
            "file_id": str(stated.get("file_id") or ""),
            "filename": named,
            "index": at,
        }
    return None
