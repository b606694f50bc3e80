"""A streamed answer between its first event and its end: what passes, what is held, what counts as broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import orjson

from .bounded import Deadline
from .compiler import ComponentFailed
from .dialects import DONE, EventKind, StreamEvent
from .dialects.wire import Codec, StreamFault
from .errors import Refusal, Stage, UpstreamError
from .exchange import Attempt, Exchange, Outcome, Usage
from .failures import StatusFailure, fault_of
from .provider import ProviderConfig, Reply
from .scope import Scope
from .sse import EventSplitter, SseEvent
from .streams import FilterChain, Held, StreamFilter, component_refusal, refusal_of
from .upstream import Tapped
from .verdicts import Deny

if TYPE_CHECKING:
    from .compiler import Step
    from .lifecycle import Walk

__all__ = ["OpenStream"]

MAX_OPENING = 64
MAX_WRITTEN = 2**20
_NO_EVENTS: list[SseEvent] = []


@runtime_checkable
class Direct(Protocol):
    """A client that can be written to without waiting, as long as it is ready."""

    def ready(self) -> bool:
        """Whether it reads as fast as it is written to."""

    def push(self, data: bytes) -> None:
        """Writes bytes of the stream."""


class OpenStream:
    """One attempt's answer as events. ``open`` goes as far as the first output, so that a failure before it
    can still move on; ``pump`` goes on to the terminal event, which is left for after ``on_settle``.
    """

    __slots__ = (
        "_aside", "_chunks", "_dialect", "_fault", "_hide_usage", "_keeps_text", "_opened", "_opening", "_pending", "_reply", "_scope",
        "_splitter", "_stall_s", "chain", "deltas", "finished", "headers", "spent", "spliced", "terminal",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        reply: Reply,
        config: ProviderConfig,
        headers: list[tuple[bytes, bytes]],
        before: OpenStream | None = None,
    ) -> None:
        assert reply.chunks is not None
        exchange = scope.exchange
        self._scope = scope
        self._reply = reply
        self._chunks = reply.chunks
        self._dialect = exchange.dialect
        self._splitter = EventSplitter(max_event_bytes=self._dialect.max_event_bytes)
        self._stall_s = config.stall_timeout_ms / 1000
        self._hide_usage = not self._dialect.asked_for_usage(exchange.request.sent.value)
        self._fault: Exception | None = None
        self._opened = False
        self._opening: list[StreamEvent] = []
        self._pending: list[bytes] = []
        # What is no part of the answer waits with it where the filters hold all of it: it must not be what commits.
        self._aside: list[bytes] = []
        self.headers = headers
        self._keeps_text = exchange.pipeline.keeps_text
        self.spent: Usage | None = None
        # Events of a resumed answer go on beneath the filters that the broken one has opened.
        self.spliced = before is not None
        self.chain: FilterChain = FilterChain(exchange, ()) if before is None else before.chain
        self.deltas = 0
        self.finished = False
        self.terminal = b""

    @property
    def attempt(self) -> Attempt:
        """The attempt whose answer this is."""
        return self._scope.attempt

    # -- before commit ------------------------------------------------------------------------
    async def open(self, walk: Walk, limit: Deadline) -> None:
        """Reads on until something can leave for the client (or the answer is complete).

        Raises:
            UpstreamError: the stream failed; nothing has left.
            Refusal: a filter denied.
        """
        loop = walk.pipeline.loop
        async for chunk in self._chunks:
            await self._take(walk, self._splitter.feed(chunk))
            if self._pending or self.terminal:
                return
            if self._opened:
                limit.rearm(
                    min(
                        loop.time() + self._stall_s,
                        self._scope.attempt.deadline - time.monotonic() + loop.time(),
                    )
                )
        await self._take(walk, self._splitter.finish())
        if not self.terminal:
            raise self._ended_early("first_token")

    async def _take(self, walk: Walk, events: Sequence[SseEvent]) -> None:
        """Handles events into ``_pending``; sets ``terminal`` at the terminal one and ignores what follows."""
        pending = self._pending
        kind_of = self._dialect.kind
        for sse in events:
            if self.terminal:
                return
            kind = kind_of(sse, opened=self._opened)
            if kind == "delta" and _torn(sse):
                raise self._torn_event()
            if self._keeps_text and kind in ("delta", "finish"):
                self._keep_text(walk.exchange, sse)
            if kind == "delta" and self._opened:
                chain = self.chain
                if not chain:
                    self.deltas += 1
                    pending.append(sse.raw)
                    continue
                if not chain.has_async:
                    self.deltas += 1
                    for out in chain.feed_now(StreamEvent(self._dialect, sse, kind)):
                        pending.append(out.raw)
                    continue
            await self._take_other(walk, sse, kind)

    async def _take_other(self, walk: Walk, sse: SseEvent, kind: EventKind) -> None:  # noqa: C901 - one branch a kind
        """Every event but a delta on the fast path."""
        if kind == "other":
            if self._opened:
                (self._aside if self._all_held(walk) else self._pending).append(sse.raw)
                del self._aside[MAX_OPENING:]
            elif len(self._opening) < MAX_OPENING:
                self._opening.append(StreamEvent(self._dialect, sse, kind))
            return
        if kind == "error":
            raise self._error_event(sse, committed=walk.exchange.committed)
        exchange = walk.exchange
        if sse.data != DONE and (kind in ("usage", "finish", "done") or b'"usage"' in (sse.data or b"")):
            usage = self._dialect.usage(orjson.loads(sse.data or b"null"), exchange.usage)
            if usage is not None:
                exchange.usage = usage
        event = StreamEvent(self._dialect, sse, kind)
        if not self._opened:
            real = sum(1 for held in self._opening if held.kind == "open")
            if kind == "open" and not real:
                self._opening.append(
                    event
                )  # held until the next one, so that a failure there can still move on
                return
            self._opened = True
            now = time.monotonic()
            self._scope.attempt.first_byte_at = now
            if exchange.first_token_at is None:
                exchange.first_token_at = now
            if not self.spliced:
                await self._open_filters(walk)
                for held in self._opening:
                    await self._pass(held)
            self._opening = []
        if kind == "delta":
            self.deltas += 1
        elif kind == "finish":
            self.finished = True
        if kind == "done":
            for untold in self.chain.untold(event):
                await self._pass(untold)
            for last in await self.chain.finish():
                self._pending.append(last.raw)
            self._pending += self._aside
            self.terminal = self.chain.out(event).raw
        elif kind != "usage":
            await self._pass(event)
        elif not self._hide_usage:
            if self._all_held(walk):
                # It says that the answer is complete, and that is not known before the terminal event.
                self._aside.append(sse.raw)
                return
            if self.chain:
                # Held text must not come after the usage event, which says that the answer is complete.
                for last in await self.chain.finish():
                    self._pending.append(last.raw)
            self._pending.append(sse.raw)

    def _all_held(self, walk: Walk) -> bool:
        """Whether the filters have let nothing go yet of an answer that has begun."""
        return bool(self.chain) and not self._pending and not walk.exchange.committed

    def _keep_text(self, exchange: Exchange, sse: SseEvent) -> None:
        """Keeps the answer's text as the upstream sent it, for whoever may have it continued elsewhere."""
        try:
            # Not strictly: whoever reviews the event reads it so.
            value = orjson.loads(sse.data or b"null")
        except orjson.JSONDecodeError:
            raise self._torn_event() from None
        for delta in self._dialect.deltas(value):
            if exchange.written is not None and delta.role == "assistant" and delta.path[-1] == "content":
                exchange.written += delta.text
            else:  # reasoning, a call of a tool, a citation: nothing that another model could go on from
                exchange.written = None
        if exchange.written is not None and len(exchange.written) > MAX_WRITTEN:
            exchange.written = None

    async def _pass(self, event: StreamEvent) -> None:
        if self.chain and event.kind != "other":
            for out in await self.chain.feed(event):
                self._pending.append(out.raw)
        else:
            self._pending.append(event.sse.raw)

    async def _open_filters(self, walk: Walk) -> None:
        exchange = walk.exchange
        found: list[tuple[Step, StreamFilter]] = []
        try:
            for step in walk.plan.up_stream:
                if step.hook == "on_response":
                    if step.when is None or step.applies(exchange):
                        found.append((step, Held(step, exchange, walk.pipeline.max_held_bytes)))
                    continue
                try:
                    opened = await step.call(exchange)
                except ComponentFailed as failed:
                    if step.allow:
                        continue
                    raise component_refusal(failed) from failed
                if isinstance(opened, Deny):
                    raise refusal_of(opened, step.name)
                if opened is not None:
                    found.append((step, opened))
        finally:
            self.chain = FilterChain(exchange, found)

    # -- after commit -------------------------------------------------------------------------
    async def pump(self, walk: Walk) -> None:
        """Passes events on as they arrive, up to the terminal one. The client's pace is the upstream's.

        Raises:
            UpstreamError: the stream broke, stalled, or ended without its terminal event.
            Refusal: a filter denied.
        """
        loop = walk.pipeline.loop
        end = loop.time() + self._scope.attempt.deadline - time.monotonic()
        stall_s = self._stall_s
        pending = self._pending
        chunks = self._chunks
        try:
            with Deadline(loop, min(end, loop.time() + stall_s)) as limit:
                await self._send(walk, limit)
                if not self.terminal:
                    if isinstance(chunks, Tapped):
                        chunks.tap = self._direct(walk, limit, end)
                    async for chunk in chunks:
                        if self._fault is not None:
                            raise self._fault
                        try:
                            await self._take(walk, self._splitter.feed(chunk))
                        except UpstreamError:
                            await self._send(walk, limit)  # what came in the same read, before the fault
                            raise
                        if pending:
                            await self._send(walk, limit)
                        limit.push(min(end, loop.time() + stall_s))
                        if self.terminal:
                            break
                    else:
                        await self._take(walk, self._splitter.finish())
                        await self._send(walk, limit)
        except TimeoutError:
            raise UpstreamError(
                "stream", "timeout", f"no event for {stall_s:.1f} s, or past the deadline"
            ) from None
        finally:
            if isinstance(chunks, Tapped):
                chunks.tap = None
        if not self.terminal:
            raise self._ended_early("stream")
        await self._account(walk, Outcome("complete", http_status=self._reply.status))
        self.chain.close()

    def _direct(self, walk: Walk, limit: Deadline, end: float) -> Callable[[bytes], bool] | None:
        """What takes a chunk while the pump waits for one, so that its task need not wake: a plain delta, and no more."""
        loop, exchange, client = walk.pipeline.loop, walk.exchange, walk.client
        stall_s, dialect, chain = self._stall_s, self._dialect, self.chain
        single, kind_of = self._splitter.single, self._dialect.kind
        if chain.has_async or self._keeps_text or not isinstance(client, Direct):
            return None

        def take(chunk: bytes) -> bool:
            sse = single(chunk)
            if sse is None or not client.ready() or kind_of(sse, opened=True) != "delta" or _torn(sse):
                return False
            if chain:
                try:
                    chunk = b"".join([out.raw for out in chain.feed_now(StreamEvent(dialect, sse, "delta"))])
                except Exception as error:  # noqa: BLE001 - the pump raises it, where it is told apart
                    self._fault = error
                    return False
            self.deltas += 1
            if chunk:
                exchange.bytes_sent += len(chunk)
                client.push(chunk)
            limit.push(min(end, loop.time() + stall_s))
            return True

        return take

    async def _send(self, walk: Walk, limit: Deadline) -> None:
        pending = self._pending
        if not pending:
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        limit.active = False
        if not walk.exchange.committed:
            await walk._commit_stream(self.headers)
        await walk._write(data)
        limit.active = True

    def abandon(self, walk: Walk) -> bool:
        """Before commit: counts what an answer has used that is given up; whether there was one."""
        if self._opened:
            self._estimate(walk)
        if not self.spliced:
            self.chain.close()
        return self._opened

    async def fail(self, walk: Walk, refusal: Refusal | None, error: UpstreamError | None) -> None:
        """Ends the attempt of a stream that broke (``error``) or that a component refused (``refusal``)."""
        await self.give_up(walk, refusal, error)
        await self._close()

    async def give_up(self, walk: Walk, refusal: Refusal | None, error: UpstreamError | None) -> None:
        """Ends the attempt and its upstream call; the filters stay open for an answer that may go on."""
        if self._scope.attempt.outcome is None:
            outcome = Outcome("failed" if error is not None else "cancelled", error, self._reply.status)
            await self._account(walk, outcome)
        await self._close_upstream()

    async def cancelled(self, walk: Walk) -> None:
        """Ends the attempt of a stream whose client has left: the upstream call is closed at once."""
        await self._close()
        await self._account(walk, Outcome("cancelled", None, self._reply.status))

    async def drain(self) -> None:
        """After the terminal event: reads what ends the upstream's framing, so that its connection can be kept."""
        try:
            async with asyncio.timeout(1.0):
                async for _ in self._chunks:
                    pass
        except (TimeoutError, UpstreamError):
            pass
        finally:
            await self._close()

    async def _close(self) -> None:
        self.chain.close()
        await self._close_upstream()

    async def _close_upstream(self) -> None:
        closer = getattr(self._chunks, "aclose", None)
        if closer is not None:
            await closer()

    async def _account(self, walk: Walk, outcome: Outcome) -> None:
        """Ends the attempt with what it used; the exchange has used that and what the broken ones had."""
        self._estimate(walk)
        await self._scope.close(outcome)
        if self.spent is not None:
            spent, self.spent = self.spent, None
            walk.exchange.usage = spent.plus(walk.exchange.usage)

    def _estimate(self, walk: Walk) -> None:
        if walk.exchange.usage.estimated:
            # An event is about a token; nobody's count says more.
            walk.exchange.estimate_usage(self.deltas)

    def _ended_early(self, stage: Stage) -> UpstreamError:
        left = len(self._splitter.rest)
        return UpstreamError(
            stage,
            "closed",
            f"the stream ended without its terminal event ({left} bytes of an unfinished one)",
        )

    def _torn_event(self) -> UpstreamError:
        return UpstreamError(
            "stream" if self._opened else "first_token", "protocol", "an event that is no JSON object"
        )

    def _error_event(self, sse: SseEvent, *, committed: bool) -> UpstreamError:
        stage: Stage = "stream" if committed else "first_token"
        if isinstance(self._dialect, Codec):
            try:
                self._dialect.decoder().feed(sse)
            except StreamFault as error:
                failure = StatusFailure(Reply(error.status, self._reply.headers, sse.data), error.fault)
                if committed:
                    failure.stage = stage
                return failure
            except UpstreamError:
                pass
            return UpstreamError(stage, "protocol", "an event that its API does not send")
        try:
            stated = orjson.loads(sse.data or b"")["error"]
            code = stated.get("status") or stated.get("code")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return UpstreamError(stage, "protocol", "an event that is no JSON object")
        status = code if type(code) is int and 400 <= code < 600 else 502
        fault = fault_of(self._dialect, status, sse.data or b"")
        failure = StatusFailure(Reply(status, self._reply.headers, sse.data), fault)
        if committed:
            failure.stage = stage
        return failure


def _torn(sse: SseEvent) -> bool:
    """Whether an event is cut or garbled at its end: what passes unread is not parsed for less than that."""
    data = sse.data
    if not data or data[-1:] == b"}":
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return True
    return False
