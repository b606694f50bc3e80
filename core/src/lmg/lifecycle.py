"""Runs one exchange: down the list to a model, and the answer back up. Settles once, ends once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from .attempts import Attempts, OpenStream
from .bounded import within
from .compiler import ComponentFailed, Plan, Step
from .credentials import credential_of
from .errors import MeshError, Refusal, UpstreamError
from .exchange import Exchange, Head, Request, Response, Target
from .failures import refusal_of_failure
from .jsontext import JsonText, JsonTextError
from .receipts import record_receipt
from .records import Usage
from .routing import check_allowed, routed
from .streams import component_refusal, refusal_of, review_whole
from .verdicts import Answer, Deny, Finding, Later

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["Client", "Walk"]

log = logging.getLogger("lmg")
RawHeaders = list[tuple[bytes, bytes]]
LIMITS: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")


class Client(Protocol):
    """The client's side of an exchange, as the lifecycle sees it."""

    async def read_body(self) -> bytes:
        """The whole body; raises Refusal (413, 408) at the bounds."""

    async def whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Sends a complete answer."""

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Sends the head of a stream."""

    async def write(self, data: bytes) -> None:
        """Sends bytes of a stream; waits while the client does not read."""

    async def end(self) -> None:
        """Ends the stream's framing cleanly."""


class Walk:
    """One exchange on its way."""

    __slots__ = ("client", "exchange", "laters", "pipeline")

    def __init__(self, pipeline: Pipeline, exchange: Exchange, client: Client) -> None:
        self.pipeline = pipeline
        self.exchange = exchange
        self.client = client
        self.laters: list[tuple[Step, asyncio.Future[Any]]] = []

    @property
    def plan(self) -> Plan:
        """The exchange's: a policy may change the modes of what is below it."""
        return self.exchange.plan

    # -- the whole of it ----------------------------------------------------------------------
    async def run(self) -> None:
        """Serves the exchange, whatever happens to it. Returns when ``on_end`` has run."""
        exchange = self.exchange
        try:
            await self._serve()
        except Refusal as refusal:
            await self._refuse(refusal)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            if exchange.client_gone:
                exchange.ended, exchange.status = "cancelled", exchange.status or 499
            else:
                # The drain time is over: the client is told, and what was used is settled.
                await self._refuse(
                    Refusal(503, "shutting_down", "The gateway is shutting down.", type="server_error")
                )
        except Exception as error:  # the last resort
            log.exception("internal_error exchange=%s", exchange.id, exc_info=error)
            await self._refuse(
                Refusal(
                    500,
                    "internal_error",
                    "The gateway failed.",
                    type="server_error",
                    reason=type(error).__name__,
                )
            )
        finally:
            for _, later in self.laters:
                later.cancel()
            if not exchange.settled:
                await self._settle_shielded()
            self.end()

    async def _serve(self) -> None:
        answer = await self.down()
        if isinstance(answer, Response):
            await self._send_whole(answer)
        else:
            await self._send_stream(answer)

    # -- down ---------------------------------------------------------------------------------
    async def down(self) -> Response | OpenStream:
        """From the head to an answer: whole and reviewed, or an open stream."""
        exchange = self.exchange
        if exchange.plan.on_request_head:
            given = await self._request_steps(exchange.plan.on_request_head)
            if given is not None:
                return await self._answered(*given)
        await self.read_request()
        if exchange.plan.on_request:
            given = await self._request_steps(exchange.plan.on_request)
            if given is not None:
                return await self._answered(*given)
        targets = await routed(exchange)
        if self.laters:
            await self._join(upstream=True)
        answer = await Attempts(self).run(targets)
        if isinstance(answer, OpenStream):
            return answer
        return await self._review(answer, self.plan.up_whole)

    async def read_request(self) -> None:
        """Reads and parses the body, and takes the gateway's own fields out of it."""
        exchange = self.exchange
        content_type = _content_type(exchange)
        raw = exchange.raw_body = await self.client.read_body()
        try:
            body = exchange.dialect.read_request(raw, content_type, max_depth=self.pipeline.max_json_depth)
        except JsonTextError as error:
            raise Refusal(400, error.code, str(error)) from None
        exchange.dialect.check(body.value)
        exchange.request = request = Request(exchange.dialect, body)
        for name in exchange.dialect.own_fields:
            value = body.get(name)
            if value is not None:
                exchange.set_fact(name, value)
            request.body = request.body.remove((name,))

    async def _request_steps(self, steps: Sequence[Step]) -> tuple[Step, Answer] | None:
        exchange = self.exchange
        plan = exchange.plan
        for step in steps:
            if exchange.plan is not plan:
                return await self._request_steps(_rest(exchange, step))
            if self.laters:
                await self._join(before=step)
            try:
                verdict = await step.call(exchange)
            except ComponentFailed as failed:
                if step.allow and step is not self.pipeline.auth_gate:
                    continue
                raise component_refusal(failed) from failed
            if isinstance(verdict, Deny):
                raise refusal_of(verdict, step.name)
            if step is self.pipeline.auth_gate and exchange.principal is None:
                raise unauthenticated(exchange.head)
            if verdict is None:
                continue
            if isinstance(verdict, Answer):
                return step, verdict
            if isinstance(verdict, Later):
                self.laters.append((step, asyncio.ensure_future(_checked(verdict.check, step.timeout_s))))
            else:
                step.record_failure(exchange, TypeError())
                if not step.allow:
                    raise component_refusal(
                        ComponentFailed(step, f"returned {type(verdict).__name__}, which is no verdict")
                    )
        return None

    async def _join(self, *, before: Step | None = None, upstream: bool = False) -> None:
        """Waits for the checks whose facts ``before`` reads, for those due before the upstream, or for all."""
        exchange = self.exchange
        due = [
            (step, later)
            for step, later in self.laters
            if (before is None and (not upstream or not step.join_answer))
            or (before is not None and before.uses & frozenset(step.provides))
        ]
        if not due:
            return
        self.laters = [pair for pair in self.laters if pair not in due]
        for step, later in due:
            try:
                found = await later
            except Exception as error:
                step.record_failure(exchange, error)
                if step.allow:
                    continue
                raise component_refusal(ComponentFailed(step, type(error).__name__, error)) from error
            if isinstance(found, Deny):
                raise refusal_of(found, step.name)
            if isinstance(found, Finding):
                for name, value in found.facts.items():
                    exchange.set_fact(name, value)
                for signal in found.signals:
                    exchange.signal(signal)

    # -- up -----------------------------------------------------------------------------------
    async def _answered(self, step: Step, answer: Answer) -> Response:
        """A component's own answer, reviewed by those above it and no others."""
        exchange = self.exchange
        if exchange.request is None:
            await self.read_request()
        check_allowed(exchange)  # as on the way to a target: who may not ask gets no kept answer either
        try:
            kind = next(
                (value for name, value in answer.headers if name == b"content-type"), b"application/json"
            )
            body = exchange.dialect.read_answer(answer.body, kind, strict=True)
        except (JsonTextError, UpstreamError) as error:
            raise component_refusal(
                ComponentFailed(step, "its answer is not what its type says", error)
            ) from error
        response = Response(
            exchange.dialect, answer.status, body, list(answer.headers), replay=exchange.request.stream
        )
        exchange.usage = Usage(estimated=False)
        exchange.replay_of = answer.replay_of
        return await self._review(response, tuple(s for s in self.plan.up_whole if s.index < step.index))

    async def _review(self, response: Response, steps: Sequence[Step]) -> Response:
        exchange = self.exchange
        if self.laters:
            await self._join()
        for step in steps:
            if step.hook == "on_stream":
                if response.status < 400:
                    response.body = await review_whole(exchange, step, response.body)
                continue
            before = response.body
            try:
                verdict = await step.call(exchange, response)
            except ComponentFailed as failed:
                response.body = before
                if step.allow:
                    continue
                raise component_refusal(failed) from failed
            if step.shadow:
                response.body = before
            if isinstance(verdict, Deny):
                raise refusal_of(verdict, step.name)
        return response

    async def _send_whole(self, response: Response) -> None:
        exchange = self.exchange
        exchange.ended = "complete" if response.status < 400 else "failed"
        exchange.status = response.status
        if response.replay and response.status < 400 and exchange.dialect.streams:
            wanted = exchange.dialect.asked_for_usage(exchange.request.sent.value)
            events = exchange.dialect.replay(response.body.value, usage=wanted)
            await self.settle()
            await self._commit_stream(response.headers)
            await self._write(b"".join(events))
            await self.client.end()
            return
        await self.settle()
        body = response.body.render()
        await self._whole(response.status, response.headers, body)

    async def _whole(self, status: int, headers: RawHeaders, body: bytes) -> None:
        exchange = self.exchange
        headers = [
            *_with(exchange.reply_headers, headers),
            (b"content-length", b"%d" % len(body)),
            *exchange.id_headers,
        ]
        exchange.committed = True
        await self.client.whole(status, headers, body)
        exchange.bytes_sent += len(body)

    async def _commit_stream(self, headers: RawHeaders) -> None:
        exchange = self.exchange
        exchange.status = 200
        head = [
            *(
                pair
                for pair in _with(exchange.reply_headers, headers)
                if pair[0] not in (b"content-type", b"content-length", b"x-request-id")
            ),
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *exchange.id_headers,
        ]
        exchange.committed = True
        await self.client.start(200, head)

    async def _write(self, data: bytes) -> None:
        exchange = self.exchange
        exchange.bytes_sent += len(data)
        await self.client.write(data)

    async def _send_stream(self, stream: OpenStream) -> None:
        """Pumps an open stream to the client; its attempt ends, then it settles, then the terminal event leaves."""
        exchange = self.exchange
        try:
            stream = await self._pump(stream)
        except UpstreamError as error:
            raise refusal_of_failure(error, None, exchange.dialect.kept_statuses) from error
        terminal = stream.terminal
        exchange.ended = "complete"
        await self.settle()
        if not exchange.committed:
            await self._commit_stream(stream.headers)
        await self._write(terminal)
        await self.client.end()
        await stream.drain()

    async def _pump(self, stream: OpenStream) -> OpenStream:
        """Pumps up to the terminal event; a stream that broke goes on with another where somebody asks for it."""
        while True:
            try:
                if self.laters:
                    await self._join()
                await stream.pump(self)
                return stream
            except UpstreamError as error:
                resumed: OpenStream | None = None
                try:
                    if self.exchange.committed and self.plan.on_failure:
                        await stream.give_up(self, None, error)
                        resumed = await Attempts(self).resume(stream, error)
                finally:
                    if resumed is None:
                        await stream.fail(self, None, error)
                if resumed is None:
                    raise
                stream = resumed
            except Refusal as refusal:
                await stream.fail(self, refusal, None)
                raise
            except asyncio.CancelledError:
                await stream.cancelled(self)
                raise

    async def _refuse(self, refusal: Refusal) -> None:
        """Ends the exchange with the kernel's own text: a status before commit, an error event after it."""
        exchange = self.exchange
        exchange.code = refusal.code
        if exchange.ended != "complete":
            exchange.ended = "failed" if refusal.status >= 500 else "refused"
        if not exchange.committed:
            exchange.status = refusal.status
        log.info(
            "refused exchange=%s status=%d code=%s reason=%s",
            exchange.id,
            refusal.status,
            refusal.code,
            refusal.reason,
        )
        if not exchange.settled:
            try:
                await self.settle()
            except Refusal as withheld:
                refusal = withheld
                exchange.status = exchange.status if exchange.committed else refusal.status
                exchange.code = refusal.code
        args = (
            refusal.status,
            refusal.code,
            refusal.message,
            refusal.type,
            refusal.param,
            exchange.request_id,
        )
        if exchange.committed:
            event = exchange.dialect.error_event(*args)
            await self._write(event)
            await self.client.end()
        else:
            headers = [(b"content-type", b"application/json"), *refusal.headers]
            await self._whole(refusal.status, headers, exchange.dialect.error_body(*args))

    async def review_refusal(self, refusal: Refusal) -> Refusal:
        """An upstream's error text, reviewed like an answer before it may be shown."""
        exchange = self.exchange
        raw = exchange.dialect.error_body(
            refusal.status, refusal.code, refusal.message, refusal.type, refusal.param, exchange.request_id
        )
        response = await self._review(
            Response(exchange.dialect, refusal.status, JsonText.parse(raw), []), self.plan.on_response
        )
        text = response.body.get("error", "message")
        return Refusal(
            refusal.status, refusal.code, text if isinstance(text, str) else "", type=refusal.type, param=refusal.param,
            reason=refusal.reason, headers=refusal.headers,
        )  # fmt: skip

    # -- forks --------------------------------------------------------------------------------
    async def attempt_only(self, target: Target) -> Response:
        """One attempt at ``target`` without routing: what a fork is."""
        answer = await Attempts(self).run((target,))
        assert isinstance(answer, Response), "a fork asks for no stream"
        return answer

    async def settle_and_end(self) -> None:
        """The last two hooks of a fork."""
        if not self.exchange.settled:
            await self._settle_shielded()
        self.end()

    # -- the end ------------------------------------------------------------------------------
    async def settle(self) -> None:
        """``on_settle``, once, then the receipt.

        Raises:
            Refusal: a component failed under ``on_error: deny``: the ending is withheld.
        """
        exchange = self.exchange
        if exchange.settled:
            return
        exchange.settled = True
        failed: ComponentFailed | None = None
        if self.plan.on_settle:
            deadline = time.monotonic() + self.pipeline.settle_s
            for step in self.plan.on_settle:
                try:
                    if step.is_async:
                        await within(max(0.001, deadline - time.monotonic()), step.call(exchange))
                    else:  # nothing can be cut there; what it may give to wait for has the step's own limit
                        await step.call(exchange)
                except (ComponentFailed, TimeoutError) as error:
                    if not isinstance(error, ComponentFailed):
                        step.record_failure(exchange, error)
                        error = ComponentFailed(step, "past the deadline of on_settle", error)
                    failed = failed or (None if step.allow else error)
        record_receipt(self.exchange)
        if failed is not None and exchange.ended != "cancelled":
            raise component_refusal(failed)

    async def _settle_shielded(self) -> None:
        """Settles after a disconnect or a failure, whatever else is cancelled meanwhile."""
        exchange = self.exchange
        if not self.plan.on_settle:
            exchange.settled = True
            record_receipt(self.exchange)
            return
        task = asyncio.get_running_loop().create_task(self._settle_quietly())
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    return

    async def _settle_quietly(self) -> None:
        try:
            await self.settle()
        except MeshError as error:
            log.warning("settle_failed exchange=%s error=%s", self.exchange.id, type(error).__name__)

    def end(self) -> None:
        """``on_end``: exactly once and last; a failure is counted and logged."""
        exchange = self.exchange
        for step in self.plan.on_end:
            if step.when is not None and not step.applies(exchange):
                continue
            try:
                step.fn(exchange)
            except Exception as error:  # noqa: BLE001 - the plugin barrier
                step.record_failure(exchange, error)

    # -- explained ------------------------------------------------------------------------------
    async def explain(self) -> tuple[Target, ...] | Answer:
        """The walk down as ``down`` makes it, up to the targets that would be tried: calls no upstream.

        Raises:
            Refusal: the exchange would be refused.
        """
        given = await self._request_steps(self.plan.on_request_head)
        if given is None:
            await self.read_request()
            given = await self._request_steps(self.plan.on_request)
        if given is not None:
            return given[1]
        targets = await routed(self.exchange)
        await self._join()
        return targets


def _rest(exchange: Exchange, step: Step) -> tuple[Step, ...]:
    """The steps from ``step`` on, of the plan that has taken the place of the one that was walked so far."""
    request: Request | None = exchange.request
    steps = exchange.plan.on_request_head if request is None else exchange.plan.on_request
    return tuple(one for one in steps if one.index >= step.index)


def _with(ours: Mapping[bytes, bytes], theirs: RawHeaders) -> RawHeaders:
    """The upstream's headers and those of components, which win. Limits are told of one place: ours, where we have some."""
    if not ours:
        return theirs
    kept = [pair for pair in theirs if pair[0] not in ours]
    if any(name.startswith(LIMITS) for name, _ in kept) and any(name.startswith(LIMITS) for name in ours):
        kept = [pair for pair in kept if not pair[0].startswith(LIMITS)]
    return [*kept, *ours.items()]


def _content_type(exchange: Exchange) -> bytes:
    """What the body is sent as, refused where the dialect does not take it; empty where nothing is said and JSON will do."""
    stated = exchange.head.all(b"content-type")
    taken = exchange.dialect.content_types
    if len(stated) == 1 and stated[0] in taken:
        return stated[0]
    kinds = {value.partition(b";")[0].strip().lower() for value in stated} or {b"application/json"}
    if all(kind in taken or (kind.endswith(b"+json") and b"application/json" in taken) for kind in kinds):
        if len(stated) < 2:
            return stated[0] if stated else b""
        raise Refusal(400, "invalid_request", "The request has more than one Content-Type.")
    known = " or ".join(sorted(kind.decode() for kind in taken))
    raise Refusal(415, "unsupported_media_type", f"The body must be sent as {known}.")


def unauthenticated(head: Head) -> Refusal:
    """The 401 of an exchange that no authenticator has claimed."""
    given = credential_of(head) is not None
    return Refusal(
        401, "invalid_api_key" if given else "missing_credential",
        "The credential is not valid." if given else "No credential was given: send 'Authorization: Bearer <key>'.",
        headers=((b"www-authenticate", b"Bearer"),),
    )  # fmt: skip


async def _checked(check: Awaitable[Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await check
