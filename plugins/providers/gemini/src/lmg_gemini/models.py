"""What the generations of models differ in, told by their names: the API has no other way to ask before a call.

A name that says nothing (an alias such as ``gemini-flash-latest``, a model of tomorrow) counts as the newest.
Source: Gemini API, "Thinking" (levels and budgets by model), "Thought signatures", "OpenAI compatibility"
(``reasoning_effort``).
"""

from __future__ import annotations

import re
from typing import Any, Final

from lmg.dialects.form import ReasoningAsk

__all__ = ["signs_calls", "takes_media_in_results", "thinking_config"]

_VERSION: Final = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?![\d.])")
_NEWEST: Final = (999, 0)
_OLDER: Final = ("tunedModels/", "learnlm-", "gemma-1", "gemma-2", "gemma-3")
_LEVELS: Final = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_BUDGETS: Final = {"MINIMAL": 1024, "LOW": 1024, "MEDIUM": 8192, "HIGH": 24576}


def _version(model: str) -> tuple[int, int]:
    found = _VERSION.match(model)
    if found is not None:
        return int(found[1]), int(found[2] or 0)
    return (2, 0) if model.startswith(_OLDER) else _NEWEST


def signs_calls(model: str) -> bool:
    """Whether ``model`` refuses a history in which the first call of a step has no signature."""
    return _version(model) >= (3, 0) and not model.startswith("gemma-")


def takes_media_in_results(model: str) -> bool:
    """Whether the result of a call may hold images and documents."""
    return _version(model) >= (3, 0)


def thinking_config(model: str, ask: ReasoningAsk) -> dict[str, Any] | None:
    """How much ``model`` is to think, in the terms of its generation; None where an effort is asked for that is
    none of the words in use. An empty dictionary leaves it to the model.
    """
    if ask.enabled and ask.effort and ask.effort not in _LEVELS:
        return None
    old = _version(model) < (3, 0)
    out = _budget(model, ask) if old else _level(model, ask)
    return out | ({"includeThoughts": True} if ask.enabled else {})


def _level(model: str, ask: ReasoningAsk) -> dict[str, Any]:
    if not ask.enabled:
        level = "MINIMAL"  # there is no way to turn it off
    elif ask.effort:
        level = _LEVELS[ask.effort]
    elif ask.budget_tokens is None:
        return {}
    else:
        # These models know no budgets: the level whose budget was the nearest.
        budget = ask.budget_tokens
        level = "LOW" if budget <= 4096 else "MEDIUM" if budget <= 16384 else "HIGH"
    if level == "MINIMAL" and ("-pro" in model or _version(model) > (3, 6)):
        level = "LOW"
    return {"thinkingLevel": level}


def _budget(model: str, ask: ReasoningAsk) -> dict[str, Any]:
    pro = "-pro" in model
    if not ask.enabled:
        if _version(model) < (2, 5):
            return {}  # they do not think
        return {"thinkingBudget": 128 if pro else 0}
    if ask.budget_tokens is not None:
        least = 128 if pro else 512 if "-lite" in model else 1
        return {"thinkingBudget": min(max(ask.budget_tokens, least), 32768 if pro else 24576)}
    return {"thinkingBudget": _BUDGETS[_LEVELS[ask.effort]]} if ask.effort else {}
