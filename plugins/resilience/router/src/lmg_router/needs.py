"""What one chat request needs of a model, in whatever dialect it came.

The fields are those of the OpenAI API reference ("Create chat completion", "Create a model response") and of the
Claude API reference ("Create a Message"). None of them means something else in another of the three, so that one
reading serves all, and a dialect that comes later too.
"""

from __future__ import annotations

from typing import Final

from lmg import Exchange
from lmg.jsontext import Json

__all__ = ["JSON_SCHEMA", "TOOLS", "VISION", "Needs"]

TOOLS: Final = 1
VISION: Final = 2
JSON_SCHEMA: Final = 4

_IMAGES: Final = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
_CAPS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_ASKING: Final = frozenset(
    {"functions", "output_config", "output_format", "response_format", "text", "tools"}
)
_FORMATS: Final = ("response_format", "output_format")
_HOLDERS_OF_FORMAT: Final = ("text", "output_config")
MAX_NESTED: Final = 4
"""A tool's result in a message is as deep as an image can stand."""


class Needs:
    """Read once per request; what costs to find out is found out when it is asked for.

    ``plain`` is the set of needs (as bits) that can be read off at once: tools and a JSON schema. ``output_tokens``
    is the longest answer that is asked for, and allowed by policy; None where nobody has said.
    """

    __slots__ = ("_exchange", "_images", "_prompt_tokens", "_value", "output_tokens", "plain", "prompt_bytes")

    def __init__(self, exchange: Exchange) -> None:
        value = exchange.request.body.value
        self._exchange = exchange
        self._value: dict[str, Json] = value if type(value) is dict else {}
        self._images: bool | None = None
        self._prompt_tokens: int | None = None
        self.prompt_bytes = len(exchange.raw_body)
        self.plain = 0 if _ASKING.isdisjoint(self._value) else _plain(self._value)
        self.output_tokens = _output(self._value, exchange.bounds.max_output_tokens)

    @property
    def images(self) -> bool:
        """Whether a model has to see images."""
        if self._images is None:
            value = self._value
            self._images = _holds_image(value.get("messages")) or _holds_image(value.get("input"))
        return self._images

    @property
    def prompt_tokens(self) -> int:
        """An estimate of the tokens of every text that the model will read."""
        if self._prompt_tokens is None:
            request = self._exchange.request
            count, model = self._exchange.host.tokenizer.estimate, request.model
            self._prompt_tokens = sum(count(segment.text, model) for segment in request.segments())
        return self._prompt_tokens


def _plain(value: dict[str, Json]) -> int:
    needs = 0
    if value.get("tools") or value.get("functions"):
        needs = TOOLS
    for key in _FORMATS:
        stated = value.get(key)
        if stated is not None and _is_schema(stated):
            return needs | JSON_SCHEMA
    for key in _HOLDERS_OF_FORMAT:
        stated = value.get(key)
        if type(stated) is dict and _is_schema(stated.get("format")):
            return needs | JSON_SCHEMA
    return needs


def _is_schema(stated: Json) -> bool:
    return type(stated) is dict and stated.get("type") == "json_schema"


def _output(value: dict[str, Json], cap: int | None) -> int | None:
    """The answer's length as the kernel will send it: what was asked for, or the cap of policy where that is less."""
    for key in _CAPS:
        asked = value.get(key)
        if type(asked) is int and asked >= 0:
            return asked if cap is None else min(asked, cap)
    return cap


def _holds_image(items: Json, depth: int = 0) -> bool:
    """Whether a list of messages, items or parts has an image in it, or in what its members hold."""
    if type(items) is dict:
        items = [items]
    if type(items) is not list:
        return False
    for item in items:
        if type(item) is not dict:
            continue
        kind = item.get("type")
        if type(kind) is str and kind in _IMAGES:
            return True
        for key in ("content", "output"):
            inner = item.get(key)
            # Most contents are plain texts, and most requests hold no image: only lists and objects are looked into.
            if type(inner) in (list, dict) and depth < MAX_NESTED and _holds_image(inner, depth + 1):
                return True
    return False
