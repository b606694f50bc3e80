"""Limits on requests, tokens and concurrency that hold."""

from .config import LimitConfig, QueueConfig, RateLimitConfig, WeightedTokens
from .plugin import RateLimit

__all__ = ["LimitConfig", "QueueConfig", "RateLimit", "RateLimitConfig", "WeightedTokens"]
