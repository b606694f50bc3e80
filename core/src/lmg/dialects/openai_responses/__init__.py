"""OpenAI Responses: the dialect, and its way into and out of the intermediate form.

Source: OpenAI API reference, "Create a model response", "The response object" and "Streaming events".
"""

from __future__ import annotations

from .dialect import OpenAIResponses

__all__ = ["OpenAIResponses"]
