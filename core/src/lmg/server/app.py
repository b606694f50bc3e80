"""The application: a dictionary look-up for what is hot, Starlette for the rest."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from ..dialects import Dialect
from ..dialects.registry import DIALECTS, PLAIN
from ..exchange import Exchange, Head
from ..lifecycle import Walk
from .client import AsgiClient

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..host import Host
    from ..pipeline import Pipeline

__all__ = ["Gateway"]

_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")


class Gateway:
    """The ASGI application of one process. ``pipeline`` is swapped whole on reload."""

    def __init__(self, host: Host, pipeline: Pipeline) -> None:
        self.host = host
        self.pipeline = pipeline
        self.draining = False
        self.failed_reload = ""
        self._prefix = f"req_{secrets.token_hex(6)}"
        self._numbers = itertools.count(1)
        self._rest: ASGIApp | None = None
        self.live = [pipeline]
        self.retiring: set[asyncio.Task[None]] = set()

    def new_id(self) -> str:
        """An id that no other exchange has."""
        return f"{self._prefix}{next(self._numbers):08x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await _lifespan(receive, send)
            return
        if kind != "http":
            return
        dialect = DIALECTS.get(scope["raw_path"])
        if dialect is None:
            await self.rest(scope, receive, send)
            return
        pipeline = self.pipeline
        client = AsgiClient(scope, receive, send, pipeline.config.server.limits)
        if pipeline.config.server.cors.allow_origins and await self._cors(scope, client):
            return
        if scope["method"] != "POST":
            await self.error(
                client, 405, "method_not_allowed", "This route takes POST.", [(b"allow", b"POST")], dialect
            )
            return
        if self.draining:
            await self.refuse_draining(client, dialect)
            return
        await self.serve(pipeline, self.exchange(pipeline, scope, dialect), client, scope)

    def exchange(self, pipeline: Pipeline, scope: Scope, dialect: Dialect) -> Exchange:
        """An exchange for the request whose head is ``scope``."""
        peer = scope.get("client")
        headers = scope["headers"]
        head = Head(scope["method"], scope["path"], headers, peer[0] if peer else "", scope.get("lmg.tls"))
        exchange = Exchange(self.host, pipeline, head, dialect.operation, dialect, self.new_id())
        asked = head.get(b"x-request-id")
        if asked is not None and _REQUEST_ID.match(asked):
            exchange.client_request_id = asked.decode()
        if pipeline.wants_timeline:
            exchange.timeline = []
        return exchange

    async def serve(self, pipeline: Pipeline, exchange: Exchange, client: AsgiClient, scope: Scope) -> None:
        """Runs an exchange; a client that leaves cancels it, until it settles."""
        task = asyncio.current_task()
        assert task is not None

        def gone() -> None:
            if not exchange.client_gone:
                exchange.client_gone = True
                if not exchange.settled:
                    task.cancel()

        scope["lmg.gone"] = gone
        pipeline.in_flight += 1
        try:
            await Walk(pipeline, exchange, client).run()
        finally:
            pipeline.in_flight -= 1
            # What refers to the turn and its task would keep all three for the collector.
            scope.pop("lmg.turn", None)
            scope.pop("lmg.gone", None)
            if pipeline is not self.pipeline and not pipeline.in_flight:
                self._retire(pipeline)

    def swap(self, pipeline: Pipeline) -> None:
        """Makes ``pipeline`` the running one; the old one ends with the last exchange that began in it."""
        old, self.pipeline = self.pipeline, pipeline
        pipeline.activate()
        self.live.append(pipeline)
        if not old.in_flight:
            self._retire(old)

    def _retire(self, pipeline: Pipeline) -> None:
        self.live.remove(pipeline)
        stopping = self.host.spawn(pipeline.stop(self.live), name="pipeline-stop")
        self.retiring.add(stopping)
        stopping.add_done_callback(self.retiring.discard)

    # -- refusals of the application's own ------------------------------------------------------
    async def error(
        self,
        client: AsgiClient,
        status: int,
        code: str,
        message: str,
        headers: list[tuple[bytes, bytes]] | None = None,
        dialect: Dialect = PLAIN,
    ) -> None:
        """An error outside any exchange, in the same shape as all others."""
        request_id = self.new_id()
        body = dialect.error_body(
            status,
            code,
            message,
            "invalid_request_error" if status < 500 else "server_error",
            None,
            request_id,
        )
        await client.whole(
            status,
            [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *([(dialect.id_header, request_id.encode())] if dialect.id_header else []),
                *(headers or []),
            ],
            body,
        )

    async def refuse_draining(self, client: AsgiClient, dialect: Dialect) -> None:
        """What new work gets while streams in flight finish."""
        await self.error(
            client,
            503,
            "draining",
            "The gateway is shutting down.",
            headers=[(b"retry-after", b"1"), (b"connection", b"close")],
            dialect=dialect,
        )

    async def _cors(self, scope: Scope, client: AsgiClient) -> bool:
        """Cross-origin answers; True where the request was a preflight and has been answered."""
        cors = self.pipeline.config.server.cors
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None or origin.decode("latin-1") not in cors.allow_origins:
            return False
        client.extra += [
            (b"access-control-allow-origin", origin),
            (b"vary", b"origin"),
            (b"access-control-expose-headers", b"x-request-id, retry-after"),
        ]
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
            return False
        allow: Any = [
            (b"access-control-allow-methods", b"GET, POST"),
            (
                b"access-control-allow-headers",
                b"anthropic-beta, anthropic-version, authorization, content-type, x-api-key, x-request-id",
            ),
            (b"access-control-max-age", b"%d" % cors.max_age_s),
        ]
        await client.whole(204, allow, b"")
        return True

    @property
    def rest(self) -> ASGIApp:
        """Starlette, with everything that is not hot; built when it is first needed."""
        if self._rest is None:
            from .rest import build

            admin = self.pipeline.config.admin
            self._rest = build(self, admin=admin is None or admin.port is None)
        return self._rest


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
