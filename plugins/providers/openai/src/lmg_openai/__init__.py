"""The OpenAI API as a provider: at OpenAI, and at Azure."""

from .azure import Azure
from .plugin import OpenAI

__all__ = ["Azure", "OpenAI"]
