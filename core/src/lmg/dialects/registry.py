"""Which dialect a path speaks."""

from __future__ import annotations

from typing import Final

from . import Dialect
from .anthropic_count_tokens import AnthropicCountTokens
from .anthropic_messages import AnthropicMessages
from .openai_audio import OpenAISpeech, OpenAITranscription, OpenAITranslation
from .openai_chat import OpenAIChat
from .openai_embeddings import OpenAIEmbeddings
from .openai_images import OpenAIImageEdits, OpenAIImages
from .openai_responses import OpenAIResponses
from .rerank import Rerank

__all__ = ["ANTHROPIC", "DIALECTS", "PLAIN", "dialect_for_errors"]

PLAIN: Final = OpenAIChat()
"""Whose errors a caller gets that speaks to no route of a model."""

ANTHROPIC: Final = AnthropicMessages()
"""Whose errors a caller gets that speaks the Anthropic API, on whatever path."""

DIALECTS: Final[dict[bytes, Dialect]] = {
    b"/v1/chat/completions": PLAIN,
    b"/v1/responses": OpenAIResponses(),
    b"/v1/embeddings": OpenAIEmbeddings(),
    b"/v1/rerank": Rerank(),
    b"/v1/images/generations": OpenAIImages(),
    b"/v1/images/edits": OpenAIImageEdits(),
    b"/v1/audio/speech": OpenAISpeech(),
    b"/v1/audio/transcriptions": OpenAITranscription(),
    b"/v1/audio/translations": OpenAITranslation(),
    b"/v1/messages": ANTHROPIC,
    b"/v1/messages/count_tokens": AnthropicCountTokens(),
}
"""Every route that reaches a model. Authentication belongs to the route's exchange, never to a path string."""


def dialect_for_errors(path: bytes) -> Dialect:
    """Whose error shape fits a request for ``path``, also where no route is there."""
    found = DIALECTS.get(path)
    if found is None and path.startswith(b"/v1/messages/"):
        return ANTHROPIC
    return found if found is not None else PLAIN
