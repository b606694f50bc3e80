"""Our own schemas, one for each dialect of the kernel."""

from __future__ import annotations

from typing import Final

from .anthropic import COUNT_TOKENS, MESSAGES
from .openai_chat import CHAT
from .openai_responses import RESPONSES
from .others import EMBEDDINGS, IMAGE_EDITS, IMAGES, RERANK, SPEECH, TRANSCRIPTION, TRANSLATION
from .shapes import Shape, schema_of

__all__ = ["SHAPES", "schema_of"]

SHAPES: Final[dict[str, Shape]] = {
    "openai.chat": CHAT,
    "openai.responses": RESPONSES,
    "openai.embeddings": EMBEDDINGS,
    "openai.images": IMAGES,
    "openai.image_edits": IMAGE_EDITS,
    "openai.speech": SPEECH,
    "openai.transcription": TRANSCRIPTION,
    "openai.translation": TRANSLATION,
    "anthropic.messages": MESSAGES,
    "anthropic.count_tokens": COUNT_TOKENS,
    "rerank": RERANK,
}
"""By the dialect's name."""
