"""Keeps what belongs together at one of several targets of equal rank, so that the provider's prompt cache is hit.

Rendezvous hashing (Thaler and Ravishankar, 1998): each target draws a number from the request's key and its own, and
the order of the draws is the order of the targets. Every worker and replica comes to the same order without
talking to another, and a target that comes or goes moves no request but its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from lmg import Exchange
from lmg.jsontext import Json

from .cards import Card

__all__ = ["StickyKey", "draw_of", "sticky_key"]

StickyKey = Callable[[Exchange], bytes | None]
"""The key of a request; None where it has nothing to be recognised by."""

MAX_TEXT: Final = 4_096
"""Of each text, so many characters and the length tell it from another."""
_SPAN: Final = float(2**64)


def draw_of(key: bytes, card: Card) -> float:
    """A number in 0..1, the same for the same key and target everywhere."""
    digest = blake2b(key, digest_size=8, key=card.key).digest()
    return (int.from_bytes(digest, "big") + 0.5) / _SPAN


def sticky_key(setting: str) -> StickyKey | None:
    """What ``sticky: setting`` reads off a request; None for ``none``."""
    if setting == "none":
        return None
    kind, _, name = setting.partition(":")
    if kind == "header":
        header = name.lower().encode()
        return lambda exchange: _digest(exchange.head.get(header))
    return {"user": _user, "tenant": _tenant, "conversation": _conversation}[kind]


def _digest(*parts: str | bytes | None) -> bytes | None:
    """A short key of ``parts``; None where all are missing or empty."""
    if not any(parts):
        return None
    whole = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "replace") if isinstance(part, str) else part or b""
        whole.update(b"%d:" % len(data))  # so that no two lists of parts read alike
        whole.update(data)
    return whole.digest()


def _tenant(exchange: Exchange) -> bytes | None:
    principal = exchange.principal
    return _digest(principal.tenant) if principal is not None else None


def _user(exchange: Exchange) -> bytes | None:
    value, principal = _sent(exchange), exchange.principal
    metadata = value.get("metadata")
    stated = (
        _text(value.get("user"))
        or _text(value.get("safety_identifier"))
        or (_text(metadata.get("user_id")) if type(metadata) is dict else "")
        or (principal.subject if principal is not None else "")
    )
    return _digest(stated, principal.tenant if principal is not None else "") if stated else None


def _conversation(exchange: Exchange) -> bytes | None:
    """The conversation's name where the client gives one, else how it began: system prompt and first message.

    ``previous_response_id`` comes after the names that stay the same from turn to turn, which it does not.
    """
    value = _sent(exchange)
    conversation = value.get("conversation")
    if type(conversation) is dict:
        conversation = conversation.get("id")
    named = (
        _text(value.get("prompt_cache_key"))
        or _text(conversation)
        or _text(value.get("previous_response_id"))
    )
    return _digest(named) if named else _digest(*_opening(value))


def _sent(exchange: Exchange) -> dict[str, Json]:
    # As the client sent it: what a guard masks may be masked otherwise the next time.
    value = exchange.request.sent.value
    return value if type(value) is dict else {}


def _text(value: Json) -> str:
    return value if type(value) is str else ""


def _opening(value: dict[str, Json]) -> Iterator[str]:
    for key in ("system", "instructions"):
        yield from _texts(value.get(key))
    items = value.get("messages") or value.get("input")
    if type(items) is not list:
        yield from _texts(items)
        return
    for item in items:
        if type(item) is not dict:
            continue
        yield from _texts(item.get("content"))
        if item.get("role") == "user":
            return


def _texts(content: Json) -> Iterator[str]:
    if type(content) is str and content:
        yield content if len(content) <= MAX_TEXT else f"{len(content)}:{content[:MAX_TEXT]}"
    elif type(content) is list:
        for part in content:
            if type(part) is dict and type(part.get("text")) is str:
                yield from _texts(part["text"])
