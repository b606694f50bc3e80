"""A provider that answers with what it was sent: deterministic, offline, and told to misbehave."""

from .plugin import Echo

__all__ = ["Echo"]
