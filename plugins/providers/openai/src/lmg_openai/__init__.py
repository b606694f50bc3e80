"""The OpenAI API as a provider."""

from .plugin import OpenAI

__all__ = ["OpenAI"]
