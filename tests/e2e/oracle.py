"""A small model behind two APIs that reads each request with the API's own published types, and answers by rule.

With tools and no result yet it calls the first tool; with a result it tells it; asked for a schema it answers with the
JSON of a person; else it says hello. Requests that the types do not allow are 500 and fail the test.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin, get_type_hints

from anthropic.types import message_create_params
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter

from lmg.testing import Received, Script

PERSON = {"name": "Ada", "age": 36}
HELLO = "Hello from the model."
WEATHER = "It is 18 degrees."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

CHAT: Any = TypeAdapter(completion_create_params.CompletionCreateParams)
MESSAGES: Any = TypeAdapter(message_create_params.MessageCreateParams)


def _known(params: Any) -> set[str]:
    """The members that a request may have; types alone let unknown ones pass."""
    found: set[str] = set()
    for one in get_args(params) if get_origin(params) is not None else (params,):
        found |= get_type_hints(one).keys()
    return found


CHAT_FIELDS = _known(completion_create_params.CompletionCreateParams)
MESSAGES_FIELDS = _known(message_create_params.MessageCreateParams)


def answer(request: Received) -> Script:
    """What the model says to ``request``."""
    body = request.json
    if request.path == "/v1/chat/completions":
        CHAT.validate_python(body)
        assert body.keys() <= CHAT_FIELDS, f"unknown: {sorted(body.keys() - CHAT_FIELDS)}"
        return _chat(body)
    assert request.path == "/v1/messages", request.path
    assert request.header("x-api-key")
    assert request.header("anthropic-version")
    MESSAGES.validate_python(body)
    assert body.keys() <= MESSAGES_FIELDS, f"unknown: {sorted(body.keys() - MESSAGES_FIELDS)}"
    return _messages(body)


def pieces(text: str) -> list[str]:
    """``text`` in a few pieces, some within a word."""
    return [text[n : n + 7] for n in range(0, len(text), 7)]


# -- OpenAI ---------------------------------------------------------------------------------------


def _chat(body: Any) -> Script:
    told = any(message["role"] == "tool" for message in body["messages"])
    form = (body.get("response_format") or {}).get("type")
    tools = body.get("tools") or []
    message: dict[str, Any] = {"role": "assistant", "content": HELLO}
    finish = "stop"
    if tools and not told:
        function = tools[0]["function"]
        arguments = json.dumps(_arguments(function["parameters"]))
        calls = [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        ]
        message, finish = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
    elif told:
        message["content"] = WEATHER
    elif form in ("json_schema", "json_object"):
        message["content"] = json.dumps(PERSON)
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    base = {"id": "chatcmpl-1", "created": 1760000000, "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return _json({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
    deltas: list[Any] = [{"role": "assistant", "content": ""}]
    for n, call in enumerate(message.get("tool_calls") or ()):
        head = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": n, "id": call["id"], "type": "function", "function": head}]})
        for piece in pieces(call["function"]["arguments"]):
            deltas.append({"tool_calls": [{"index": n, "function": {"arguments": piece}}]})
    deltas += [{"content": piece} for piece in pieces(message["content"] or "")]
    chunks: list[Any] = [_chunk(base, delta, None) for delta in deltas] + [_chunk(base, {}, finish)]
    assert body["stream_options"]["include_usage"] is True
    chunks.append({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return Script(200, [("content-type", "text/event-stream")], [*events, b"data: [DONE]\n\n"], "chunked")


def _chunk(base: Any, delta: Any, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**base, "object": "chat.completion.chunk", "choices": [choice]}


def _arguments(schema: Any) -> dict[str, Any]:
    known = {"city": "Paris", **PERSON}
    return {name: known.get(name, "x") for name in schema.get("properties", {})}


def _json(value: Any) -> Script:
    return Script(200, [("content-type", "application/json")], [json.dumps(value).encode()])


# -- Anthropic ------------------------------------------------------------------------------------


def _messages(body: Any) -> Script:
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    told = any(block["type"] == "tool_result" for block in blocks)
    tools = body.get("tools") or []
    form = (body.get("output_config") or {}).get("format") or body.get("output_format")
    content: list[dict[str, Any]] = [{"type": "text", "text": HELLO}]
    reason = "end_turn"
    if tools and not told and (body.get("tool_choice") or {}).get("type") != "none":
        call = {
            "type": "tool_use",
            "id": "toolu_1",
            "name": tools[0]["name"],
            "input": _arguments(tools[0]["input_schema"]),
        }
        content, reason = [call], "tool_use"
    elif told:
        content = [{"type": "text", "text": WEATHER}]
    elif form:
        content = [{"type": "text", "text": json.dumps(PERSON)}]
    usage = {
        "input_tokens": 11,
        "output_tokens": 5,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
    }
    head = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "stop_sequence": None,
    }
    if not body.get("stream"):
        return _json({**head, "content": content, "stop_reason": reason, "usage": usage})
    events: list[Any] = [
        {
            "type": "message_start",
            "message": {**head, "content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}},
        }
    ]
    for n, block in enumerate(content):
        tool = block["type"] == "tool_use"
        begun = {**block, "input": {}} if tool else {"type": "text", "text": ""}
        events += [{"type": "content_block_start", "index": n, "content_block": begun}, {"type": "ping"}]
        for piece in pieces(json.dumps(block["input"]) if tool else block["text"]):
            delta = (
                {"type": "input_json_delta", "partial_json": piece}
                if tool
                else {"type": "text_delta", "text": piece}
            )
            events.append({"type": "content_block_delta", "index": n, "delta": delta})
        events.append({"type": "content_block_stop", "index": n})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5},
        }
    )
    events.append({"type": "message_stop"})
    written = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    return Script(200, [("content-type", "text/event-stream")], written, "chunked")
