"""One attempt whose upstream does not speak its client's dialect: the request over, the answer back.

Everything else of the kernel, and every component, sees the client's dialect alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import orjson

from .dialects.form import Chat, Counted, End, FormEvent, Start
from .dialects.wire import Codec, StreamFault, Wire, admit
from .errors import UpstreamError
from .exchange import Attempt, Exchange
from .failures import StatusFailure
from .jsontext import JsonText
from .provider import Reply
from .sse import EventSplitter, SseEvent

__all__ = ["Translation"]


class Translation:
    """Made for one attempt: writes its payload, then reads its reply.

    Raises:
        Refusal: the request makes no sense.
        Unsupported: the wire cannot express it.
    """

    def __init__(self, exchange: Exchange, attempt: Attempt, dialect: Codec, wire: Wire) -> None:
        self._exchange = exchange
        self.dialect = dialect
        self.wire = wire
        chat: Chat = dialect.decode_request(attempt.body.value)
        chat.output_limit = attempt.target.capabilities.max_output_tokens
        attempt.ignored = admit(wire, chat)
        attempt.payload = JsonText.of(wire.encode_request(chat))

    def reply(self, reply: Reply) -> Reply:
        """``reply`` in the client's dialect; an error stays as it is."""
        if reply.chunks is not None:
            return Reply(reply.status, reply.headers, chunks=_Events(self, reply.chunks))
        if not 200 <= reply.status < 300:
            return reply
        try:
            value = orjson.loads(reply.body or b"")
            completion = self.wire.decode_answer(value)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError):
            raise UpstreamError("answer", "protocol", "the answer is not what its API sends") from None
        except StreamFault as error:
            raise self.failure(error, reply) from None
        return Reply(reply.status, reply.headers, orjson.dumps(self.dialect.encode_answer(completion)))

    def failure(self, error: StreamFault, reply: Reply) -> StatusFailure:
        failure = StatusFailure(Reply(error.status, reply.headers), error.fault)
        if self._exchange.committed:
            failure.stage = "stream"
        return failure

    def count(self, event: FormEvent) -> None:
        # What the client's dialect can state only at its end is known here when the upstream says it.
        if isinstance(event, Counted):
            self._exchange.usage = event.usage
        elif isinstance(event, Start) and event.usage is not None:
            # Of the answer nothing is known yet: it is estimated, should the stream break.
            self._exchange.usage = replace(event.usage, estimated=True)


class _Events:
    """The upstream's stream as bytes of the client's dialect, a chunk for a chunk."""

    def __init__(self, translation: Translation, chunks: AsyncIterator[bytes]) -> None:
        self._translation = translation
        self._chunks = chunks
        self._splitter = EventSplitter()
        self._decoder = translation.wire.decoder()
        self._encoder = translation.dialect.encoder()
        self._fault: UpstreamError | None = None
        self._ended = False
        self._over = False

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._fault is not None:
                raise self._fault
            if self._over:
                raise StopAsyncIteration
            try:
                events: Sequence[SseEvent] = self._splitter.feed(await anext(self._chunks))
            except StopAsyncIteration:
                self._over = True
                events = self._splitter.finish()
            out = b"".join(self._encoded(events))
            if out:
                return out

    def _encoded(self, events: Sequence[SseEvent]) -> list[bytes]:
        """What ``events`` become, up to the first fault, which is raised by the next step."""
        out: list[bytes] = []
        try:
            for sse in events:
                self._take(out, self._decoder.feed(sse))
            if self._over and not self._ended:
                self._take(out, self._decoder.finish())
        except StreamFault as error:
            self._fault = self._translation.failure(error, Reply(error.status))
        except UpstreamError as error:
            self._fault = error
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            self._fault = UpstreamError("stream", "protocol", "an event that its API does not send")
        return out

    def _take(self, out: list[bytes], events: Sequence[FormEvent]) -> None:
        for event in events:
            self._translation.count(event)
            self._ended = self._ended or isinstance(event, End)
            out += self._encoder.feed(event)

    async def aclose(self) -> None:
        """Ends the upstream call."""
        closer = getattr(self._chunks, "aclose", None)
        if closer is not None:
            await closer()
