"""The admin API: authenticated by itself, a list of what may be written for each route, and every change audited.

A change that a policy refuses is remembered for a while under its own name (``change``), so that a second person can
look at it and approve it; the same caller's same request is then put before the policy again, with the approvers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ..admin import ADMIN, AdminCall, AdminRequest, AdminRoute, AuditEvent, holds
from ..compiler import ComponentFailed, Step
from ..errors import Refusal, ServiceError
from ..exchange import Exchange, Principal
from ..lifecycle import unauthenticated
from ..services.embedded import as_json
from ..streams import component_refusal, refusal_of
from ..verdicts import Deny

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from .app import Gateway

__all__ = ["Admin", "authenticated", "json_response"]

MAX_ADMIN_BODY = 1 << 20
MAX_RECEIPTS = 1000


class Admin:
    """Serves the admin API of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def serve(self, request: Request, exchange: Exchange) -> Response:
        """One call: authenticated, allowed, checked, done, audited.

        Raises:
            Refusal: it is not.
        """
        pipeline: Pipeline = exchange.pipeline
        if pipeline.config.admin is None:
            raise Refusal(404, "not_found", "There is no such route.")
        policies = await authenticated(exchange, pipeline.admin_steps)
        principal = exchange.principal
        if principal is None or not any(
            scope == ADMIN or scope.startswith("admin:") for scope in principal.scopes
        ):
            raise Refusal(403, "admin_only", "This needs a credential with the scope 'admin'.")
        component, route, params = self._found(pipeline, request)
        if not holds(principal, component, request.method):
            raise Refusal(
                403, "admin_only", f"This needs a credential with the scope 'admin' or 'admin:{component}'."
            )
        if request.method == "GET":
            asked = AdminRequest("GET", component, route.path, params)
            await _allowed(exchange, policies, asked)
            call = AdminCall(principal, None, dict(request.query_params), params, exchange.request_id)
            return json_response(await route.handler(call))
        return await self._change(request, exchange, principal, policies, component, route, params)

    # -- routes ---------------------------------------------------------------------------------
    def _own_routes(self) -> dict[str, list[AdminRoute]]:
        return {
            "pipeline": [AdminRoute("GET", "", self._pipeline)],
            "receipts": [AdminRoute("GET", "", self._receipts)],
            "approvals": [
                AdminRoute("GET", "{change}", self._pending),
                AdminRoute("POST", "{change}", self._approve),
            ],
        }

    def routes(self, pipeline: Pipeline) -> Iterator[tuple[str, AdminRoute]]:
        """Every route there is, with the component that serves it."""
        for component, routes in {**pipeline.admin_routes(), **self._own_routes()}.items():
            for route in routes:
                yield component, route

    def _found(self, pipeline: Pipeline, request: Request) -> tuple[str, AdminRoute, dict[str, str]]:
        path = request.path_params["path"].split("/")
        other_method = False
        for component, route in self.routes(pipeline):
            params = _matched(f"{component}/{route.path.strip('/')}".strip("/").split("/"), path)
            if params is not None and route.method == request.method:
                return component, route, params
            other_method = other_method or params is not None
        if other_method:
            raise Refusal(405, "method_not_allowed", "This route does not take this method.")
        raise Refusal(404, "not_found", "There is no such route.")

    async def _pipeline(self, call: AdminCall) -> Any:
        pipeline = self._gateway.pipeline
        health = {name: {"state": h.state, "detail": h.detail} for name, h in pipeline.health().items()}
        return {
            "pipeline": pipeline.describe(), "health": health, "failed_reload": self._gateway.failed_reload,
        }  # fmt: skip

    async def _receipts(self, call: AdminCall) -> Any:
        asked = call.query.get("limit", "100")
        limit = (
            min(MAX_RECEIPTS, int(asked)) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 100
        )
        return {"receipts": [as_json(receipt) for receipt in await self._gateway.host.ledger.recent(limit)]}

    # -- changes --------------------------------------------------------------------------------
    async def _change(
        self,
        request: Request,
        exchange: Exchange,
        principal: Principal,
        policies: tuple[Step, ...],
        component: str,
        route: AdminRoute,
        params: dict[str, str],
    ) -> Response:
        asked = AdminRequest(request.method, component, route.path, params)
        path = f"/{component}/{route.path.strip('/')}".rstrip("/").format_map(params)
        try:
            written = await _body(request)
            body = _checked(route, written)
            asked = await self._named(exchange, asked, path, written)
            await self._ruled(exchange, policies, asked, path, written)
            if asked.approvers:  # they approved it once
                await self._gateway.host.counters.remove(_approvals(asked.change))
            call = AdminCall(principal, body, dict(request.query_params), params, exchange.request_id)
            answer = await route.handler(call)
        except Refusal as refusal:
            self._audit(exchange, asked, path, "denied" if refusal.status < 500 else "failed", refusal.code)
            raise
        except ServiceError as error:
            self._audit(exchange, asked, path, "failed", "store_unavailable")
            raise Refusal(
                503, "store_unavailable", "A store is away; nothing is known to have changed.", type="server_error"
            ) from error  # fmt: skip
        except Exception:
            self._audit(exchange, asked, path, "failed", "internal_error")
            raise
        self._audit(exchange, asked, path, "success")
        return json_response(answer)

    async def _named(self, exchange: Exchange, asked: AdminRequest, path: str, written: Any) -> AdminRequest:
        """``asked`` with the name of this very change and those who have approved it."""
        principal = exchange.principal
        assert principal is not None
        actor = [principal.issuer, principal.tenant, principal.subject]
        what = orjson.dumps([actor, asked.method, path, written], option=orjson.OPT_SORT_KEYS)
        change = hashlib.sha256(what).hexdigest()[:32]
        stored = None
        with suppress(ServiceError):  # where the store is away, nobody has approved anything
            (stored,) = await self._gateway.host.counters.get([_approvals(change)])
        approvers = frozenset(orjson.loads(stored)) if stored else frozenset()
        return AdminRequest(asked.method, asked.component, asked.route, asked.params, change, approvers)

    async def _ruled(
        self, exchange: Exchange, policies: tuple[Step, ...], asked: AdminRequest, path: str, written: Any
    ) -> None:
        """Puts the change before the policies; one that is refused may be approved by somebody else."""
        try:
            await _allowed(exchange, policies, asked)
        except Refusal as refusal:
            principal, host = exchange.principal, self._gateway.host
            assert principal is not None
            if refusal.status == 403:
                pending = {
                    "change": asked.change, "actor": principal.subject, "tenant": principal.tenant, "issuer": principal.issuer,
                    "method": asked.method, "path": path, "body": written, "at": host.clock.now(),
                }  # fmt: skip
                with suppress(ServiceError):
                    await host.counters.put(_pending(asked.change), orjson.dumps(pending), self._ttl_s)
                refusal.headers = (*refusal.headers, (b"x-lmg-change", asked.change.encode()))
            raise

    async def _pending(self, call: AdminCall) -> Any:
        """What a refused change would do."""
        (stored,) = await self._gateway.host.counters.get([_pending(call.params["change"])])
        if stored is None:
            raise Refusal(404, "no_such_change", "No such change waits for approval.")
        return orjson.loads(stored)

    async def _approve(self, call: AdminCall) -> Any:
        """A second person's word for a refused change; its own actor's does not count."""
        pending = await self._pending(call)
        change, caller = pending["change"], call.principal
        if (pending["issuer"], pending["tenant"], pending["actor"]) == (
            caller.issuer,
            caller.tenant,
            caller.subject,
        ):
            raise Refusal(403, "own_change", "Nobody approves a change of their own.")
        counters = self._gateway.host.counters
        (stored,) = await counters.get([_approvals(change)])
        approvers = sorted({*(orjson.loads(stored) if stored else ()), caller.subject})
        await counters.put(_approvals(change), orjson.dumps(approvers), self._ttl_s)
        return {"change": change, "approvers": approvers}

    @property
    def _ttl_s(self) -> float:
        settings = self._gateway.pipeline.config.admin
        assert settings is not None
        return settings.approval_ttl_s

    def _audit(
        self,
        exchange: Exchange,
        asked: AdminRequest,
        path: str,
        outcome: Literal["success", "denied", "failed"],
        code: str = "",
    ) -> None:
        principal, host = exchange.principal, self._gateway.host
        assert principal is not None
        host.audit(
            AuditEvent(
                host.clock.now(), principal.subject, principal.tenant, f"{asked.method} {asked.component}/{asked.route}".rstrip("/"), path,
                outcome, code, exchange.request_id, exchange.head.client, tuple(sorted(asked.approvers)),
            )
        )  # fmt: skip


async def authenticated(exchange: Exchange, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Runs ``steps`` up to the last authenticator; returns those below it.

    Raises:
        Refusal: 401 where there are authenticators and none has claimed the caller.
    """
    last = max((n for n, step in enumerate(steps) if "principal" in step.provides), default=-1)
    await _run(exchange, steps[: last + 1])
    if last >= 0 and exchange.principal is None:
        raise unauthenticated(exchange.head)
    return steps[last + 1 :]


async def _run(exchange: Exchange, steps: tuple[Step, ...]) -> None:
    """A failure of one refuses, whatever its ``on_error``."""
    for step in steps:
        try:
            verdict = await step.call(exchange)
        except ComponentFailed as failed:
            raise component_refusal(failed) from failed
        if isinstance(verdict, Deny):
            raise refusal_of(verdict, step.name)


async def _allowed(exchange: Exchange, policies: tuple[Step, ...], asked: AdminRequest) -> None:
    exchange.set_fact("admin", asked)
    await _run(exchange, policies)


def _pending(change: str) -> str:
    return f"lmg/admin/pending/{change}"


def _approvals(change: str) -> str:
    return f"lmg/admin/approvals/{change}"


def _matched(pattern: list[str], path: list[str]) -> dict[str, str] | None:
    """The named parts of ``path`` where it has the shape of ``pattern``."""
    if len(pattern) != len(path):
        return None
    params: dict[str, str] = {}
    for want, have in zip(pattern, path, strict=True):
        if want.startswith("{"):
            if not have:
                return None
            params[want[1:-1]] = have
        elif want != have:
            return None
    return params


def _checked(route: AdminRoute, written: Any) -> Any:
    """The body as the route's model; what the model does not name is refused."""
    if route.body is None:
        if written is not None:
            raise Refusal(400, "invalid_request", "This route takes no body.")
        return None
    unknown = sorted(set(written) - _names(route)) if isinstance(written, Mapping) else []
    if unknown and len(unknown[0]) <= 64:
        raise Refusal(400, "invalid_request", "This field cannot be written here.", param=unknown[0])
    try:
        return route.body.model_validate(written if written is not None else {})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "body"
        raise Refusal(400, "invalid_request", f"{place}: {fault['msg']}", param=place) from None


def _names(route: AdminRoute) -> set[str]:
    assert route.body is not None
    return {field.alias or name for name, field in route.body.model_fields.items()}


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


def json_response(value: Any, status: int = 200) -> Response:
    """``value`` as a JSON answer that nobody keeps."""
    return Response(
        orjson.dumps(value), status, media_type="application/json", headers={"cache-control": "no-store"}
    )
