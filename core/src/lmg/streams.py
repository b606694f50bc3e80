"""Filters on the events of an answer: who failed is known, what was held back is not lost."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from .bounded import within
from .compiler import ComponentFailed, Step, describe
from .dialects import Delta, StreamEvent
from .dialects.openai_chat import OpenAIChat
from .errors import Refusal, UpstreamError
from .exchange import Exchange, Response
from .jsontext import Json, JsonText, JsonTextError
from .sse import EventSplitter
from .verdicts import Deny

__all__ = ["FilterChain", "Held", "StreamFilter", "refusal_of", "review_whole"]


class StreamFilter:
    """What a component puts into a stream of events. Events are immutable; change one with ``event.replace``.

    ``feed`` and ``finish`` may be plain (and then must be cheap) or coroutines. Text that is held back for a
    choice must be emitted before the event that ends it (see ``event.ends``); ``event.only(delta, text)`` makes an
    event for it. Either may return a ``Deny``, which ends the stream.
    """

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny | Any:
        """The events that leave in the place of ``event``: none, itself, or others."""
        return (event,)

    def finish(self) -> Iterable[StreamEvent] | Deny | Any:
        """The events that were still held when the answer was complete."""
        return ()

    def close(self) -> None:
        """Called once, however the stream ended."""


class Held(StreamFilter):
    """Holds a whole stream for a component that only reviews whole answers; bounded."""

    def __init__(self, step: Step, exchange: Exchange, limit: int) -> None:
        self._step, self._exchange, self._limit = step, exchange, limit
        self._events: list[StreamEvent] = []
        self._size = 0

    def feed(self, event: StreamEvent) -> Iterable[StreamEvent] | Deny:
        self._events.append(event)
        self._size += len(event.sse.raw)
        if self._size > self._limit:
            return Deny(
                502, "answer_too_large", "The answer is larger than what can be reviewed.",
                f"over {self._limit} bytes held for {self._step.name}", "server_error",
            )  # fmt: skip
        return ()

    async def finish(self) -> Iterable[StreamEvent] | Deny:
        exchange = self._exchange
        whole = exchange.dialect.assemble(self._events)
        response = Response(exchange.dialect, 200, JsonText(orjson.dumps(whole), whole), [])
        verdict = await self._step.call(exchange, response)
        if isinstance(verdict, Deny):
            return verdict
        if not response.body.edited or self._step.shadow:
            return self._events
        dialect = exchange.dialect
        splitter = EventSplitter(max_event_bytes=dialect.max_event_bytes)
        replayed = splitter.feed(b"".join(dialect.replay(response.body.value, usage=False)))
        events = [StreamEvent(dialect, sse, dialect.kind(sse, opened=True)) for sse in replayed]
        return [event for event in events if event.kind != "done"]


class _Link:
    """One open filter, with what the kernel keeps for it."""

    __slots__ = ("bypassed", "changed", "filter", "finish_async", "is_async", "owed", "spent", "step")

    def __init__(self, step: Step, filter: StreamFilter) -> None:
        self.step = step
        self.filter = filter
        self.is_async = inspect.iscoroutinefunction(filter.feed)
        self.finish_async = inspect.iscoroutinefunction(filter.finish)
        self.owed: dict[str, tuple[Delta, str, StreamEvent]] | None = (
            {} if step.allow and not step.shadow else None
        )
        self.spent = 0.0
        self.changed = False
        self.bypassed = False

    def give(self, event: StreamEvent) -> None:
        assert self.owed is not None
        for delta in event.deltas:
            if delta.format != "opaque":
                held = self.owed.get(delta.id)
                self.owed[delta.id] = (delta, (held[1] if held else "") + delta.text, event)

    def took(self, events: Sequence[StreamEvent]) -> None:
        assert self.owed is not None
        for event in events:
            for delta in event.deltas:
                held = self.owed.get(delta.id)
                if held is not None:
                    # Text that was rewritten is settled: giving it out again would undo the rewriting.
                    left = held[1][len(delta.text) :] if held[1].startswith(delta.text) else ""
                    self.owed[delta.id] = (held[0], left, held[2])

    def rest(self) -> list[StreamEvent]:
        """What it was given and has not emitted."""
        owed, self.owed = self.owed or {}, {}
        return [event.only(delta, text) for delta, text, event in owed.values() if text]


class FilterChain:
    """The open filters of one attempt's answer, in the order in which events pass them."""

    __slots__ = ("_exchange", "_finished", "_links", "_rebuilder", "has_async")

    def __init__(self, exchange: Exchange, filters: Sequence[tuple[Step, StreamFilter]]) -> None:
        self._exchange = exchange
        self._finished = False
        self._links = [_Link(step, opened) for step, opened in filters]
        self.has_async = any(link.is_async for link in self._links)
        self._rebuilder = exchange.dialect.rebuilder() if self._links else None

    def __bool__(self) -> bool:
        return bool(self._links)

    def feed_now(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """What ``feed`` does where no filter is async: without a coroutine a chunk."""
        if self._rebuilder is None:
            return self._now(event)
        return self._rebuilt([out for given in self._rebuilder.into(event) for out in self._now(given)])

    def _now(self, event: StreamEvent) -> Sequence[StreamEvent]:
        events: Sequence[StreamEvent] = (event,)
        for link in self._links:
            if link.bypassed:
                continue
            if len(events) == 1:
                events = self._call(link, events[0])
            else:
                events = [out for one in events for out in self._call(link, one)]
        return events

    async def feed(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """The events that leave for the client. Raises Refusal where a filter denies or fails closed."""
        if self._rebuilder is None:
            return await self._through((event,), 0)
        return self._rebuilt(await self._through(self._rebuilder.into(event), 0))

    def _rebuilt(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        assert self._rebuilder is not None
        return [self._rebuilder.out(event) for event in events]

    async def finish(self) -> list[StreamEvent]:
        """What the filters still held, each passed through those behind it; nothing where that was asked before."""
        out: list[StreamEvent] = []
        if self._finished:
            return out
        self._finished = True
        for n, link in enumerate(self._links):
            if not link.bypassed:
                out += await self._through(await self._call_async(link, None), n + 1)
        return out if self._rebuilder is None else list(self._rebuilt(out))

    async def _through(self, events: Sequence[StreamEvent], start: int) -> Sequence[StreamEvent]:
        for link in self._links[start:]:
            if link.bypassed:
                continue
            out: list[StreamEvent] = []
            for event in events:
                out += await self._call_async(link, event) if link.is_async else self._call(link, event)
            events = out
        return events

    def _call(self, link: _Link, event: StreamEvent) -> Sequence[StreamEvent]:
        """One plain ``feed`` behind the plugin barrier."""
        if link.owed is not None:
            link.give(event)
        mark = self._enter_shadow() if link.step.shadow else None
        started = time.perf_counter()
        try:
            result: Any = link.filter.feed(event)
            out = result if isinstance(result, Deny | tuple | list) else list(result)
        except Exception as error:  # noqa: BLE001 - the plugin barrier
            return self._broke(link, event, error)
        finally:
            link.spent += time.perf_counter() - started
            if mark is not None:
                self._leave_shadow(mark)
        return self._took(link, event, out)

    def _enter_shadow(self) -> Any:
        self._exchange._reader_shadow = True
        return self._exchange.mark()

    def _leave_shadow(self, mark: Any) -> None:
        """What a filter in shadow has written is kept where only shadow components see it."""
        exchange = self._exchange
        exchange._reader_shadow = False
        exchange.keep_as_shadow(exchange.roll_back(mark))

    async def _call_async(self, link: _Link, event: StreamEvent | None) -> Sequence[StreamEvent]:
        """``feed`` of a filter that waits for somebody, or any filter's ``finish``."""
        if link.owed is not None and event is not None:
            link.give(event)
        mark = self._enter_shadow() if link.step.shadow else None
        started = time.perf_counter()
        try:
            result: Any = link.filter.feed(event) if event is not None else link.filter.finish()
            if link.is_async if event is not None else link.finish_async:
                result = await within(link.step.timeout_s, result)
            out = result if isinstance(result, Deny | tuple | list) else list(result)
        except Exception as error:  # noqa: BLE001 - the plugin barrier
            return self._broke(link, event, error)
        finally:
            link.spent += time.perf_counter() - started
            if mark is not None:
                self._leave_shadow(mark)
        return self._took(link, event, out)

    def _broke(self, link: _Link, event: StreamEvent | None, error: Exception) -> list[StreamEvent]:
        if isinstance(error, ComponentFailed):
            return self._failed(link, event, error)
        if isinstance(error, JsonTextError) and event is not None:
            # The filter read the event, and it was the upstream that wrote what cannot be read.
            raise UpstreamError("stream", "protocol", "an event that is no JSON object") from None
        link.step.record_failure(self._exchange, error)
        return self._failed(link, event, ComponentFailed(link.step, describe(error), error))

    def _took(
        self, link: _Link, event: StreamEvent | None, out: Deny | Sequence[StreamEvent]
    ) -> Sequence[StreamEvent]:
        """What a filter's result means for the client."""
        if isinstance(out, Deny):
            if link.step.shadow:
                self._note(link, f"Deny({out.code})")
                link.bypassed = True
                return [event] if event is not None else []
            raise refusal_of(out, link.step.name)
        if link.step.shadow:
            if not link.changed and (len(out) != 1 or out[0] is not event):
                link.changed = True
                self._note(link, "events changed")
            return [event] if event is not None else []
        if link.owed is not None:
            link.took(out)
        return out

    def _failed(self, link: _Link, event: StreamEvent | None, failed: ComponentFailed) -> list[StreamEvent]:
        link.bypassed = True
        if link.step.shadow:
            self._note(link, f"error: {type(failed.cause).__name__}")
            return [event] if event is not None else []
        if link.owed is None:
            raise component_refusal(failed)
        rest = link.rest()
        # The event's own text is part of the rest; what else it says (its end, say) comes after it.
        if event is not None:
            texts = [delta for delta in event.deltas if delta.format != "opaque"]
            if event.kind != "delta" or len(texts) < len(event.deltas) or not texts:
                for delta in texts:
                    event = event.put(delta, "")
                rest.append(event)
        return rest

    def _note(self, link: _Link, what: str) -> None:
        self._exchange.shadowed.append((link.step.name, "on_stream", what))

    def untold(self, terminal: StreamEvent) -> Sequence[StreamEvent]:
        """Events for the text that the terminal event alone holds: filters have not seen it."""
        return () if self._rebuilder is None else self._rebuilder.into(terminal)[:-1]

    def out(self, event: StreamEvent) -> StreamEvent:
        """``event``, which no filter is asked about, true to what has left."""
        return event if self._rebuilder is None else self._rebuilder.out(event)

    def close(self) -> None:
        """Closes every filter; a failure is recorded only."""
        for link in self._links:
            try:
                link.filter.close()
            except Exception as error:  # noqa: BLE001 - the plugin barrier
                link.step.record_failure(self._exchange, error)
            if self._exchange.timeline is not None:
                self._exchange.timeline.append(
                    (link.step.name, "on_stream", time.perf_counter() - link.spent, link.spent, "")
                )
        self._links = []


async def review_whole(exchange: Exchange, step: Step, body: JsonText) -> JsonText:  # noqa: C901 - open, feed, finish
    """A whole answer fed to a component that only filters streams: one delta per segment.

    Raises:
        Refusal: the filter denied, or failed under ``on_error: deny``.
    """
    try:
        opened = await step.call(exchange)
    except ComponentFailed as failed:
        if step.allow:
            return body
        raise component_refusal(failed) from failed
    if opened is None:
        return body
    if isinstance(opened, Deny):
        raise refusal_of(opened, step.name)
    chain = FilterChain(exchange, [(step, opened)])
    segments = list(exchange.dialect.response_segments(body.value))
    texts: dict[str, str] = {}
    carrier = OpenAIChat()  # the filter sees deltas; which dialect carries them makes no difference to it
    try:
        for n, segment in enumerate(segments):
            said: Json = (
                {"opaque": {"audio": {}}} if segment.format == "opaque" else {"content": segment.text}
            )
            value: Json = {"choices": [{"index": n, "delta": said, "finish_reason": None}]}
            for event in await chain.feed(carrier.make_event(value, "delta")):
                for delta in event.deltas:
                    texts[delta.id] = texts.get(delta.id, "") + delta.text
        for n in range(len(segments)):
            value = {"choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]}
            for event in await chain.feed(carrier.make_event(value, "finish")):
                for delta in event.deltas:
                    texts[delta.id] = texts.get(delta.id, "") + delta.text
        for event in await chain.finish():
            for delta in event.deltas:
                texts[delta.id] = texts.get(delta.id, "") + delta.text
    finally:
        chain.close()
    if step.shadow:
        return body
    for n, segment in enumerate(segments):
        text = texts.get(f"choices.{n}.content", "")
        if text != segment.text and not segment.signed and segment.format != "opaque":
            body = exchange.dialect.after_edit(body.set(segment.path, text), segment.path)
    return body


def refusal_of(deny: Deny, component: str) -> Refusal:
    """A component's ``Deny`` as what the kernel sends."""
    headers = deny.headers
    if not any(name == b"x-should-retry" for name, _ in headers) and deny.status in (400, 403):
        headers = (*headers, (b"x-should-retry", b"false"))
    return Refusal(
        deny.status, deny.code, deny.message, type=deny.type, param=deny.param,
        reason=f"{component}: {deny.reason or deny.code}", headers=headers,
    )  # fmt: skip


def component_refusal(failed: ComponentFailed) -> Refusal:
    """What a failure under ``on_error: deny`` is to the caller: a safe 503."""
    return Refusal(
        503,
        "component_failed",
        "The gateway could not complete a required check. Please retry.",
        type="server_error",
        reason=str(failed),
    )
