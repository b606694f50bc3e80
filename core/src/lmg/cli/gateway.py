"""How commands reach a running gateway: its address, the caller's key, and what is said where nobody answers."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from typing import Any, Final

import httpx
import orjson

from ..addresses import is_loopback
from ..errors import ConfigError, MeshError

__all__ = ["Unanswered", "add_gateway_arguments", "address", "answer", "ask", "connect", "plain"]

_KEY: Final = re.compile(r"[\x21-\x7e]+")
# What a gateway answers must not steer the terminal that shows it (ECMA-48 control functions).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Unanswered(MeshError):
    """The gateway cannot be asked, or has refused; the message is for whoever asked.

    ``status`` and ``code`` are those of a refusal.
    """

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def add_gateway_arguments(parser: ArgumentParser, key: str) -> None:
    """``--url`` and ``--key-env``; ``key`` says what the key is. It is never an argument itself: other users can read those."""
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="the gateway (default: http://127.0.0.1:8080)"
    )
    parser.add_argument(
        "--key-env", default="LMG_KEY", metavar="NAME", help=f"the environment variable with {key} (default: LMG_KEY)"
    )  # fmt: skip


def address(given: str) -> httpx.URL:
    """The gateway's base URL; a ``/v1`` at its end, as SDKs are given it, is left out.

    Raises:
        ConfigError: it is none.
    """
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ConfigError("--url is no address of a gateway", hint="as in http://127.0.0.1:8080")
    path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return url.copy_with(path=path or "/", query=None, fragment=None)


def connect(url: httpx.URL, key_env: str, timeout: httpx.Timeout) -> httpx.Client:
    """A client with the key in the environment's ``key_env``, if there is one. No proxy stands before this machine itself.

    Raises:
        ConfigError: that is no key.
    """
    key = os.environ.get(key_env, "").strip()
    if key and not _KEY.fullmatch(key):
        raise ConfigError(f"{key_env} holds characters that no key has")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=not is_loopback(url.host))


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """One request.

    Raises:
        Unanswered: nobody has answered it.
    """
    try:
        return client.request(method, path, **more)
    except httpx.ConnectError as error:
        url = str(client.base_url).rstrip("/")
        raise Unanswered(f"no gateway answers at {url} (name it with --url)") from error
    except httpx.TimeoutException as error:
        raise Unanswered("the gateway did not answer in time; nothing is known to have changed") from error
    except httpx.HTTPError as error:
        raise Unanswered(f"the connection to the gateway failed: {type(error).__name__}") from error


def answer(response: httpx.Response, member: str) -> dict[str, Any]:
    """The admin API's answer, an object that has ``member``.

    Raises:
        Unanswered: it has refused, or the answer is not the gateway's.
    """
    status = response.status_code
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        value = None
    if status == 200 and isinstance(value, dict) and member in value:
        return value
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        raise Unanswered(f"{status}: the answer is not the gateway's", status)
    code = str(error.get("code") or "")
    hint = {
        (401, code): " (put a key into the environment: LMG_KEY=…, or name the variable with --key-env)",
        (403, "admin_only"): " (the key needs the scope admin)",
    }.get((status, code), "")
    raise Unanswered(f"{status}: {plain(error.get('message', 'no reason given'))}{hint}", status, code)


def plain(value: object) -> str:
    """``value`` as text that is only text to a terminal."""
    return _CONTROL.sub("", str(value))
