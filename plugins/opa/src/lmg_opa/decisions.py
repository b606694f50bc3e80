"""What one answer of a policy comes to: let through with obligations, or refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lmg import Deny

from .engine import Ruling, Undecided
from .obligations import NONE, ObligationFault, Obligations, read

__all__ = ["TOO_LARGE", "Decision", "decision_of", "policy_denied", "unavailable"]

MAX_REASONS: Final = 16
DENIED: Final = "policy_denied"
_REASON: Final = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
_MESSAGE: Final = "The request was refused by policy."

TOO_LARGE: Final = Deny(
    413, "policy_input_too_large", "The request is too large to be put before its policy.", "the input exceeds its bound"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """A ruling, read. ``deny`` is None where the caller is let through."""

    ruling: Ruling
    obligations: Obligations = NONE
    deny: Deny | None = None


def decision_of(ruling: Ruling, *, show_reasons: bool) -> Decision:
    """What ``ruling`` comes to. Obligations that cannot be read make a refusal of it."""
    if not ruling.allow:
        return Decision(ruling, deny=policy_denied(_codes(ruling.reasons), show=show_reasons))
    try:
        return Decision(ruling, read(ruling.obligations))
    except ObligationFault as fault:
        return Decision(ruling, deny=policy_denied([str(fault)]))


def policy_denied(reasons: list[str], *, show: bool = False) -> Deny:
    """The refusal of a policy. ``reasons`` are for the operator, and for the caller where ``show`` says so."""
    message = f"{_MESSAGE} Reasons: {', '.join(reasons)}." if show and reasons else _MESSAGE
    return Deny(403, DENIED, message, ", ".join(reasons) or "allow is not true")


def unavailable(undecided: Undecided) -> Deny:
    """The refusal where a policy gave no answer: nobody passes because nobody could be asked."""
    return Deny(
        503, "policy_unavailable", "The gateway could not complete a required check. Please retry.",
        reason=f"{undecided.code}: {undecided}", type="server_error",
    )  # fmt: skip


def _codes(reasons: tuple[str, ...]) -> list[str]:
    """The reasons that have a code's shape: a policy may have repeated a caller's text in one."""
    return [code for code in reasons if _REASON.fullmatch(code)][:MAX_REASONS]
