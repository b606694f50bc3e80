"""The messages of a conversation, into the intermediate form and out of it."""

from __future__ import annotations

from typing import Any

from ...errors import Refusal
from ...jsontext import Json
from ..form import Chat, Part, ToolResult, Turn
from ..reading import items_of, object_of
from ..wire import unknown
from .blocks import decode_content, encode_parts, known
from .models import Traits

__all__ = ["decode_messages", "encode_turns"]

_OF_USER = ("text", "image", "document", "tool_result")
_OF_ASSISTANT = ("text", "thinking", "redacted_thinking", "tool_use")
_KEYS = frozenset({"role", "content"})

Blocks = list[dict[str, Any]]


def decode_messages(chat: Chat, item: Json, key: str) -> None:
    """The turns of a conversation; the results of calls become turns of their own."""
    messages = items_of(item, key)
    for n, message in enumerate(messages):
        where = f"messages[{n}]"
        stated = object_of(message, where)
        role, content = stated.get("role"), stated.get("content")
        if content is None:
            raise Refusal(400, "invalid_request", f"'{where}.content' is missing.", param=f"{where}.content")
        known(chat, stated, _KEYS, where)
        at = f"{where}.content"
        if role == "user":
            _decode_user(chat, decode_content(chat, content, at, allowed=_OF_USER))
        elif role == "assistant":
            chat.turns.append(Turn("assistant", decode_content(chat, content, at, allowed=_OF_ASSISTANT)))
        elif role == "system":
            chat.turns.append(Turn("system", decode_content(chat, content, at, allowed=("text",))))
            chat.use("system", where)
        else:
            raise unknown(f"{where}.role")
    if messages and chat.turns and chat.turns[-1].role == "assistant":
        chat.use("prefill", f"messages[{len(messages) - 1}]")


def _decode_user(chat: Chat, parts: list[Part]) -> None:
    turn: Turn | None = None
    for part in parts:
        role: Any = "tool" if isinstance(part, ToolResult) else "user"
        if turn is None or turn.role != role:
            turn = Turn(role, [])
            chat.turns.append(turn)
        turn.parts.append(part)
    if turn is None:
        chat.turns.append(Turn("user", []))


def encode_turns(chat: Chat, traits: Traits, wire: str) -> tuple[Blocks, list[dict[str, Any]]]:
    """The system prompt and the messages.

    Neighbours of one role are one message, results of calls stand first in it. System turns within the
    conversation stay where the model takes them there (after a user's message, before an assistant's or at the
    end), else they join the system prompt.
    """
    system: Blocks = []
    messages: list[dict[str, Any]] = []
    for turn in chat.turns:
        blocks = encode_parts(turn.parts, wire, citations=turn.role == "assistant")
        if not blocks:
            continue
        if turn.role in ("system", "developer"):
            role = "system" if messages and traits.system_turns else ""
        else:
            role = "assistant" if turn.role == "assistant" else "user"
        if not role:
            system += blocks
        elif messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    return _placed(system, messages)


def _placed(system: Blocks, messages: list[dict[str, Any]]) -> tuple[Blocks, list[dict[str, Any]]]:
    """System messages where they may stand: the API refuses them before a user's message and after an assistant's."""
    out: list[dict[str, Any]] = []
    held: dict[str, Any] | None = None
    for message in messages:
        if message["role"] == "system":
            if held is not None:
                held["content"] += message["content"]
            else:
                held = message
            continue
        if message["role"] == "assistant" and held is not None and out and out[-1]["role"] == "user":
            out.append(held)
            held = None
        if out and out[-1]["role"] == message["role"]:
            out[-1]["content"] += message["content"]
        else:
            out.append(message)
    if held is not None:
        # What stood after the last message of an assistant's has no other place.
        if out and out[-1]["role"] == "user":
            out.append(held)
        else:
            system += held["content"]
    for message in out:
        if message["role"] == "user":
            message["content"].sort(key=lambda block: block["type"] != "tool_result")
    return system, [_plain(message) for message in out]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return {"role": message["role"], "content": content[0]["text"]}
    return message
