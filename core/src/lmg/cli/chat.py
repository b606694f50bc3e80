"""Talk to a running gateway. Ctrl-C ends an answer, Ctrl-D the conversation."""

from __future__ import annotations

import contextlib
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Generator, Iterator
from typing import Any, Final

import httpx
import orjson

from ..errors import MeshError, UpstreamError
from ..sse import EventSplitter
from .gateway import add_gateway_arguments, address, connect

__all__ = ["HELP", "Conversation", "arguments", "run"]

HELP = "talk to a running gateway"

MAX_MESSAGES: Final = 200
MAX_ANSWER_BYTES: Final = 32 * 2**20
_TIMEOUT: Final = httpx.Timeout(600.0, connect=5.0)
# What a model wrote must not steer the terminal that shows it (ECMA-48 control functions).
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def arguments(parser: ArgumentParser) -> None:
    """`lmg chat`'s options."""
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="ask this and end; without it, a conversation"
    )
    add_gateway_arguments(parser, "your key")
    parser.add_argument("--model", "-m", help="the model (default: the first that the gateway lists)")


def run(options: Namespace) -> int:
    """0 after an answer or a conversation, 1 where an only answer could not be had."""
    url = address(options.url)
    try:
        with connect(url, options.key_env, _TIMEOUT) as client:
            talk = Conversation(client, options.model or _first_model(client))
            if options.prompt is not None:
                _answer(talk, options.prompt)
                return 0
            return _converse(talk, str(url))
    except ChatError as error:
        sys.stderr.write(f"{error}\n")
        return 1


class ChatError(MeshError):
    """There is no (whole) answer; the message is for whoever asked."""


class Conversation:
    """What was said so far, at most the last 200 messages of it."""

    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client = client
        self.model = model
        self.messages: list[dict[str, str]] = []

    def ask(self, prompt: str) -> Generator[str, None, None]:
        """The answer to ``prompt``, piece by piece. What was said of an answer that ends early is remembered.

        Raises:
            ChatError: no gateway, a refusal, or an answer that broke off.
        """
        asked = {"role": "user", "content": prompt}
        said: list[str] = []
        try:
            for piece in self._stream([*self.messages, asked]):
                said.append(piece)
                yield piece
        finally:
            if said:
                self.messages += [asked, {"role": "assistant", "content": "".join(said)}]
                del self.messages[:-MAX_MESSAGES]

    def _stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        body = {"model": self.model, "messages": messages, "stream": True}
        splitter = EventSplitter()
        size = 0
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise _refused(response.status_code, response.read())
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > MAX_ANSWER_BYTES:
                        raise ChatError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
                    for event in splitter.feed(chunk):
                        if event.data == b"[DONE]":
                            return
                        if event.data is not None:
                            yield from _texts(event.data)
        except httpx.HTTPError as error:
            raise _unreachable(self._client, error) from error
        except UpstreamError as error:
            raise ChatError(f"the answer is no event stream: {error}") from error
        raise ChatError("the answer broke off before its end")


def _texts(data: bytes) -> Iterator[str]:
    """The texts of the first choice in one event."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ChatError("the gateway sent an event that is not JSON") from None
    if not isinstance(value, dict):
        return
    if value.get("error"):
        raise ChatError(f"the answer broke off: {_message(value)}")
    for choice in value.get("choices") or []:
        delta = choice.get("delta") or {}
        for key in ("content", "refusal"):
            if choice.get("index", 0) == 0 and isinstance(delta.get(key), str):
                yield _CONTROL.sub("", delta[key])


# -- at the terminal ------------------------------------------------------------------------------


def _answer(talk: Conversation, prompt: str) -> None:
    """Prints the answer as it comes; it always ends with a line break."""
    try:
        # Closed at once when it is left early: the gateway sees that nobody reads on.
        with contextlib.closing(talk.ask(prompt)) as pieces:
            for piece in pieces:
                sys.stdout.write(piece)
                sys.stdout.flush()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()


def _converse(talk: Conversation, url: str) -> int:
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives `input` a history and a line editor

        sys.stdout.write(f"{talk.model} at {url}. Ctrl-C ends an answer, Ctrl-D the conversation.\n")
    while True:
        try:
            prompt = input("> " if at_terminal else "")
        except EOFError:
            if at_terminal:  # the shell's prompt begins a line of its own
                sys.stdout.write("\n")
            return 0
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        if not prompt.strip():
            continue
        try:
            _answer(talk, prompt)
        except KeyboardInterrupt:
            sys.stdout.write("(ended)\n")
            sys.stdout.flush()
        except ChatError as error:
            sys.stderr.write(f"{error}\n")


# -- the gateway ----------------------------------------------------------------------------------


def _first_model(client: httpx.Client) -> str:
    try:
        response = client.get("/v1/models")
    except httpx.HTTPError as error:
        raise _unreachable(client, error) from error
    if response.status_code != 200:
        raise _refused(response.status_code, response.content)
    try:
        return str(orjson.loads(response.content)["data"][0]["id"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise ChatError("the gateway lists no model: name one with --model") from None


def _refused(status: int, body: bytes) -> ChatError:
    try:
        said = _message(orjson.loads(body))
    except orjson.JSONDecodeError:
        said = "the answer is not the gateway's"
    hint = (
        " (put your key into the environment: LMG_KEY=…, or name the variable with --key-env)"
        if status == 401
        else ""
    )
    return ChatError(f"{status}: {said}{hint}")


def _message(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        code = f" ({error['code']})" if error.get("code") else ""
        return _CONTROL.sub("", f"{error.get('message', 'no reason given')}{code}")
    return "no reason given"


def _unreachable(client: httpx.Client, error: httpx.HTTPError) -> ChatError:
    if isinstance(error, httpx.ConnectError):
        return ChatError(
            f"no gateway answers at {client.base_url} (start one with `lmg serve`, or name it with --url)"
        )
    if isinstance(error, httpx.TimeoutException):
        return ChatError("the gateway did not answer in time")
    return ChatError(f"the connection to the gateway failed: {type(error).__name__}")
