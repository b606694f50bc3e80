"""Answers that were given before: the components `cache` and `idempotency`."""

from .idempotency import Idempotency
from .plugin import Cache

__all__ = ["Cache", "Idempotency"]
