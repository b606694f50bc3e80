"""The intermediate form into a request of the Converse API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from lmg.dialects.form import Chat, Tool, ToolCall, ToolResult
from lmg.dialects.wire import Unsupported
from lmg.jsontext import Json

from .blocks import Block, Blocks
from .families import Family, fields_of

__all__ = ["encode_request"]

_STANDARD: Final = frozenset({"auto", "default", "standard_only"})
_MAX_PAIRS: Final = 16
_MAX_LETTERS: Final = 256
_NOT_IN_METADATA: Final = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]", re.ASCII)


def encode_request(chat: Chat, family: Family, wire: str) -> dict[str, Any]:
    """The body of a request; the model stands in the path.

    Raises:
        Unsupported: something of the request has no place in this API that admission could not have known of.
    """
    blocks = Blocks(chat, family, wire)
    body: dict[str, Any] = {}
    _encode_turns(chat, blocks, body)
    asked = family.reason(chat) if family.support["reasoning"] == "carried" else None
    more = dict(asked.fields) if asked is not None else {}
    thinks = more.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if not thinks:
        more |= fields_of(chat, family)
    inference = _inference(chat, family, wire, samples=not thinks)
    if inference:
        body["inferenceConfig"] = inference
    _encode_tools(chat, family, blocks, wire, body, more)
    if more:
        body["additionalModelRequestFields"] = more
    output: dict[str, Any] = {"effort": asked.effort} if asked is not None and asked.effort else {}
    if chat.format is not None and chat.format.kind == "json_schema":
        output = {"textFormat": _text_format(chat, family), **output}
    if output:
        body["outputConfig"] = output
    if chat.stop and family.names_stops:
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    metadata = _metadata(chat.metadata)
    if metadata:
        body["requestMetadata"] = metadata
    if chat.service_tier and chat.service_tier not in _STANDARD:
        body["serviceTier"] = {"type": chat.service_tier}
    return body


# -- messages -------------------------------------------------------------------------------------


def _encode_turns(chat: Chat, blocks: Blocks, body: dict[str, Any]) -> None:
    """Messages of users and assistants take turns, results of calls stand first in a user's; every system message
    joins the system prompt.
    """
    system: list[Block] = []
    messages: list[dict[str, Any]] = []
    for turn in chat.turns:
        written = blocks.of(turn.parts)
        if turn.role in ("system", "developer"):
            system += written
            continue
        role = "assistant" if turn.role == "assistant" else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += written
        elif written:
            messages.append({"role": role, "content": written})
    for message in messages:
        if message["role"] == "user":
            message["content"] = _with_text(_results_first(message["content"]))
    body["messages"] = messages
    if system:
        body["system"] = system


def _results_first(content: list[Block]) -> list[Block]:
    """Results before what else the user says, where they are not; a cache point stays behind its block."""
    groups: list[list[Block]] = []
    for block in content:
        if "cachePoint" in block and groups:
            groups[-1].append(block)
        else:
            groups.append([block])
    groups.sort(key=lambda group: "toolResult" not in group[0])
    return [block for group in groups for block in group]


def _with_text(content: list[Block]) -> list[Block]:
    """The API wants a text beside each document: without one of the caller's it is the document's name."""
    documents = [block["document"]["name"] for block in content if "document" in block]
    if not documents or any("text" in block for block in content):
        return content
    return [*content, {"text": documents[0]}]


# -- settings -------------------------------------------------------------------------------------


def _inference(chat: Chat, family: Family, wire: str, *, samples: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if chat.max_output_tokens is not None:
        out["maxTokens"] = chat.max_output_tokens
    if samples and chat.temperature is not None and family.support["temperature"] == "carried":
        # Others count up to 2; this API refuses what is over 1.
        out["temperature"] = min(chat.temperature, 1)
    one_is_enough = family.one_sampler and "temperature" in out
    if samples and chat.top_p is not None and family.support["top_p"] == "carried" and not one_is_enough:
        out["topP"] = chat.top_p
    if chat.stop:
        if not family.blank_stops and any(not one.strip() for one in chat.stop):
            raise Unsupported(wire, "stop", chat.uses.get("stop", "stop"))
        out["stopSequences"] = chat.stop
    return out


def _text_format(chat: Chat, family: Family) -> dict[str, Any]:
    form = chat.format
    assert form is not None
    schema = orjson.dumps(family.schema(form.schema if form.schema is not None else {})).decode()
    stated = {"schema": schema, "name": form.name}
    if form.description:
        stated["description"] = form.description
    return {"type": "json_schema", "structure": {"jsonSchema": stated}}


def _metadata(stated: Json) -> dict[str, str]:
    """What marks the request in the account's invocation logs, within the letters and lengths of those."""
    if type(stated) is not dict:
        return {}
    out = {}
    for key, value in list(stated.items())[:_MAX_PAIRS]:
        text = value if type(value) is str else orjson.dumps(value).decode()
        if key:
            out[_plain(key)] = _plain(text)
    return out


def _plain(text: str) -> str:
    return _NOT_IN_METADATA.sub("_", text[:_MAX_LETTERS])


# -- tools ----------------------------------------------------------------------------------------


def _encode_tools(
    chat: Chat, family: Family, blocks: Blocks, wire: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    called = _called(chat)
    mode = chat.tool_choice.mode if chat.tool_choice is not None else "auto"
    if mode == "none":
        # The API knows no such choice; what it does know is a request without tools, if none was called so far.
        if called:
            raise Unsupported(wire, "tool_choice.none", chat.uses.get("tool_choice.none", "tool_choice"))
        return
    # A conversation with calls in it is refused without tools, so those that were called are told of by name.
    tools = chat.tools or [Tool(name) for name in called]
    if not tools:
        return
    listed: list[Block] = []
    for tool in tools:
        listed.append({"toolSpec": _tool_spec(tool, family)})
        if tool.cache is not None and family.caches_tools:
            listed += blocks.cache_point(tool.cache)
    config: dict[str, Any] = {"tools": listed}
    if mode == "required":
        config["toolChoice"] = {"any": {}}
    elif mode == "named" and chat.tool_choice is not None:
        config["toolChoice"] = {"tool": {"name": chat.tool_choice.name}}
    body["toolConfig"] = config
    if chat.parallel_tool_calls is False and family.support["parallel_tool_calls"] == "carried":
        # Merged into the choice that the API writes for the model; it wants a kind only where we state no choice.
        kind = {} if "toolChoice" in config else {"type": "auto"}
        more["tool_choice"] = {**kind, "disable_parallel_tool_use": True}


def _called(chat: Chat) -> list[str]:
    """The names of the tools that were called so far, each once; an unnamed one where there are results alone."""
    names: dict[str, None] = {}
    results = False
    for turn in chat.turns:
        for part in turn.parts:
            if isinstance(part, ToolCall):
                names[part.name] = None
            results = results or isinstance(part, ToolResult)
    return list(names) or (["tool"] if results else [])


def _tool_spec(tool: Tool, family: Family) -> Mapping[str, Any]:
    schema: Json = tool.schema if type(tool.schema) is dict else {"type": "object", "properties": {}}
    strict = tool.strict is True and family.support["tools.strict"] == "carried"
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    if type(schema) is dict and "type" not in schema:
        schema = {"type": "object", **schema}
    spec["inputSchema"] = {"json": family.schema(schema) if strict else schema}
    return spec | ({"strict": True} if strict else {})
