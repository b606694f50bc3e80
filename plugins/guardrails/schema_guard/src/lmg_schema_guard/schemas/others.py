"""What embeddings, rerank, images, speech and transcription take.

Sources: OpenAI API reference, "Create embeddings", "Create image", "Create image edit", "Create speech", "Create
transcription", "Create translation"; Cohere and Jina API references, "Rerank". A form's values are texts: a number in one
is written in digits.
"""

from __future__ import annotations

from typing import Final

from .shapes import ANY, BOOL, OBJECT, STR, Shape, arr, choice, integer, number, obj, text_or

__all__ = ["EMBEDDINGS", "IMAGES", "IMAGE_EDITS", "RERANK", "SPEECH", "TRANSCRIPTION", "TRANSLATION"]

EMBEDDINGS: Final = obj(
    "model input",
    model=STR,
    input={
        "type": ["string", "array"],
        "minLength": 1,
        "minItems": 1,
        "items": {"type": ["string", "integer", "array", "object"], "minimum": 0, "items": {"type": "integer", "minimum": 0}},
    },
    dimensions=integer(1),
    encoding_format=choice("float", "base64"),
    user=STR,
    input_type=STR,
    truncate={"type": ["string", "boolean"]},
    routing_hint=ANY,
)  # fmt: skip

RERANK: Final = obj(
    "model query documents",
    model=STR,
    query={"type": ["string", "object"]},
    documents={"type": "array", "minItems": 1, "items": {"type": ["string", "object"]}},
    top_n=integer(1),
    return_documents=BOOL,
    max_tokens_per_doc=integer(1),
    max_chunks_per_doc=integer(1),
    rank_fields=arr(STR),
    truncation=ANY,
    truncate=ANY,
    truncate_prompt_tokens=integer(),
    priority=integer(),
    user=STR,
    routing_hint=ANY,
)


def _digits(least: int) -> Shape:
    return {"type": ["integer", "string"], "minimum": least, "pattern": "^[0-9]{1,9}$"}


_FLAG: Final[Shape] = {"type": ["boolean", "string"]}
_FILES: Final[Shape] = {"type": ["object", "array", "string"], "items": {"type": ["object", "string"]}}
_PICTURE: Final[dict[str, Shape]] = {
    "model": STR,
    "prompt": STR,
    "background": choice("transparent", "opaque", "auto"),
    "moderation": choice("low", "auto"),
    "n": _digits(1),
    "output_compression": {**_digits(0), "maximum": 100},
    "output_format": choice("png", "jpeg", "webp"),
    "partial_images": {**_digits(0), "maximum": 3},
    "quality": choice("auto", "low", "medium", "high", "standard", "hd"),
    "response_format": choice("url", "b64_json"),
    "size": STR,
    "stream": _FLAG,
    "style": choice("vivid", "natural"),
    "user": STR,
    "routing_hint": ANY,
}
IMAGES: Final = obj("model prompt", **_PICTURE)
IMAGE_EDITS: Final = obj(
    "model prompt",
    **_PICTURE,
    **{"image": _FILES, "image[]": _FILES, "images": arr(ANY), "mask": _FILES, "mask[]": _FILES},
    input_fidelity=choice("low", "high"),
)

SPEECH: Final = obj(
    "model input",
    model=STR,
    input=STR,
    voice={"type": ["string", "object"]},
    instructions=STR,
    response_format=choice("mp3", "opus", "aac", "flac", "wav", "pcm"),
    speed=number(0.25, 4),
    stream_format=choice("sse", "audio"),
    stream=_FLAG,
    routing_hint=ANY,
)

_DECIMAL: Final[Shape] = {
    "type": ["number", "string"],
    "minimum": 0,
    "maximum": 1,
    "pattern": r"^(?:0(?:\.[0-9]{1,18})?|1(?:\.0{1,18})?|\.[0-9]{1,18})$",
}
_SOUND: Final[dict[str, Shape]] = {
    "model": STR,
    "file": OBJECT,
    "file_url": STR,
    "url": STR,
    "prompt": STR,
    "response_format": choice("json", "text", "srt", "verbose_json", "vtt", "diarized_json"),
    "temperature": _DECIMAL,
    "stream": _FLAG,
    "routing_hint": ANY,
}
TRANSLATION: Final = obj("model", **_SOUND)
TRANSCRIPTION: Final = obj(
    "model",
    **_SOUND,
    **{
        "language": STR, "languages[]": text_or(STR), "timestamp_granularities[]": text_or(choice("word", "segment")),
        "include[]": text_or(STR), "chunking_strategy": {"type": ["string", "object"]}, "chunking_strategy[type]": STR,
        "chunking_strategy[threshold]": STR, "chunking_strategy[prefix_padding_ms]": STR,
        "chunking_strategy[silence_duration_ms]": STR, "known_speaker_names[]": text_or(STR),
        "known_speaker_references[]": text_or(STR),
    },
)  # fmt: skip
