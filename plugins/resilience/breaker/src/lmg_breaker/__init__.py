"""A circuit breaker for models."""

from .plugin import Breaker

__all__ = ["Breaker"]
