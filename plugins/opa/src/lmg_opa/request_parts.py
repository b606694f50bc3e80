"""What a policy is shown of a request: identifiers, numbers and flags, in one form for every dialect.

A part that the request does not have is left out, never null: in Rego null is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lmg.admin import AdminRequest

if TYPE_CHECKING:
    from lmg import Exchange, Segment
    from lmg.jsontext import Json

__all__ = ["OF_THE_HEAD", "REQUEST", "Look", "Part"]

PARAMETERS: Final = frozenset(
    {
        "temperature", "top_p", "top_k", "n", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs",
        "store", "parallel_tool_calls", "dimensions", "background", "min_p", "best_of", "echo",
    }
)  # fmt: skip
CAPS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Where dialects state the longest answer; whichever is the largest is shown."""
INVALID: Final = "invalid"
"""Stands where a number belongs and something else was sent: Rego orders text above every number, so no limit is met."""
_IMAGES: Final = frozenset({"image_url", "input_image", "image", "b64_json"})
_MODES: Final = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


class Look:
    """One exchange while its input is built; its texts are walked once, and only if somebody asks."""

    __slots__ = ("_segments", "body", "exchange", "headers", "model", "text")

    def __init__(self, exchange: Exchange, headers: tuple[tuple[str, bytes], ...], text: bool) -> None:
        self.exchange = exchange
        self.headers = headers
        self.text = text
        request = exchange.request
        self.body: Any = request.body.value if request is not None else None
        self.model = request.model if request is not None else ""
        self._segments: list[Segment] | None = None

    @property
    def segments(self) -> list[Segment]:
        """Every text that the model will read."""
        found = self._segments
        if found is None:
            found = self._segments = list(self.exchange.request.segments())
        return found


Part = Callable[[Look], "Json"]


def _model(look: Look) -> Json:
    return look.model if look.body is not None else None


def _dialect(look: Look) -> Json:
    return look.exchange.dialect.name if look.exchange.fact("admin") is None else None


def _operation(look: Look) -> Json:
    return "admin" if isinstance(look.exchange.fact("admin"), AdminRequest) else look.exchange.operation


def _stream(look: Look) -> Json:
    return look.exchange.request.stream if look.body is not None else None


def _parameters(look: Look) -> Json:
    body = look.body
    if body is None:
        return None
    found: dict[str, Json] = {}
    for name, value in body.items():
        if name in PARAMETERS and value is not None:
            found[name] = value if type(value) in (int, float, bool) else INVALID
    caps = [value for name in CAPS if (value := body.get(name)) is not None]
    if caps:
        sane = all(type(cap) in (int, float) for cap in caps)
        found["max_output_tokens"] = max(caps) if sane else INVALID
    return found


def _tools(look: Look) -> Json:
    body = look.body
    if body is None:
        return None
    names: list[Json] = []
    for key in ("tools", "functions"):
        listed = body.get(key)
        if type(listed) is list:
            names.extend(_tool_name(tool) for tool in listed)
    return names


def _tool_name(tool: Json) -> str:
    """A function's name; of a tool that the provider hosts, its type."""
    if type(tool) is not dict:
        return INVALID
    for key in ("function", "custom"):
        inner = tool.get(key)
        if type(inner) is dict:
            tool = inner
            break
    for key in ("name", "type"):
        name = tool.get(key)
        if type(name) is str:
            return name
    return INVALID


def _tool_choice(look: Look) -> Json:
    if look.body is None:
        return None
    stated = look.body.get("tool_choice", look.body.get("function_call"))
    if stated is None:
        return None
    if type(stated) is str:
        return {"mode": _MODES.get(stated, INVALID)}
    if type(stated) is not dict:
        return {"mode": INVALID}
    mode = _MODES.get(str(stated.get("type", "")))
    if mode is not None:
        return {"mode": mode}
    if stated.get("type") == "allowed_tools":
        return {"mode": "allowed_tools"}
    return {"mode": "named", "name": _tool_name(stated)}


def _token_estimate(look: Look) -> Json:
    if look.body is None:
        return None
    count, model = look.exchange.host.tokenizer.estimate, look.model
    return sum(count(segment.text, model) for segment in look.segments if segment.text)


def _segments(look: Look) -> Json:
    if look.body is None:
        return None
    shown: list[Json] = []
    for segment in look.segments:
        text = segment.text
        item: dict[str, Json] = {
            "role": segment.role,
            "bytes": len(text) if text.isascii() else len(text.encode()),
            "format": segment.format,
        }
        if look.text and segment.format != "opaque":
            item["text"] = text
        shown.append(item)
    return shown


def _has_images(look: Look) -> Json:
    if look.body is None:
        return None
    return any(_is_image(look.body, segment) for segment in look.segments)


def _has_opaque(look: Look) -> Json:
    if look.body is None:
        return None
    return any(segment.format == "opaque" for segment in look.segments)


def _is_image(body: Json, segment: Segment) -> bool:
    if segment.format != "opaque":
        return False
    if segment.path and segment.path[-1] in _IMAGES:
        return True
    holder: Any = body  # an Anthropic source tells in the block that holds it whether it is an image
    for key in segment.path[:-1]:
        holder = holder[key]
    return type(holder) is dict and holder.get("type") == "image"


def _headers(look: Look) -> Json:
    head = look.exchange.head
    shown: dict[str, Json] = {}
    for name, key in look.headers:
        values = head.all(key)
        if values:
            shown[name] = b", ".join(values).decode("latin-1")
    return shown


REQUEST: Final[Mapping[str, Part]] = {
    "model": _model,
    "dialect": _dialect,
    "operation": _operation,
    "stream": _stream,
    "parameters": _parameters,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "token_estimate": _token_estimate,
    "segments": _segments,
    "has_images": _has_images,
    "has_opaque": _has_opaque,
    "headers": _headers,
}
OF_THE_HEAD: Final = frozenset({"dialect", "operation", "headers"})
"""Known before the body has been read."""
