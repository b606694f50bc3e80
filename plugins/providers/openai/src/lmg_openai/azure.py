"""`azure`: OpenAI's models behind a resource of Azure.

Sources: Azure OpenAI REST API reference; "Azure OpenAI v1 API"; "Content filtering", its error and its annotations.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import quote

import orjson

from lmg import Attempt, ConfigError, Exchange, Host, HttpProvider, Reply
from lmg.dialects.form import FormEvent
from lmg.dialects.openai_chat import OpenAIChat
from lmg.dialects.openai_responses import OpenAIResponses
from lmg.dialects.wire import EventDecoder, Fault
from lmg.exchange import Operation
from lmg.provider import PATHS, Spoken
from lmg.sse import SseEvent

from .config import AzureConfig
from .plugin import OpenAI

__all__ = ["Azure", "AzureChat"]

MAX_TOKEN_BYTES: Final = 16 * 1024
_TOKEN: Final = re.compile(rb"[\x21-\x7e]{8,}")
log = logging.getLogger("lmg.azure")


class AzureChat(OpenAIChat):
    """Chat completions with the annotations and the errors of the content filter."""

    def fault(self, status: int, body: bytes) -> Fault:
        """The error with what the filter found: its categories are in a part of the error that nobody else has."""
        fault = super().fault(status, body)
        found = _filtered(body)
        if found is None:
            return fault
        named = f" (filtered: {', '.join(found)})" if found else ""
        return replace(
            fault, message=fault.message + named, code=fault.code or "content_filter", kind="content_filter"
        )

    def decoder(self) -> EventDecoder:
        return _Unannotated(super().decoder())


class _Unannotated(EventDecoder):
    """Leaves out events that only annotate: the first of a stream judges the prompt, and belongs to no answer."""

    def __init__(self, behind: EventDecoder) -> None:
        self._behind = behind

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        if event.data is not None and b'"prompt_filter_results"' in event.data:
            value = orjson.loads(event.data)
            if not value.get("choices") and value.get("usage") is None and value.get("error") is None:
                return ()
        return self._behind.feed(event)

    def finish(self) -> Sequence[FormEvent]:
        return self._behind.finish()


def _filtered(body: bytes) -> list[str] | None:
    """The categories that the content filter names; None where the error is another."""
    try:
        error = orjson.loads(body)["error"]
        inner: Any = error.get("innererror") or {}
        results: Any = inner.get("content_filter_result") or inner.get("content_filter_results")
        if (
            error.get("code") != "content_filter"
            and inner.get("code") != "ResponsibleAIPolicyViolation"
            and not results
        ):
            return None
        return [
            name
            for name, result in (results or {}).items()
            if isinstance(result, dict) and result.get("filtered") is True
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


class Azure(HttpProvider):
    """Azure OpenAI: the v1 API, or the deployments of a dated one."""

    Config = AzureConfig
    summary = "OpenAI's models behind a resource of Azure"
    stability = "beta"
    operations: ClassVar[frozenset[Operation]] = OpenAI.operations
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        **OpenAI.wires,
        "chat": (AzureChat(), OpenAIResponses()),
    }
    probe_path = None  # its list of models asks for a version or a token that not every resource has
    config: AzureConfig

    def __init__(self, config: AzureConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._token = b""
        self._token_read: tuple[int, int, int] | None = None

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """Part of the embedded default where the resource, a key and a deployment are in the environment."""
        names = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_DEPLOYMENT")
        endpoint, key, deployment = (environ.get(name) for name in names)
        if not (endpoint and key and deployment):
            return None
        return {"endpoint": endpoint, "api_key": key, "models": [deployment], "priority": 10}

    def path(self, operation: Operation, attempt: Attempt) -> str:
        """The v1 API's path, or the one of a deployment with the date of the API."""
        path = PATHS[attempt.wire].removeprefix("/v1")
        version = self.config.api_version
        if version is None:
            return f"/openai/v1{path}"
        if attempt.wire == "openai.responses":
            return f"/openai{path}?api-version={version}"
        return (
            f"/openai/deployments/{quote(attempt.target.upstream_model, safe='')}{path}?api-version={version}"
        )

    def credentials(self) -> list[tuple[bytes, bytes]]:
        """The resource's key, or the token as it was last read."""
        key = self.config.api_key
        if key is not None:
            return [(b"api-key", key.get_secret_value().encode())]
        return [(b"authorization", b"Bearer " + self._token)]

    async def start(self) -> None:
        """Reads the token, where there is one, and opens the connection pool."""
        if self.config.token_file is not None and not self._read_token():
            raise ConfigError(
                "the file holds no token that a header can carry", path=f"providers.{self.name}.token_file",
                hint="an access token for https://cognitiveservices.azure.com, and nothing else",
            )  # fmt: skip
        await super().start()

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One call, with the token that the file holds now."""
        if self.config.token_file is not None:
            before = self._token
            if self._read_token():
                fixed = [(name, value) for name, value in self._fixed if value != b"Bearer " + before]
                self._fixed = [*self.credentials(), *fixed]
                self._secrets = [self._token, *(secret for secret in self._secrets if secret != before)]
        return await super().call(exchange, attempt)

    def _read_token(self) -> bool:
        """Whether there is another token than before; one that cannot be read leaves the old one in use."""
        path = self.config.token_file
        assert path is not None
        try:
            stated = os.stat(path)
            mark = (stated.st_mtime_ns, stated.st_ino, stated.st_size)
            if mark == self._token_read:
                return False
            self._token_read = mark
            with open(path, "rb") as file:
                token = file.read(MAX_TOKEN_BYTES + 1).strip()
        except OSError as error:
            if self._token_read is not None:
                log.warning("azure_token_unreadable component=%s error=%s", self.name, type(error).__name__)
                self._token_read = None
            return False
        if len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
            log.warning("azure_token_unreadable component=%s error=not a token", self.name)
            return False
        changed, self._token = token != self._token, token
        return changed
