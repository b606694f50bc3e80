"""How much to reason, in the words of each maker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lmg.dialects.anthropic_messages.models import Traits
from lmg.dialects.effort import effort_of, nearest
from lmg.dialects.form import Chat, Reasoning, ReasoningAsk, ToolCall

__all__ = ["Asked", "claude", "gpt", "gpt_oss", "nova"]

_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
_LEAST_BUDGET: Final = 1024
_WITHOUT_THINKING: Final = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Asked:
    """``fields`` for ``additionalModelRequestFields``, ``effort`` for ``outputConfig``."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    effort: str = ""


def claude(traits: Traits, chat: Chat, *, off: bool) -> Asked:
    """For a Claude; ``off``: it thinks unless it is told not to."""
    ask = chat.reasoning
    if ask is None or traits.thinks == "no":
        return Asked()
    if traits.thinks == "adaptive":
        return _adaptive(ask, traits, chat, off=off)
    budget = _budget(ask, chat) if ask.enabled else 0
    return Asked({"thinking": {"type": "enabled", "budget_tokens": budget}} if budget else {})


def _adaptive(ask: ReasoningAsk, traits: Traits, chat: Chat, *, off: bool) -> Asked:
    if not ask.enabled:
        if traits.off == "never":
            return Asked(effort=traits.efforts[0])
        # Before Claude 5 nothing need be said, and some models refuse to be told.
        return Asked({"thinking": {"type": traits.off}} if off else {})
    effort = ask.effort or effort_of(ask.budget_tokens)
    if _is_forced(chat):
        return Asked(effort=nearest(effort, _WITHOUT_THINKING))
    shown = {"display": "summarized"} if ask.summary else {}
    return Asked({"thinking": {"type": "adaptive", **shown}}, nearest(effort, traits.efforts))


def _budget(ask: ReasoningAsk, chat: Chat) -> int:
    """The tokens to think with, which are part of the answer's cap; 0 where the request leaves no way to think."""
    last = chat.turns[-1] if chat.turns else None
    begun = last is not None and last.role == "assistant"
    if _is_forced(chat) or begun or _lacks_thoughts(chat):
        return 0
    budget = max(ask.budget_tokens or _BUDGETS.get(ask.effort, _BUDGETS["medium"]), _LEAST_BUDGET)
    cap = chat.max_output_tokens if chat.max_output_tokens is not None else chat.output_limit
    if cap is None or budget < cap:
        return budget
    return cap // 2 if cap // 2 >= _LEAST_BUDGET else 0


def _is_forced(chat: Chat) -> bool:
    """Thinking and a tool that must be called exclude each other."""
    choice = chat.tool_choice
    return bool(chat.tools) and choice is not None and choice.mode in ("required", "named")


def _lacks_thoughts(chat: Chat) -> bool:
    """Whether a call that now gets its result came without the thoughts before it: with a budget the API wants
    them back, and many clients do not keep them.
    """
    if not chat.turns or chat.turns[-1].role != "tool":
        return False
    for turn in reversed(chat.turns):
        if turn.role == "assistant":
            calls = any(isinstance(part, ToolCall) for part in turn.parts)
            signed = any(
                isinstance(part, Reasoning) and (part.signature or part.encrypted) for part in turn.parts
            )
            return calls and not signed
    return False


def nova(chat: Chat) -> Asked:
    """For Nova 2 and later, which take their highest effort only where nothing else bounds the answer."""
    ask = chat.reasoning
    if ask is None:
        return Asked()
    if not ask.enabled:
        return Asked({"reasoningConfig": {"type": "disabled"}})
    effort = nearest(ask.effort or effort_of(ask.budget_tokens) or "medium", ("low", "medium", "high"))
    bounds = (chat.max_output_tokens, chat.temperature, chat.top_p, chat.top_k)
    if effort == "high" and any(bound is not None for bound in bounds):
        effort = "medium"
    return Asked({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}})


def gpt_oss(chat: Chat) -> Asked:
    """For OpenAI's open models, which cannot do without."""
    effort = _stated(chat, off="low")
    return Asked({"reasoning_effort": nearest(effort, ("low", "medium", "high"))} if effort else {})


def gpt(chat: Chat) -> Asked:
    """For OpenAI's other models."""
    effort = _stated(chat, off="none")
    levels = ("low", "medium", "high", "xhigh", "max")
    return Asked({"reasoning": {"effort": nearest(effort, levels)}} if effort else {})


def _stated(chat: Chat, *, off: str) -> str:
    ask = chat.reasoning
    if ask is None:
        return ""
    return (ask.effort or effort_of(ask.budget_tokens)) if ask.enabled else off
