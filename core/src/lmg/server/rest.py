"""What is not hot: models, health, the admin API, and the errors of routes that do not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..compiler import ComponentFailed
from ..errors import Refusal
from ..exchange import Exchange, Principal, Target
from ..lifecycle import unauthenticated
from ..services.embedded import as_json
from ..streams import component_refusal, refusal_of
from ..verdicts import Deny
from .models import anthropic_list, anthropic_model, openai_list, openai_model

if TYPE_CHECKING:
    from .app import Gateway

__all__ = ["build"]

MAX_ADMIN_BODY = 1 << 20


def build(gateway: Gateway) -> Starlette:
    """The Starlette application for ``gateway``."""
    rest = _Rest(gateway)
    handlers: Any = {HTTPException: rest.on_http_error, Exception: rest.on_error, Refusal: rest.on_refusal}
    app = Starlette(
        routes=[
            Route("/livez", rest.livez),
            Route("/readyz", rest.readyz),
            Route("/v1/models", rest.guarded(rest.models)),
            Route("/v1/models/{model:path}", rest.guarded(rest.model)),
            Route(
                "/admin/v1/{path:path}", rest.guarded(rest.admin), methods=["GET", "POST", "PUT", "DELETE"]
            ),
        ],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    return app


class _Rest:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    # -- health ---------------------------------------------------------------------------------
    async def livez(self, request: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        gateway = self.gateway
        ready = gateway.pipeline.started and not gateway.draining
        # States only: this route is open, so what is wrong with a component is for the admin API and the log.
        states = {name: health.state for name, health in gateway.pipeline.health().items()}
        body = {
            "status": "ready" if ready else ("draining" if gateway.draining else "starting"),
            "degraded": states,
        }
        if gateway.failed_reload:
            body["degraded"] = {**states, "reload": "failed"}
        return _json(body, 200 if ready else 503)

    # -- behind the authenticators ----------------------------------------------------------------
    def guarded(
        self, handler: Callable[[Request, Exchange], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            gateway = self.gateway
            if gateway.draining:
                raise Refusal(
                    503,
                    "draining",
                    "The gateway is shutting down.",
                    type="server_error",
                    headers=((b"retry-after", b"1"), (b"connection", b"close")),
                )
            from ..dialects.registry import PLAIN

            exchange = gateway.exchange(gateway.pipeline, request.scope, PLAIN)
            for step in gateway.pipeline.authenticators:
                try:
                    verdict = await step.call(exchange)
                except ComponentFailed as failed:
                    raise component_refusal(failed) from failed
                if isinstance(verdict, Deny):
                    raise refusal_of(verdict, step.name)
            if gateway.pipeline.authenticators and exchange.principal is None:
                raise unauthenticated(exchange.head)
            return await handler(request, exchange)

        return call

    async def models(self, request: Request, exchange: Exchange) -> Response:
        found = self._visible(exchange.principal)
        if _speaks_anthropic(request):
            return _json(anthropic_list(found, request.query_params))
        return _json(openai_list(found))

    async def model(self, request: Request, exchange: Exchange) -> Response:
        wanted = request.path_params["model"]
        for target in self._visible(exchange.principal):
            if target.model == wanted:
                return _json((anthropic_model if _speaks_anthropic(request) else openai_model)(target))
        raise Refusal(404, "model_not_found", "The model does not exist.", param="model")

    def _visible(self, principal: Principal | None) -> list[Target]:
        allowed = principal.models if principal is not None else None
        return [
            target
            for target in self.gateway.pipeline.catalogue.models()
            if allowed is None or target.model in allowed
        ]

    async def admin(self, request: Request, exchange: Exchange) -> Response:
        principal = exchange.principal
        if principal is None or "admin" not in principal.scopes:
            raise Refusal(403, "admin_only", "This needs a credential with the scope 'admin'.")
        pipeline = self.gateway.pipeline
        path = request.path_params["path"]
        if path == "pipeline" and request.method == "GET":
            health = {name: {"state": h.state, "detail": h.detail} for name, h in pipeline.health().items()}
            return _json(
                {
                    "pipeline": pipeline.describe(),
                    "health": health,
                    "failed_reload": self.gateway.failed_reload,
                }
            )
        if path == "receipts" and request.method == "GET":
            asked = request.query_params.get("limit", "100")
            limit = min(1000, int(asked)) if asked.isdigit() and len(asked) < 6 else 100
            return _json(
                {"receipts": [as_json(receipt) for receipt in await pipeline.host.ledger.recent(limit)]}
            )
        for component, routes in pipeline.admin_routes().items():
            for route in routes:  # a component's name may have a `/` of its own
                if path == f"{component}/{route.path.strip('/')}" and route.method == request.method:
                    return _json(await route.handler(await _body(request), dict(request.query_params)))
        raise Refusal(404, "not_found", "There is no such route.")

    # -- errors ---------------------------------------------------------------------------------
    async def on_http_error(self, request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        message = {404: "There is no such route.", 405: "This route does not take this method."}.get(
            error.status_code, "The request is not valid."
        )
        headers = tuple(
            (name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()
        )
        return await self.on_refusal(request, Refusal(error.status_code, code, message, headers=headers))

    async def on_refusal(self, request: Request, refusal: Refusal) -> Response:
        from ..dialects.registry import ANTHROPIC, dialect_for_errors

        request_id = self.gateway.new_id()
        speaks = ANTHROPIC if _speaks_anthropic(request) else None
        body = (speaks or dialect_for_errors(request.scope.get("raw_path", b""))).error_body(
            refusal.status, refusal.code, refusal.message, refusal.type, refusal.param, request_id
        )
        response = Response(body, refusal.status, media_type="application/json")
        response.headers["x-request-id"] = request_id
        if speaks is not None:
            response.headers["request-id"] = request_id
        for name, value in refusal.headers:
            response.headers[name.decode()] = value.decode()
        return response

    async def on_error(self, request: Request, error: Exception) -> Response:
        return await self.on_refusal(
            request, Refusal(500, "internal_error", "The gateway failed.", type="server_error")
        )


def _speaks_anthropic(request: Request) -> bool:
    """Clients of the Anthropic API name its version in every request, those of others never."""
    return "anthropic-version" in request.headers


async def _body(request: Request) -> Any:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_ADMIN_BODY:
            raise Refusal(413, "body_too_large", f"The body is larger than {MAX_ADMIN_BODY} bytes.")
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        raise Refusal(400, "invalid_json", "The body is not valid JSON.") from None


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
