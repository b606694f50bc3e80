"""Which targets an exchange will try, and in which order: ``on_route``, a fold over what could serve."""

from __future__ import annotations

from collections.abc import Sequence

from .compiler import ComponentFailed
from .errors import Refusal
from .exchange import Exchange, Target
from .records import UNBOUNDED
from .streams import component_refusal, refusal_of
from .verdicts import Deny

__all__ = ["check_allowed", "routed"]


async def routed(exchange: Exchange) -> tuple[Target, ...]:
    """The targets to try, in order: the candidates, folded through ``on_route``, within the bounds.

    Raises:
        Refusal: there is none, or a component refused.
    """
    steps = exchange.plan.on_route
    check_allowed(exchange)
    targets: Sequence[Target] = exchange.candidates
    if not steps:
        if not targets:
            raise _unknown(exchange)
        return targets  # type: ignore[return-value]
    for step in steps:
        try:
            result = await step.call(exchange, targets)
        except ComponentFailed as failed:
            if step.allow:
                continue
            raise component_refusal(failed) from failed
        if isinstance(result, Deny):
            raise refusal_of(result, step.name)
        if result is not None:
            targets = result
    bounds = exchange.bounds
    kept = tuple(targets if bounds is UNBOUNDED else [one for one in targets if bounds.admit(one)])
    if not kept:
        raise _nothing_left(exchange, targets)
    return kept


def check_allowed(exchange: Exchange) -> None:
    """Refuses what the credential's own lists of models and operations do not hold.

    Raises:
        Refusal: 403.
    """
    principal = exchange.principal
    if principal is None:
        return
    if not principal.may_use(exchange.request.model):
        raise Refusal(
            403, "model_not_allowed", "This credential may not use this model.", param="model", headers=((b"x-should-retry", b"false"),),
        )  # fmt: skip
    if principal.operations is not None and exchange.operation not in principal.operations:
        raise Refusal(
            403, "operation_not_allowed", "This credential may not use this operation.", headers=((b"x-should-retry", b"false"),),
        )  # fmt: skip


def _nothing_left(exchange: Exchange, targets: Sequence[Target]) -> Refusal:
    if not targets and not exchange.drops and not exchange.candidates:
        return _unknown(exchange)
    name, reason, status = exchange.drops[-1] if exchange.drops else ("", "no target left", 503)
    return Refusal(
        status, "no_target", "No model is available for this request at the moment.",
        type="server_error" if status >= 500 else "invalid_request_error", reason=f"{name}: {reason}",
    )  # fmt: skip


def _unknown(exchange: Exchange) -> Refusal:
    known = exchange.pipeline.catalogue.targets(exchange.request.model, exchange.operation)
    if exchange.bounds is UNBOUNDED or not known:
        return Refusal(
            404, "model_not_found", "The model does not exist or does not serve this operation.", param="model",
            headers=((b"x-should-retry", b"false"),),
        )  # fmt: skip
    return Refusal(
        403, "out_of_bounds", "Policy leaves no model for this request.", reason=f"bounds: {exchange.bounds}"
    )
