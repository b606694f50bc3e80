"""The Gemini API as a provider."""

from .plugin import Gemini
from .wire import GeminiWire

__all__ = ["Gemini", "GeminiWire"]
