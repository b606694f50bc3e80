"""What Claude models differ in where a request must be written for them.

Source: Claude API documentation, the pages "Thinking", "Effort", "Mid-conversation system messages" and the
migration guides of the models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Traits", "traits_of"]

Off = Literal["disabled", "between_tools", "never"]

# claude-3-7-sonnet-20250219, claude-opus-4-6, anthropic.claude-haiku-4-5-20251001-v1:0, claude-opus-4-1@20250805
_NAME: Final = re.compile(
    r"claude-(?:([a-z]+)-)?(\d{1,2})(?!\d)(?:[.-](\d{1,2})(?!\d))?(?:-(opus|sonnet|haiku))?", re.ASCII
)
_LINE: Final = re.compile(r"claude-([a-z]+)", re.ASCII)
_NEWEST: Final = (99, 0)
_ALWAYS_THINK: Final = frozenset({"fable", "mythos"})


@dataclass(frozen=True, slots=True)
class Traits:
    """``thinks``: in no way, with a budget of tokens, or adaptively (``efforts`` are then its levels).

    ``off`` is how to ask for no thinking; ``never`` where a model cannot do without. ``samples``: temperature,
    top_p and top_k are taken; ``prefills``: the last message may be the beginning of the answer;
    ``system_turns``: system messages may stand in the conversation; ``forces``: a tool can be made to be called; ``least_budget``
    is the smallest that can be given to thinking.
    """

    thinks: Literal["no", "budget", "adaptive"]
    off: Off
    efforts: tuple[str, ...]
    samples: bool
    prefills: bool
    system_turns: bool
    forces: bool
    least_budget: int = 1024


# What speaks this API under other names is taken for what the API was at first.
_FOREIGN: Final = Traits("budget", "disabled", (), True, True, False, True, least_budget=1)


def traits_of(model: str) -> Traits:
    """The traits of the model that the upstream knows as ``model``; a Claude without a version is the newest."""
    at = model.find("claude-")
    if at < 0:
        return _FOREIGN
    found = _NAME.match(model, at)
    line = _LINE.match(model, at)
    name = (found[1] or found[4] or "") if found else (line[1] if line else "")
    version = (int(found[2]), int(found[3] or 0)) if found else _NEWEST
    always = name in _ALWAYS_THINK
    off: Off = "disabled"
    if always or (name == "opus" and version >= (5, 5)):
        off = "never"
    elif name == "sonnet" and version >= (5, 5):
        off = "between_tools"
    efforts: tuple[str, ...] = ()
    if version >= (4, 7):
        efforts = ("low", "medium", "high", "xhigh", "max")
    elif version >= (4, 6):
        efforts = ("low", "medium", "high", "max")
    return Traits(
        "adaptive" if version >= (4, 6) else "budget" if version >= (3, 7) else "no",
        off,
        efforts,
        version < (4, 7) and not always,
        version < (4, 6),
        version >= (4, 8),
        not (always and version >= (5, 1)) and not (name in ("opus", "sonnet") and version >= (5, 5)),
    )
