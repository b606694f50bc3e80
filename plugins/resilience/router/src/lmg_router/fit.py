"""Whether a target can serve a request, as far as it is known."""

from __future__ import annotations

from typing import Final, Literal

from .cards import NO_LIMIT, Card
from .needs import JSON_SCHEMA, TOOLS, VISION, Needs

__all__ = ["CONTEXT", "OUTPUT", "UNSURE", "Misfit", "fit_of"]

Misfit = Literal["tools", "vision", "json_schema", "context_length", "max_output_tokens", "unknown"]
Unknown = Literal["allow", "last", "drop"]

UNSURE: Final = "unsure"
CONTEXT: Final[Misfit] = "context_length"
OUTPUT: Final[Misfit] = "max_output_tokens"
ANY_WINDOW: Final = 8_192
"""Up to so many tokens a model is taken to read whose window is not known."""
ANY_OUTPUT: Final = 4_096
"""Up to so many tokens a model is taken to write whose longest answer is not known."""
_NAMES: Final[tuple[tuple[int, Misfit], ...]] = (
    (TOOLS, "tools"),
    (VISION, "vision"),
    (JSON_SCHEMA, "json_schema"),
)


def fit_of(card: Card, needs: Needs, unknown: Unknown) -> Misfit | Literal["", "unsure"]:
    """``""`` where the target can serve the request, ``unsure`` where it may, else why it cannot.

    Sizes are compared with an estimate, which is wrong by some: only what is over by more than a quarter cannot be
    served; between the two it may.
    """
    lacks = card.lacks
    if lacks:
        missing = lacks & needs.plain
        if lacks & VISION and needs.images:
            missing |= VISION
        if missing:
            return next(name for bit, name in _NAMES if missing & bit)
    unsure = unknown != "allow" and _is_unsaid(card, needs)
    if unsure and unknown == "drop":
        return "unknown"
    output = needs.output_tokens or 0
    if output > card.longest:
        return OUTPUT
    # No token is shorter than a byte, so that most requests are never counted.
    if needs.prompt_bytes + output > card.window:
        total = needs.prompt_tokens + output
        if total * 4 > card.window * 5:
            return CONTEXT
        unsure = unsure or total > card.window
    return UNSURE if unsure else ""


def _is_unsaid(card: Card, needs: Needs) -> bool:
    """Whether the request needs something of which it is not known whether the target has it."""
    unsaid = card.unsaid
    if unsaid & needs.plain or (unsaid & VISION and needs.images):
        return True
    output = needs.output_tokens or 0
    if card.longest == NO_LIMIT and output > ANY_OUTPUT:
        return True
    return (
        card.window == NO_LIMIT
        and needs.prompt_bytes + output > ANY_WINDOW
        and needs.prompt_tokens + output > ANY_WINDOW
    )
