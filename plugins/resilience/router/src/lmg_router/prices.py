"""What one request costs at one target."""

from __future__ import annotations

from typing import Final

from lmg import Prices

__all__ = ["price_of"]

MILLION: Final = 1_000_000


def price_of(prices: Prices, input_tokens: int, output_tokens: int) -> int:
    """Nano-dollars, rounded up. A request over the threshold of a tier costs that tier's price as a whole."""
    for threshold, tier in prices.above:
        if input_tokens > threshold:
            prices = tier
    return -(-(input_tokens * prices.input + output_tokens * prices.output) // MILLION)
