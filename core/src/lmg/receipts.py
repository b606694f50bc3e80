"""The receipt of an exchange: made once, when nothing more will be spent, and handed to the ledger."""

from __future__ import annotations

import logging
import time

from .errors import MeshError
from .exchange import Exchange, Receipt
from .records import Tried

__all__ = ["record_receipt"]

log = logging.getLogger("lmg")


def record_receipt(exchange: Exchange) -> None:
    """Puts the receipt on ``exchange`` and records it; what repeats an earlier exchange has none of its own."""
    host = exchange.host
    receipt = exchange.receipt = _receipt_of(exchange)
    if exchange.replay_of:
        return
    try:
        host.ledger.record(receipt)
    except MeshError as error:
        host.component_errors.inc(("ledger", "record"))
        log.error("receipt_not_recorded exchange=%s error=%s", exchange.id, type(error).__name__)


def _receipt_of(exchange: Exchange) -> Receipt:
    attempts = exchange.attempts
    target = attempts[-1].target if attempts else None
    principal = exchange.principal
    usage = exchange.usage
    cost = exchange.fact("cost")
    first = exchange.first_token_at
    parent = exchange.parent
    return Receipt(
        exchange.id, exchange.host.clock.now(), principal.tenant if principal else "", principal.subject if principal else "",
        exchange.operation, exchange.dialect.name, target.model if target else "", target.provider if target else "",
        exchange.status, exchange.ended, exchange.code, len(attempts), usage.input_tokens, usage.output_tokens, usage.cached_tokens,
        usage.reasoning_tokens, usage.estimated, cost if isinstance(cost, int) else None,
        exchange.request is not None and exchange.request.stream, (first - exchange.started) * 1000 if first is not None else None,
        (time.monotonic() - exchange.started) * 1000, "replay" if exchange.replay_of else exchange.purpose,
        parent.id if parent is not None else exchange.replay_of,
        tuple([
            Tried(attempt.target.name, outcome.kind, outcome.http_status, outcome.duration_s * 1000)
            for attempt in attempts
            if (outcome := attempt.outcome) is not None
        ]),
        exchange.tags,
    )  # fmt: skip
