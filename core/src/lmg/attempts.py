"""Tries targets one after the other, as ``on_failure`` says, until one answers.

The kernel never retries or falls back by itself: with nobody listening, one failure is the end.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .bounded import Deadline
from .compiler import ComponentFailed
from .dialects.wire import Codec, Wire
from .errors import Refusal, UpstreamError
from .exchange import Attempt, Failure, Outcome, Response, Target, Usage
from .failures import StatusFailure, fault_of, refusal_of_failure
from .jsontext import JsonText, JsonTextError
from .open_stream import OpenStream
from .provider import Reply, Spoken
from .resets import reset_after_s
from .scope import Scope
from .translation import Translation
from .verdicts import Next, Resume, Retry, Skip, Stop

if TYPE_CHECKING:
    from .lifecycle import Walk

__all__ = ["Attempts", "OpenStream"]

PASSED = frozenset(
    {b"content-type", b"openai-processing-ms", b"openai-version", b"retry-after", b"retry-after-ms"}
)
ANSWERS = frozenset({"choices", "data", "output", "content"})
"""Members that an answer of some dialect has and an error has not."""
MAX_IGNORED = 32
_NOT_IN_A_HEADER = re.compile(r"[^\x20-\x7e]")
PASSED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")


class Attempts:
    """The loop over targets of one exchange."""

    __slots__ = ("_exchange", "_walk")

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._exchange = walk.exchange

    async def run(self, targets: Sequence[Target]) -> Response | OpenStream:
        """The first answer that is had.

        Raises:
            Refusal: none was, or a component refused.
        """
        exchange = self._exchange
        left = deque(targets)
        target = left.popleft()
        failed: UpstreamError | None = None
        while True:
            scope = self._begin(target)
            # Each attempt counts what it uses itself; of one that broke off while its answer was held, that is no little.
            spent, exchange.usage = exchange.usage, Usage()
            exchange.written = ""
            answer: Response | OpenStream | Skip | UpstreamError | None = None
            try:
                answer = await self._try(scope)
            finally:
                if not isinstance(answer, OpenStream):
                    exchange.usage = _together(spent, exchange.usage)
            if isinstance(answer, OpenStream):
                answer.spent = spent if spent.input_tokens or spent.output_tokens else None
                return answer
            assert answer is not None
            if not isinstance(answer, Skip | UpstreamError):
                return answer
            if isinstance(answer, UpstreamError):
                failed = answer
            decision = await self._ask(self._failure(scope.attempt, answer, left))
            following = await self._follow(decision, target, left)
            if following is None:
                # What an upstream said tells the caller more than that the last target was left out.
                raise await self._given_up(failed or answer)
            target = following

    async def resume(self, broken: OpenStream, error: UpstreamError) -> OpenStream | None:
        """After commit: another target's answer, spliced beneath the filters of the one that broke.

        None where nobody asks for one, or where none can be had.
        """
        exchange = self._exchange
        attempt, before = broken.attempt, broken
        failed: UpstreamError | Skip = error
        if broken.finished:
            exchange.written = None  # what followed the end of the text would be another answer
        while exchange.dialect.resumable:
            decision = await self._ask(self._failure(attempt, failed, deque()))
            if not isinstance(decision, Resume):
                return None
            target = self._named(decision.to, deque())
            if target is None:
                return None
            scope = self._begin(target)
            attempt = scope.attempt
            attempt.prefill = decision.prefill
            attempt.body = exchange.dialect.continued(attempt.body, decision.prefill)
            # Each attempt counts what it uses itself; the exchange has used that and what came before it.
            spent, exchange.usage = exchange.usage, Usage()
            answer = None
            try:
                answer = await self._try(scope, before)
            finally:
                if not isinstance(answer, OpenStream):
                    exchange.usage = spent.plus(exchange.usage)
            if isinstance(answer, OpenStream):
                answer.spent = spent
                return answer
            assert isinstance(answer, UpstreamError | Skip)
            failed = answer
        return None

    def _begin(self, target: Target) -> Scope:
        exchange = self._exchange
        started = time.monotonic()
        provider = self._walk.pipeline.providers[target.provider]
        deadline = min(exchange.deadline, started + provider.config.timeout_ms / 1000)
        attempt = Attempt(target, len(exchange.attempts) + 1, exchange.request.body, started, deadline)
        exchange.attempts.append(attempt)
        return Scope(self._walk, attempt)

    async def _try(
        self, scope: Scope, before: OpenStream | None = None
    ) -> Response | OpenStream | Skip | UpstreamError:
        """One attempt: its answer, or why there is none; the components around it know either."""
        try:
            return await self._once(scope, before)
        except Skip as skip:
            await scope.close(Outcome("skipped", skip_reason=skip.reason))
            return skip
        except UpstreamError as error:
            reply = error.reply if isinstance(error, StatusFailure) else None
            status = reply.status if reply else None
            reset = reset_after_s(reply.headers) if reply else None
            await scope.close(Outcome("failed", error, status, reset_after_s=reset))
            return error
        except BaseException:
            await scope.close(Outcome("cancelled"))
            raise

    async def _once(self, scope: Scope, before: OpenStream | None) -> Response | OpenStream:
        target = scope.attempt.target
        exchange, walk, attempt = self._exchange, self._walk, scope.attempt
        pipeline, dialect = walk.pipeline, exchange.dialect
        # Checked again at every upstream call, whatever a component put into the list.
        if not exchange.bounds.admit(target):
            raise Skip("out_of_bounds")
        provider = pipeline.providers[target.provider]
        wire = provider.wire(exchange.operation, dialect.name, target.upstream_model)
        if wire is None:
            if exchange.operation == "count_tokens":
                return await self._counted(scope)
            raise UpstreamError("admission", "protocol", f"{target.provider} does not speak {dialect.name}")
        # Where the upstream speaks the client's dialect it may have a name of its own for the cap of an answer.
        spoken = wire if isinstance(wire, type(dialect)) else dialect
        body = dialect.model_name(attempt.body, target.upstream_model)
        attempt.body = spoken.prepare(body, max_output_tokens=exchange.bounds.max_output_tokens)
        if walk.plan.on_attempt:
            await scope.open(walk.plan.on_attempt)
            if exchange.bounds.max_output_tokens is not None:
                attempt.body = spoken.prepare(
                    attempt.body, max_output_tokens=exchange.bounds.max_output_tokens
                )
        attempt.wire, attempt.payload, attempt.stream = wire.name, attempt.body, exchange.request.stream
        translation: Translation | None = None
        if wire.name != dialect.name:
            assert isinstance(dialect, Codec) and isinstance(wire, Wire)
            translation = Translation(exchange, attempt, dialect, wire)
        loop = pipeline.loop
        streamed = exchange.request.stream
        limit_s = attempt.deadline - time.monotonic()
        if streamed:
            limit_s = min(limit_s, provider.config.first_token_timeout_ms / 1000)
        reply: Reply | None = None
        stream: OpenStream | None = None
        try:
            with Deadline(loop, loop.time() + max(limit_s, 0.0)) as limit:
                reply = await provider.call(exchange, attempt)
                if translation is not None:
                    reply = translation.reply(reply)
                if reply.chunks is not None:
                    if not streamed:
                        raise UpstreamError("answer", "protocol", "events where a whole answer was asked for")
                    stream = OpenStream(scope, reply, provider.config, _passed(reply, attempt), before)
                    await stream.open(walk, limit)
                    return stream
        except TimeoutError:
            if await self._abandon(stream, reply):
                raise UpstreamError("stream", "timeout", "no event in time, or past the deadline") from None
            raise UpstreamError(
                "first_token" if streamed else "answer", "timeout", f"over {limit_s:.1f} s"
            ) from None
        except BaseException:
            await self._abandon(stream, reply)
            raise
        answer = self._whole(reply, attempt, wire)
        attempt.first_byte_at = time.monotonic()
        await scope.close(Outcome("complete", http_status=reply.status))
        return answer

    async def _abandon(self, stream: OpenStream | None, reply: Reply | None) -> bool:
        """Gives up what was had of an answer; whether it had begun."""
        begun = stream is not None and stream.abandon(self._walk)
        closer = getattr(reply.chunks, "aclose", None) if reply is not None else None
        if closer is not None:
            await closer()
        return begun

    async def _counted(self, scope: Scope) -> Response:
        """An estimate of the request's tokens, where the upstream has no way to ask."""
        exchange, count = self._exchange, self._walk.pipeline.host.tokenizer.estimate
        model = exchange.request.model
        tokens = sum(count(segment.text, model) for segment in exchange.request.segments())
        await scope.close(Outcome("complete"))
        headers = [(b"content-type", b"application/json"), (b"x-lmg-estimated", b"true")]
        return Response(exchange.dialect, 200, JsonText.of({"input_tokens": max(tokens, 1)}), headers)

    def _whole(self, reply: Reply, attempt: Attempt, wire: Spoken) -> Response:
        exchange = self._exchange
        raw = reply.body or b""
        if not 200 <= reply.status < 300:
            raise StatusFailure(reply, fault_of(wire, reply.status, raw))
        try:
            # What guards read is read strictly; what nobody reads need only be JSON.
            kind = reply.header(b"content-type") or b""
            body = exchange.dialect.read_answer(raw, kind, strict=bool(self._walk.plan.up_whole))
        except (orjson.JSONDecodeError, JsonTextError):
            raise UpstreamError("answer", "protocol", "the answer is not JSON") from None
        if type(body.value) is not dict:
            raise UpstreamError("answer", "protocol", "the answer is no JSON object")
        failed = body.value.get("status") == "failed" or not ANSWERS & body.value.keys()
        if body.value.get("error") and failed:
            raise StatusFailure(Reply(502, reply.headers, raw), fault_of(wire, 502, raw))
        usage = exchange.dialect.usage(body.value)
        if usage is not None:
            exchange.usage = usage
        else:
            exchange.estimate_usage(
                sum(len(s.text) for s in exchange.dialect.response_segments(body.value)) // 4
            )
        exchange.first_token_at = time.monotonic()
        headers = _passed(reply, attempt)
        # Sound that comes whole where events were asked for is passed on as what it is.
        replay = exchange.request.stream and body.replayable
        return Response(exchange.dialect, reply.status, body, headers, replay=replay)

    # -- failures -----------------------------------------------------------------------------
    def _failure(self, attempt: Attempt, why: Skip | UpstreamError, left: deque[Target]) -> Failure:
        exchange = self._exchange
        error = why if isinstance(why, UpstreamError) else None
        reply = error.reply if isinstance(error, StatusFailure) else None
        return Failure(
            error.stage if error is not None else "admission",
            "skipped" if error is None else error.kind,
            attempt,
            reply.status if reply is not None else None,
            exchange.committed,
            tuple(left),
            exchange.deadline - time.monotonic(),
            reset_after_s(reply.headers) if reply is not None else None,
            why.reason if isinstance(why, Skip) else None,
        )

    async def _ask(self, failure: Failure) -> Any:
        """``on_failure``: the first answer that counts at this time wins; None from all is ``Stop``."""
        accepted = (Resume, Stop) if failure.committed else (Retry, Next, Stop)
        exchange, pipeline = self._exchange, self._walk.pipeline
        if exchange.parent is not None:  # a fork is for one target and no other
            return None
        for step in self._walk.plan.on_failure:
            try:
                decision = await step.call(exchange, failure)
            except ComponentFailed:
                if step.allow:
                    continue
                return None
            if isinstance(decision, accepted):
                spent = (
                    len(exchange.attempts) >= pipeline.max_attempts or time.monotonic() >= exchange.deadline
                )
                return None if spent else decision
        return None

    async def _follow(self, decision: Any, target: Target, left: deque[Target]) -> Target | None:
        exchange = self._exchange
        if isinstance(decision, Retry):
            if decision.after_s > 0:
                if time.monotonic() + decision.after_s >= exchange.deadline:
                    return None
                await self._walk.pipeline.host.clock.sleep(decision.after_s)
            return target if decision.to is None else self._named(decision.to, left)
        if isinstance(decision, Next):
            if decision.to is None:
                return left.popleft() if left else None
            return self._named(decision.to, left)
        return None

    def _named(self, name: str, left: deque[Target]) -> Target | None:
        exchange = self._exchange
        for found in (*left, *exchange.candidates, *exchange.offered()):
            if found.name == name and exchange.bounds.admit(found):
                if found in left:
                    left.remove(found)
                return found
        return None

    async def _given_up(self, why: Skip | UpstreamError) -> Refusal:
        error = why if isinstance(why, UpstreamError) else None
        kept = self._exchange.dialect.kept_statuses
        refusal = refusal_of_failure(error, why.reason if isinstance(why, Skip) else None, kept)
        if not isinstance(error, StatusFailure) or not self._walk.plan.on_response:
            return refusal
        return await self._walk.review_refusal(refusal)


def _passed(reply: Reply, attempt: Attempt) -> list[tuple[bytes, bytes]]:
    headers = [(k, v) for k, v in reply.headers if k in PASSED or k.startswith(PASSED_PREFIXES)]
    if attempt.ignored:
        names = ", ".join(attempt.ignored[:MAX_IGNORED])
        headers.append((b"x-lmg-ignored-fields", _NOT_IN_A_HEADER.sub("?", names).encode()))
    return headers


def _together(spent: Usage, used: Usage) -> Usage:
    """Both; what used nothing makes no count an estimate."""
    if not (spent.input_tokens or spent.output_tokens):
        return used
    return spent.plus(used) if used.input_tokens or used.output_tokens else spent
