"""The side of the gateway that faces an upstream: targets, a call, and an answer in a wire format."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field, SecretStr, field_validator

from .component import ComponentConfig, _Configured
from .dialects import Dialect
from .dialects.openai_chat import CompatibleChat
from .dialects.openai_embeddings import OpenAIEmbeddings
from .dialects.wire import Wire
from .errors import ConfigError
from .exchange import Attempt, Exchange, Operation, Target
from .upstream import Transport, TransportOptions, UpstreamRequest, Url, open_transport

__all__ = ["HttpProvider", "HttpProviderConfig", "Provider", "ProviderConfig", "Reply"]

RawHeaders = Sequence[tuple[bytes, bytes]]
Spoken = Dialect | Wire

# Headers that say where a message goes and how long it is: the transport's alone.
_FRAMING = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "content-type",
        "accept-encoding",
    }
)
# The only request headers that travel on: none of them selects host, path, key or account.
FORWARDED = frozenset({b"accept", b"idempotency-key", b"traceparent", b"tracestate", b"user-agent"})
MIN_SECRET = 8
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.embeddings": "/v1/embeddings",
    "openai.responses": "/v1/responses",
    "openai.images": "/v1/images/generations",
    "openai.image_edits": "/v1/images/edits",
    "openai.speech": "/v1/audio/speech",
    "openai.transcription": "/v1/audio/transcriptions",
    "openai.translation": "/v1/audio/translations",
    "rerank": "/v1/rerank",
    "anthropic.messages": "/v1/messages",
    "anthropic.count_tokens": "/v1/messages/count_tokens",
}
"""Where the wires live that several providers speak."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$")


@dataclass(slots=True)
class Reply:
    """An upstream's answer. Exactly one of ``body`` (whole) and ``chunks`` (a stream of bytes) is set.

    ``chunks`` raises ``UpstreamError`` when the stream breaks and is closed with ``aclose``.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes | None = None
    chunks: AsyncIterator[bytes] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of ``name`` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class ProviderConfig(ComponentConfig):
    """What every provider can be told."""

    models: list[str] = Field(
        default_factory=list, description="Models that clients may ask for, in order of preference."
    )
    model_map: dict[str, str] = Field(
        default_factory=dict, description="Names that the upstream knows a model by, where they differ."
    )
    priority: int = Field(100, ge=0, description="Lower is tried first.")
    fallback: bool = Field(
        False, description="Serve other models' requests when their own provider fails (needs `fallback`)."
    )
    on_prem: bool = Field(False, description="The upstream runs on the operator's own premises.")
    region: str = Field("", description="Where the upstream processes data, as policies name it.")
    timeout_ms: int = Field(600_000, gt=0, description="The longest a whole call may take.")
    connect_timeout_ms: int = Field(
        5_000, gt=0, description="The longest that connecting (with TLS) may take."
    )
    first_token_timeout_ms: int = Field(
        120_000, gt=0, description="The longest wait for the first event of a stream."
    )
    stall_timeout_ms: int = Field(
        60_000, gt=0, description="The longest silence between two events of a stream."
    )


class Provider(_Configured):
    """A component that serves targets. Takes its place in ``providers:`` under ``type`` or ``type/name``."""

    Config: ClassVar[type[ComponentConfig]] = ProviderConfig
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat"})
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {
        "chat": (CompatibleChat(),),
        "embeddings": (OpenAIEmbeddings(),),
    }
    """What the upstream speaks, by operation; where it speaks a client's own dialect nothing is translated,
    else the first that can be translated to is taken."""
    config: ProviderConfig

    def targets(self) -> list[Target]:
        """What this provider serves, by its configuration; asked once, after ``start``."""
        config = self.config
        operations = self.operations
        if "chat" in operations:
            operations |= {"count_tokens"}  # where the upstream cannot be asked, the kernel estimates
        return [
            Target(
                self.name, model, config.model_map.get(model, model), config.priority, config.fallback, config.on_prem,
                config.region, operations,
            )
            for model in config.models
        ]  # fmt: skip

    def wire(self, operation: Operation, dialect: str, model: str) -> Spoken | None:
        """What to speak for a request that came in ``dialect``: the same, else the first wire, else None."""
        spoken = self.wires.get(operation, ())
        for one in spoken:
            if one.name == dialect:
                return one
        return next((one for one in spoken if isinstance(one, Wire)), None)

    @classmethod
    def embedded(cls, environ: Mapping[str, str]) -> dict[str, object] | None:
        """This provider's configuration on the embedded default (no mesh.yaml), or None to stay out."""
        return None

    async def probe(self) -> int | None:
        """The status of an answer that costs no tokens: what an active health check asks. None where there is no such thing.

        Raises:
            UpstreamError: no answer was had.
        """
        return None

    @abstractmethod
    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One call for ``attempt``; ``attempt.payload`` is the request in the wire ``attempt.wire``, and
        ``attempt.headers`` go along.

        Raises:
            UpstreamError: no answer was had. An answer with an error status is a ``Reply``.
        """


class HttpProviderConfig(ProviderConfig):
    """A provider behind HTTP."""

    endpoint: str = Field(..., description="Base URL without the `/v1`, as in `https://api.openai.com`.")
    api_key: SecretStr | None = Field(None, description="Sent as the bearer token; never shown.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers for every call; values are secrets."
    )
    ca_file: str | None = Field(
        None, description="Trust these certificate authorities instead of the system's."
    )
    proxy: str | None = Field(None, description="Proxy URL; the call then goes through httpx.")
    http2: bool = Field(False, description="Offer HTTP/2; the call then goes through httpx.")
    max_answer_bytes: Annotated[int, Field(gt=0)] = Field(
        64 * 2**20, description="A whole answer over this size is an upstream fault."
    )

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(
                "the key is empty or holds characters that no header can carry (a line break at its end?)"
            )
        return value

    @field_validator("headers")
    @classmethod
    def _headers_are_plain(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
                raise ValueError(f"{name!r} is no header that a provider may set")
            if not _HEADER_VALUE.fullmatch(text.get_secret_value()):
                raise ValueError(f"the value of {name} is empty or holds characters that no header can carry")
        return value


class HttpProvider(Provider):
    """A provider that speaks an OpenAI-shaped wire over HTTP; others override ``path`` and ``credentials``."""

    probe_path: str | None = "/v1/models"
    """A path below the endpoint that is answered without a model, for ``probe``; None where there is none."""
    probe_headers: tuple[tuple[bytes, bytes], ...] = ()
    forwarded: ClassVar[frozenset[bytes]] = frozenset()
    """Further headers of the client's that travel on: none may select host, path, key or account."""

    Config: ClassVar[type[ComponentConfig]] = HttpProviderConfig
    config: HttpProviderConfig
    transport: Transport

    def path(self, operation: Operation, attempt: Attempt) -> str:
        """The path of ``operation`` below the endpoint."""
        return PATHS[attempt.wire]

    def credentials(self) -> list[tuple[bytes, bytes]]:
        """The headers that authenticate the gateway to the upstream."""
        key = self.config.api_key
        return [(b"authorization", b"Bearer " + key.get_secret_value().encode())] if key is not None else []

    async def start(self) -> None:
        """Parses the endpoint and opens the connection pool; connects to nothing."""
        await self.connect(self.config.endpoint)

    async def connect(self, endpoint: str) -> None:
        """Opens the connection pool for ``endpoint``; raises ConfigError where that is no base URL."""
        config = self.config
        try:
            url = Url.parse(endpoint)
        except ValueError as error:
            raise ConfigError(
                str(error), path=f"providers.{self.name}.endpoint", hint="as in https://api.example.com"
            ) from None
        self._url = url.with_path(url.path[:-3]) if url.path.endswith("/v1") else url
        self._fixed = [
            *self.credentials(),
            *(
                (key.lower().encode(), value.get_secret_value().encode())
                for key, value in config.headers.items()
            ),
        ]
        self._names = frozenset(key for key, _ in self._fixed)
        self._secrets = [
            value.removeprefix(b"Bearer ") for _, value in self._fixed if len(value) >= MIN_SECRET
        ]
        options = TransportOptions(
            config.connect_timeout_ms / 1000,
            config.max_answer_bytes,
            config.ca_file,
            config.proxy,
            config.http2,
        )
        await self.stop_transport()
        try:
            self.transport = open_transport(self._url, options)
        except ImportError as error:
            raise ConfigError(
                f"this provider's connections need a package that is not installed: {error}",
                path=f"providers.{self.name}",
                hint="pip install 'httpx[http2]' for http2: true, 'httpx[socks]' for a SOCKS proxy",
            ) from None

    async def stop(self) -> None:
        """Closes the connection pool."""
        await self.stop_transport()

    async def stop_transport(self) -> None:
        """Closes the connection pool, where one is open."""
        if hasattr(self, "transport"):
            await self.transport.aclose()

    async def probe(self) -> int | None:
        if self.probe_path is None:
            return None
        headers = [*self._fixed, *self.probe_headers]
        request = UpstreamRequest("GET", self._url.path + self.probe_path, headers, b"")
        response = await self.transport.send(request)
        await response.read()
        return response.status

    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One HTTP exchange; redirects are not followed and cookies not kept."""
        headers = [
            (key, value)
            for key, value in exchange.head.headers
            if (key in FORWARDED or key in self.forwarded) and key not in self._names
        ]
        payload = attempt.payload
        headers += [(b"content-type", payload.content_type), *self._fixed, *attempt.headers]
        path = self._url.path + self.path(exchange.operation, attempt)
        response = await self.transport.send(UpstreamRequest("POST", path, headers, payload.render()))
        if response.is_event_stream and response.status < 300:
            return Reply(response.status, response.headers, chunks=response)
        body = await response.read()
        if response.status >= 300:
            # An upstream that quotes the gateway's own key in its error must not hand it to the caller.
            for secret in self._secrets:
                body = body.replace(secret, b"[removed]")
        return Reply(response.status, response.headers, body=body)
