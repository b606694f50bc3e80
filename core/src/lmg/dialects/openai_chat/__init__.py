"""OpenAI chat completions: the dialect, and its way into and out of the intermediate form.

Source: OpenAI API reference, "Create chat completion" and "The chat completion chunk object".
"""

from __future__ import annotations

from .dialect import CompatibleChat, OpenAIChat

__all__ = ["CompatibleChat", "OpenAIChat"]
