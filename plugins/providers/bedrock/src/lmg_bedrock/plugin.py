"""`bedrock`: models behind Amazon Bedrock's Converse API.

Source: Amazon Bedrock API reference, "Converse" and "ConverseStream"; AWS general reference, "Amazon Bedrock endpoints".
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

import orjson

from lmg import Attempt, ConfigError, Exchange, Host, HttpProvider, Reply
from lmg.exchange import Operation
from lmg.jsontext import JsonText
from lmg.provider import FORWARDED, MIN_SECRET, Spoken
from lmg.sse import encode_event
from lmg.upstream import UpstreamRequest, UpstreamResponse, Url

from .config import REGION, BedrockConfig
from .families import CLAUDE, family_of
from .faults import error_body, status_of
from .frames import EventFrames
from .wire import ConverseWire

if TYPE_CHECKING:
    from .credentials import Source
    from .signing import Keys

__all__ = ["Bedrock"]

_JSON: Final = (b"content-type", b"application/json")
_FRAMES: Final = b"application/vnd.amazon.eventstream"
# What a client's library accepts says nothing of what is asked for here.
_FORWARDED: Final = FORWARDED - {b"accept"}
_OF_AN_ENDPOINT: Final = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")
_DOMAINS: Final = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}
_LARGE: Final = 2**20
"""Bodies over this size are hashed in a thread."""

RawHeaders = list[tuple[bytes, bytes]]


class Bedrock(HttpProvider):
    """Amazon Bedrock's Converse API."""

    Config = BedrockConfig
    summary = "models behind Amazon Bedrock's Converse API"
    stability = "beta"
    wires: ClassVar[Mapping[Operation, tuple[Spoken, ...]]] = {"chat": (ConverseWire(CLAUDE),)}
    probe_path = None
    config: BedrockConfig

    def __init__(self, config: BedrockConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        names = config.model_map
        bases = {names.get(model, model): base for model, base in config.base_models.items()}
        upstream = [names.get(model, model) for model in config.models]
        self._wires = {model: ConverseWire(family_of(bases.get(model, model))) for model in upstream}
        self._fields = {names.get(model, model): more for model, more in config.request_fields.items()}
        self._source: Source | None = None

    def wire(self, operation: Operation, dialect: str, model: str) -> Spoken | None:
        """The Converse API as the family of ``model`` takes it."""
        if operation != "chat":
            return None
        known = self._wires.get(model)
        return known if known is not None else ConverseWire(family_of(model))

    async def start(self) -> None:
        """Resolves region and endpoint, and opens the connection pool; looks for no credentials yet."""
        config = self.config
        region = self._region()
        endpoint = config.endpoint
        if not endpoint:
            if not region:
                raise self._no_region()
            domain = next(
                (end for start, end in _DOMAINS.items() if region.startswith(start)), "amazonaws.com"
            )
            endpoint = f"https://bedrock-runtime.{region}.{domain}"
        await self.connect(endpoint)
        self._source = self._credential_source()
        if self._source is not None and not region:
            raise self._no_region()
        self._aws_region = region
        self._base = f"{self._url.scheme}://{self._url.authority}"

    async def stop(self) -> None:
        """Closes the connection pool."""
        if self._source is not None:
            self._source.close()
        await super().stop()

    def _region(self) -> str:
        config = self.config
        if config.aws_region is not None:
            return config.aws_region
        if REGION.fullmatch(config.region):
            return config.region
        try:
            host = Url.parse(config.endpoint).host if config.endpoint else ""
        except ValueError:
            host = ""  # told with its place when the connection pool is opened
        found = _OF_AN_ENDPOINT.search(host)
        region = found[1] if found else ""
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            region = region or os.environ.get(name, "")
        return region if REGION.fullmatch(region) else ""

    def _no_region(self) -> ConfigError:
        return ConfigError(
            "no AWS region is named",
            path=f"providers.{self.name}.aws_region",
            hint="as in eu-central-1, here or in AWS_REGION",
        )

    def _credential_source(self) -> Source | None:
        """What signs; None where the configured API key goes along instead."""
        config = self.config
        if config.api_key is not None:
            return None
        # The signer takes a tenth of a second to import, which who does not sign need not wait for.
        from .credentials import Chain, Given
        from .signing import Keys

        if config.access_key_id is None or config.secret_access_key is None:
            return Chain(config.aws_profile, self.host.clock.monotonic)
        token = config.session_token.get_secret_value() if config.session_token is not None else ""
        return Given(
            Keys(config.access_key_id.get_secret_value(), config.secret_access_key.get_secret_value(), token)
        )

    # -- a call -----------------------------------------------------------------------------------
    async def call(self, exchange: Exchange, attempt: Attempt) -> Reply:
        """One HTTP exchange, signed; frames of a stream come back as server-sent events."""
        headers = [
            (key, value)
            for key, value in exchange.head.headers
            if key in _FORWARDED and key not in self._names
        ]
        model = attempt.target.upstream_model
        # Quoted to the last letter, the name is one segment of the path and can be nothing else.
        operation = "converse-stream" if exchange.request.stream else "converse"
        path = f"{self._url.path}/model/{quote(model, safe='')}/{operation}"
        body = self._body(attempt, model)
        own = [_JSON, *self._fixed]
        secrets = list(self._secrets)
        headers += [*own, *await self._authenticated(path, own, body, secrets), *attempt.headers]
        response = await self.transport.send(UpstreamRequest("POST", path, headers, body))
        if response.status < 300:
            return await self._answer(exchange, attempt, response)
        raw = error_body(response.status, response.headers, await response.read())
        for secret in secrets:
            raw = raw.replace(secret, b"[removed]")
        return Reply(status_of(response.status, raw), response.headers, body=raw)

    def _body(self, attempt: Attempt, model: str) -> bytes:
        """The payload with what the operator adds to every request."""
        config, more = self.config, self._fields.get(model)
        value: Any = attempt.payload.value
        if type(value) is not dict or (config.guardrail_id is None and not more):
            return attempt.payload.render()
        value = dict(value)
        if config.guardrail_id is not None:
            value["guardrailConfig"] = {
                "guardrailIdentifier": config.guardrail_id,
                "guardrailVersion": config.guardrail_version,
            }
        if more:
            asked = value.get("additionalModelRequestFields")
            value["additionalModelRequestFields"] = {**more, **asked} if type(asked) is dict else {**more}
        return JsonText.of(value).render()

    async def _authenticated(
        self, path: str, own: RawHeaders, body: bytes, secrets: list[bytes]
    ) -> RawHeaders:
        """The headers that authenticate this call; what must not come back in an error joins ``secrets``."""
        if self._source is None:
            return []
        found = await self._source.get()
        if isinstance(found, str):
            secrets.append(found.encode())
            return [(b"authorization", b"Bearer " + found.encode())]
        parts = (found.access_key, found.secret_key, found.token)
        secrets += [part.encode() for part in parts if len(part) >= MIN_SECRET]
        if len(body) > _LARGE:
            return await asyncio.to_thread(self._signed, found, path, own, body)
        return self._signed(found, path, own, body)

    def _signed(self, keys: Keys, path: str, own: RawHeaders, body: bytes) -> RawHeaders:
        from .signing import sign

        return sign(keys, self._aws_region, self._base + path, own, body, self.host.clock.now())

    async def _answer(self, exchange: Exchange, attempt: Attempt, response: UpstreamResponse) -> Reply:
        """An answer, told its id, its model and its time, which the API leaves to a header and to the caller."""
        kind = next((value for key, value in response.headers if key == b"content-type"), b"")
        id_ = next((value for key, value in response.headers if key == b"x-amzn-requestid"), b"")
        told = {
            "requestId": id_.decode("ascii", "replace") or exchange.id,
            "modelId": attempt.target.model,
            "created": int(self.host.clock.now()),
        }
        if kind.partition(b";")[0].strip().lower() == _FRAMES:
            opening = encode_event(orjson.dumps(told), b"response")
            return Reply(response.status, response.headers, chunks=EventFrames(response, opening))
        body = (await response.read()).lstrip()
        if body.startswith(b"{") and not body[1:].lstrip().startswith(b"}"):
            body = orjson.dumps(told)[:-1] + b"," + body[1:]
        return Reply(response.status, response.headers, body=body)
