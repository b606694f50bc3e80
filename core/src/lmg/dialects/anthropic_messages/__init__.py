"""Anthropic messages: the dialect, and its way into and out of the intermediate form.

Source: Claude API reference, "Create a Message", "Streaming messages" and "Errors"; API versions 2023-06-01
and 2026-10-21.
"""

from __future__ import annotations

from .dialect import AnthropicMessages, wire_for

__all__ = ["AnthropicMessages", "wire_for"]
