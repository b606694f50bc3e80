"""`lmg keys --url`: the same through the admin API of a running gateway."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
import orjson

from lmg import ConfigError, MeshError
from lmg.cli.gateway import address

__all__ = ["RemoteDesk"]

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)


class NotDone(MeshError):
    """The gateway could not be reached, or refused; the message is for whoever asked."""


class RemoteDesk:
    """Speaks to ``<url>/admin/v1/<component>/``, with the credential in the environment's ``token_env``."""

    def __init__(self, url: str, token_env: str, component: str) -> None:
        token = os.environ.get(token_env, "").strip()
        if not _TOKEN.fullmatch(token):
            raise ConfigError(
                f"{token_env} holds no credential", hint=f"export {token_env}=…, or --token-env NAME"
            )
        self._base = str(address(url)).rstrip("/") + f"/admin/v1/{component}"
        self._headers = {"authorization": f"Bearer {token}"}

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A new key; of the caller's tenant where none is named."""
        return self._call("POST", "/keys", asked)

    def rotate(self, key_id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Another one in its place."""
        return self._call("POST", f"/keys/{_part(key_id)}/rotate", asked)

    def revoke(self, key_id: str) -> dict[str, Any]:
        """Ends it."""
        return self._call("DELETE", f"/keys/{_part(key_id)}")

    def find(self, asked: dict[str, str]) -> dict[str, Any]:
        """A page."""
        return self._call("GET", "/keys", query=asked)

    def _call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        content = None if body is None else orjson.dumps(body)
        headers = {**self._headers, **({"content-type": "application/json"} if content else {})}
        try:
            # No proxy of the environment: the answer holds a key.
            with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
                response = client.request(
                    method, self._base + path, content=content, params=dict(query or {}), headers=headers
                )
            answer = orjson.loads(response.content)
        except httpx.HTTPError as error:
            raise NotDone(f"the gateway cannot be reached ({type(error).__name__})") from error
        except orjson.JSONDecodeError:
            raise NotDone(f"what answers is no gateway's admin API (status {response.status_code})") from None
        if response.status_code != 200 or not isinstance(answer, dict):
            error_ = answer.get("error") if isinstance(answer, dict) else None
            said = error_.get("message") if isinstance(error_, dict) else None
            raise NotDone(f"refused ({response.status_code}): {said or 'no reason was given'}")
        return answer


def _part(key_id: str) -> str:
    if not key_id.isascii() or not key_id.isalnum():
        raise NotDone("that is no id of a key: the list shows them")
    return key_id
