"""What is not hot: models, health, the admin API, and the errors of routes that do not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..dialects.registry import ANTHROPIC, PLAIN, dialect_for_errors
from ..errors import Refusal
from ..exchange import Exchange, Principal, Target
from .admin import Admin, authenticated, json_response
from .models import anthropic_list, anthropic_model, openai_list, openai_model

if TYPE_CHECKING:
    from .app import Gateway

__all__ = ["build"]

METHODS = ["GET", "POST", "PUT", "DELETE"]


def build(gateway: Gateway, *, front: bool = True, admin: bool = True) -> Starlette:
    """The Starlette application for ``gateway``: what is not hot of its front door, and the admin API."""
    rest = _Rest(gateway)
    handlers: Any = {HTTPException: rest.on_http_error, Exception: rest.on_error, Refusal: rest.on_refusal}
    routes = [Route("/livez", rest.livez), Route("/readyz", rest.readyz)]
    if front:
        routes += [
            Route("/v1/models", rest.guarded(rest.models)),
            Route("/v1/models/{model:path}", rest.guarded(rest.model)),
        ]
    if admin:
        routes += [Route("/admin/v1/{path:path}", rest.admin, methods=METHODS)]
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class _Rest:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._admin = Admin(gateway)

    # -- health ---------------------------------------------------------------------------------
    async def livez(self, request: Request) -> Response:
        return json_response({"status": "alive"})

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
        return json_response(body, 200 if ready else 503)

    # -- behind the authenticators ----------------------------------------------------------------
    def guarded(
        self, handler: Callable[[Request, Exchange], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            gateway = self.gateway
            if gateway.draining:
                raise _draining()
            exchange = gateway.exchange(gateway.pipeline, request.scope, PLAIN)
            await authenticated(exchange, gateway.pipeline.authenticators)
            return await handler(request, exchange)

        return call

    async def models(self, request: Request, exchange: Exchange) -> Response:
        found = self._visible(exchange.principal)
        if _speaks_anthropic(request):
            return json_response(anthropic_list(found, request.query_params))
        return json_response(openai_list(found))

    async def model(self, request: Request, exchange: Exchange) -> Response:
        wanted = request.path_params["model"]
        for target in self._visible(exchange.principal):
            if target.model == wanted:
                return json_response(
                    (anthropic_model if _speaks_anthropic(request) else openai_model)(target)
                )
        raise Refusal(404, "model_not_found", "The model does not exist.", param="model")

    def _visible(self, principal: Principal | None) -> list[Target]:
        models = self.gateway.pipeline.catalogue.models()
        return [target for target in models if principal is None or principal.may_use(target.model)]

    async def admin(self, request: Request) -> Response:
        gateway = self.gateway
        if gateway.draining:
            raise _draining()
        return await self._admin.serve(request, gateway.exchange(gateway.pipeline, request.scope, PLAIN))

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


def _draining() -> Refusal:
    return Refusal(
        503, "draining", "The gateway is shutting down.", type="server_error",
        headers=((b"retry-after", b"1"), (b"connection", b"close")),
    )  # fmt: skip
