"""What a caller is told whose request no target can serve: what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from lmg import Deny, Target

from .fit import CONTEXT, OUTPUT, Misfit
from .needs import Needs

__all__ = ["STATUSES", "Dropped", "Reason", "refusal"]

Reason = Misfit | Literal["on_prem", "residency"]
Dropped = Sequence[tuple[Target, Reason]]

STATUSES: Final[dict[Reason, int]] = {
    "context_length": 400,
    "max_output_tokens": 400,
    "tools": 400,
    "vision": 400,
    "json_schema": 400,
    "unknown": 400,
    "on_prem": 400,
    "residency": 403,
}
"""Why a target is left out, to the status of a refusal for that; what a caller can change stands first."""

MAX_SHOWN: Final = 16
_NO_RETRY: Final = ((b"x-should-retry", b"false"),)
_NEEDS: Final[dict[Reason, tuple[str, str | None]]] = {
    "tools": ("calls tools", "tools"),
    "vision": ("sees images", None),
    "json_schema": ("can be held to a JSON schema", None),
    "unknown": ("is known to do what this request needs", None),
}


def refusal(dropped: Dropped, needs: Needs) -> Deny:
    """The refusal of a request that none of the ``dropped`` targets serves (there is at least one).

    Of several reasons the one counts that the caller can do most about: a shorter prompt before another model,
    another model before a policy.
    """
    reasons = {reason for _, reason in dropped}
    reason = next(reason for reason in STATUSES if reason in reasons)
    told = "; ".join(f"{target.name}: {why}" for target, why in dropped[:MAX_SHOWN])
    code, message, param = _text_of(reason, dropped, needs)
    return Deny(STATUSES[reason], code, message, told, param=param, headers=_NO_RETRY)


def _text_of(reason: Reason, dropped: Dropped, needs: Needs) -> tuple[str, str, str | None]:
    # "maximum context length" and "prompt is too long" are what SDKs and frameworks look for in a message.
    targets = [target for target, why in dropped if why == reason]
    if reason == CONTEXT:
        window = max(target.capabilities.context_tokens or 0 for target in targets)
        output = f" and {needs.output_tokens} for the answer" if needs.output_tokens else ""
        message = (
            f"The prompt is too long: this model's maximum context length is {window} tokens, and the request "
            f"needs about {needs.prompt_tokens} for the prompt{output}."
        )
        return "context_length_exceeded", message, None
    if reason == OUTPUT:
        longest = max(target.capabilities.max_output_tokens or 0 for target in targets)
        message = f"This model writes at most {longest} tokens, and {needs.output_tokens} were asked for."
        return "max_output_tokens_exceeded", message, None
    if reason == "on_prem":
        return (
            "no_on_prem_target",
            "No model that runs on the operator's own premises serves this request.",
            "routing_hint",
        )
    if reason == "residency":
        return (
            "residency",
            "No model in a region that is allowed for this tenant serves this request.",
            None,
        )
    ability, param = _NEEDS[reason]
    return "capability_unavailable", f"No model that serves this request {ability}.", param
