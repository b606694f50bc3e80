"""The events of ``streamGenerateContent``, into the intermediate form.

Source: Gemini API reference, "Method: models.streamGenerateContent": each event is a ``GenerateContentResponse``,
and none says that it is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import orjson

from lmg.dialects.form import (
    Counted,
    End,
    Finish,
    FinishReason,
    FormEvent,
    PartBegin,
    PartDelta,
    PartEnd,
    Start,
)
from lmg.dialects.wire import EventDecoder, StreamFault, broken
from lmg.errors import UpstreamError
from lmg.jsontext import Json
from lmg.sse import SseEvent

from .answer import blocked, citations_of, finish_of, logprobs_of, usage_of
from .faults import fault_of_error
from .signatures import call_id, marked

__all__ = ["GenerateDecoder"]


class GenerateDecoder(EventDecoder):
    """The parts of the API have no ends: one ends where one of another kind begins, or with the stream."""

    def __init__(self) -> None:
        self._id = ""
        self._started = False
        self._candidates: dict[int, _Candidate] = {}
        self._counts: dict[str, Any] = {}

    def feed(self, event: SseEvent) -> Sequence[FormEvent]:
        if event.data is None:
            return ()
        try:
            value = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            raise UpstreamError("stream", "protocol", "an event that is not JSON") from None
        try:
            return self.take(value)
        except UpstreamError as error:
            raise UpstreamError("stream", error.kind, error.detail) from None

    def take(self, value: Json) -> Sequence[FormEvent]:
        """What one response says: an event of a stream, or a whole answer."""
        if type(value) is not dict:
            raise broken("a response that is no object")
        error = value.get("error")
        if type(error) is dict:
            code = error.get("code")
            status = code if type(code) is int and 400 <= code < 600 else 502
            raise StreamFault(status, fault_of_error(status, error, orjson.dumps(value)))
        feedback: Any = value.get("promptFeedback")
        refused = blocked(feedback) if type(feedback) is dict else None
        if refused is not None:
            raise refused
        counts = value.get("usageMetadata") or {}
        if type(counts) is not dict:
            raise broken("a usage that is no object")
        self._counts |= counts
        out: list[FormEvent] = []
        if not self._started:
            self._started = True
            self._id = str(value.get("responseId") or "")
            known = replace(usage_of(self._counts), output_tokens=0, reasoning_tokens=0) if counts else None
            out.append(Start(self._id, str(value.get("modelVersion") or ""), usage=known))
        stated: Any = value.get("candidates") or ()
        for candidate in stated:
            self._candidate(candidate.get("index", 0)).take(out, candidate)
        if "candidatesTokenCount" in counts:
            out.append(Counted(usage_of(self._counts)))
        return out

    def _candidate(self, n: Any) -> _Candidate:
        if type(n) is not int:
            raise broken("a candidate whose index is no number")
        found = self._candidates.get(n)
        if found is None:
            found = self._candidates[n] = _Candidate(n, self._id)
        return found

    def finish(self) -> Sequence[FormEvent]:
        """The ending, where every candidate has one: a stream that broke off between two events has none."""
        found = [self._candidates[n] for n in sorted(self._candidates)]
        out: list[FormEvent] = []
        for candidate in found:
            if candidate.finish is None:
                return ()
            candidate.close(out)
            out.append(Finish(candidate.n, candidate.finish))
        if not found:
            return ()
        if self._counts:
            out.append(Counted(usage_of(self._counts)))
        return [*out, End()]


class _Candidate:
    """One answer of possibly several, as far as it has come."""

    def __init__(self, n: int, response_id: str) -> None:
        self.n = n
        self.finish: FinishReason | None = None
        self._response_id = response_id
        self._open: Literal["", "text", "reasoning"] = ""
        self._part = -1
        self._calls = 0
        self._cited: set[bytes] = set()
        self._citations: list[Json] = []

    def take(self, out: list[FormEvent], candidate: dict[str, Any]) -> None:
        for citation in citations_of(candidate):
            # Some models repeat with each event what they have cited so far.
            written = orjson.dumps(citation)
            if written not in self._cited:
                self._cited.add(written)
                self._citations.append(citation)
        logprobs: Json = logprobs_of(candidate)
        content: Any = candidate.get("content") or {}
        for part in content.get("parts") or ():
            if "functionCall" in part:
                self._call(out, part["functionCall"], part.get("thoughtSignature"))
            elif part.get("thought") is True:
                self._thought(out, part.get("text"), part.get("thoughtSignature"))
            elif "inlineData" in part or "fileData" in part:
                raise broken("an image or another file, which no client could be given")
            else:
                logprobs = self._text(out, part.get("text"), part.get("thoughtSignature"), logprobs)
        if self._open == "text":
            if logprobs is not None:
                out.append(PartDelta(self.n, self._part, logprobs=logprobs))
            self._cite(out)
        reason = candidate.get("finishReason")
        if type(reason) is str and reason:
            self.finish = finish_of(reason, candidate.get("finishMessage"), calls=self._calls > 0)

    def close(self, out: list[FormEvent]) -> None:
        """Ends the part that is open."""
        if self._open == "text":
            self._cite(out)
        if self._open:
            self._open = ""
            out.append(PartEnd(self.n, self._part))

    def _cite(self, out: list[FormEvent]) -> None:
        out += [PartDelta(self.n, self._part, citation=citation) for citation in self._citations]
        self._citations = []

    def _begin(self, out: list[FormEvent], kind: Literal["text", "reasoning"]) -> None:
        if self._open != kind:
            self.close(out)
            self._open = kind
            self._part += 1
            out.append(PartBegin(self.n, self._part, kind))

    def _text(self, out: list[FormEvent], text: Any, signature: Any, logprobs: Json) -> Json:
        """Returns the log probabilities that are still to be told."""
        if text:
            self._begin(out, "text")
            out.append(PartDelta(self.n, self._part, _str(text), logprobs=logprobs))
            logprobs = None
        if signature:
            # The form has a place for it beside the text alone.
            self.close(out)
            self._thought(out, "", signature)
        return logprobs

    def _thought(self, out: list[FormEvent], text: Any, signature: Any) -> None:
        if text:
            self._begin(out, "reasoning")
            out.append(PartDelta(self.n, self._part, _str(text)))
        if signature:
            self._begin(out, "reasoning")
            out.append(PartDelta(self.n, self._part, signature=marked(_str(signature))))
            self.close(out)

    def _call(self, out: list[FormEvent], call: dict[str, Any], signature: Any) -> None:
        self.close(out)
        self._part += 1
        name = _str(call["name"])
        arguments = orjson.dumps(call.get("args") or {}).decode()
        of = (self._response_id, str(self.n), name, arguments)
        packed = call_id(self._calls, of, _str(call.get("id") or ""), _str(signature or ""))
        self._calls += 1
        out.append(PartBegin(self.n, self._part, "tool_call", packed, name))
        out.append(PartDelta(self.n, self._part, arguments))
        out.append(PartEnd(self.n, self._part))


def _str(stated: Any) -> str:
    if type(stated) is not str:
        raise broken("a member that is no text")
    return stated
