"""The Anthropic API as a provider."""

from .plugin import Anthropic

__all__ = ["Anthropic"]
