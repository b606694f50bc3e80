"""What a deployment says about its model: prices and capabilities, for the service `catalogue`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from ..notes import Notes, Path
from .values import amount

__all__ = ["FACTS", "facts_of"]

_PRICES: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
}
_LIMITS: Final = {"max_input_tokens": "context_tokens", "max_output_tokens": "max_output_tokens"}
_FLAGS: Final = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
}
FACTS: Final = frozenset({*_PRICES, *_LIMITS, *_FLAGS, "base_model"})
"""The keys that are read here."""
_NANO: Final = Decimal("1e-9")


def facts_of(params: Mapping[str, Any], info: Mapping[str, Any], path: Path, notes: Notes) -> dict[str, Any]:
    """The entry of ``services.catalogue.models``; prices become US dollars per million tokens, exactly."""
    facts: dict[str, Any] = {}
    base = info.get("base_model") or params.get("base_model")
    if isinstance(base, str) and base:
        facts["same_as"] = base.rpartition("/")[2]
    prices = {}
    for place, given in (("model_info", info), ("litellm_params", params)):
        for name, price in _PRICES.items():
            if given.get(name) is None:
                continue
            usd = _per_million(given[name])
            if usd is None:
                notes.lost((*path, place, name), "it is no price", "state it under services.catalogue.models")
            else:
                prices[price] = usd
    if prices:
        facts["prices"] = prices
    for name, limit in _LIMITS.items():
        tokens = amount(info.get(name))
        if tokens is not None and tokens > 0 and tokens == tokens.to_integral_value():
            facts[limit] = int(tokens)
    facts |= {flag: info[name] for name, flag in _FLAGS.items() if isinstance(info.get(name), bool)}
    return facts


def _per_million(price: object) -> str | None:
    usd = amount(price)
    if usd is None or not 0 <= usd <= 1:
        return None
    # No price is finer than a nano-dollar per million tokens.
    return format((usd * 10**6).quantize(_NANO).normalize(), "f")
