"""A whole response, into and out of the intermediate form: as the stream of it would be read and written.

Source: OpenAI API reference, "The response object".
"""

from __future__ import annotations

from typing import Any

from ...jsontext import Json
from ..form import Completion, completion_of, events_of
from ..wire import broken
from .events_in import ResponsesDecoder
from .events_out import ResponsesEncoder

__all__ = ["decode_answer", "encode_answer"]


def decode_answer(value: Json) -> Completion:
    """A whole response. Raises ``StreamFault`` where it is one that failed."""
    if type(value) is not dict or type(value.get("output")) is not list:
        raise broken("no output")
    status = value.get("status")
    if status in ("failed", "cancelled") or value.get("error"):
        kind = "response.failed"
    elif status in ("queued", "in_progress"):
        raise broken("a response that is not complete")
    else:
        kind = "response.incomplete" if status == "incomplete" else "response.completed"
    completion = completion_of(ResponsesDecoder().step({"type": kind, "response": value}))
    tier = value.get("service_tier")
    completion.service_tier = tier if type(tier) is str else ""
    return completion


def encode_answer(completion: Completion) -> dict[str, Any]:
    """A whole response; of several choices the first."""
    encoder = ResponsesEncoder()
    for event in events_of(completion):
        encoder.step(event)
    tier = {"service_tier": completion.service_tier} if completion.service_tier else {}
    return encoder.response | tier
