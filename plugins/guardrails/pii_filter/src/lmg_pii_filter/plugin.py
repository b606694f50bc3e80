"""`pii_filter`: personal data is masked on its way to a model and restored on its way back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lmg import Component, Deny, Exchange, Host, Response, Segment, ServiceError, Signal, Slot, StreamEvent
from lmg.component import Facts

from .answers import AnswerFilter, AnswerReview
from .config import PiiFilterConfig
from .conversations import Conversations
from .masking import Findings, Masking, Typed, replacement_of
from .phones import load
from .placeholders import Keys, Mint
from .policy import OBLIGATIONS, Policies, Policy
from .refusals import blocked, signed_denial, too_large, uninspected

__all__ = ["PiiFilter"]

MAX_FIRST = 10_000
"""Characters of a conversation's first text that tell it from others."""


@dataclass(slots=True, eq=False)
class Masked:
    """What one exchange needs on its way back."""

    policy: Policy
    tenant: str
    seed: str
    mint: Mint
    answer_id: str = ""
    """The name under which the upstream keeps the conversation."""


class PiiFilter(Component):
    """Finds personal data in requests and answers and masks, hashes, redacts, refuses or reports it.

    Masked values are restored in the answer, streamed or not. What stands for what is known to the gateway alone.
    """

    Config = PiiFilterConfig
    summary = "personal data is masked on its way to the model and restored on its way back"
    stability = "beta"
    provides: ClassVar[Facts] = {
        "on_request": ("pii", "signals"),
        "on_stream": ("signals",),
        "on_response": ("signals",),
    }
    requires: ClassVar[Facts] = {"on_request": ("body",)}
    uses: ClassVar[Facts] = {"on_request": ("principal",)}
    carries = OBLIGATIONS

    def __init__(self, config: PiiFilterConfig, host: Host, name: str) -> None:
        super().__init__(config, host, name)
        self._slot = Slot[Masked](name)
        self._policies = Policies(config)
        secret = config.secret.get_secret_value().encode() if config.secret is not None else os.urandom(32)
        self._keys = Keys(secret)
        self._conversations = (
            Conversations(name, self._keys, config.conversation_ttl_s) if config.secret is not None else None
        )
        self._found = host.metrics.counter(
            "lmg_pii_findings_total",
            "Values that were found, by entity, where they were (request or answer), and what became of them.",
            ("component", "entity", "direction", "action"),
        )
        self._restored = host.metrics.counter(
            "lmg_pii_restored_total",
            "Placeholders in answers that became their values again.",
            ("component",),
        )
        self._losses = host.metrics.counter(
            "lmg_pii_store_loss_total",
            "Conversations whose values could not be kept or recalled.",
            ("component",),
        )

    async def start(self) -> None:
        """Compiles the rules of telephone numbers, so that no request has to."""
        load()

    # -- the way out ----------------------------------------------------------------------------
    async def on_request(self, exchange: Exchange) -> Deny | None:
        """Masks every segment; denies (403) what is to be blocked, signed, or cannot be read."""
        policy = self._policies.of(exchange.bounds.redact)
        segments = list(exchange.request.segments())
        readable = [one for one in segments if one.format != "opaque"]
        if len(readable) < len(segments):
            said = self._uninspected(exchange, "request")
            if said is not None:
                return said
        if sum(len(one.text) for one in readable) > self.config.max_chars:
            return too_large(self.config.max_chars)
        masking = Masking(self._policies, policy, readable)
        found = masking.find()
        exchange.set_fact("pii", frozenset(found.counts))
        for entity, role in found.roles.items():
            self._tell(exchange, entity, role)
        self._count(policy.incoming, found.counts, "request")
        said = self._refused(policy, found)
        if said is not None:
            return said
        masked = await self._begun(exchange, policy, readable)
        if found.counts:
            masking.apply(
                exchange.request,
                found,
                replacement_of(policy, self._keys, masked.tenant, masked.mint, answer=False),
            )
        exchange[self._slot] = masked
        return None

    def _refused(self, policy: Policy, found: Findings) -> Deny | None:
        for entity in found.counts:
            if policy.incoming[entity] == "block":
                return blocked(entity, "request")
        if found.signed and self.config.signed == "deny":
            return signed_denial(found.signed, "request")
        return None

    async def _begun(self, exchange: Exchange, policy: Policy, segments: Sequence[Segment]) -> Masked:
        """The conversation that this exchange belongs to, with the values of its earlier turns."""
        principal = exchange.principal
        tenant = principal.tenant if principal is not None else ""
        seed = ""
        values: dict[str, str] = {}
        before = _conversation_of(exchange)
        if before and self._conversations is not None:
            try:
                seed, values = await self._conversations.recall(self.host.counters, tenant, before)
            except ServiceError:
                self._losses.inc((self.name,))
        if not seed:
            seed = self._keys.of("seed", tenant, before or _first_text(segments)).hex()
        mint = Mint(self._keys, tenant, seed, Typed(segments))
        mint.adopt(values)
        return Masked(policy, tenant, seed, mint)

    # -- the way back ---------------------------------------------------------------------------
    def on_stream(self, exchange: Exchange) -> AnswerFilter | None:
        """A filter that restores and treats text as it comes; None where nothing can be changed."""
        masked, review = self._review(exchange)
        keeps = exchange.dialect.name == "openai.responses" and self._conversations is not None
        if review.idle and self.config.uninspected == "allow" and not keeps:
            return None

        def seen(event: StreamEvent) -> None:
            if keeps and not masked.answer_id:
                masked.answer_id = _id_in(event.body.value if event.body is not None else None)

        return AnswerFilter(
            review,
            seen,
            lambda: self._uninspected(exchange, "answer"),
            lambda: self._reviewed(review),
        )

    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        """The same for an answer that came whole, and for an upstream's error text."""
        masked, review = self._review(exchange)
        said: Deny | None = None
        for segment in list(response.segments()):
            if segment.format == "opaque":
                said = said or self._uninspected(exchange, "answer")
            elif segment.signed:
                said = said or review.signed(segment.text)
            else:
                redactor = review.redactor
                text = (
                    redactor.json(segment.text) if segment.format == "json" else redactor.whole(segment.text)
                )
                if text != segment.text:
                    response.replace(segment, text)
        self._reviewed(review)
        if exchange.dialect.name == "openai.responses":
            masked.answer_id = _id_in(response.body.value)
        return said or review.denied

    def _review(self, exchange: Exchange) -> tuple[Masked, AnswerReview]:
        masked = exchange.get(self._slot)
        if masked is None:  # the request was answered without this component having seen it
            masked = Masked(
                self._policies.of(exchange.bounds.redact),
                "",
                "",
                Mint(self._keys, "", exchange.id, lambda code: False),
            )
        values = masked.mint.values if self.config.reversible else {}
        # What the model writes itself is no value of the caller's: it gets placeholders that nothing restores.
        mint = Mint(self._keys, masked.tenant, "answer " + masked.seed, lambda code: False)
        replacement = replacement_of(masked.policy, self._keys, masked.tenant, mint, answer=True)
        review = AnswerReview(
            self._policies,
            masked.policy,
            values,
            replacement,
            signed=self.config.signed,
            tell=lambda entity: self._tell(exchange, entity, "answer"),
        )
        return masked, review

    def _reviewed(self, review: AnswerReview) -> None:
        self._count(review.policy.outgoing, review.counts, "answer")
        if review.restored:
            self._restored.inc((self.name,), review.restored)

    async def on_settle(self, exchange: Exchange) -> None:
        """Keeps the values of a conversation that the upstream keeps, for its next turn."""
        masked = exchange.get(self._slot)
        if masked is None or not masked.answer_id or not masked.mint.values or self._conversations is None:
            return
        if not self.config.reversible:
            return
        try:
            for name in {masked.answer_id, _own_conversation(exchange)} - {""}:
                await self._conversations.keep(
                    self.host.counters, masked.tenant, name, masked.seed, masked.mint.values
                )
        except ServiceError:
            self._losses.inc((self.name,))

    # -- what is told ---------------------------------------------------------------------------
    def _tell(self, exchange: Exchange, entity: str, where: str) -> None:
        exchange.signal(Signal("pii", 1.0, self.config.signal_weight, where, entity))

    def _count(self, actions: Mapping[str, str], counts: Mapping[str, int], direction: str) -> None:
        for entity, count in counts.items():
            self._found.inc((self.name, entity, direction, actions[entity]), count)

    def _uninspected(self, exchange: Exchange, where: str) -> Deny | None:
        if self.config.uninspected == "deny":
            return uninspected(where)
        if self.config.uninspected == "tag" and not any(
            one.name == "uninspected" and one.where == where for one in exchange.signals
        ):
            exchange.signal(Signal("uninspected", 1.0, self.config.signal_weight, where, self.name))
        return None


def _first_text(segments: Sequence[Segment]) -> str:
    """What the user said first: clients send it again with every turn, and it tells conversations apart."""
    for segment in segments:
        if segment.role == "user":
            return segment.text[:MAX_FIRST]
    return segments[0].text[:MAX_FIRST] if segments else ""


def _conversation_of(exchange: Exchange) -> str:
    """The name under which the upstream keeps what came before this request; empty where the request says it all."""
    if exchange.dialect.name != "openai.responses":
        return ""
    before = exchange.request.body.get("previous_response_id")
    return before if isinstance(before, str) and before else _own_conversation(exchange)


def _own_conversation(exchange: Exchange) -> str:
    if exchange.dialect.name != "openai.responses" or exchange.request is None:
        return ""
    named: Any = exchange.request.body.get("conversation")
    if isinstance(named, dict):
        named = named.get("id")
    return named if isinstance(named, str) else ""


def _id_in(value: Any) -> str:
    """The answer's id, of a whole answer or of the event that opens it."""
    if isinstance(value, dict):
        whole = value.get("response", value)
        if isinstance(whole, dict) and whole.get("object") == "response" and isinstance(whole.get("id"), str):
            return str(whole["id"])
    return ""
