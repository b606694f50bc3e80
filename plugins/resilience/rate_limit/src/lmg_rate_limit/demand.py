"""How many tokens a request may come to use: an upper bound of its input, and the cap of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmg.services.embedded import EstimatingTokenizer

if TYPE_CHECKING:
    from lmg import Exchange
    from lmg.jsontext import Json

__all__ = ["choices_of", "input_tokens", "longest_answer", "stated_cap"]

SHORT_BYTES: Final = 2048
"""Up to here a body's bytes are the bound: it is not worth a walk through its texts."""
BYTES_PER_TOKEN: Final = 4
FRAME: Final = 8
"""Tokens that a text has around it: its role, its ends, and the name of what it is."""
_TYPED: Final = b'"type"'
_UNREAD: Final = (b"image", b"audio", b"file", b"document", b"source", b"encrypted")
"""One of these is in every body that holds, or points to, an image, a sound or a file."""
_CAPS: Final = {
    "openai.chat": ("max_completion_tokens", "max_tokens"),
    "openai.responses": ("max_output_tokens",),
    "anthropic.messages": ("max_tokens",),
}
"""Where a dialect states the longest answer. In any other field it is not what the upstream keeps to."""


def input_tokens(exchange: Exchange, *, upper: bool, opaque: int) -> int:
    """What the request's input is at most, or (not ``upper``) probably; ``opaque`` for each image, sound or file."""
    request, tokenizer = exchange.request, exchange.host.tokenizer
    body = request.body
    raw = body.raw
    # No token is shorter than a byte, and what JSON has around a text is longer than what models have around it.
    if (
        len(raw) <= SHORT_BYTES
        and not body.edited
        and type(tokenizer) is EstimatingTokenizer
        and _all_text(raw, exchange.operation)
    ):
        return len(raw) if upper else -(-len(raw) // BYTES_PER_TOKEN)
    model = request.model
    count = tokenizer.upper_bound if upper else tokenizer.estimate
    total = 0
    for segment in request.segments():
        if segment.format != "opaque":
            total += count(segment.text, model) + FRAME
        else:
            total += _unread(body.get(*segment.path), opaque)
    return total


def _unread(value: Json, opaque: int) -> int:
    """What cannot be read: a text as token ids is as long as it is, whatever else counts for one or each of a list."""
    if type(value) is not list:
        return opaque
    return len(value) if value and type(value[0]) is int else len(value) * opaque


def _all_text(raw: bytes, operation: str) -> bool:
    """Whether the body neither holds nor points to what is more tokens than bytes; the cheapest sure sign decides."""
    if (
        operation == "chat" and _TYPED not in raw
    ):  # every part of a message that is not plain text states its type
        return True
    return not any(word in raw for word in _UNREAD)


def stated_cap(exchange: Exchange) -> int | None:
    """The longest answer that the client asks for; the larger of two."""
    value: Any = exchange.request.body.value
    found = None
    for name in _CAPS.get(exchange.dialect.name, ()):
        cap = value.get(name)
        if type(cap) is int and (found is None or cap > found):
            found = max(cap, 0)
    return found


def choices_of(exchange: Exchange) -> int:
    """How many answers are asked for at once."""
    count: Any = exchange.request.body.get("n")
    return count if type(count) is int and count > 1 else 1


def longest_answer(exchange: Exchange, default: int) -> int:
    """``default``, or less where every model that could answer is known to write less at most."""
    longest = 0.0
    for target in exchange.candidates:
        known = target.capabilities.max_output_tokens
        if known is None or known >= default:
            return default
        if known > longest:
            longest = known
    return int(longest) or default
