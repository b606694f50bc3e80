"""Tries targets one after the other, as ``on_failure`` says, until one answers.

The kernel never retries or falls back by itself: with nobody listening, one failure is the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .bounded import Deadline
from .compiler import ComponentFailed
from .errors import Refusal, UpstreamError
from .exchange import Attempt, Failure, Outcome, Response, Target
from .failures import StatusFailure, refusal_of_failure, retry_after_s
from .jsontext import JsonText, JsonTextError
from .open_stream import OpenStream
from .provider import Reply
from .scope import Scope
from .verdicts import Next, Retry, Skip

if TYPE_CHECKING:
    from .lifecycle import Walk

__all__ = ["Attempts", "OpenStream"]

PASSED = frozenset(
    {b"content-type", b"openai-processing-ms", b"openai-version", b"retry-after", b"retry-after-ms"}
)
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
        exchange, pipeline = self._exchange, self._walk.pipeline
        left = deque(targets)
        target = left.popleft()
        while True:
            started = time.monotonic()
            provider = pipeline.providers[target.provider]
            deadline = min(exchange.deadline, started + provider.config.timeout_ms / 1000)
            attempt = Attempt(target, len(exchange.attempts) + 1, exchange.request.body, started, deadline)
            exchange.attempts.append(attempt)
            scope = Scope(self._walk, attempt)
            skip: Skip | None = None
            error: UpstreamError | None = None
            try:
                return await self._once(scope, target)
            except Skip as skipped:
                skip = skipped
                await scope.close(Outcome("skipped"))
            except UpstreamError as failed:
                error = failed
                reply = failed.reply if isinstance(failed, StatusFailure) else None
                await scope.close(
                    Outcome(
                        "failed",
                        failed,
                        reply.status if reply else None,
                        reset_after_s=retry_after_s(reply) if reply else None,
                    )
                )
            except asyncio.CancelledError:
                await scope.close(Outcome("cancelled"))
                raise
            except BaseException:
                await scope.close(Outcome("cancelled"))
                raise
            decision = await self.ask(self._failure(attempt, skip, error, left))
            following = await self._follow(decision, target, left)
            if following is None:
                raise await self._given_up(skip, error)
            target = following

    async def _once(self, scope: Scope, target: Target) -> Response | OpenStream:
        exchange, walk, attempt = self._exchange, self._walk, scope.attempt
        pipeline, dialect = walk.pipeline, exchange.dialect
        # Checked again at every upstream call, whatever a component put into the list.
        if not exchange.bounds.admit(target):
            raise Skip("out_of_bounds")
        provider = pipeline.providers[target.provider]
        if provider.wire(exchange.operation) != dialect.name:
            raise UpstreamError("admission", "protocol", f"{target.provider} does not speak {dialect.name}")
        body = dialect.model_name(attempt.body, target.upstream_model)
        attempt.body = dialect.prepare(body, max_output_tokens=exchange.bounds.max_output_tokens)
        if walk.plan.on_attempt:
            await scope.open(walk.plan.on_attempt)
            if exchange.bounds.max_output_tokens is not None:
                attempt.body = dialect.prepare(
                    attempt.body, max_output_tokens=exchange.bounds.max_output_tokens
                )
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
                if reply.chunks is not None:
                    if not streamed:
                        raise UpstreamError("answer", "protocol", "events where a whole answer was asked for")
                    stream = OpenStream(scope, reply, provider.config, _passed(reply))
                    await stream.open(walk, limit)
                    return stream
        except TimeoutError:
            await _abandon(stream, reply)
            raise UpstreamError(
                "first_token" if streamed else "answer", "timeout", f"over {limit_s:.1f} s"
            ) from None
        except BaseException:
            await _abandon(stream, reply)
            raise
        answer = self._whole(reply)
        attempt.first_byte_at = time.monotonic()
        await scope.close(Outcome("complete", http_status=reply.status))
        return answer

    def _whole(self, reply: Reply) -> Response:
        exchange = self._exchange
        raw = reply.body or b""
        if not 200 <= reply.status < 300:
            raise StatusFailure(reply)
        try:
            # What guards read is read strictly; what nobody reads need only be JSON.
            body = JsonText.parse(raw) if self._walk.plan.up_whole else JsonText(raw, orjson.loads(raw))
        except (orjson.JSONDecodeError, JsonTextError):
            raise UpstreamError("answer", "protocol", "the answer is not JSON") from None
        if type(body.value) is not dict:
            raise UpstreamError("answer", "protocol", "the answer is no JSON object")
        if body.value.get("error") and "choices" not in body.value and "data" not in body.value:
            raise StatusFailure(Reply(502, reply.headers, raw))
        usage = exchange.dialect.usage(body.value)
        if usage is not None:
            exchange.usage = usage
        else:
            exchange.estimate_usage(
                sum(len(s.text) for s in exchange.dialect.response_segments(body.value)) // 4
            )
        exchange.first_token_at = time.monotonic()
        return Response(exchange.dialect, reply.status, body, _passed(reply), replay=exchange.request.stream)

    # -- failures -----------------------------------------------------------------------------
    def _failure(
        self, attempt: Attempt, skip: Skip | None, error: UpstreamError | None, left: deque[Target]
    ) -> Failure:
        exchange = self._exchange
        reply = error.reply if isinstance(error, StatusFailure) else None
        return Failure(
            error.stage if error is not None else "admission",
            "skipped" if error is None else error.kind,
            attempt,
            reply.status if reply is not None else None,
            exchange.committed,
            tuple(left),
            exchange.deadline - time.monotonic(),
            retry_after_s(reply) if reply is not None else None,
            skip.reason if skip is not None else None,
        )

    async def ask(self, failure: Failure) -> Any:
        """``on_failure``: the first answer wins; None from all is ``Stop``."""
        exchange, pipeline = self._exchange, self._walk.pipeline
        for step in self._walk.plan.on_failure:
            try:
                decision = await step.call(exchange, failure)
            except ComponentFailed:
                if step.allow:
                    continue
                return None
            if decision is not None:
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
            return target
        if isinstance(decision, Next):
            if decision.to is None:
                return left.popleft() if left else None
            for found in (*left, *exchange.candidates, *self._walk.pipeline.catalogue.models()):
                if found.name == decision.to and exchange.bounds.admit(found):
                    if found in left:
                        left.remove(found)
                    return found
        return None

    async def _given_up(self, skip: Skip | None, error: UpstreamError | None) -> Refusal:
        reply = error.reply if isinstance(error, StatusFailure) else None
        refusal = refusal_of_failure(error, reply, skip.reason if skip is not None else None)
        if reply is None or not self._walk.plan.on_response:
            return refusal
        return await self._walk.review_refusal(refusal)


async def _abandon(stream: OpenStream | None, reply: Reply | None) -> None:
    if stream is not None:
        stream.chain.close()
    closer = getattr(reply.chunks, "aclose", None) if reply is not None else None
    if closer is not None:
        await closer()


def _passed(reply: Reply) -> list[tuple[bytes, bytes]]:
    return [(k, v) for k, v in reply.headers if k in PASSED or k.startswith(PASSED_PREFIXES)]
