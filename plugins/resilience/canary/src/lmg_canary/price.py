"""What an answer cost, and what one may cost before it is there, by the catalogue's prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmg import Exchange, Prices, Target, Usage

__all__ = ["cost_of", "upper_bound"]

MILLION: Final = 1_000_000
OPAQUE_TOKENS: Final = 4096
"""What an image, a sound or a file is taken to be, of which nothing is known before the upstream has counted it."""
_CAPS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def cost_of(prices: Prices, usage: Usage) -> int:
    """Nano-dollars, rounded up. A request over the threshold of a tier costs that tier's prices as a whole."""
    if prices.above:
        prices = _tier(prices, usage.input_tokens)
    read, written = usage.cached_tokens, usage.cache_write_tokens
    plain = max(0, usage.input_tokens - read - written)
    spent = plain * prices.input + usage.output_tokens * prices.output
    spent += read * (prices.input if prices.cache_read is None else prices.cache_read)
    spent += written * (prices.input if prices.cache_write is None else prices.cache_write)
    return -(-spent // MILLION)


def upper_bound(exchange: Exchange, target: Target, prices: Prices, assumed_output_tokens: int) -> int:
    """Nano-dollars that ``target`` may cost for this request: every input token dear, the answer as long as may be."""
    count = exchange.host.tokenizer.upper_bound
    model = target.upstream_model
    read = sum(
        OPAQUE_TOKENS if segment.format == "opaque" else count(segment.text, model)
        for segment in exchange.request.segments()
    )
    prices = _tier(prices, read)
    dearest = max(prices.input, prices.cache_write or 0)
    body = exchange.request.body.value
    written = _longest(body if isinstance(body, dict) else {}, exchange, target, assumed_output_tokens)
    return -(-(read * dearest + written * prices.output) // MILLION)


def _longest(body: Mapping[str, Any], exchange: Exchange, target: Target, assumed: int) -> int:
    """How long the answers may be: as the request caps them, else as assumed; in no case longer than bounds allow."""
    if exchange.operation != "chat":
        return 0
    asked = [cap for name in _CAPS if type(cap := body.get(name)) is int and cap >= 0]
    most = min(asked, default=assumed)
    for cap in (exchange.bounds.max_output_tokens, target.capabilities.max_output_tokens):
        most = most if cap is None else min(most, cap)
    choices = body.get("n")
    return most * (choices if type(choices) is int and choices > 1 else 1)


def _tier(prices: Prices, input_tokens: int) -> Prices:
    for threshold, tier in prices.above:
        if input_tokens > threshold:
            prices = tier
    return prices
