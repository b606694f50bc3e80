"""Tries targets one after the other, as ``on_failure`` says, until one answers.

The kernel never retries or falls back by itself: with nobody listening, one failure is the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .bounded import Deadline, within
from .compiler import ComponentFailed, Step
from .errors import Refusal, UpstreamError
from .exchange import Attempt, Exchange, Failure, Outcome, Response, Target
from .failures import kind_of_status, refusal_of_failure, retry_after_s
from .jsontext import JsonText, JsonTextError
from .open_stream import OpenStream
from .provider import Reply
from .streams import refusal_of
from .verdicts import Deny, Next, Retry, Skip

if TYPE_CHECKING:
    from .lifecycle import Walk

__all__ = ["Attempts", "OpenStream", "Scope", "StatusFailure"]

PASSED = frozenset({b"content-type", b"openai-processing-ms", b"openai-version", b"retry-after", b"retry-after-ms"})
PASSED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")


class StatusFailure(UpstreamError):
    """The upstream answered, with an error status."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("status", kind_of_status(reply.status, reply.body or b""), f"status {reply.status}")
        self.reply = reply


class Scope:
    """What stands around one attempt: the ``on_attempt`` generators, resumed exactly once, innermost first."""

    __slots__ = ("_open", "_walk", "attempt")

    def __init__(self, walk: Walk, attempt: Attempt) -> None:
        self._walk = walk
        self.attempt = attempt
        self._open: list[tuple[Step, Generator[None, Outcome, Any] | AsyncGenerator[None, Outcome]]] = []

    async def open(self, steps: Sequence[Step]) -> None:
        """Runs each component up to its yield. Raises Skip, or Refusal for a ``Deny``."""
        exchange, attempt = self._walk.exchange, self.attempt
        for step in steps:
            if step.when is not None and not step.applies(exchange):
                continue
            mark = exchange.mark()
            body, headers = attempt.body, list(attempt.headers)
            exchange._reader_shadow = step.shadow
            started = time.perf_counter()
            verdict = "error"
            undone: list[Any] = []
            generator: Any = None
            try:
                for fact in step.needs:
                    if exchange.fact(fact) is None:
                        raise LookupError(f"the required fact '{fact}' is missing")
                generator = step.fn(exchange, attempt)
                if hasattr(generator, "asend"):
                    await within(step.timeout_s, generator.asend(None))
                else:
                    generator.send(None)
                self._open.append((step, generator))
                verdict = ""
            except Skip as skip:
                verdict = f"Skip({skip.reason})"
                if not step.shadow:
                    raise
            except StopIteration as stop:
                verdict = "Deny" if isinstance(stop.value, Deny) else ""
                if isinstance(stop.value, Deny) and not step.shadow:
                    raise refusal_of(stop.value, step.name) from None
            except StopAsyncIteration:
                verdict = ""
            except Exception as error:  # the plugin barrier
                undone = exchange.roll_back(mark)
                attempt.body, attempt.headers = body, headers
                step.record_failure(exchange, error)
                if not (step.shadow or step.allow):
                    raise Skip("component_failed") from error
            finally:
                exchange._reader_shadow = False
                if exchange.timeline is not None:
                    step.stamp(exchange, started, verdict)
            if step.shadow:
                exchange.keep_as_shadow(exchange.roll_back(mark) or undone)
                attempt.body, attempt.headers = body, headers
                if verdict:
                    exchange.shadowed.append((step.name, "on_attempt", verdict))

    async def close(self, outcome: Outcome) -> None:
        """Gives the outcome to each open component; what fails now is recorded only."""
        attempt, exchange = self.attempt, self._walk.exchange
        if attempt.outcome is not None:
            return
        outcome.duration_s = time.monotonic() - attempt.started
        if attempt.first_byte_at is not None:
            outcome.first_token_s = attempt.first_byte_at - attempt.started
        outcome.usage = exchange.usage
        outcome.committed = exchange.committed
        outcome.bytes_sent = exchange.bytes_sent
        attempt.outcome = exchange.outcome = outcome
        while self._open:
            step, generator = self._open.pop()
            exchange._reader_shadow = step.shadow
            try:
                if hasattr(generator, "asend"):
                    await within(step.timeout_s, generator.asend(outcome))
                    await generator.aclose()
                else:
                    generator.send(outcome)
                    generator.close()
                raise RuntimeError("on_attempt yielded more than once")
            except (StopIteration, StopAsyncIteration):
                pass
            except Exception as error:  # the plugin barrier
                step.record_failure(exchange, error)
            finally:
                exchange._reader_shadow = False


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
                    Outcome("failed", failed, reply.status if reply else None, reset_after_s=retry_after_s(reply) if reply else None)
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
                attempt.body = dialect.prepare(attempt.body, max_output_tokens=exchange.bounds.max_output_tokens)
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
            raise UpstreamError("first_token" if streamed else "answer", "timeout", f"over {limit_s:.1f} s") from None
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
            if self._walk.plan.up_whole:
                body = JsonText.parse(raw)
            else:
                body = JsonText(raw, orjson.loads(raw))
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
            estimate_usage(exchange, sum(len(s.text) for s in exchange.dialect.response_segments(body.value)) // 4)
        exchange.first_token_at = time.monotonic()
        return Response(exchange, reply.status, body, _passed(reply), replay=exchange.request.stream)

    # -- failures -----------------------------------------------------------------------------
    def _failure(self, attempt: Attempt, skip: Skip | None, error: UpstreamError | None, left: deque[Target]) -> Failure:
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
                spent = len(exchange.attempts) >= pipeline.max_attempts or time.monotonic() >= exchange.deadline
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


def estimate_usage(exchange: Exchange, output_tokens: int) -> None:
    """What was probably used, where the upstream did not say."""
    usage = exchange.usage
    if not usage.estimated:
        return
    usage.output_tokens = max(usage.output_tokens, output_tokens)
    if not usage.input_tokens and exchange.request is not None:
        count = exchange.host.tokenizer.estimate
        usage.input_tokens = sum(count(segment.text, exchange.request.model) for segment in exchange.request.segments())


