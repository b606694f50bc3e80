"""OpenAI chat completions.

Source: OpenAI API reference, "Create chat completion" and "The chat completion chunk object".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

import orjson

from ...errors import Refusal
from ...jsontext import Json, JsonPath, JsonText
from ...records import Usage
from ...segments import Role, Segment, walk_text
from ...sse import SseEvent, encode_event
from .. import Delta, EventKind, StreamEvent
from ..form import Chat, Completion
from ..openai_errors import error_body
from ..wire import Codec, EventDecoder, EventEncoder, Fault, Support
from .answer import decode_answer, decode_usage, encode_answer, fault
from .encode import encode_request
from .events import ChatDecoder, ChatEncoder
from .request import SUPPORT, decode_request

__all__ = ["CompatibleChat", "OpenAIChat"]

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Settings whose strings are enumerations or identifiers, not text for a model.
_SETTINGS: Final = frozenset(
    {
        "model",
        "reasoning_effort",
        "service_tier",
        "verbosity",
        "modalities",
        "store",
        "prompt_cache_key",
        "safety_identifier",
    }
)
_DONE: Final = b"[DONE]"
_FINISHED: Final = re.compile(rb'"finish_reason"\s*:\s*"')


class OpenAIChat(Codec):
    """``POST /v1/chat/completions``."""

    name = "openai.chat"
    operation = "chat"
    support = SUPPORT
    resumable = True
    output_cap: ClassVar[str] = "max_completion_tokens"
    """The field that caps the answer where a translated request carries a cap."""

    # -- translation --------------------------------------------------------------------------
    def decode_request(self, value: Json) -> Chat:
        return decode_request(value)

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        return encode_request(chat, self.output_cap, self.support)

    def decode_answer(self, value: Json) -> Completion:
        return decode_answer(value)

    def encode_answer(self, completion: Completion) -> dict[str, Any]:
        return encode_answer(completion)

    def decoder(self) -> EventDecoder:
        return ChatDecoder()

    def encoder(self) -> EventEncoder:
        return ChatEncoder()

    def fault(self, status: int, body: bytes) -> Fault:
        return fault(status, body)

    # -- requests ---------------------------------------------------------------------------
    def check(self, value: Json) -> None:
        if type(value) is not dict:
            raise _bad("The body must be a JSON object.", None)
        model = value.get("model")
        if type(model) is not str or not model:
            raise _bad("'model' must be a non-empty string.", "model")
        if len(model) > 256:
            raise _bad("'model' is longer than 256 characters.", "model")
        messages = value.get("messages")
        if type(messages) is not list or not messages:
            raise _bad("'messages' must be a non-empty array.", "messages")
        for n, message in enumerate(messages):
            if type(message) is not dict:
                raise _bad(f"'messages[{n}]' must be an object.", f"messages[{n}]")
            if type(message.get("role")) is not str:
                raise _bad(f"'messages[{n}].role' must be a string.", f"messages[{n}].role")
        if type(value.get("stream")) not in (bool, type(None)):
            raise _bad("'stream' must be a boolean.", "stream")

    def wants_stream(self, value: Json) -> bool:
        return type(value) is dict and value.get("stream") is True

    def request_segments(self, value: Json) -> Iterator[Segment]:
        if type(value) is not dict:
            return
        for key, item in value.items():
            if key == "messages" and type(item) is list:
                for n, message in enumerate(item):
                    role = (
                        _ROLES.get(str(message.get("role")), "unknown")
                        if type(message) is dict
                        else "unknown"
                    )
                    yield from walk_text(message, ("messages", n), role)
            elif key in ("tools", "functions", "response_format"):
                yield from walk_text(item, (key,), "tool_definition")
            elif key not in _SETTINGS:
                yield from walk_text(item, (key,), "unknown")

    def prepare(self, body: JsonText, *, max_output_tokens: int | None) -> JsonText:
        value = body.value
        assert type(value) is dict
        if value.get("stream") is True:
            options = value.get("stream_options")
            if type(options) is not dict:
                body = body.set(("stream_options",), {"include_usage": True})
            elif options.get("include_usage") is not True:
                body = body.set(("stream_options", "include_usage"), True)
        if max_output_tokens is not None:
            named = [key for key in ("max_completion_tokens", "max_tokens") if type(value.get(key)) is int]
            for key in named or [self.output_cap]:
                asked = value.get(key)
                if type(asked) is not int or asked > max_output_tokens:
                    body = body.set((key,), max_output_tokens)
        return body

    def asked_for_usage(self, value: Json) -> bool:
        options = value.get("stream_options") if type(value) is dict else None
        return type(options) is dict and options.get("include_usage") is True

    def continued(self, body: JsonText, prefill: str) -> JsonText:
        messages = body.get("messages")
        assert type(messages) is list
        last = messages[-1]
        if type(last) is dict and last.get("role") == "assistant" and type(last.get("content")) is str:
            # Begun by the client: what was written since belongs to the same message.
            return body.set(("messages", len(messages) - 1, "content"), str(last["content"]) + prefill)
        return body.set(("messages",), [*messages, {"role": "assistant", "content": prefill}])

    # -- whole answers ----------------------------------------------------------------------
    def response_segments(self, value: Json) -> Iterator[Segment]:
        if type(value) is not dict:
            return
        for key, item in value.items():
            if key == "choices" and type(item) is list:
                for n, choice in enumerate(item):
                    if type(choice) is dict:
                        for name, part in choice.items():
                            if name not in ("logprobs", "finish_reason", "index"):
                                yield from walk_text(part, ("choices", n, name), "assistant")
            elif key == "error":
                yield from walk_text(item, ("error",), "error")
            elif key not in (
                "id",
                "object",
                "model",
                "created",
                "usage",
                "system_fingerprint",
                "service_tier",
            ):
                yield from walk_text(item, (key,), "unknown")

    def usage(self, value: Json, before: Usage | None = None) -> Usage | None:
        return decode_usage(value.get("usage")) if type(value) is dict else None

    def error_body(
        self, status: int, code: str, message: str, type: str, param: str | None, request_id: str
    ) -> bytes:
        return error_body(status, code, message, type, param, request_id)

    def after_edit(self, body: JsonText, path: JsonPath) -> JsonText:
        if len(path) > 2 and path[0] == "choices" and body.get(*path[:2], "logprobs") is not None:
            return body.set((*path[:2], "logprobs"), None)
        return body

    # -- streams ----------------------------------------------------------------------------
    def kind(self, event: SseEvent, *, opened: bool) -> EventKind:
        data = event.data
        if data is None:
            return "other"
        if data == _DONE:
            return "done"
        if opened and b'"usage"' not in data and b'"error"' not in data and not _FINISHED.search(data):
            return "delta"
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return "error" if data.strip() else "other"
        if type(value) is not dict or value.get("error") is not None:
            return "error"
        choices = value.get("choices")
        if type(choices) is not list or not choices:
            return "usage" if type(value.get("usage")) is dict else "open"
        if any(type(choice) is dict and choice.get("finish_reason") for choice in choices):
            return "finish"
        for delta in self.deltas(value):
            if delta.text:
                return "delta"
        return "delta" if opened or b'"tool_calls"' in data else "open"

    def deltas(self, value: Json) -> Iterable[Delta]:
        choices = value.get("choices") if type(value) is dict else None
        for n, choice in enumerate(choices) if type(choices) is list else ():
            if type(choice) is not dict:
                continue
            index = choice.get("index", n)
            delta = choice.get("delta")
            if type(delta) is not dict:
                continue
            for key, item in delta.items():
                if key in ("content", "role") and type(item) is str:
                    # The common case, without the walk.
                    if key == "content":
                        yield Delta(
                            f"choices.{index}.content", "assistant", item, ("choices", n, "delta", "content")
                        )
                    continue
                path: JsonPath = ("choices", n, "delta", key)
                if key == "tool_calls" and type(item) is list:
                    for m, call in enumerate(item):
                        at = call.get("index", m) if type(call) is dict else m
                        for segment in walk_text(call, (*path, m), "assistant"):
                            rest = ".".join(map(str, segment.path[len(path) + 1 :]))
                            yield _delta(segment, f"choices.{index}.tool_calls.{at}.{rest}")
                else:
                    for segment in walk_text({key: item}, path[:-1], "assistant"):
                        rest = ".".join(map(str, segment.path[3:]))
                        yield _delta(segment, f"choices.{index}.{rest}")

    def ends(self, value: Json) -> Iterable[str]:
        choices = value.get("choices") if type(value) is dict else None
        for n, choice in enumerate(choices) if type(choices) is list else ():
            if type(choice) is dict and choice.get("finish_reason"):
                yield f"choices.{choice.get('index', n)}."

    def delta_event(self, like: Json, delta: Delta, text: str) -> Json:
        assert type(like) is dict
        shape = {key: item for key, item in like.items() if key not in ("choices", "usage")}
        index = int(delta.id.split(".")[1])
        inner: Any = text
        steps = delta.path[3:]
        for key in reversed(steps):
            inner = [inner] if type(key) is int else {key: inner}
        if delta.path[3:4] == ("tool_calls",):
            inner["tool_calls"][0]["index"] = int(delta.id.split(".")[3])
        shape["choices"] = [{"index": index, "delta": inner, "logprobs": None, "finish_reason": None}]
        return shape

    def assemble(self, events: Iterable[StreamEvent]) -> Json:
        whole: dict[str, Any] = {}
        choices: dict[int, dict[str, Any]] = {}
        for event in events:
            value = event.body.value if event.body is not None else None
            if type(value) is not dict:
                continue
            for key, item in value.items():
                if key == "choices" and type(item) is list:
                    for n, choice in enumerate(item):
                        if type(choice) is dict:
                            at: Any = choice.get("index", n)
                            _merge_choice(choices.setdefault(at, {"message": {}}), choice)
                elif item is not None or key not in whole:
                    whole[key] = item
        whole["object"] = "chat.completion"
        whole["choices"] = [{"index": n, **choice} for n, choice in sorted(choices.items())]
        return whole

    def replay(self, value: Json, *, usage: bool) -> list[bytes]:
        assert type(value) is dict
        base = {key: item for key, item in value.items() if key not in ("choices", "usage", "object")}
        base["object"] = "chat.completion.chunk"
        out = []
        choices: Any = value.get("choices") or []
        for n, choice in enumerate(choices):
            index = choice.get("index", n)
            message = dict(choice.get("message") or {})
            message["tool_calls"] = [
                {"index": m, **call} for m, call in enumerate(message.get("tool_calls") or [])
            ] or None
            delta = {key: item for key, item in message.items() if item is not None}
            out.append({**base, "choices": [{"index": index, "delta": delta, "finish_reason": None}]})
            out.append(
                {
                    **base,
                    "choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}],
                }
            )
        if usage and value.get("usage") is not None:
            out.append({**base, "choices": [], "usage": value["usage"]})
        return [*(encode_event(orjson.dumps(item)) for item in out), encode_event(_DONE)]


class CompatibleChat(OpenAIChat):
    """The same as other servers speak it: they know ``max_tokens`` alone, and more samplers."""

    support: ClassVar[Mapping[str, Support]] = {
        **SUPPORT,
        "top_k": "carried",
        "min_p": "carried",
        "prefill": "carried",
    }
    output_cap = "max_tokens"


def _bad(message: str, param: str | None) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)


def _delta(segment: Segment, id: str) -> Delta:
    return Delta(id, segment.role, segment.text, segment.path, segment.format)


def _merge_choice(into: dict[str, Any], choice: dict[str, Any]) -> None:
    message = into["message"]
    delta = choice.get("delta")
    for key, item in delta.items() if type(delta) is dict else ():
        if key == "tool_calls" and type(item) is list:
            calls = message.setdefault("tool_calls", [])
            for m, call in enumerate(item):
                at = call.get("index", m)
                while len(calls) <= at:
                    calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
                if call.get("id"):
                    calls[at]["id"] = call["id"]
                function = call.get("function") or {}
                calls[at]["function"]["name"] += function.get("name") or ""
                calls[at]["function"]["arguments"] += function.get("arguments") or ""
        elif type(item) is str and key != "role" and type(message.get(key)) is str:
            message[key] += item
        elif item is not None or key not in message:
            message[key] = item
    if choice.get("finish_reason"):
        into["finish_reason"] = choice["finish_reason"]
