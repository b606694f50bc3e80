"""An OPA server, asked over its REST API: one pooled round trip a decision.

``POST /v1/data/<package>?strict-builtin-errors=true`` answers all rules of the package. ``allow`` must be ``true`` there and
nothing else; anything but a 200 with a readable result is no answer (https://www.openpolicyagent.org/docs/rest-api).
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from lmg import ConfigError
from lmg.jsontext import JsonTextError, strict_loads

from ..engine import Ruling, Undecided
from .answers import ruling
from .checks import whole_json
from .connection import AnswerTooLarge, JsonPost

__all__ = ["OpaServerPolicy"]

MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_DECISION_ID: Final = 128


class OpaServerPolicy:
    """The policy of an OPA server, at ``http(s)://host:port`` or ``unix:///path``. See :class:`lmg_opa.engine.RemotePolicy`.

    The server may read whatever it is configured to, so its answers are never cached as those of a policy in process are.
    """

    volatile: Final = True
    reads: Final = None
    revision = ""

    def __init__(self, url: str, *, package: str = "lmg.authz", token: str = "") -> None:
        headers = [("Authorization", f"Bearer {token}")] if token else []
        path = f"/v1/data/{package.replace('.', '/')}?strict-builtin-errors=true"
        if url.startswith("unix://"):
            self._server = JsonPost.over_socket(
                url.removeprefix("unix://"), path, [("Host", "opa"), *headers]
            )
            return
        at = urlsplit(url)
        if (
            at.scheme not in ("http", "https")
            or at.hostname is None
            or at.username is not None
            or at.query
            or at.fragment
        ):
            raise ConfigError("the OPA server's url is http(s)://host:port or unix:///path")
        tls = at.scheme == "https"
        port = at.port or (443 if tls else 80)
        host = f"[{at.hostname}]" if ":" in at.hostname else at.hostname
        headers.insert(0, ("Host", f"{host}:{port}"))
        self._server = JsonPost.over_tcp(at.hostname, port, tls, at.path.rstrip("/") + path, headers)

    async def decide(self, document: bytes, deadline_s: float) -> Ruling:
        """What the server says of ``document``, within ``deadline_s`` seconds from now.

        Raises:
            Undecided: ``timeout``, ``unreachable``, ``error`` (a status that is not 200), ``malformed``, ``undefined``,
                ``too_large``.
        """
        body = b'{"input":' + whole_json(document) + b"}"
        try:
            async with asyncio.timeout(deadline_s):
                status, answer = await self._server.send(body, MAX_ANSWER_BYTES)
        except TimeoutError:
            raise Undecided("timeout", f"no answer of the OPA server within {deadline_s:g} s") from None
        except (OSError, EOFError) as error:
            raise Undecided(
                "unreachable", f"the OPA server cannot be reached: {type(error).__name__}"
            ) from None
        except AnswerTooLarge as error:
            raise Undecided("too_large", f"the OPA server's answer has {error}") from None
        except ValueError as error:
            raise Undecided("malformed", f"the OPA server's answer: {error}") from None
        if status != 200:
            raise Undecided(
                "conflict" if b"eval_conflict_error" in answer else "error",
                f"the OPA server answered {status}",
            )
        return read_answer(answer)

    async def close(self) -> None:
        """Closes its connections."""
        self._server.close()


def read_answer(answer: bytes) -> Ruling:
    """The ruling in an answer's bytes.

    Raises:
        Undecided: ``malformed`` or ``undefined``.
    """
    try:
        value = strict_loads(answer)
    except JsonTextError as error:
        raise Undecided("malformed", f"the OPA server's answer: {error.code}") from None
    if not isinstance(value, dict):
        raise Undecided("malformed", "the OPA server's answer is not an object")
    if "result" not in value:
        raise Undecided("undefined", "the OPA server has no such policy")
    result = value["result"]
    if not isinstance(result, dict):
        raise Undecided("malformed", "the OPA server's result is not an object")
    said = ruling(result.get("allow"), result.get("reasons"), result.get("obligations"))
    decision_id = value.get("decision_id")
    if not isinstance(decision_id, str) or len(decision_id) > MAX_DECISION_ID:
        return said
    return Ruling(said.allow, said.reasons, said.obligations, decision_id)
