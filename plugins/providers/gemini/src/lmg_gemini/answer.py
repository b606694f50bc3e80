"""The members of an answer that mean the same whole and streamed.

Source: Gemini API reference, "GenerateContentResponse", "Candidate", "UsageMetadata", "LogprobsResult".
"""

from __future__ import annotations

from typing import Any, Final

from lmg.dialects.form import FinishReason
from lmg.dialects.wire import Fault, FaultKind, StreamFault
from lmg.jsontext import Json
from lmg.records import Usage

__all__ = ["blocked", "citations_of", "finish_of", "logprobs_of", "usage_of"]

_FINISHES: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "MODEL_ARMOR",
            "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}  # fmt: skip
# An answer that ends so is none: what came of it must not look complete, and another attempt may do better.
_FAILURES: Final[dict[str, tuple[int, FaultKind]]] = {
    "MALFORMED_FUNCTION_CALL": (502, ""),
    "MALFORMED_RESPONSE": (502, ""),
    "UNEXPECTED_TOOL_CALL": (502, ""),
    "TOO_MANY_TOOL_CALLS": (502, ""),
    "OTHER": (502, ""),
    "IMAGE_OTHER": (502, ""),
    "NO_IMAGE": (502, ""),
    "MISSING_THOUGHT_SIGNATURE": (400, ""),
    "PUP_LIMITED_DISABLED": (403, "credential"),
}


def finish_of(stated: str, message: Json, *, calls: bool) -> FinishReason:
    """Why a candidate ended; a reason of tomorrow counts as an ordinary end. ``calls``: it holds calls.

    Raises:
        StreamFault: the model failed.
    """
    failure = _FAILURES.get(stated)
    if failure is not None:
        status, kind = failure
        text = message if type(message) is str and message else f"The model stopped: {stated}."
        raise StreamFault(status, Fault(text, stated.lower(), kind=kind))
    reason = _FINISHES.get(stated, "stop")
    return "tool_calls" if calls and reason == "stop" else reason


def blocked(feedback: dict[str, Any]) -> StreamFault | None:
    """The refusal of a prompt, where ``feedback`` is one."""
    reason = feedback.get("blockReason")
    if type(reason) is not str or not reason:
        return None
    stated = feedback.get("blockReasonMessage")
    text = stated if type(stated) is str and stated else f"The prompt was blocked: {reason}."
    return StreamFault(400, Fault(text, "content_filter", kind="content_filter"))


def usage_of(counts: dict[str, Any]) -> Usage:
    """The tokens that ``usageMetadata`` states: those of thoughts are not among the candidates' there."""
    thoughts = _count(counts, "thoughtsTokenCount")
    return Usage(
        _count(counts, "promptTokenCount") + _count(counts, "toolUsePromptTokenCount"),
        _count(counts, "candidatesTokenCount") + thoughts,
        _count(counts, "cachedContentTokenCount"),
        thoughts,
        estimated=False,
    )


def _count(counts: dict[str, Any], key: str) -> int:
    count = counts.get(key)
    return count if type(count) is int and count >= 0 else 0


def citations_of(candidate: dict[str, Any]) -> list[Json]:
    """What a candidate quotes, as the API wrote it: each source, and the metadata of a search."""
    out: list[Json] = []
    metadata = candidate.get("citationMetadata")
    if type(metadata) is dict:
        # The reference calls the member one name, the vendor's other API the other.
        sources = metadata.get("citationSources") or metadata.get("citations")
        out += sources if type(sources) is list else []
    grounding = candidate.get("groundingMetadata")
    if type(grounding) is dict and grounding:
        out.append({"groundingMetadata": grounding})
    return out


def logprobs_of(candidate: dict[str, Any]) -> list[Json] | None:
    """The log probabilities of a candidate's tokens, each as the form has them (OpenAI's shape)."""
    result = candidate.get("logprobsResult")
    if type(result) is not dict:
        return None
    chosen, tops = result.get("chosenCandidates") or [], result.get("topCandidates") or []
    out: list[Json] = []
    for n, one in enumerate(chosen):
        alternatives = tops[n].get("candidates") or [] if n < len(tops) else []
        out.append(_token(one) | {"top_logprobs": [_token(other) for other in alternatives]})
    return out or None


def _token(stated: dict[str, Any]) -> dict[str, Json]:
    token = str(stated.get("token", ""))
    probability = stated.get("logProbability", 0.0)
    return {"token": token, "logprob": probability, "bytes": list(token.encode())}
