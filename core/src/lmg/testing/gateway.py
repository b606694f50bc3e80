"""A real gateway on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..admin import AuditEvent
from ..component import Component
from ..config import MeshConfig, validate
from ..exchange import Exchange, Receipt
from ..host import Clock, Host
from ..pipeline import draft
from ..provider import HttpProvider, HttpProviderConfig
from ..server.process import Process, listen
from ..sse import EventSplitter
from .upstream import ScriptedUpstream
from .upstream import reset as reset_connection

__all__ = ["ChatAnswer", "Harness", "RawClient", "Scripted"]


class Scripted(HttpProvider):
    """The harness's own provider: a ``ScriptedUpstream`` behind the real transport."""

    Config = HttpProviderConfig
    operations = frozenset({"chat", "embeddings"})


class _Seen(Component):
    """Listed first, so that its ``on_end`` is the last of all: keeps what has ended."""

    modes = frozenset({"enforce"})
    ended: list[Exchange]

    def on_end(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


@dataclass(slots=True)
class ChatAnswer:
    """What a client got. ``raw`` is the body as it came; ``broken`` tells that the framing did not end cleanly."""

    status: int
    headers: dict[str, str]
    raw: bytes
    broken: bool = False

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        """The events of a stream: JSON values, and ``"[DONE]"``."""
        splitter = EventSplitter()
        found = [event.data for event in (*splitter.feed(self.raw), *splitter.finish()) if event.data]
        return [data.decode() if data == b"[DONE]" else json.loads(data) for data in found]

    @property
    def text(self) -> str:
        """The assistant's text of the first choice, streamed or not."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return str(self.json["choices"][0]["message"]["content"])
        out = []
        for event in self.events:
            for choice in event.get("choices", []) if isinstance(event, dict) else []:
                out.append(choice["delta"].get("content") or "")
        return "".join(out)

    @property
    def error(self) -> Any:
        """The error object: of the body, or of a stream's last event; None where there is none."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            last = self.events[-1] if self.events else None
            return last.get("error") if isinstance(last, dict) else None
        return self.json.get("error")


class RawClient:
    """One connection to the gateway, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Writes ``data``."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, seconds: float = 10.0) -> tuple[int, dict[str, str]]:
        """Reads a response's head."""
        async with asyncio.timeout(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        return int(first.split(" ")[1]), {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    async def answer(self, seconds: float = 10.0) -> ChatAnswer:
        """Reads one whole response."""
        async with asyncio.timeout(seconds):
            status, headers = await self.head(seconds)
            if headers.get("transfer-encoding") == "chunked":
                parts: list[bytes] = []
                try:
                    while size := int(await self.reader.readuntil(b"\r\n"), 16):
                        parts.append((await self.reader.readexactly(size + 2))[:-2])
                    await self.reader.readexactly(2)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return ChatAnswer(status, headers, b"".join(parts), broken=True)
                return ChatAnswer(status, headers, b"".join(parts))
            length = int(headers.get("content-length", "0"))
            return ChatAnswer(status, headers, await self.reader.readexactly(length))

    async def closed(self, seconds: float = 10.0) -> bytes:
        """Reads until the gateway closes; returns what still came."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self, *, reset: bool = False) -> None:
        """Leaves: orderly (FIN), or with a reset."""
        if reset:
            reset_connection(self.writer.transport)
        else:
            self.writer.close()
        await asyncio.sleep(0)


class Harness:
    """``async with Harness({"pipeline": [...]}, classes={"my_guard": MyGuard}) as gateway:`` starts a gateway.

    ``mesh`` is mesh.yaml as a dictionary. ``classes`` maps component names to classes, for what is not installed.
    Without ``providers`` there is one, ``scripted``, that serves ``models`` from ``gateway.upstream``; or one for each
    name in ``upstreams`` (``scripted/<name>``, with these settings), from ``gateway.upstreams[name]``.
    """

    def __init__(
        self,
        mesh: Mapping[str, Any] | None = None,
        *,
        classes: Mapping[str, type[Any]] | None = None,
        models: Sequence[str] = ("test-model",),
        provider: Mapping[str, Any] | None = None,
        upstreams: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
        host: Host | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._mesh = dict(mesh or {})
        self._classes: dict[str, type[Any]] = {"scripted": Scripted, "_seen": _Seen, **(classes or {})}
        self._models = list(models)
        self._provider = dict(provider or {})
        self._clock = clock
        self._host = host
        self._client_tls = tls
        self.upstream = ScriptedUpstream()
        self._each_upstream = dict(upstreams or {})
        self.upstreams = {name: ScriptedUpstream() for name in self._each_upstream}
        self.exchanges: list[Exchange] = []
        self.audited: list[AuditEvent] = []
        self.process: Process
        self._reading: list[RawClient] = []

    @property
    def url(self) -> str:
        """The gateway's base URL."""
        return f"{'https' if self._mesh.get('server', {}).get('tls') else 'http'}://127.0.0.1:{self.process.port}"

    @property
    def host(self) -> Host:
        """The gateway's host."""
        return self.process.host

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of the exchanges that have ended, in order."""
        return [exchange.receipt for exchange in self.exchanges if exchange.receipt is not None]

    def read(self, mesh: Mapping[str, Any]) -> Any:
        """The checked blueprint of ``mesh``, with the harness's own provider and observer."""
        whole = dict(mesh)
        if self._each_upstream:
            whole["providers"] = {
                f"scripted/{name}": {
                    "endpoint": self.upstreams[name].url, "models": self._models, **self._provider, **settings,
                }
                for name, settings in self._each_upstream.items()
            }  # fmt: skip
        elif "providers" not in whole:
            whole["providers"] = {
                "scripted": {"endpoint": self.upstream.url, "models": self._models, **self._provider}
            }
        whole["pipeline"] = ["_seen", *whole.get("pipeline", [])]
        whole["server"] = {"watch": False, **whole.get("server", {}), "port": 0}
        whole.setdefault("admin", {})
        return draft(validate(MeshConfig, whole, (), None), classes=self._classes)

    async def reload(self, mesh: Mapping[str, Any]) -> bool:
        """Reloads with another configuration; False where it does not load."""
        before, self._mesh = self._mesh, dict(mesh)
        if await self.process.reload():
            self._observe()
            return True
        self._mesh = before
        return False

    async def __aenter__(self) -> Harness:
        for upstream in (self.upstream, *self.upstreams.values()):
            await upstream.__aenter__()
        try:
            self.process = Process(
                lambda: (self.read(self._mesh), ()), host=self._host or Host(clock=self._clock)
            )
            admin = self._mesh.get("admin") or {}
            if admin.get("port") is not None:
                self.process.use_admin_sockets(listen("127.0.0.1", admin["port"]))
            await self.process.start(listen("127.0.0.1", 0))
            self.process.host.audit_sinks.append(self.audited.append)
        except BaseException:
            await self._stop_upstreams()
            raise
        self._observe()
        return self

    def _observe(self) -> None:
        for _, component in self.process.gateway.pipeline.listed:
            if isinstance(component, _Seen):
                component.ended = self.exchanges

    async def _stop_upstreams(self) -> None:
        for upstream in (self.upstream, *self.upstreams.values()):
            await upstream.__aexit__()

    async def __aexit__(self, *_: object) -> None:
        for client in self._reading:
            client.writer.close()
        self.process.drain()
        await self.process.ended()
        await self._stop_upstreams()

    # -- clients --------------------------------------------------------------------------------
    async def connect(self) -> RawClient:
        """A raw connection."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.process.port, limit=2**26, ssl=self._client_tls
        )
        client = RawClient(reader, writer)
        self._reading.append(client)
        return client

    async def request(
        self,
        body: object,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> ChatAnswer:
        """One request on a connection of its own; ``body`` is bytes, or JSON."""
        client = await self.connect()
        await client.send(self.encode(body, path=path, method=method, headers=headers))
        try:
            return await client.answer(seconds)
        finally:
            await client.close()

    def encode(
        self,
        body: object,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """A request's bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {
            "host": f"127.0.0.1:{self.process.port}",
            "content-type": "application/json",
            "content-length": str(len(raw)),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + raw

    def body(
        self, text: str = "hello", *, model: str | None = None, stream: bool = False, **extra: Any
    ) -> dict[str, Any]:
        """A chat request."""
        body: dict[str, Any] = {
            "model": model or self._models[0],
            "messages": [{"role": "user", "content": text}],
        }
        if stream:
            body["stream"] = True
        return body | extra

    async def chat(
        self,
        text: str = "hello",
        *,
        model: str | None = None,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> ChatAnswer:
        """One chat completion, streamed or not; further keywords are fields of the request."""
        return await self.request(self.body(text, model=model, stream=stream, **extra), headers=headers)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> ChatAnswer:
        """One GET."""
        return await self.request(b"", path=path, method="GET", headers=headers)

    async def ended(self, count: int = 1, seconds: float = 10.0) -> Exchange:
        """Waits until ``count`` exchanges have ended; returns that one."""
        async with asyncio.timeout(seconds):
            while len(self.exchanges) < count:  # noqa: ASYNC110 - what ends is a list
                await asyncio.sleep(0.005)
        return self.exchanges[count - 1]
